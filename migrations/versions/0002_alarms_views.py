"""Alarms, the views for boards and BI, what may never change, how far back raw readings reach

Revision: 0002, after 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ALARMS = """
CREATE TABLE alarms (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id int NOT NULL,
    rule text NOT NULL,
    severity text NOT NULL,
    state text NOT NULL,
    fingerprint text NOT NULL,
    started_at timestamptz NOT NULL,
    fired_at timestamptz,
    resolved_at timestamptz,
    value double precision,
    limit_value double precision,
    document jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX alarms_site_id_started_at ON alarms (site_id, started_at);
CREATE INDEX alarms_fingerprint ON alarms (fingerprint);
COMMENT ON TABLE alarms IS 'Limits that were crossed, and what became of it';
COMMENT ON COLUMN alarms.fingerprint IS 'Same for every occurrence of the same rule on the same thing';
COMMENT ON COLUMN alarms.value IS 'Value that crossed the limit, in the unit of the rule';

CREATE TABLE horizons (
    kind text PRIMARY KEY,
    dropped_before timestamptz NOT NULL
);
COMMENT ON TABLE horizons IS 'How far back data is whole: what is older was dropped by retention';
COMMENT ON COLUMN horizons.kind IS 'readings, energy_15m, volume_15m or gauge_15m';
"""

EVENTS_ARE_A_LEDGER = """
CREATE FUNCTION events_are_a_ledger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.withdrawn_at IS NULL
       AND to_jsonb(NEW) - '{withdrawn_at,withdrawn_by}'::text[]
         = to_jsonb(OLD) - '{withdrawn_at,withdrawn_by}'::text[] THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'events are never changed or deleted; withdraw the event and add another';
END $$;
CREATE TRIGGER events_are_a_ledger BEFORE UPDATE OR DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION events_are_a_ledger();
"""

PARTS = """
    s.key AS site, m.room, m.key AS meter, p.key AS point, p.role,
    CASE WHEN p.role IN ('it_ups_output', 'it_pdu_output', 'it_equipment_input') THEN 'it' ELSE p.role END
        AS load_class
"""
FROM_PARTS = (
    "JOIN points p ON p.id = e.point_id JOIN meters m ON m.id = p.meter_id JOIN sites s ON s.id = p.site_id"
)

VIEWS = {
    "v_pue": (
        """
        SELECT s.key AS site, e.room, e.at, e.facility_kwh, e.it_kwh, e.cooling_kwh, e.power_distribution_kwh,
            e.lighting_kwh, e.other_kwh, e.generator_kwh, e.renewable_kwh, e.non_dc_kwh, e.heat_reuse_kwh,
            e.coverage_ratio, e.estimated_ratio, e.category,
            CASE WHEN e.it_kwh > 0 AND e.coverage_ratio > 0 AND e.facility_kwh >= e.it_kwh
                THEN e.facility_kwh / e.it_kwh END AS pue
        FROM site_15m e JOIN sites s ON s.id = e.site_id
        """,
        "Energy and PUE per site, room (empty: whole site) and 15-minute UTC interval. "
        "Over a longer time: sum(facility_kwh) / sum(it_kwh), never a mean of pue",
        {
            "at": "Start of the interval",
            "facility_kwh": "Energy of the data centre [kWh]",
            "it_kwh": "Energy of IT equipment [kWh]",
            "coverage_ratio": "Share of the interval with facility and IT both covered [0..1]",
            "estimated_ratio": "Estimated share of the interval [0..1]",
            "category": "PUE category 1, 2, 3; 0 where none can be claimed",
            "pue": "Facility over IT energy [1]; NULL where unknown or physically impossible",
        },
    ),
    "v_pue_window": (
        """
        SELECT s.key AS site, e."window", e.evaluated_at,
            (e.document->>'start')::timestamptz AS start_at, (e.document->>'end')::timestamptz AS end_at,
            (e.document->>'pue')::double precision AS pue, e.document->>'label' AS label,
            (e.document->>'facility_kwh')::double precision AS facility_kwh,
            (e.document->>'it_kwh')::double precision AS it_kwh,
            (e.document->>'coverage_ratio')::double precision AS coverage_ratio,
            (e.document->>'estimated_ratio')::double precision AS estimated_ratio
        FROM evaluations e JOIN sites s ON s.id = e.site_id
        """,
        "Latest PUE per site and window (15m 1h 24h 7d 30d mtd ytd 12mo)",
        {
            "pue": "Ratio of sums over the covered time of the window [1]; NULL where it cannot be said",
            "facility_kwh": "Energy of the data centre in the window [kWh]",
            "it_kwh": "Energy of IT equipment in the window [kWh]",
        },
    ),
    "v_energy_15m": (
        """
        SELECT {parts}, p.weight, e.at, e.energy_kwh, e.coverage_ratio, e.estimated_ratio,
            (ARRAY['measured', 'interpolated', 'estimated', 'manual'])[e.tag] AS tag
        FROM energy_15m e {from_parts}
        """,
        "Energy per point and 15-minute UTC interval; no row where it is unknown",
        {
            "at": "Start of the interval",
            "weight": "Share of the point that belongs to the data centre; not applied to energy_kwh [1]",
            "energy_kwh": "Energy of the covered part of the interval [kWh]",
            "coverage_ratio": "Covered share of the interval [0..1]",
            "estimated_ratio": "Estimated share of the interval [0..1]",
        },
    ),
    "v_energy_day": (
        """
        SELECT {parts}, p.weight, e.day, e.energy_kwh, e.covered_s, e.estimated_s
        FROM energy_day e {from_parts}
        """,
        "Energy per point and day of the site's own time zone",
        {
            "weight": "Share of the point that belongs to the data centre; not applied to energy_kwh [1]",
            "energy_kwh": "Energy of the covered part of the day [kWh]",
            "covered_s": "Covered part of the day [s]",
            "estimated_s": "Estimated part of the day [s]",
        },
    ),
    "v_power": (
        """
        SELECT {parts}, p.weight, e.at, e.energy_kwh / (0.25 * e.coverage_ratio) AS power_kw, e.coverage_ratio
        FROM energy_15m e {from_parts}
        WHERE e.coverage_ratio > 0
        """,
        "Mean power per point over the covered part of each 15-minute UTC interval",
        {
            "at": "Start of the interval",
            "weight": "Share of the point that belongs to the data centre; not applied to power_kw [1]",
            "power_kw": "Mean power [kW]",
        },
    ),
    "v_meter_health": (
        """
        SELECT s.key AS site, m.room, m.key AS meter, count(p.id) AS points, count(newest.at) AS points_alive,
            max(newest.at) AS last_reading_at,
            extract(epoch FROM now() - max(newest.at))::double precision AS silent_s,
            min((p.definition->>'interval_s')::int) AS interval_s,
            (SELECT count(*) FROM findings f JOIN points q ON q.id = f.point_id
             WHERE q.meter_id = m.id AND f.state = 'open') AS open_findings
        FROM meters m
        JOIN sites s ON s.id = m.site_id
        LEFT JOIN points p ON p.meter_id = m.id AND p.retired_at IS NULL
        LEFT JOIN LATERAL (
            SELECT r.at FROM readings r
            WHERE r.point_id = p.id
              AND r.at > now() - interval '31 days' AND r.at <= now() + interval '2 days'
            ORDER BY r.at DESC LIMIT 1
        ) newest ON true
        WHERE m.retired_at IS NULL
        GROUP BY s.key, m.id
        """,
        "When each meter was last heard",
        {
            "points": "Declared points of the meter",
            "points_alive": "Points with a reading in the last 31 days",
            "last_reading_at": "Newest reading; NULL where there is none in the last 31 days",
            "silent_s": "Time since the newest reading [s]",
            "interval_s": "Interval at which the meter should be read; NULL for the default of 900 [s]",
            "open_findings": "Findings about the meter that are open",
        },
    ),
    "v_findings": (
        """
        SELECT e.id, s.key AS site, m.key AS meter, p.key AS point, e.kind, e.severity, e.state, e.start_at,
            e.end_at, e.effect_kwh, e.evidence, e.first_seen_at, e.last_seen_at
        FROM findings e
        JOIN sites s ON s.id = e.site_id
        LEFT JOIN points p ON p.id = e.point_id
        LEFT JOIN meters m ON m.id = p.meter_id
        """,
        "What is wrong or doubtful in the data",
        {
            "point": "NULL where the finding concerns the whole site",
            "effect_kwh": "Energy that is in doubt because of it [kWh]",
        },
    ),
    "v_alarms": (
        """
        SELECT e.id, s.key AS site, e.rule, e.severity, e.state, e.started_at, e.fired_at, e.resolved_at,
            e.value, e.limit_value, e.document
        FROM alarms e JOIN sites s ON s.id = e.site_id
        """,
        "Limits that were crossed, and what became of it",
        {
            "value": "Value that crossed the limit, in the unit of the rule",
            "limit_value": "The limit, in the unit of the rule",
        },
    ),
}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = 0")
    op.execute(ALARMS)
    op.execute(EVENTS_ARE_A_LEDGER)
    for name, (query, about, columns) in VIEWS.items():
        whole = query.format(parts=PARTS, from_parts=FROM_PARTS)
        op.execute(f"CREATE VIEW {name} AS {whole}".replace(":", r"\:"))
        op.execute(f"COMMENT ON VIEW {name} IS '{_quoted(about)}'")
        for column, text in columns.items():
            op.execute(f"COMMENT ON COLUMN {name}.{column} IS '{_quoted(text)}'")


def _quoted(text: str) -> str:
    return text.replace("'", "''").replace(":", r"\:")
