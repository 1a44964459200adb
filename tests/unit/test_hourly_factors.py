"""Files of hourly emission factors, and the emissions they give."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.emissions import EmissionChoice, EmissionFactor
from app.domain.hourly_factors import HourlyFactors, hourly_emissions, parse, series
from app.errors import SeriesError

HEAD = "start,kg_per_kwh\n"


def factors(first: datetime, *kg: float | None, source: str = "x") -> HourlyFactors:
    return HourlyFactors("CN", "grid_average", source, False, first, kg)


def quarters(first: str, n: int, kwh: float = 10.0) -> pd.Series[float]:
    return pd.Series(kwh, pd.date_range(first, periods=n, freq="15min", tz="UTC"))


def test_a_file_gives_the_factor_of_every_hour_and_none_where_one_is_absent() -> None:
    text = "\ufeff" + HEAD + "2026-01-01T00:00:00+08:00,0.5\n2026-01-01T02:00:00+08:00,0.7\n\n"
    assert parse(text, "f.csv") == (datetime(2025, 12, 31, 16, tzinfo=UTC), (0.5, None, 0.7))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("2026-01-01T00:00:00,0.5", r"f\.csv:2: start: .* has no offset"),
        ("yesterday,0.5", r"f\.csv:2: start: 'yesterday' is no time"),
        ("2026-01-01T00:07:00Z,0.5", r"f\.csv:2: start: .* not the beginning of an hour"),
        ("2026-01-01T00:00:00Z,", r"f\.csv:2: kg_per_kwh: '' is no number; leave the line out"),
        ("2026-01-01T00:00:00Z,530", r"f\.csv:2: kg_per_kwh: 530; allowed are 0 to 3 .* divide grams"),
        ("2026-01-01T00:00:00Z,nan", r"f\.csv:2: kg_per_kwh: nan"),
        ("2026-01-01T01:00:00Z,1\n2026-01-01T00:00:00Z,1", r"f\.csv:3: start: .*sort the hours"),
        ("2026-01-01T00:00:00Z,1\n2026-01-01T00:00:00Z,1", r"f\.csv:3: start: .* not an hour after"),
        ("2026-01-01T00:00:00Z,1\n2026-01-01T01:30:00Z,1", r"f\.csv:3: start: .* whole number of hours"),
        ("", r"f\.csv: has no hours"),
        ("1999-01-01T00:00:00Z,1\n2026-01-01T00:00:00Z,1", r"f\.csv: spans .* hours; allowed are"),
    ],
)
def test_a_bad_line_is_named_and_what_is_allowed(lines: str, message: str) -> None:
    with pytest.raises(SeriesError, match=message):
        parse(HEAD + lines, "f.csv")


def test_other_columns_are_refused() -> None:
    with pytest.raises(
        SeriesError, match=r"f\.csv:1: columns are time, factor; allowed are start,kg_per_kwh"
    ):
        parse("time,factor\n", "f.csv")


def test_emissions_are_the_sum_of_energy_by_the_factor_of_its_hour() -> None:
    found = hourly_emissions(
        quarters("2026-01-01 00:00", 12), series([factors(datetime(2026, 1, 1, tzinfo=UTC), 0.5, None, 0.7)])
    )
    assert found.kg == pytest.approx(40 * 0.5 + 40 * 0.7)
    assert (found.known_kwh, found.unknown_kwh) == (80, 40)
    assert found.known_ratio == pytest.approx(2 / 3)


def test_hours_before_and_after_have_no_factor_and_the_later_import_counts() -> None:
    first = factors(datetime(2026, 1, 1, 1, tzinfo=UTC), 0.5, 0.5)
    second = factors(datetime(2026, 1, 1, 2, tzinfo=UTC), 0.9)
    found = hourly_emissions(quarters("2026-01-01 00:00", 16), series([first, second]))
    assert found.kg == pytest.approx(40 * 0.5 + 40 * 0.9)
    assert found.unknown_kwh == 80
    assert hourly_emissions(quarters("2026-01-01", 4), series([])).known_ratio == 0


@given(st.lists(st.floats(0, 3), min_size=1, max_size=48), st.integers(0, 60))
def test_a_constant_factor_gives_what_a_yearly_one_does(kwh: list[float], shift: int) -> None:
    energy = quarters("2026-01-01 00:00", len(kwh) * 4)
    energy[:] = [k for k in kwh for _ in range(4)]
    one = factors(datetime(2026, 1, 1, tzinfo=UTC), *[0.5] * len(kwh))
    found = hourly_emissions(energy, series([one]))
    assert found.kg == pytest.approx(0.5 * float(energy.sum()))
    assert found.known_kwh + found.unknown_kwh == pytest.approx(float(energy.sum()))


@pytest.mark.parametrize("basis", ["carbon_footprint", "Carbon footprint", "carbon-footprint"])
def test_the_carbon_footprint_is_another_series_and_refused(basis: str) -> None:
    with pytest.raises(ValueError, match="another series"):
        EmissionChoice(basis=basis)
    with pytest.raises(ValueError, match="another series"):
        EmissionFactor(region="CN", year=2024, basis=basis, kg_per_kwh=0.5777, source="x")
    with pytest.raises(SeriesError, match="another series"):
        HourlyFactors("CN", basis, "x", False, datetime(2026, 1, 1, tzinfo=UTC), (0.5,))


def test_a_source_must_be_said() -> None:
    with pytest.raises(SeriesError, match="source: is empty"):
        factors(datetime(2026, 1, 1, tzinfo=UTC), 0.5, source=" ")
