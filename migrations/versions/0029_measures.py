"""Energy saving measures and their non-routine adjustments

Revision: 0029, after 0028
"""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE measures (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id int NOT NULL REFERENCES sites (id),
    key text NOT NULL,
    what text NOT NULL,
    boundary text NOT NULL,
    implementation_start date NOT NULL,
    implementation_end date NOT NULL,
    baseline_start date NOT NULL,
    baseline_end date NOT NULL,
    reporting_start date NOT NULL,
    reporting_end date,
    cost double precision,
    expected_kwh_per_year double precision,
    evidence text NOT NULL,
    author text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    withdrawn_by text,
    withdrawn_at timestamptz
);
CREATE UNIQUE INDEX measures_in_force ON measures (site_id, key) WHERE withdrawn_at IS NULL;
COMMENT ON TABLE measures IS 'Energy saving measures; entries are withdrawn, never changed';
COMMENT ON COLUMN measures.boundary IS 'Measurement boundary: facility, class:CLASS or meter:ID';
COMMENT ON COLUMN measures.implementation_end IS 'First local day on which the work is done';
COMMENT ON COLUMN measures.reporting_end IS 'First local day after it; NULL: until further notice';
COMMENT ON COLUMN measures.cost IS 'In the currency of the site; NULL: not stated';
COMMENT ON COLUMN measures.expected_kwh_per_year IS 'Saving expected when it was decided; kWh a year';
CREATE TABLE measure_adjustments (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    measure_id bigint NOT NULL REFERENCES measures (id),
    start_on date NOT NULL,
    end_on date NOT NULL,
    energy_kwh double precision NOT NULL,
    reason text NOT NULL,
    author text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    withdrawn_by text,
    withdrawn_at timestamptz
);
CREATE INDEX measure_adjustments_measure ON measure_adjustments (measure_id);
COMMENT ON TABLE measure_adjustments IS 'Non-routine adjustments of savings; withdrawn, never changed';
COMMENT ON COLUMN measure_adjustments.end_on IS 'First local day after it';
COMMENT ON COLUMN measure_adjustments.energy_kwh IS 'Over the whole span; above zero: it raises the baseline';
CREATE FUNCTION refuse_measure_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.withdrawn_at IS NULL AND NEW.withdrawn_at IS NOT NULL
       AND (to_jsonb(NEW) - 'withdrawn_at' - 'withdrawn_by')
           = (to_jsonb(OLD) - 'withdrawn_at' - 'withdrawn_by') THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'measures are never changed or deleted; withdraw the entry and add another';
END $$;
CREATE TRIGGER measures_kept BEFORE UPDATE OR DELETE ON measures
    FOR EACH ROW EXECUTE FUNCTION refuse_measure_change();
CREATE TRIGGER measure_adjustments_kept BEFORE UPDATE OR DELETE ON measure_adjustments
    FOR EACH ROW EXECUTE FUNCTION refuse_measure_change();
"""


def upgrade() -> None:
    """Add the tables."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(TABLES)


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP TABLE measure_adjustments")
    op.execute("DROP TABLE measures")
    op.execute("DROP FUNCTION refuse_measure_change()")
