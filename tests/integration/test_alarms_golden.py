"""A reviewed list of alarms for real and simulated data; whatever changes it must be looked at again.

``WATTLINE_WRITE_GOLDEN=1`` writes the lists anew, to be reviewed before they are committed.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import collectors.simulated
from app import config
from app.domain.period import Period, floor
from app.jobs import demo, imports
from app.jobs.demo import Past
from app.jobs.replay import replay_site
from app.store import sites
from app.store.audit import Who
from app.store.engine import Engine, begin, make_engine
from collectors.simulated.exports import write_late_file
from collectors.simulated.history import Simulation
from tests.integration.conftest import Wattline
from tests.integration.test_real_data import ESIF, ESIF_MAP, taken

GOLDEN = Path(__file__).parents[1] / "golden" / "alarms"
NOW = datetime(2025, 11, 23, 16, 20, tzinfo=UTC)


def replayed(engine: Engine, site_id: str, period: Period) -> list[dict[str, Any]]:
    with begin(engine) as connection:
        stored = sites.load(connection)
        found = replay_site(connection, stored, stored.estate.site[site_id], period)
    return [_rounded(one.as_dict()) for one in found]


def _rounded(alarm: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in alarm.items()}


def check(name: str, found: list[dict[str, Any]]) -> None:
    """Compare with the committed list."""
    file = GOLDEN / name / "expected.json"
    if os.environ.get("WATTLINE_WRITE_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = ",\n  ".join(json.dumps(one) for one in found)
        file.write_text(f"[\n  {lines}\n]\n" if found else "[]\n")
    assert found == json.loads(file.read_text())


def test_esif(wattline: Wattline, shared_data: Path, tmp_path: Path, database_url: str) -> None:
    (file,) = (shared_data / "timeseries" / "esif").glob("esif_daily_*.csv")
    taken(wattline, tmp_path, file, ESIF, ESIF_MAP)
    engine = make_engine(database_url)
    whole = Period(datetime(2016, 6, 12, 6, tzinfo=UTC), datetime(2016, 8, 29, 6, tzinfo=UTC))
    found = replayed(engine, "esif", whole)
    engine.dispose()
    check("esif", found)


@pytest.mark.timeout(900)
def test_the_demo_year(engine: Engine, tmp_path: Path) -> None:
    estate = config.load(Path(collectors.simulated.__file__).parent / "demo_site.yaml").estate
    with begin(engine) as connection:
        sites.sync(connection, estate)
    simulation = Simulation(NOW)
    demo.load(engine, estate, simulation, Past.begun(engine, NOW))
    imports.settle(engine)
    with begin(engine) as connection:
        stored = sites.load(connection)
    late = write_late_file(tmp_path, simulation, estate.site["sh1"])
    imports.import_file(engine, stored, stored.estate.site["sh1"], late, by=Who("test"))
    imports.settle(engine)
    year = Period(floor(NOW) - timedelta(days=390), floor(NOW))
    for site in ("sh1", "nb1"):
        found = replayed(engine, site, year)
        check(f"demo-{site}", found)
