"""``wattline probe`` and ``poll`` against devices on loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from collectors.profiles.profile import load_profile
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit
from tests.integration.conftest import Wattline

VALUES = {"energy_import_kwh": 123_456.0, "power_kw": 42.5}
SITE = """
institutions: [{{id: bank, institution_class: joint_stock}}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    meters:
      - id: main
        collector: {{kind: modbus, host: 127.0.0.1, port: {port}, profile: schneider_pm5xxx, timeout_s: 1}}
        points:
          - {{id: main.kwh, role: facility, kind: register}}
          - {{id: main.kw, role: facility, kind: power}}
      - id: files
        points: [{{id: files.kwh, role: it_pdu_output, kind: register}}]
"""


@pytest.fixture
def port() -> Iterator[int]:
    """Port of a simulated meter that answers in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    unit = SimulatedUnit(load_profile("schneider_pm5xxx"), lambda channel, at: VALUES.get(channel, 0.0))
    server = asyncio.run_coroutine_threadsafe(SimulatedModbus({1: unit}).start(), loop).result()
    yield server.port
    asyncio.run_coroutine_threadsafe(server.close(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_poll_once_prints_what_the_meter_says(wattline: Wattline, port: int, tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(SITE.format(port=port))
    document = wattline("poll", "--once", "main", "--config", site, "--json").document
    assert {r["point"]: r["value"] for r in document["readings"]} == {"main.kwh": 123_456.0, "main.kw": 42.5}
    assert document["failures"] == []
    shown = wattline("poll", "--once", "main", "--config", site).out
    assert "123,456.000" in shown
    assert "kwh" in shown


def test_poll_says_why_it_cannot(wattline: Wattline, tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(SITE.format(port=1))
    done = wattline("poll", "--once", "main", "--config", site)
    assert done.code == 1
    assert done.err.startswith("main: ")
    assert "has no collector" in wattline("poll", "--once", "files", "--config", site).err
    assert "known are main, files" in wattline("poll", "--once", "nothing", "--config", site).err


def test_probe_recognises_a_meter_and_prints_lines_that_fit_the_site_file(
    wattline: Wattline, port: int, tmp_path: Path
) -> None:
    document = wattline("probe", "127.0.0.1", "--modbus", port, "--json").document
    best = document["recognised"][0]
    assert best["profile"] == "schneider_pm5xxx"
    assert best["values"]["energy_import_kwh"] == 123_456.0
    (meter,) = yaml.safe_load(best["yaml"])
    assert meter["collector"]["port"] == port
    shown = wattline("probe", "127.0.0.1", "--modbus", port).out
    assert "paste this under meters:" in shown


def test_probe_finds_how_a_register_is_read(wattline: Wattline, port: int) -> None:
    done = wattline("probe", "127.0.0.1", "--modbus", port, "--register", 3059, "--shown", 42.5, "--json")
    assert done.code == 0, done.err
    assert ("float32", "big") in {(w["type"], w["word_order"]) for w in done.document["ways"]}
    assert wattline("probe", "127.0.0.1", "--modbus", port, "--register", 3059, "--shown", 31337.77).code == 1


def test_probe_of_nothing(wattline: Wattline) -> None:
    done = wattline("probe", "127.0.0.1", "--modbus", 1)
    assert done.code == 1
    assert "Modbus: " in done.err
    assert "nothing was recognised" in done.err
