"""Sites that move to another cell with their history, and what keeps the source from writing them

Revision: 0037, after 0036
"""

from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE site_moves (
    id uuid NOT NULL,
    direction text NOT NULL,
    site text NOT NULL,
    site_id int NOT NULL,
    cell text NOT NULL,
    url text NOT NULL DEFAULT '',
    state text NOT NULL,
    began_at timestamptz NOT NULL DEFAULT now(),
    sealed_at timestamptz,
    ended_at timestamptz,
    PRIMARY KEY (id, direction)
);
CREATE UNIQUE INDEX site_moves_one ON site_moves (site, direction)
    WHERE state NOT IN ('dropped', 'cancelled', 'open');
COMMENT ON TABLE site_moves IS 'Sites that go to another cell or came from one: docs/decisions/site-moves.md';
COMMENT ON COLUMN site_moves.id IS 'The same in both cells';
COMMENT ON COLUMN site_moves.direction IS 'out (to the other cell) or in (from it)';
COMMENT ON COLUMN site_moves.site_id IS 'Number of the site in this cell';
COMMENT ON COLUMN site_moves.cell IS 'The other cell';
COMMENT ON COLUMN site_moves.url IS 'Where edges and senders of the site go from now on';
COMMENT ON COLUMN site_moves.state IS
    'out: copying, closed, sealed, moved, dropping, dropped, cancelled; in: copying, open, cancelled';
COMMENT ON COLUMN site_moves.sealed_at IS 'What was declared until then has this instant as its retired_at';

CREATE TABLE site_move_numbers (
    move uuid NOT NULL,
    kind text NOT NULL,
    old_id bigint NOT NULL,
    new_id bigint NOT NULL,
    PRIMARY KEY (move, kind, old_id)
);
CREATE INDEX site_move_numbers_new ON site_move_numbers (kind, new_id);
COMMENT ON TABLE site_move_numbers IS
    'Numbers that rows of a site had in the cell it came from, and those they have here';

CREATE TABLE site_move_readings (
    point text NOT NULL,
    at timestamptz NOT NULL,
    value double precision NOT NULL,
    interval_s int NOT NULL,
    valid_s int NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (point, at)
);
COMMENT ON TABLE site_move_readings IS
    'Readings that workers here still had of a site that moved; they are sent after it';
"""

# The number of the transaction is taken first: whoever closes a site waits for all that have one, and each
# statement of a function sees what was committed before it.
FUNCTIONS = """
CREATE FUNCTION refuse_moving_readings() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE found text;
BEGIN
    PERFORM pg_current_xact_id();
    IF EXISTS (SELECT FROM site_moves WHERE direction = 'out' AND state IN ('closed', 'sealed', 'moved')) THEN
        SELECT m.site || ' moves to cell ' || m.cell INTO found
        FROM added a JOIN points p ON p.id = a.point_id JOIN site_moves m ON m.site_id = p.site_id
        WHERE m.direction = 'out' AND m.state IN ('closed', 'sealed', 'moved') LIMIT 1;
        IF found IS NOT NULL THEN
            RAISE EXCEPTION 'site %; nothing was stored, send it again', found USING ERRCODE = '57P03';
        END IF;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER refuse_moving_readings AFTER INSERT ON rollup_queue
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION refuse_moving_readings();

CREATE FUNCTION keep_moved_site() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE found text;
BEGIN
    PERFORM pg_current_xact_id();
    IF EXISTS (SELECT FROM site_moves WHERE direction = 'out' AND state IN ('sealed', 'moved')) THEN
        SELECT m.site || ' moved to cell ' || m.cell INTO found FROM site_moves m
        WHERE m.direction = 'out' AND m.state IN ('sealed', 'moved') AND m.site_id =
            ((CASE WHEN TG_OP = 'INSERT' THEN to_jsonb(NEW) ELSE to_jsonb(OLD) END) ->> TG_ARGV[0])::int
        LIMIT 1;
    END IF;
    IF found IS NULL THEN
        RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF TG_OP = 'INSERT' THEN
        RAISE EXCEPTION 'site %', found USING ERRCODE = '57P03';
    END IF;
    RETURN NULL;
END $$;
"""

GUARDED = {
    "sites": "id",
    **dict.fromkeys(
        (
            "meters",
            "points",
            "events",
            "findings",
            "alarms",
            "alarm_transitions",
            "silences",
            "imports",
            "reports",
            "declarations",
            "measures",
            "baselines",
        ),
        "site_id",
    ),
}
"""Tables whose rows nobody may change once their site has moved, and the column that names it."""


def upgrade() -> None:
    """Add the tables, and what guards a site that moved."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(TABLES)
    op.execute(FUNCTIONS)
    for table, column in GUARDED.items():
        op.execute(
            f"CREATE TRIGGER keep_moved_site BEFORE INSERT OR UPDATE OR DELETE ON {table}"
            f" FOR EACH ROW EXECUTE FUNCTION keep_moved_site('{column}')"
        )


def downgrade() -> None:
    """Drop them; a site that moves has to stay or to have gone first."""
    op.execute(
        """
        DO $$ BEGIN
            IF EXISTS (SELECT FROM site_move_readings)
               OR EXISTS (SELECT FROM site_moves WHERE state IN ('closed', 'sealed')) THEN
                RAISE EXCEPTION 'a site is moving; end that first';
            END IF;
        END $$
        """
    )
    for table in GUARDED:
        op.execute(f"DROP TRIGGER keep_moved_site ON {table}")
    op.execute("DROP TRIGGER refuse_moving_readings ON rollup_queue")
    op.execute("DROP FUNCTION keep_moved_site, refuse_moving_readings")
    op.execute("DROP TABLE site_move_readings, site_move_numbers, site_moves")
