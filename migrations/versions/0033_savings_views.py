"""Verified savings and the normalised PUE by site, for boards

Revision: 0033, after 0032
"""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

_ROWS = "FROM outlooks e JOIN sites s ON s.id = e.site_id CROSS JOIN LATERAL"

VIEWS = {
    "v_saving": (
        f"""
        SELECT s.key AS site, e.evaluated_at, v.measures, v.what, v.boundary, v.since, v.until, v.in_total,
            v.result, v.saving_kwh, v.low AS low_kwh, v.high AS high_kwh, v.level, v.days, v.counted_days
        {_ROWS} jsonb_to_recordset(e.document->'savings'->'statements') AS v(measures text, what text,
            boundary text, since date, until date, in_total boolean, result text,
            saving_kwh double precision, low double precision, high double precision,
            level double precision, days int, counted_days int)
        """,
        "Verified savings of the energy saving measures",
        {
            "measures": "Keys of the measures; several overlap in time and are stated jointly",
            "boundary": "Measurement boundary: facility, class:CLASS or meter:ID",
            "in_total": "Whether it counts; else a wider statement of the same days has it in it",
            "result": "saved, used_more, not_distinguishable (from zero) or unknown",
            "saving_kwh": "Energy by the baseline less measured energy [kWh]; NULL where there is no figure",
            "low_kwh": "Lower end of the interval [kWh]",
            "high_kwh": "Upper end of the interval [kWh]",
            "level": "Probability that the interval is meant to have [0..1]",
            "counted_days": "Days with a figure; the energies are theirs",
        },
    ),
    "v_normalised_pue": (
        f"""
        SELECT s.key AS site, e.evaluated_at, v.month, v.measured_pue, v.pue, v.low, v.high
        {_ROWS} jsonb_to_recordset(e.document->'savings'->'normalised') AS v(month date,
            measured_pue double precision, pue double precision, low double precision,
            high double precision)
        """,
        "PUE by calendar month under the weather and IT load of the baseline, beside the measured one",
        {
            "month": "First local day of the month",
            "measured_pue": "Measured PUE of the days that count [1]",
            "pue": "Normalised PUE [1]; NULL where there is no figure",
            "low": "Lower end of its interval [1]",
            "high": "Upper end of its interval [1]",
        },
    ),
}


def upgrade() -> None:
    """Add the views."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name, (query, about, columns) in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}".replace(":", r"\:"))
        op.execute(f"COMMENT ON VIEW {name} IS '{_quoted(about)}'")
        for column, text in columns.items():
            op.execute(f"COMMENT ON COLUMN {name}.{column} IS '{_quoted(text)}'")


def downgrade() -> None:
    """Drop them."""
    for name in VIEWS:
        op.execute(f"DROP VIEW {name}")


def _quoted(text: str) -> str:
    return text.replace("'", "''").replace(":", r"\:")
