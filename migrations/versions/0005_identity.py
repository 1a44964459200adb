"""Keys, and the audit log

Revision: 0005, after 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEYS = """
CREATE TABLE api_keys (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    public_id text NOT NULL UNIQUE,
    name text NOT NULL,
    secret_sha256 text NOT NULL,
    grants text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    revoked_by text
);
COMMENT ON TABLE api_keys IS 'Who may use the interface; a key itself is shown once and stored nowhere';
COMMENT ON COLUMN api_keys.public_id IS 'The part of the key that names it';
COMMENT ON COLUMN api_keys.secret_sha256 IS 'SHA-256 of the secret part, which has 128 random bits';
COMMENT ON COLUMN api_keys.grants IS 'viewer, operator:site/ID, admin:institution/ID ...';
"""

AUDIT = """
CREATE TABLE audit (
    seq bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    source text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    detail text NOT NULL,
    previous_hash text NOT NULL,
    hash text NOT NULL
);
CREATE INDEX audit_at ON audit (at);
COMMENT ON TABLE audit IS 'Who did what, when and from where; each entry carries the hash of the one before';
COMMENT ON COLUMN audit.seq IS 'Without gaps';
COMMENT ON COLUMN audit.source IS 'Address of the request, or the command that was run';
COMMENT ON COLUMN audit.detail IS 'JSON as it was hashed';
COMMENT ON COLUMN audit.hash IS 'SHA-256 over this entry and previous_hash';

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.at < now() - interval '180 days' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the audit log is never changed; entries older than 180 days may be removed';
END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_is_not_truncated BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
"""


def upgrade() -> None:
    """Make the tables."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(KEYS)
    op.execute(AUDIT)
