"""Several workers on one database: who is there, who measures which site, whose file names it

Revision: 0018, after 0017
"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE site_sources (
    site_id integer NOT NULL REFERENCES sites,
    owner text NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (site_id, owner)
);
COMMENT ON TABLE site_sources IS 'Site files that describe a site; it is retired when the last one drops it';
COMMENT ON COLUMN site_sources.owner IS 'Installation and path of the file';

CREATE TABLE workers (
    id text PRIMARY KEY,
    name text NOT NULL,
    sites jsonb,
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL
);
COMMENT ON TABLE workers IS 'Workers that are there';
COMMENT ON COLUMN workers.sites IS 'Sites that its file names; NULL: every site';

CREATE TABLE leases (
    subject text PRIMARY KEY,
    worker text NOT NULL,
    epoch bigint NOT NULL,
    taken_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE leases IS 'Who measures a site, and who runs the jobs of all';
COMMENT ON COLUMN leases.subject IS 'site:KEY, or jobs';
COMMENT ON COLUMN leases.epoch IS 'Grows whenever another worker takes it';
"""

HASHES = """
WITH old AS (DELETE FROM deployment WHERE key = 'site_file_sha256' RETURNING value)
INSERT INTO deployment (key, value) SELECT 'site_file_hashes', jsonb_build_object('', value) FROM old
"""
HASH = """
WITH old AS (DELETE FROM deployment WHERE key = 'site_file_hashes' RETURNING value)
INSERT INTO deployment (key, value)
SELECT 'site_file_sha256', value -> first FROM old, jsonb_object_keys(value) AS first LIMIT 1
"""


def upgrade() -> None:
    """Add the tables."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(TABLES)
    op.execute(HASHES)


def downgrade() -> None:
    """Drop them."""
    op.execute(HASH)
    op.execute("DROP TABLE leases, workers, site_sources")
