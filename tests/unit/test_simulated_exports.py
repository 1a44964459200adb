"""Exported files are read by the CSV import as they are, and hold what history would have held."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

import collectors.simulated
from app import config
from app.domain.reading import ReadingColumns
from app.domain.site import Site
from collectors.csv.reader import read, understand
from collectors.simulated.exports import Exporter, exported, quarter_before, write_late_file
from collectors.simulated.history import Simulation

NOW = datetime(2026, 11, 23, 16, 20, tzinfo=UTC)
QUARTER_US = 900 * 10**6
Rows = set[tuple[str, int, float, int]]


@pytest.fixture(scope="module")
def site() -> Site:
    return config.load(Path(collectors.simulated.__file__).parent / "demo_site.yaml").fleet.site["sh1"]


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return Simulation(NOW)


def imported(path: Path, site: Site) -> Rows:
    batches = list(read(path, understand(path, site, None), now=NOW + timedelta(days=1)))
    assert [b.rejects for b in batches if b.rejects] == []
    return {row for b in batches for row in rows(b.points, b.columns)}


def rows(ids: tuple[str, ...], columns: ReadingColumns) -> Rows:
    parts = (columns.point_id, columns.at_us, columns.value, columns.interval_s)
    return {
        (ids[i], at, value, interval)
        for i, at, value, interval in zip(*(p.tolist() for p in parts), strict=True)
    }


def test_a_file_holds_what_history_holds(tmp_path: Path, site: Site, simulation: Simulation) -> None:
    start, end = NOW, NOW + timedelta(hours=3)
    path = Exporter(tmp_path / "exports", simulation, site, start).write_due(end)
    assert path is not None
    points = {p.id for m in exported(site) for p in m.points}
    ((ids, columns),) = simulation.history(site, start, end)
    assert imported(path, site) == {row for row in rows(ids, columns) if row[0] in points}


def test_files_follow_each_other_without_a_hole(tmp_path: Path, site: Site, simulation: Simulation) -> None:
    exporter = Exporter(tmp_path, simulation, site, NOW)
    paths = [exporter.write_due(NOW + timedelta(minutes=m)) for m in (5, 10, 20, 25, 41, 90)]
    assert [p is not None for p in paths] == [False, True, False, True, True, True]
    at = sorted(row[1] for p in paths if p for row in imported(p, site) if row[0] == "sh1-epms.kwh")
    assert [b - a for a, b in pairwise(at)] == [QUARTER_US] * (len(at) - 1)
    assert len(at) == 6


def test_the_late_file_brings_the_missing_day(tmp_path: Path, site: Site, simulation: Simulation) -> None:
    late = imported(write_late_file(tmp_path, simulation, site), site)
    assert {row[0] for row in late} == {"sh1-epms.kwh"}
    assert len(late) == 96
    assert {row[3] for row in late} == {900}


def test_nothing_unfinished_is_left(tmp_path: Path, site: Site, simulation: Simulation) -> None:
    write_late_file(tmp_path, simulation, site)
    assert [p.suffix for p in tmp_path.iterdir()] == [".csv"]


def test_quarters_are_those_of_utc() -> None:
    assert quarter_before(NOW) == datetime(2026, 11, 23, 16, 15, tzinfo=UTC)
    assert quarter_before(datetime(2026, 11, 23, 16, 15, tzinfo=UTC)) == datetime(
        2026, 11, 23, 16, 15, tzinfo=UTC
    )
