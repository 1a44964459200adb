"""``wattline demo`` as a stranger starts it, with a short past."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.e2e.processes import Running, running
from tests.waiting import until

PUE_24H = "/api/v1/sites/sh1/pue?window=24h"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the user who runs the database may enter."""
    with tempfile.TemporaryDirectory(prefix="wattline-demo-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def figure(demo: Running) -> float | None:
    answer = demo.get(PUE_24H)
    return answer.json()["pue"] if answer.status_code == 200 else None


@pytest.mark.timeout(300)
def test_the_demo_shows_figures_polls_live_and_goes_on_where_it_was(folder: Path) -> None:
    environment = {"WATTLINE_DATA_DIR": str(folder / "data"), "WATTLINE_DEMO_DAYS": "3"}
    arguments = ["demo", "--no-browser", "--port", "0"]
    with running(arguments, environment, folder) as demo:
        assert until(lambda: figure(demo), 120, "a PUE") == pytest.approx(1.43, abs=0.1)
        assert {s["id"] for s in demo.json_of("/api/v1/sites")["sites"]} == {"sh1", "nb1"}
        for meter in ("sh1-utility-a", "sh1-rack-101"):
            up = f'wattline_meter_up{{site="sh1",meter="{meter}"}} 1.0'
            until(lambda line=up: line in demo.get("/metrics").text, 120, f"{meter} polled")
        until(lambda: _stored(demo) > 0, 120, "live readings")
        until(lambda: "history is loaded" in demo.log.read_text(), 120, "the whole history")
        until(lambda: "alarms of the history are on record" in demo.log.read_text(), 120, "past alarms")
        _reader_reads_views_only(demo)
        assert demo.stop() == 0
    with running(arguments, environment, folder) as demo:
        assert until(lambda: figure(demo), 60, "the PUE again") == pytest.approx(1.43, abs=0.1)
        demo.stop()
        assert "history" not in demo.log.read_text().partition("being loaded")[2]


def _stored(demo: Running) -> float:
    lines = demo.get("/metrics").text.splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith("wattline_readings_stored_total{")
    )


def _reader_reads_views_only(demo: Running) -> None:
    url = next(word for word in demo.log.read_text().split() if word.startswith("postgresql://"))
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM v_energy_15m").fetchone() != (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM readings")
