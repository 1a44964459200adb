"""The demo's 13 months through the real ingest, rollup and quality checks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import collectors.simulated
from app import config
from app.domain.period import Period
from app.domain.site import Estate
from app.jobs import demo, imports, rollup
from app.jobs.demo import Past
from app.store import deployment, pue, sites
from app.store.audit import Who
from app.store import findings as stored_findings
from app.store.engine import Engine
from collectors.simulated import defects
from collectors.simulated.exports import write_late_file
from collectors.simulated.history import Simulation

NOW = datetime(2025, 11, 23, 16, 20, tzinfo=UTC)
"""Past on every clock: the import refuses readings from the future."""


@pytest.fixture
def estate(engine: Engine) -> Estate:
    estate = config.load(Path(collectors.simulated.__file__).parent / "demo_site.yaml").estate
    with engine.begin() as connection:
        sites.sync(connection, estate)
    return estate


def pue_of(engine: Engine, site: str, start: datetime, end: datetime) -> pue.PueDocument:
    with engine.begin() as connection:
        stored, profiles = sites.load(connection), deployment.limit_profiles(connection)
        return pue.document(connection, stored, site, Period(start, end), profiles)


def found(engine: Engine) -> list[tuple[str, str]]:
    with engine.begin() as connection:
        numbers = sites.load(connection).site_id.values()
        listed = [f for number in numbers for f in stored_findings.listing(connection, number)]
    return sorted((f.kind, f.point) for f in listed)


def test_a_few_days_have_a_pue_of_each_category(engine: Engine, estate: Estate) -> None:
    demo.load(engine, estate, Simulation(NOW), Past.begun(engine, NOW), days=2)
    rollup.run(engine)
    start, end = NOW - timedelta(hours=25, minutes=20), NOW - timedelta(hours=1, minutes=20)
    for site, expected, label in (("sh1", 1.40, "PUE2"), ("nb1", 1.70, "PUE1")):
        document = pue_of(engine, site, start, end)
        assert document.pue == pytest.approx(expected, abs=0.15)
        assert (document.label, document.coverage_ratio) == (label, pytest.approx(1))


@pytest.mark.timeout(400)
def test_the_findings_name_exactly_the_defects(engine: Engine, estate: Estate, tmp_path: Path) -> None:
    simulation, expected = Simulation(NOW), expected_findings()
    demo.load(engine, estate, simulation, Past.begun(engine, NOW))
    imports.settle(engine)
    assert found(engine) == sorted([*expected, ("gap", "sh1-epms.kwh")])
    import_late_file(engine, write_late_file(tmp_path, simulation, estate.site["sh1"]))
    assert found(engine) == expected
    year = pue_of(engine, "sh1", NOW - timedelta(days=365), NOW - timedelta(minutes=20))
    assert year.pue == pytest.approx(1.44, abs=0.02)
    assert year.coverage_ratio == pytest.approx(1, abs=1e-4)


def expected_findings() -> list[tuple[str, str]]:
    return sorted((e.kind.value, e.point) for e in defects.expected_findings(NOW))


def import_late_file(engine: Engine, path: Path) -> None:
    with engine.begin() as connection:
        stored = sites.load(connection)
    imported = imports.import_file(engine, stored, stored.estate.site["sh1"], path, by=Who("test"))
    assert (imported.accepted, imported.rejected) == (96, 0)
    imports.settle(engine)
