"""Edges: who sends the readings of which sites, and readings of points that are not declared yet

Revision: 0031, after 0030
"""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(
        """
        CREATE TABLE edges (
            id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            name text NOT NULL UNIQUE,
            key_id text NOT NULL UNIQUE,
            sites text[] NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            process text NOT NULL DEFAULT '',
            epoch bigint NOT NULL DEFAULT 0,
            lease_until timestamptz NOT NULL DEFAULT 'epoch',
            first_seen_at timestamptz,
            last_seen_at timestamptz,
            refused_at timestamptz,
            version text NOT NULL DEFAULT '',
            revision bigint NOT NULL DEFAULT 0,
            problem text NOT NULL DEFAULT '',
            newest_revision bigint NOT NULL DEFAULT 0,
            newest_sha256 text NOT NULL DEFAULT '',
            clock_offset_s double precision,
            clock_off_readings bigint NOT NULL DEFAULT 0,
            waiting bigint NOT NULL DEFAULT 0,
            oldest_waiting_at timestamptz,
            set_aside jsonb NOT NULL DEFAULT '[]'
        );
        COMMENT ON TABLE edges IS 'Machines at sites that measure and send; see docs/decisions/edges.md';
        COMMENT ON COLUMN edges.key_id IS 'Public id of its key in api_keys';
        COMMENT ON COLUMN edges.sites IS 'Keys of the sites that it measures';
        COMMENT ON COLUMN edges.process IS 'Process that speaks for it; made anew at each start';
        COMMENT ON COLUMN edges.epoch IS 'Grows with each process; what comes with an earlier one is refused';
        COMMENT ON COLUMN edges.lease_until IS 'Until then no other process may take over';
        COMMENT ON COLUMN edges.refused_at IS 'When another process last tried to, in vain';
        COMMENT ON COLUMN edges.revision IS 'Of the definitions that it works with';
        COMMENT ON COLUMN edges.newest_revision IS 'Of those that hold';
        COMMENT ON COLUMN edges.clock_offset_s IS 'How far its clock is ahead of the database''s';
        COMMENT ON COLUMN edges.clock_off_readings IS 'Readings that were stored while its clock was off';
        COMMENT ON COLUMN edges.waiting IS 'Readings that wait at the edge';
        COMMENT ON COLUMN edges.set_aside IS 'Files that could not be read and lie in its folders';

        CREATE TABLE edge_unknown_readings (
            edge_id int NOT NULL REFERENCES edges,
            point text NOT NULL,
            at timestamptz NOT NULL,
            value double precision NOT NULL,
            interval_s int NOT NULL,
            valid_s int NOT NULL,
            received_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (edge_id, point, at)
        );
        COMMENT ON TABLE edge_unknown_readings IS
            'Readings of points that no site of the edge declares; stored once one does';
        """
    )


def downgrade() -> None:
    """Drop them; readings that wait for their points are lost, so there must be none."""
    op.execute(
        """
        DO $$ BEGIN
            IF EXISTS (SELECT FROM edge_unknown_readings) THEN
                RAISE EXCEPTION 'readings of undeclared points wait; declare their points first';
            END IF;
        END $$
        """
    )
    op.execute("DROP TABLE edge_unknown_readings, edges")
