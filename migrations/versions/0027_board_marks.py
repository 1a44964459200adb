"""What boards mark and list besides: declared events, and what a gauge reads of its device

Revision: 0027, after 0026
"""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

EVENTS = """
    CREATE VIEW v_event AS
    SELECT e.id, s.key AS site, m.key AS meter, p.key AS point, e.kind, e.start_at, e.end_at,
        e.energy_kwh, e.note, e.created_at
    FROM events e
    JOIN sites s ON s.id = e.site_id
    LEFT JOIN points p ON p.id = e.point_id
    LEFT JOIN meters m ON m.id = coalesce(e.meter_id, p.meter_id)
    WHERE e.withdrawn_at IS NULL
"""
GAUGES = """
    CREATE {or_replace} VIEW v_gauge AS
    SELECT s.key AS site, m.room, m.key AS meter, p.key AS point, p.role, e.at,
        e.mean, e.lowest, e.highest{more}
    FROM gauge_15m e JOIN points p ON p.id = e.point_id JOIN meters m ON m.id = p.meter_id
    JOIN sites s ON s.id = p.site_id WHERE p.kind = 'gauge'
"""
# Whoever reads the alarms may read the events: a role that exists needs no command after this.
READERS = """
    DO $$
    DECLARE reader text;
    BEGIN
        FOR reader IN
            SELECT DISTINCT grantee FROM information_schema.role_table_grants
            WHERE table_schema = 'public' AND table_name = 'v_alarms' AND privilege_type = 'SELECT'
                AND grantee NOT IN (current_user, 'PUBLIC')
        LOOP
            EXECUTE format('GRANT SELECT ON v_event TO %I', reader);
        END LOOP;
    END $$
"""


def upgrade() -> None:
    """Add the view of events, and the channel to that of gauges."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(EVENTS)
    op.execute("COMMENT ON VIEW v_event IS 'What people declared about meters and periods, not withdrawn'")
    op.execute("COMMENT ON COLUMN v_event.meter IS 'NULL where the event concerns the whole site'")
    op.execute("COMMENT ON COLUMN v_event.energy_kwh IS 'Declared energy of the period [kWh]'")
    more = ", coalesce(p.definition->>'channel', '') AS channel"
    op.execute(GAUGES.format(or_replace="OR REPLACE", more=more))
    op.execute("COMMENT ON COLUMN v_gauge.channel IS 'What it reads of its device; empty: not named'")
    op.execute(READERS)


def downgrade() -> None:
    """As it was."""
    op.execute("DROP VIEW v_event")
    op.execute("DROP VIEW v_gauge")
    op.execute(GAUGES.format(or_replace="", more=""))
