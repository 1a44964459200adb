"""What boards need beside energy: sites, meters, verdicts, reports, gauges, and the outlook by site

Revision: 0007, after 0006
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

OUTLOOKS = """
CREATE TABLE outlooks (
    site_id int PRIMARY KEY REFERENCES sites,
    evaluated_at timestamptz NOT NULL,
    known_from timestamptz,
    document jsonb NOT NULL
);
COMMENT ON TABLE outlooks IS 'Latest year''s end, capacity and balance of the tree by site';
COMMENT ON COLUMN outlooks.known_from IS 'Beginning of the history behind it';
"""

_ROWS = "FROM outlooks e JOIN sites s ON s.id = e.site_id CROSS JOIN LATERAL"

VIEWS = {
    "v_site": (
        """
        SELECT s.key AS site, s.name, i.key AS institution, i.name AS institution_name, i.institution_class,
            s.time_zone, (s.definition->'design'->>'it_capacity_kw')::double precision AS it_capacity_kw,
            (s.definition->'design'->>'pue')::double precision AS designed_pue,
            (s.definition->'design'->>'racks_total')::int AS racks_total,
            coalesce((s.definition->>'minimum_coverage_ratio')::double precision, 0.9)
                AS minimum_coverage_ratio
        FROM sites s JOIN institutions i ON i.id = s.institution_id WHERE s.retired_at IS NULL
        """,
        "Data centres and what they were built for",
        {
            "it_capacity_kw": "Design IT capacity [kW]; NULL where none is declared",
            "designed_pue": "Designed PUE [1]",
            "minimum_coverage_ratio": "Coverage below which a PUE is not said [0..1]",
        },
    ),
    "v_meter": (
        """
        SELECT s.key AS site, m.room, m.key AS meter, m.name,
            coalesce(m.definition->>'stage', 'load') AS stage,
            ARRAY(SELECT jsonb_array_elements_text(m.definition->'fed_by')) AS fed_by,
            (m.definition->>'rated_power_kw')::double precision AS rated_power_kw,
            coalesce(m.definition->>'redundancy', 'N') AS redundancy
        FROM meters m JOIN sites s ON s.id = m.site_id WHERE m.retired_at IS NULL AND s.retired_at IS NULL
        """,
        "Meters and their places in the metering tree",
        {
            "fed_by": "Meters upstream of this one",
            "rated_power_kw": "Rating of the circuit [kW]; NULL where none is declared",
        },
    ),
    "v_verdict": (
        """
        SELECT s.key AS site, e."window", v.profile, v."limit" AS limit_pue,
            (e.document->>'pue')::double precision AS pue, v.verdict, v.plain, e.evaluated_at
        FROM evaluations e JOIN sites s ON s.id = e.site_id CROSS JOIN LATERAL
            jsonb_to_recordset(e.document->'verdicts')
            AS v(profile text, "limit" double precision, verdict text, plain text)
        """,
        "Latest verdict per site, window and limit profile",
        {
            "limit_pue": "Limit that holds at the end of the window [1]",
            "pue": "NULL where it cannot be said [1]",
            "verdict": "pass, fail or indeterminate, with uncertainty and coverage",
            "plain": "The plain comparison",
        },
    ),
    "v_report": (
        """
        SELECT s.key AS site, e.period, e.revision, e.closed, e.created_at, e.sha256, e.document
        FROM reports e JOIN sites s ON s.id = e.site_id
        """,
        "Reports with their revisions",
        {"period": "2026-10 or 2026", "document": "The report, schema wattline-report/1"},
    ),
    "v_declared": (
        """
        SELECT s.key AS site, v.indicator, v.value, v.date AS declared_on, v.evidence
        FROM sites s CROSS JOIN LATERAL jsonb_to_recordset(s.definition->'declared')
            AS v(indicator text, value double precision, date date, evidence text)
        WHERE s.retired_at IS NULL
        """,
        "Declared indicators with their evidence",
        {"value": "In the unit that the indicator's name says"},
    ),
    "v_gauge": (
        """
        SELECT s.key AS site, m.room, m.key AS meter, p.key AS point, p.role, e.at,
            e.mean, e.lowest, e.highest
        FROM gauge_15m e JOIN points p ON p.id = e.point_id JOIN meters m ON m.id = p.meter_id
        JOIN sites s ON s.id = p.site_id WHERE p.kind = 'gauge'
        """,
        "Temperature, humidity and other gauges per 15-minute UTC interval",
        {
            "at": "Start of the interval",
            "mean": "In the house unit of the role [C, percent]",
            "lowest": "Lowest value, same unit",
            "highest": "Highest value, same unit",
        },
    ),
    "v_outlook": (
        f"""
        SELECT s.key AS site, e.evaluated_at, v.year, v.pue, v.low, v.high, v.level, v.measured_days,
            v.projected_days, v.reason
        {_ROWS} jsonb_to_record(e.document->'projection') AS v(year int, pue double precision,
            low double precision, high double precision, level double precision, measured_days int,
            projected_days int, reason text)
        """,
        "How the PUE of the calendar year will end",
        {
            "pue": "Projected PUE of the whole year [1]; NULL with a reason where the history is too short",
            "low": "Lower end of the interval [1]",
            "high": "Upper end of the interval [1]",
            "level": "Probability of the interval [0..1]",
        },
    ),
    "v_budget": (
        f"""
        SELECT s.key AS site, e.evaluated_at, v.profile, v.limit_pue, v.used_kwh, v.margin_kwh, v.allowed_kwh,
            v.left_kwh, v.crossed_in
        {_ROWS} jsonb_to_recordset(e.document->'budgets') AS v(profile text, limit_pue double precision,
            used_kwh double precision, margin_kwh double precision, allowed_kwh double precision,
            left_kwh double precision, crossed_in date)
        """,
        "Overhead energy that each limit allows in the calendar year",
        {
            "limit_pue": "Limit at the end of the year [1]",
            "used_kwh": "Overhead of the measured days [kWh]",
            "margin_kwh": "Allowed for the IT energy so far, less what was used [kWh]",
            "allowed_kwh": "(limit - 1) x IT energy of the whole year [kWh]; NULL without a projection",
            "left_kwh": "What may still be used this year [kWh]",
            "crossed_in": "First day of the month in which the allowance is used up; NULL where it is not",
        },
    ),
    "v_capacity": (
        f"""
        SELECT s.key AS site, e.evaluated_at, v.name, v.kind, v.redundancy, v.rated_kw, v.capacity_kw,
            v.mean_kw, v.peak_kw, v.mean_kw / v.capacity_kw AS mean_ratio,
            v.peak_kw / v.capacity_kw AS peak_ratio, v.stranded_kw, v.state, v.reached_on, v.earliest,
            v.latest
        {_ROWS} jsonb_to_recordset(e.document->'capacities') AS v(name text, kind text, redundancy text,
            rated_kw double precision, capacity_kw double precision, mean_kw double precision,
            peak_kw double precision, stranded_kw double precision, state text, reached_on date,
            earliest date, latest date)
        """,
        "Use of every capacity over 30 days, and when it will be reached",
        {
            "kind": "it (whole site), room, or the stage of a feed",
            "capacity_kw": "What its redundancy lets it carry [kW]",
            "mean_kw": "Mean load [kW]",
            "peak_kw": "Highest mean of a quarter-hour [kW]",
            "stranded_kw": "Headroom below that this feed cannot supply [kW]",
            "reached_on": "Projected day on which the peak reaches the capacity; NULL where it does not",
        },
    ),
    "v_balance": (
        f"""
        SELECT s.key AS site, e.evaluated_at, v.name, v.stage, v.in_kwh, v.out_kwh,
            v.in_kwh - v.out_kwh AS remainder_kwh, v.tolerance_kwh, v.coverage_ratio, v.state
        {_ROWS} jsonb_to_recordset(e.document->'balances') AS v(name text, stage text,
            in_kwh double precision, out_kwh double precision, tolerance_kwh double precision,
            coverage_ratio double precision, state text)
        """,
        "Balance of every feed of the metering tree over 30 days",
        {
            "remainder_kwh": "What goes in and does not come out at a meter [kWh]",
            "tolerance_kwh": "Remainder that the accuracy of the meters explains [kWh]",
            "state": "balanced, remainder, negative (the tree or a meter is wrong) or unknown",
        },
    ),
    "v_flow": (
        f"""
        SELECT s.key AS site, e.evaluated_at, v.meter, v.stage, v.fed_by, v.energy_kwh
        {_ROWS} jsonb_to_recordset(e.document->'flows') AS v(meter text, stage text, fed_by text[],
            energy_kwh double precision)
        """,
        "Energy that flowed into each meter over 30 days",
        {"energy_kwh": "Over the covered time [kWh]"},
    ),
}


def upgrade() -> None:
    """Add the table and the views."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(OUTLOOKS)
    for name, (query, about, columns) in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}".replace(":", r"\:"))
        op.execute(f"COMMENT ON VIEW {name} IS '{_quoted(about)}'")
        for column, text in columns.items():
            op.execute(f"COMMENT ON COLUMN {name}.{column} IS '{_quoted(text)}'")


def downgrade() -> None:
    """Drop what was added."""
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")
    op.execute("DROP TABLE outlooks")


def _quoted(text: str) -> str:
    return text.replace("'", "''").replace(":", r"\:")
