"""Sites, readings, energy, findings, reports: the base of the store

Revision: 0001, first
"""

from alembic import op

from app.store import timescale

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

REGISTRY = """
CREATE TABLE institutions (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,
    position int NOT NULL,
    name text NOT NULL,
    institution_class text NOT NULL
);
COMMENT ON TABLE institutions IS 'Banks; the class sets the PUE limit';

CREATE TABLE sites (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,
    position int NOT NULL,
    institution_id int NOT NULL REFERENCES institutions,
    name text NOT NULL,
    time_zone text NOT NULL,
    definition jsonb NOT NULL,
    definition_hash text NOT NULL,
    retired_at timestamptz
);
COMMENT ON TABLE sites IS 'Data centres: the boundary over which PUE is computed';
COMMENT ON COLUMN sites.time_zone IS 'IANA zone of the site''s days and months';
COMMENT ON COLUMN sites.definition IS 'Configuration of the site without its meters; absent keys: default';
COMMENT ON COLUMN sites.definition_hash IS 'Changes when a setting changes that moves the site''s energy';

CREATE TABLE meters (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,
    position int NOT NULL,
    site_id int NOT NULL REFERENCES sites,
    name text NOT NULL,
    room text NOT NULL DEFAULT '',
    definition jsonb NOT NULL,
    retired_at timestamptz
);
COMMENT ON TABLE meters IS 'Devices with one or more points';

CREATE TABLE points (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,
    position int NOT NULL,
    meter_id int NOT NULL REFERENCES meters,
    site_id int NOT NULL REFERENCES sites,
    role text NOT NULL,
    kind text NOT NULL,
    weight double precision NOT NULL,
    definition jsonb NOT NULL,
    definition_hash text NOT NULL,
    retired_at timestamptz
);
CREATE INDEX points_site_id ON points (site_id);
COMMENT ON TABLE points IS 'Measured series; readings name a point';
COMMENT ON COLUMN points.kind IS 'register, power, interval_energy, interval_mean_power or gauge';
COMMENT ON COLUMN points.weight IS 'Share of the point that belongs to the data centre [1]';
COMMENT ON COLUMN points.definition_hash IS 'Changes when a setting changes that moves the point''s energy';
"""

READINGS = """
CREATE TABLE readings (
    at timestamptz NOT NULL,
    point_id int NOT NULL,
    value double precision NOT NULL,
    interval_s int NOT NULL DEFAULT 0,
    valid_s int NOT NULL DEFAULT 0,
    PRIMARY KEY (at, point_id)
) {partitioning};
CREATE INDEX readings_point_id_at ON readings (point_id, at);
COMMENT ON TABLE readings IS 'What the meters said, never changed afterwards; the first value of a key wins';
COMMENT ON COLUMN readings.at IS 'Instant of measurement, or end of the stated interval';
COMMENT ON COLUMN readings.value IS 'In the house unit of the point''s quantity [kWh, kW, m3, C, percent]';
COMMENT ON COLUMN readings.interval_s IS 'Length of the stated interval; 0 for register, power and gauge [s]';
COMMENT ON COLUMN readings.valid_s IS 'Valid part of the stated interval [s]';

CREATE TABLE reading_conflicts (
    at timestamptz NOT NULL,
    point_id int NOT NULL,
    value double precision NOT NULL,
    interval_s int NOT NULL DEFAULT 0,
    valid_s int NOT NULL DEFAULT 0,
    stored_value double precision NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (at, point_id, value)
);
COMMENT ON TABLE reading_conflicts IS 'Later readings of a stored key that differ; kept aside, never used';
COMMENT ON COLUMN reading_conflicts.value IS 'The later value, in the house unit of the point''s quantity';
COMMENT ON COLUMN reading_conflicts.stored_value IS 'The value that stands in readings';

CREATE TABLE dropped_readings (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dropped_at timestamptz NOT NULL DEFAULT now(),
    site_id int,
    collector text NOT NULL,
    reason text NOT NULL,
    readings bigint NOT NULL,
    detail jsonb NOT NULL DEFAULT '{{}}'
);
COMMENT ON TABLE dropped_readings IS 'Every reading that was received and not stored is counted here';

CREATE TABLE rollup_queue (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    point_id int NOT NULL,
    start_at timestamptz NOT NULL,
    end_at timestamptz NOT NULL,
    queued_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE rollup_queue IS 'Work of the rollup; written in the transaction of the readings';
"""

ENERGY = """
CREATE TABLE energy_15m (
    point_id int NOT NULL,
    at timestamptz NOT NULL,
    energy_kwh double precision NOT NULL,
    coverage_ratio double precision NOT NULL,
    estimated_ratio double precision NOT NULL,
    reading_interval_s int NOT NULL,
    tag smallint NOT NULL,
    PRIMARY KEY (point_id, at)
);
CREATE INDEX energy_15m_at ON energy_15m (at);
COMMENT ON TABLE energy_15m IS 'Energy per point and 15-minute UTC interval; no row where unknown';
COMMENT ON COLUMN energy_15m.at IS 'Start of the interval';
COMMENT ON COLUMN energy_15m.energy_kwh IS 'Energy of the interval, over its covered part [kWh]';
COMMENT ON COLUMN energy_15m.coverage_ratio IS 'Covered share of the interval [0..1]';
COMMENT ON COLUMN energy_15m.estimated_ratio IS 'Estimated share of the interval [0..1]';
COMMENT ON COLUMN energy_15m.reading_interval_s IS 'Longest interval between the readings behind it [s]';
COMMENT ON COLUMN energy_15m.tag IS '1 measured, 2 interpolated, 3 estimated, 4 manual';

CREATE TABLE volume_15m (
    point_id int NOT NULL,
    at timestamptz NOT NULL,
    volume_m3 double precision NOT NULL,
    coverage_ratio double precision NOT NULL,
    estimated_ratio double precision NOT NULL,
    reading_interval_s int NOT NULL,
    tag smallint NOT NULL,
    PRIMARY KEY (point_id, at)
);
CREATE INDEX volume_15m_at ON volume_15m (at);
COMMENT ON TABLE volume_15m IS 'Volume per point and 15-minute UTC interval; columns as in energy_15m';
COMMENT ON COLUMN volume_15m.volume_m3 IS 'Volume of the interval, over its covered part [m3]';

CREATE TABLE gauge_15m (
    point_id int NOT NULL,
    at timestamptz NOT NULL,
    mean double precision NOT NULL,
    lowest double precision NOT NULL,
    highest double precision NOT NULL,
    samples int NOT NULL,
    PRIMARY KEY (point_id, at)
);
CREATE INDEX gauge_15m_at ON gauge_15m (at);
COMMENT ON TABLE gauge_15m IS 'Power and gauges per point and 15-minute UTC interval, in house units';

CREATE TABLE energy_day (
    point_id int NOT NULL,
    day date NOT NULL,
    energy_kwh double precision NOT NULL,
    covered_s double precision NOT NULL,
    estimated_s double precision NOT NULL,
    PRIMARY KEY (point_id, day)
);
COMMENT ON TABLE energy_day IS 'Energy per point and day of the site''s own time zone';
COMMENT ON COLUMN energy_day.energy_kwh IS 'Energy of the day, over its covered part [kWh]';
COMMENT ON COLUMN energy_day.covered_s IS 'Covered part of the day; a day has 82800, 86400 or 90000 s [s]';
COMMENT ON COLUMN energy_day.estimated_s IS 'Estimated part of the day [s]';

CREATE TABLE site_15m (
    site_id int NOT NULL,
    room text NOT NULL DEFAULT '',
    at timestamptz NOT NULL,
    facility_kwh double precision NOT NULL DEFAULT 0,
    it_kwh double precision NOT NULL DEFAULT 0,
    cooling_kwh double precision NOT NULL DEFAULT 0,
    power_distribution_kwh double precision NOT NULL DEFAULT 0,
    lighting_kwh double precision NOT NULL DEFAULT 0,
    other_kwh double precision NOT NULL DEFAULT 0,
    generator_kwh double precision NOT NULL DEFAULT 0,
    renewable_kwh double precision NOT NULL DEFAULT 0,
    non_dc_kwh double precision NOT NULL DEFAULT 0,
    heat_reuse_kwh double precision NOT NULL DEFAULT 0,
    coverage_ratio double precision NOT NULL,
    estimated_ratio double precision NOT NULL,
    category smallint NOT NULL,
    PRIMARY KEY (site_id, room, at)
);
COMMENT ON TABLE site_15m IS 'Energy by load class per site, room and 15-minute UTC interval';
COMMENT ON COLUMN site_15m.room IS 'Empty for the whole site';
COMMENT ON COLUMN site_15m.facility_kwh IS 'Energy of the data centre [kWh]';
COMMENT ON COLUMN site_15m.it_kwh IS 'Energy of IT equipment [kWh]';
COMMENT ON COLUMN site_15m.coverage_ratio IS 'Share of the interval with facility and IT both covered [0..1]';
COMMENT ON COLUMN site_15m.estimated_ratio IS 'Estimated share of the interval [0..1]';
COMMENT ON COLUMN site_15m.category IS 'PUE category 1, 2 or 3; 0 where none can be claimed';

CREATE TABLE evaluations (
    site_id int NOT NULL,
    "window" text NOT NULL,
    evaluated_at timestamptz NOT NULL,
    document jsonb NOT NULL,
    PRIMARY KEY (site_id, "window")
);
COMMENT ON TABLE evaluations IS 'Latest PUE document per site and window';
"""

LEDGERS = """
CREATE TABLE imports (
    id uuid PRIMARY KEY,
    site_id int NOT NULL,
    file_name text NOT NULL,
    sha256 text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    status text NOT NULL,
    accepted bigint NOT NULL DEFAULT 0,
    duplicate bigint NOT NULL DEFAULT 0,
    conflicting bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    detail jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE imports IS 'Files that were imported, with what became of their rows';

CREATE TABLE events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id int NOT NULL,
    meter_id int,
    point_id int,
    kind text NOT NULL,
    start_at timestamptz NOT NULL,
    end_at timestamptz NOT NULL,
    old_value double precision,
    new_value double precision,
    energy_kwh double precision,
    author text NOT NULL,
    note text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    withdrawn_at timestamptz,
    withdrawn_by text
);
CREATE INDEX events_site_id_start_at ON events (site_id, start_at);
COMMENT ON TABLE events IS 'What people declare about meters and periods: added, withdrawn, never changed';
COMMENT ON COLUMN events.kind IS 'replaced, reset, test, correction, estimate or maintenance';
COMMENT ON COLUMN events.old_value IS 'Last value of the old register [kWh]';
COMMENT ON COLUMN events.new_value IS 'First value of the new register [kWh]';
COMMENT ON COLUMN events.energy_kwh IS 'Declared energy of the period [kWh]';

CREATE TABLE findings (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    point_id int NOT NULL DEFAULT 0,
    site_id int NOT NULL,
    kind text NOT NULL,
    start_at timestamptz NOT NULL,
    end_at timestamptz NOT NULL,
    severity text NOT NULL,
    state text NOT NULL,
    effect_kwh double precision,
    evidence jsonb NOT NULL DEFAULT '{}',
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT findings_key UNIQUE (site_id, point_id, kind, start_at)
);
COMMENT ON TABLE findings IS 'What is wrong or doubtful in the data';
COMMENT ON COLUMN findings.point_id IS '0 where the finding concerns the whole site';
COMMENT ON COLUMN findings.effect_kwh IS 'Energy that is in doubt because of it [kWh]';

CREATE TABLE reports (
    site_id int NOT NULL,
    period text NOT NULL,
    revision int NOT NULL,
    document jsonb NOT NULL,
    sha256 text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    closed boolean NOT NULL,
    PRIMARY KEY (site_id, period, revision)
);
COMMENT ON TABLE reports IS 'Figures of a period, frozen once closed; corrections make a new revision';
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = 0")
    connection = op.get_bind()
    hypertables = timescale.ensure_extension(connection)
    op.execute(REGISTRY)
    op.execute(READINGS.format(partitioning="" if hypertables else "PARTITION BY RANGE (at)"))
    op.execute(ENERGY)
    op.execute(LEDGERS)
    if hypertables:
        timescale.make_hypertables(connection)
