"""Boards withhold figures of an earlier definition too

Revision: 0030, after 0029
"""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

WITHHELD = """
    CREATE VIEW v_withheld AS
    SELECT site, start_at, lasts_until, kind AS reason FROM v_findings WHERE withholds
    UNION ALL
    SELECT s.key, q.start_at, q.end_at, 'redefined'
    FROM rollup_queue q JOIN points p ON p.id = q.point_id JOIN sites s ON s.id = p.site_id
    WHERE q.redefined AND p.retired_at IS NULL
"""
PUE = """
    CREATE OR REPLACE VIEW v_pue AS
    SELECT s.key AS site, e.room, e.at, e.facility_kwh, e.it_kwh, e.cooling_kwh, e.power_distribution_kwh,
        e.lighting_kwh, e.other_kwh, e.generator_kwh, e.renewable_kwh, e.non_dc_kwh, e.heat_reuse_kwh,
        e.coverage_ratio, e.estimated_ratio, e.category,
        CASE WHEN e.it_kwh > 0 AND e.coverage_ratio > 0 AND e.facility_kwh >= e.it_kwh
            AND NOT EXISTS (
                SELECT FROM {withheld} AS w WHERE w.site = s.key
                    AND w.start_at < e.at + interval '15 minutes' AND w.lasts_until > e.at
            ) THEN e.facility_kwh / e.it_kwh END AS pue
    FROM site_15m e JOIN sites s ON s.id = e.site_id
"""
BY_FINDINGS = "(SELECT site, start_at, lasts_until FROM v_findings WHERE withholds)"
WINDOWS = """
    CREATE OR REPLACE VIEW v_pue_window AS
    SELECT s.key AS site, e."window", e.evaluated_at,
        (e.document->>'start')::timestamptz AS start_at, (e.document->>'end')::timestamptz AS end_at,
        {said}(e.document->>'pue')::double precision{end} AS pue, e.document->>'label' AS label,
        (e.document->>'facility_kwh')::double precision AS facility_kwh,
        (e.document->>'it_kwh')::double precision AS it_kwh,
        (e.document->>'coverage_ratio')::double precision AS coverage_ratio,
        (e.document->>'estimated_ratio')::double precision AS estimated_ratio
    FROM evaluations e JOIN sites s ON s.id = e.site_id
"""
VERDICTS = """
    CREATE OR REPLACE VIEW v_verdict AS
    SELECT s.key AS site, e."window", v.profile, v."limit" AS limit_pue,
        {said}(e.document->>'pue')::double precision{end} AS pue,
        {said}v.verdict{undecided} AS verdict, {said}v.plain{undecided} AS plain, e.evaluated_at
    FROM evaluations e JOIN sites s ON s.id = e.site_id CROSS JOIN LATERAL
        jsonb_to_recordset(e.document->'verdicts')
        AS v(profile text, "limit" double precision, verdict text, plain text)
"""
# What was evaluated before the definition changed waits for the next evaluation.
SAID = """CASE WHEN NOT EXISTS (
            SELECT FROM v_withheld w WHERE w.site = s.key AND w.reason = 'redefined'
                AND w.start_at < (e.document->>'end')::timestamptz
                AND w.lasts_until > (e.document->>'start')::timestamptz) THEN """
# Whoever reads the findings may read what they withhold.
READERS = """
    DO $$
    DECLARE reader text;
    BEGIN
        FOR reader IN
            SELECT DISTINCT grantee FROM information_schema.role_table_grants
            WHERE table_schema = 'public' AND table_name = 'v_findings' AND privilege_type = 'SELECT'
                AND grantee NOT IN (current_user, 'PUBLIC')
        LOOP
            EXECUTE format('GRANT SELECT ON v_withheld TO %I', reader);
        END LOOP;
    END $$
"""
COMMENT = (
    "COMMENT ON COLUMN v_pue.pue IS 'Facility over IT energy [1]; NULL where unknown, impossible, or {}'"
)


def upgrade() -> None:
    """Add the view of stretches that wait; every PUE of the views heeds it."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(WITHHELD)
    op.execute("COMMENT ON VIEW v_withheld IS 'Stretches of which no PUE is said, and why'")
    op.execute(
        "COMMENT ON COLUMN v_withheld.reason IS"
        " 'Kind of an open finding, or redefined: figures of an earlier definition, being recomputed'"
    )
    op.execute("COMMENT ON COLUMN v_withheld.lasts_until IS 'Its end; infinity where it goes on'")
    op.execute(PUE.format(withheld="v_withheld"))
    op.execute(COMMENT.format("withheld (v_withheld)"))
    parts = {"said": SAID, "end": " END", "undecided": " ELSE 'indeterminate' END"}
    op.execute(WINDOWS.format(**parts))
    op.execute(VERDICTS.format(**parts))
    op.execute(READERS)


def downgrade() -> None:
    """As it was."""
    op.execute(PUE.format(withheld=BY_FINDINGS))
    op.execute(COMMENT.format("a finding withholds it"))
    parts = {"said": "", "end": "", "undecided": ""}
    op.execute(WINDOWS.format(**parts))
    op.execute(VERDICTS.format(**parts))
    op.execute("DROP VIEW v_withheld")
