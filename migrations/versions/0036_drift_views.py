"""Drift, opportunities and the year's surcharge by site, for boards

Revision: 0036, after 0035
"""

from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

_SITE = "FROM outlooks e JOIN sites s ON s.id = e.site_id"

VIEWS = {
    "v_drift": (
        f"""
        SELECT s.key AS site, e.evaluated_at, d.state, d.known_to, d.onset, d.excess_ratio, d.excess_kwh,
            d.low AS low_kwh, d.high AS high_kwh, d.mostly, d.weeks_to_limit, d.limit_pue
        {_SITE} CROSS JOIN LATERAL jsonb_to_record(e.document->'drift') AS d(state text, known_to date,
            onset date, excess_ratio double precision, excess_kwh double precision, low double precision,
            high double precision, mostly text, weeks_to_limit double precision,
            limit_pue double precision)
        WHERE e.document->'drift' IS NOT NULL
        """,
        "How the plant stands against its own frozen baseline",
        {
            "state": "drifting, none, learning, no_baseline, not_accepted or no_days",
            "known_to": "Last local day of which something is known",
            "onset": "Local day since which the plant uses more; NULL without drift",
            "excess_ratio": "Mean excess since then by what was expected [0..1]; 0: none, NULL: not known",
            "excess_kwh": "Excess energy since then, on the days that are known [kWh]",
            "low_kwh": "Lower end of its 90 % interval [kWh]",
            "high_kwh": "Upper end of its 90 % interval [kWh]",
            "mostly": "Meter that at least half of it comes from",
            "weeks_to_limit": "Weeks until the PUE crosses its limit at this rate; NULL: not clearly growing",
            "limit_pue": "That limit [1]",
        },
    ),
    "v_drift_day": (
        f"""
        SELECT s.key AS site, e.evaluated_at, d.day, d.actual_kw, d.expected_kw
        {_SITE} CROSS JOIN LATERAL jsonb_to_recordset(e.document->'drift'->'days') AS d(day date,
            actual_kw double precision, expected_kw double precision)
        """,
        "Overhead power of local days beside what the frozen baseline expects of them",
        {
            "day": "Local day",
            "actual_kw": "Mean overhead power [kW]",
            "expected_kw": "That which the plant would have used [kW]; NULL where it is not known",
        },
    ),
    "v_opportunity": (
        f"""
        SELECT s.key AS site, e.evaluated_at, o.rank, o.kind, o.subject, o.state, o.kwh_per_year,
            o.kwh_low, o.kwh_high, o.amount_per_year, o.whole_year, o.coverage_ratio
        {_SITE} CROSS JOIN LATERAL jsonb_to_recordset(e.document->'opportunities'->'rows') AS o(rank int,
            kind text, subject text, state text, kwh_per_year double precision, kwh_low double precision,
            kwh_high double precision, amount_per_year double precision, whole_year boolean,
            coverage_ratio double precision)
        """,
        "What could be saved next, from the last 12 months",
        {
            "rank": "1 is the most valuable",
            "kind": "set_point, free_cooling, ups_load, ups_shift, fans or lighting",
            "subject": "Meters it is of, where there are several",
            "state": "found, none, or unknown: a meter is missing or its data waits",
            "kwh_per_year": "Energy [kWh/a]; of the period where whole_year is false",
            "kwh_low": "Lower end of its range [kWh/a]",
            "kwh_high": "Upper end [kWh/a]; NULL: not bounded",
            "amount_per_year": "The same in the currency of the site",
            "whole_year": "Whether a year is known; else it is what was seen, not scaled",
        },
    ),
    "v_surcharge_forecast": (
        f"""
        SELECT s.key AS site, e.evaluated_at, f.rule->>'id' AS rule, (f.rule->>'limit_pue')::float8
            AS limit_pue, f.excess_kwh, f.amount, f.low, f.high, f.chance, f.rule->>'currency' AS currency
        {_SITE} CROSS JOIN LATERAL jsonb_to_recordset(e.document->'surcharges') AS f(rule jsonb,
            excess_kwh double precision, amount double precision, low double precision,
            high double precision, chance double precision)
        """,
        "Surcharge for PUE above a limit, expected of the calendar year",
        {
            "rule": "Its id",
            "limit_pue": "PUE above which it is paid [1]",
            "excess_kwh": "Facility energy above limit x IT energy, projected [kWh]",
            "amount": "Projected surcharge, in its currency; NULL where it is not known",
            "low": "At the lower end of the projected PUE",
            "high": "At the upper end",
            "chance": "Probability that there is a surcharge at all [0..1]",
        },
    ),
}


def upgrade() -> None:
    """Add the views."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name, (query, about, columns) in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}".replace(":", r"\:"))
        op.execute(f"COMMENT ON VIEW {name} IS '{_quoted(about)}'")
        for column, text in columns.items():
            op.execute(f"COMMENT ON COLUMN {name}.{column} IS '{_quoted(text)}'")


def downgrade() -> None:
    """Drop them."""
    for name in VIEWS:
        op.execute(f"DROP VIEW {name}")


def _quoted(text: str) -> str:
    return text.replace("'", "''").replace(":", r"\:")
