"""Texts of site files with their earlier revisions, and indicators declared in a page

Revision: 0025, after 0024
"""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE site_file_texts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner text NOT NULL,
    text text NOT NULL,
    sha256 text NOT NULL,
    base_sha256 text NOT NULL,
    note text NOT NULL DEFAULT '',
    written_by text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    applied_by text,
    applied_at timestamptz
);
CREATE INDEX site_file_texts_applied ON site_file_texts (owner, applied_at DESC, id DESC);
COMMENT ON TABLE site_file_texts IS 'Site files as they were edited in pages: drafts and revisions';
COMMENT ON COLUMN site_file_texts.owner IS 'Whose file it is, as in site_sources';
COMMENT ON COLUMN site_file_texts.base_sha256 IS 'SHA-256 of the text that was edited; empty: there was none';
COMMENT ON COLUMN site_file_texts.applied_at IS 'NULL: a draft; drafts are kept for a week';
CREATE TABLE declarations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id int NOT NULL REFERENCES sites (id),
    indicator text NOT NULL,
    value double precision NOT NULL,
    dated date NOT NULL,
    evidence text NOT NULL,
    author text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    withdrawn_by text,
    withdrawn_at timestamptz
);
CREATE INDEX declarations_site ON declarations (site_id);
COMMENT ON TABLE declarations IS 'Indicators declared in pages, beside those of the site file; never changed';
COMMENT ON COLUMN declarations.value IS 'In the unit that the name of the indicator says';
CREATE TRIGGER note_fleet_change AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON declarations
    FOR EACH STATEMENT EXECUTE FUNCTION note_fleet_change();
"""


def upgrade() -> None:
    """Add the tables."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(TABLES)


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP TABLE declarations")
    op.execute("DROP TABLE site_file_texts")
