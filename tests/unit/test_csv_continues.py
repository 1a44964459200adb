"""What a preview asks where a file does not go on from what is known of its points."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Falls, Meter, Point, Site
from app.jobs.dry_run import Seen, dry_run
from collectors.csv.mapping import parse_mapping

_START = datetime(2026, 5, 4, tzinfo=UTC)


def site(**point: object) -> Site:
    told = {"id": "main", "role": Role.FACILITY, "kind": ReadingKind.REGISTER} | point
    meter = Meter(id="m", points=(Point(**told),))  # type: ignore[arg-type]
    return Site(id="s", institution="b", time_zone="UTC", meters=(meter,))


def table(
    file: Path, first: float, step: float, hours: float = 0, rows: int = 12, name: str = "main"
) -> Path:
    at = _START + timedelta(hours=hours)
    lines = (f"{at + timedelta(minutes=15 * n):%Y-%m-%d %H:%M},{first + step * n}" for n in range(rows))
    file.write_text(f"time,{name}\n" + "\n".join(lines) + "\n")
    return file


def asked(
    folder: Path, first: tuple[float, ...], second: tuple[float, ...], **point: object
) -> tuple[str, ...]:
    """The questions about the second of two files of one point."""
    of, seen = site(**point), Seen()
    dry_run(table(folder / "a.csv", *first), of, seen=seen)
    return dry_run(table(folder / "b.csv", *second), of, seen=seen).questions


def test_a_file_that_goes_on_is_not_asked_about(tmp_path: Path) -> None:
    assert asked(tmp_path, (1000, 5), (1060, 6, 3)) == ()


def test_a_gap_is_named_with_the_energy_that_falls_into_it(tmp_path: Path) -> None:
    (question,) = asked(tmp_path, (1000, 5), (1155, 5, 10))
    assert "from 1,055.0 kWh at 2026-05-04 02:45 UTC to 1,155.0 kWh at 2026-05-04 10:00 UTC" in question
    assert question.endswith("has a gap of 7.25 h, into which 100.0 kWh fall")


@pytest.mark.parametrize(("rating_kw", "most"), [(100, "more than 100 kW"), (math.inf, "more than 160 kW")])
def test_a_jump_is_measured_by_the_rating_or_by_the_usual_load(
    tmp_path: Path, rating_kw: float, most: str
) -> None:
    (question,) = asked(tmp_path, (1000, 5), (51_000, 5, 3), max_power_kw=rating_kw)
    assert "would rise by 49,945.0 kWh, about 199,780 kW" in question
    assert most in question


def test_a_register_that_would_fall_is_asked_about(tmp_path: Path) -> None:
    (question,) = asked(tmp_path, (1000, 5), (12, 5, 3))
    assert "would fall; check unit and scale, or declare the replaced meter" in question
    assert asked(tmp_path, (1000, 5), (12, 5, 3), falls=Falls.RESET_TO_ZERO) == ()
    assert asked(tmp_path, (960, 5), (20, 5, 3), modulus_kwh=1000.0) == ()


def test_a_file_before_the_known_ones_is_compared_as_well(tmp_path: Path) -> None:
    (question,) = asked(tmp_path, (1000, 5, 3), (500, 5, 0))
    assert "from 555.0 kWh" in question
    assert "would rise by 445.0 kWh" in question


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (ReadingKind.REGISTER, "200 kW"),
        (ReadingKind.POWER, "2,000 kW"),
        (ReadingKind.INTERVAL_ENERGY, "8,000 kW"),
    ],
)
def test_numbers_of_another_size_are_asked_about(tmp_path: Path, kind: ReadingKind, size: str) -> None:
    first, second = ((100, 5), (1000, 50, 3)) if kind is ReadingKind.REGISTER else ((20, 0), (2000, 0, 3))
    more = {"interval_s": 900} if kind is ReadingKind.INTERVAL_ENERGY else {}
    questions = asked(tmp_path, first, second, kind=kind, **more)
    assert any(f"its numbers mean about {size}, the other readings of point main" in q for q in questions)


def test_a_column_of_another_name_is_asked_about_where_nothing_can_be_compared(tmp_path: Path) -> None:
    file, mapping = (
        table(tmp_path / "a.csv", 100, 80, name="读数"),
        parse_mapping("columns: {读数: main}"),
    )
    (question,) = dry_run(file, site(), mapping).questions
    assert "about 320 kW; point main has neither a rating nor other readings" in question
    assert dry_run(file, site(max_power_kw=500), mapping).questions == ()
    assert dry_run(table(tmp_path / "b.csv", 100, 80), site()).questions == ()
