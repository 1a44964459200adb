"""Alarms with their memory, transitions, silences and comments; the outbox and the delivery log

Revision: 0008, after 0007
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE alarms
    ADD COLUMN subject text NOT NULL DEFAULT '',
    ADD COLUMN acknowledged_at timestamptz,
    ADD COLUMN acknowledged_by text;
COMMENT ON COLUMN alarms.subject IS 'What of the site: a meter, a point, a feed; empty for the site itself';
CREATE UNIQUE INDEX alarms_one_at_a_time ON alarms (fingerprint) WHERE resolved_at IS NULL;

CREATE TABLE alarm_memory (
    fingerprint text PRIMARY KEY,
    site_id int NOT NULL,
    rule text NOT NULL,
    subject text NOT NULL,
    memory jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE alarm_memory IS 'Where every rule stands for every subject, between two evaluations';

CREATE TABLE alarm_transitions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alarm_id bigint,
    fingerprint text NOT NULL,
    site_id int NOT NULL,
    rule text NOT NULL,
    subject text NOT NULL,
    at timestamptz NOT NULL,
    before text NOT NULL,
    after text NOT NULL,
    severity text,
    value double precision,
    threshold double precision,
    reason text NOT NULL DEFAULT ''
);
CREATE INDEX alarm_transitions_site_id_at ON alarm_transitions (site_id, at);
CREATE INDEX alarm_transitions_alarm_id ON alarm_transitions (alarm_id);
COMMENT ON TABLE alarm_transitions IS 'Every change of state, for the record of compliance; never changed';

CREATE TABLE alarm_comments (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alarm_id bigint NOT NULL,
    at timestamptz NOT NULL,
    author text NOT NULL,
    text text NOT NULL
);
CREATE INDEX alarm_comments_alarm_id ON alarm_comments (alarm_id);

CREATE TABLE silences (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id int NOT NULL,
    rule text NOT NULL,
    subject text NOT NULL,
    start_at timestamptz NOT NULL,
    end_at timestamptz NOT NULL,
    author text NOT NULL,
    comment text NOT NULL
);
COMMENT ON COLUMN silences.site_id IS '0: every site';

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dedup_key text NOT NULL UNIQUE,
    channel text NOT NULL,
    site_id int NOT NULL,
    alarm_id bigint,
    what text NOT NULL,
    payload jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    not_before timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'waiting',
    attempts int NOT NULL DEFAULT 0,
    sent_at timestamptz
);
CREATE INDEX outbox_waiting ON outbox (channel, id) WHERE state = 'waiting';
CREATE INDEX outbox_alarm_id ON outbox (alarm_id);
COMMENT ON TABLE outbox IS 'Messages, written in the transaction of the change that they tell of';
COMMENT ON COLUMN outbox.state IS 'waiting, sent or dropped (its channel is gone)';

CREATE TABLE deliveries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel text NOT NULL,
    message_ids bigint[] NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    outcome text NOT NULL,
    detail text NOT NULL DEFAULT ''
);
CREATE INDEX deliveries_channel_started_at ON deliveries (channel, started_at);
COMMENT ON TABLE deliveries IS 'Every attempt to send: started, sent or failed';

CREATE FUNCTION alarm_transitions_are_a_record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'transitions of alarms are never changed or deleted';
END $$;
CREATE TRIGGER alarm_transitions_are_a_record BEFORE UPDATE OR DELETE ON alarm_transitions
    FOR EACH ROW EXECUTE FUNCTION alarm_transitions_are_a_record();
CREATE TRIGGER alarm_transitions_are_not_emptied BEFORE TRUNCATE ON alarm_transitions
    FOR EACH STATEMENT EXECUTE FUNCTION alarm_transitions_are_a_record();
"""


def upgrade() -> None:
    """Add what alarms and their delivery need."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(TABLES)
