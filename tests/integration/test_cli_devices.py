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


def test_poll_once_shows_what_the_meter_says_and_what_the_multiplier_makes_of_it(
    wattline: Wattline, port: int, tmp_path: Path
) -> None:
    site = tmp_path / "site.yaml"
    dated = "multiplier: [{value: 40}, {from: 2026-01-01, value: 80}], kind: register"
    site.write_text(SITE.format(port=port).replace("kind: register", dated, 1))
    document = wattline("poll", "--once", "main", "--config", site, "--json").document
    found = {r["point"]: (r["value"], r["multiplier"], r["multiplied"]) for r in document["readings"]}
    assert found["main.kwh"] == (123_456.0, 80.0, 9_876_480.0)
    shown = wattline("poll", "--once", "main", "--config", site).out
    assert "meter says" in shown
    assert "9,876,480.000" in shown


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


# -- profiles, ranges, SNMPv3 ------------------------------------------------------------------------

OWN = """\
model: Y 7
vendor: Nobody
protocol: snmp
source: MIB of Nobody
channels:
  - {name: power_kw, unit: w, oid: 1.3.6.1.4.1.99999.5.1.0}
"""


def test_profiles_are_listed_shown_and_tried(wattline: Wattline, port: int) -> None:
    listed = wattline("profiles", "list", "--json").document
    assert {"schneider_pm5xxx", "raritan_px"} <= {row["profile"] for row in listed["profiles"]}
    assert "model: " in wattline("profiles", "show", "raritan_px").out
    tried = wattline("profiles", "try", "schneider_pm5xxx", "127.0.0.1", "--modbus", port, "--json").document
    assert tried["recognised"][0]["profile"] == "schneider_pm5xxx"
    asked = wattline("probe", "127.0.0.1", "--modbus", port, "--profile", "schneider_pm5xxx", "--json")
    assert asked.document["recognised"] == tried["recognised"]
    refused = wattline("profiles", "try", "no_such", "127.0.0.1", "--modbus", port)
    assert (refused.code, "there is no profile 'no_such'" in refused.err) == (1, True)


def test_an_own_profile_is_tested_against_a_recording(wattline: Wattline, tmp_path: Path) -> None:
    file, walk = tmp_path / "nobody.yaml", tmp_path / "y7.snmprec"
    file.write_text(OWN)
    walk.write_text("1.3.6.1.2.1.1.1.0|4|Y 7\n1.3.6.1.4.1.99999.5.1.0|2|4200\n")
    assert "nothing is wrong" in wattline("profiles", "test", file).out
    document = wattline("profiles", "test", file, "--against", walk, "--json").document
    assert document["values"] == {"power_kw": 4.2}
    walk.write_text("1.3.6.1.2.1.1.1.0|4|Y 7\n")
    assert wattline("profiles", "test", file, "--against", walk).code == 1
    file.write_text(OWN.replace("unit: w", "unit: x"))
    broken = wattline("profiles", "test", file)
    assert broken.code == 1
    assert broken.err.startswith(f"{file}:6: channels[0]")


def test_own_profiles_lie_in_a_folder_and_broken_ones_are_named(
    wattline: Wattline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "nobody_y7.yaml").write_text(OWN)
    (tmp_path / "own" / "other.yaml").write_text("protocol: snmp\n")
    monkeypatch.setenv("WATTLINE_PROFILES_DIR", str(tmp_path / "own"))
    done = wattline("profiles", "list", "--json")
    assert done.code == 1
    assert "nobody_y7" in {row["profile"] for row in done.document["profiles"]}
    assert done.document["broken"][0].startswith(f"{tmp_path}/own/other.yaml:1: ")


def test_a_range_gives_one_row_for_each_address_that_answers(wattline: Wattline, port: int) -> None:
    done = wattline("probe", "127.0.0.1/32", "--modbus", port, "--json")
    assert [host["host"] for host in done.document["hosts"]] == ["127.0.0.1"]
    assert done.document["hosts"][0]["recognised"][0]["profile"] == "schneider_pm5xxx"
    shown = wattline("probe", "127.0.0.0/30", "--modbus", port)
    assert "schneider_pm5xxx" in shown.out
    assert "of 2 addresses answer" in shown.err
    for wrong, said in (
        ("10.0.0.0/16", "65536 addresses; a range may have 256"),
        ("10.0.0.0/x", "give an address or a range"),
        ("8.8.8.0/30", "is outside of private networks"),
    ):
        refused = wattline("probe", wrong, "--modbus", port)
        assert (refused.code, said in refused.err) == (1, True), refused.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--snmp-auth", "SHA-256:x"), "--snmp-user: is missing"),
        (("--snmp-user", "u", "--snmp-auth", "x"), "--snmp-auth: 'x' is not understood; give PROTOCOL:FILE"),
        (("--snmp-user", "u", "--snmp-auth", "SHA-3:x"), "auth_protocol"),
        (("--snmp-user", "u", "--snmp-privacy", "AES:x"), "no privacy without authentication"),
        (("--snmp-user", "u", "--snmp-auth", "SHA-256:/none/x"), "/none/x"),
    ],
)
def test_access_of_snmp_version_3_is_checked(wattline: Wattline, options: tuple[str, ...], said: str) -> None:
    done = wattline("probe", "127.0.0.1", "--snmp", 9, *options)
    assert done.code == 1
    assert said in done.err
