"""Which findings keep a PUE from being said, for boards and readers of the views

Revision: 0024, after 0023
"""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

KINDS = "'unit_changed', 'reversed', 'it_missing', 'ratio_changed', 'it_above_facility'"
COUNTED = """'facility', 'generator', 'renewable', 'non_dc', 'heat_reuse', 'export',
    'it_ups_output', 'it_pdu_output', 'it_equipment_input',
    'cooling', 'power_distribution', 'lighting', 'other'"""
WITHHOLDS = f"f.state = 'open' AND f.kind IN ({KINDS}) AND (f.point_id = 0 OR p.role IN ({COUNTED}))"
UNTIL = "CASE WHEN jsonb_exists(f.evidence, 'goes_on') THEN 'infinity' ELSE f.end_at END"

FINDINGS = """
    CREATE OR REPLACE VIEW v_findings AS
    SELECT f.id, s.key AS site, m.key AS meter, p.key AS point, f.kind, f.severity, f.state, f.start_at,
        f.end_at, f.effect_kwh, f.evidence, f.first_seen_at, f.last_seen_at{more}
    FROM findings f
    JOIN sites s ON s.id = f.site_id
    LEFT JOIN points p ON p.id = f.point_id
    LEFT JOIN meters m ON m.id = p.meter_id
"""
PUE = """
    CREATE OR REPLACE VIEW v_pue AS
    SELECT s.key AS site, e.room, e.at, e.facility_kwh, e.it_kwh, e.cooling_kwh, e.power_distribution_kwh,
        e.lighting_kwh, e.other_kwh, e.generator_kwh, e.renewable_kwh, e.non_dc_kwh, e.heat_reuse_kwh,
        e.coverage_ratio, e.estimated_ratio, e.category,
        CASE WHEN e.it_kwh > 0 AND e.coverage_ratio > 0 AND e.facility_kwh >= e.it_kwh{more}
            THEN e.facility_kwh / e.it_kwh END AS pue
    FROM site_15m e JOIN sites s ON s.id = e.site_id
"""
NOT_WITHHELD = f"""
            AND NOT EXISTS (
                SELECT FROM findings f LEFT JOIN points p ON p.id = f.point_id
                WHERE f.site_id = e.site_id AND {WITHHOLDS}
                    AND f.start_at < e.at + interval '15 minutes' AND {UNTIL} > e.at
            )"""


def upgrade() -> None:
    """Add the columns to the view of findings; the PUE of an interval waits for them."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    more = f", {WITHHOLDS} AS withholds, {UNTIL} AS lasts_until"
    op.execute(FINDINGS.replace("{more}", more))
    op.execute("COMMENT ON COLUMN v_findings.withholds IS 'Whether no PUE is said of the time it touches'")
    op.execute("COMMENT ON COLUMN v_findings.lasts_until IS 'Its end; infinity where it goes on'")
    op.execute(PUE.replace("{more}", NOT_WITHHELD))
    op.execute(
        "COMMENT ON COLUMN v_pue.pue IS"
        " 'Facility over IT energy [1]; NULL where unknown, impossible, or a finding withholds it'"
    )


def downgrade() -> None:
    """As it was."""
    op.execute(PUE.replace("{more}", ""))
    op.execute(
        "COMMENT ON COLUMN v_pue.pue IS"
        " 'Facility over IT energy [1]; NULL where unknown or physically impossible'"
    )
    op.execute("DROP VIEW v_findings")
    op.execute(FINDINGS.replace("{more}", "").replace("CREATE OR REPLACE", "CREATE"))
    op.execute("COMMENT ON VIEW v_findings IS 'What is wrong or doubtful in the data'")
    op.execute("COMMENT ON COLUMN v_findings.point IS 'NULL where the finding concerns the whole site'")
    op.execute("COMMENT ON COLUMN v_findings.effect_kwh IS 'Energy that is in doubt because of it [kWh]'")
