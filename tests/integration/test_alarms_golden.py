"""A reviewed list of alarms for real data; whatever changes it must be looked at again.

The list of the demo's year is in ``test_demo_history.py``, where that year is loaded.

``WATTLINE_WRITE_GOLDEN=1`` writes the lists anew, to be reviewed before they are committed.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.domain.period import Period
from app.jobs.alarms.replay import replay_site
from app.store import sites
from app.store.engine import Engine, begin, make_engine
from tests.integration.conftest import Wattline
from tests.integration.test_real_data import ESIF, ESIF_MAP, taken

GOLDEN = Path(__file__).parents[1] / "golden" / "alarms"


def replayed(engine: Engine, site_id: str, period: Period) -> list[dict[str, Any]]:
    with begin(engine) as connection:
        stored = sites.load(connection)
        found = replay_site(connection, stored, stored.fleet.site[site_id], period)
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
    asked = ("alarms", "replay", "esif", "--start", whole.start.isoformat(), "--end", whole.end.isoformat())
    assert "4 alarms of esif are new" in wattline(*asked, "--record").err
    assert "0 alarms of esif are new" in wattline(*asked, "--record").err
    kept = wattline("alarms", "list", "--state", "resolved", "--json").document["alarms"]
    assert [one["rule"] for one in kept] == ["coverage_low"] * len(found)
