"""Walks of real devices, served by snmpsim: recognised, read, and checked against independent answers.

The recordings lie outside the repository; without them, or without ``snmpsimd`` (Debian package
snmpsim), the tests skip.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point
from collectors.base import Binding
from collectors.profiles.profile import SnmpProfile, find_channel, load_profile, profile_names
from collectors.registry import build, parse
from collectors.snmp.probe import Recognised, probe
from collectors.snmp.session import Agent, SnmpAccess
from collectors.snmp.table import Cell, Survey, survey

AT = datetime(2026, 10, 1, tzinfo=UTC)
DATA = Path(__file__).parents[3] / "shared" / "data"
RECORDINGS = sorted(path.stem for path in DATA.glob("snmprec/*.snmprec"))
if not RECORDINGS:
    pytest.skip("no recordings: ../shared/data/snmprec is absent", allow_module_level=True)

PROFILE_OF = {
    "apc-epdu_epdu1116s": "apc_epdu",
    "apc-mgeups_galaxy7000": "mge_ups",
    "apc_ap7900b": "apc_rpdu2",
    "apc_ap8853": "apc_rpdu2",
    "apc_ap8959eu3": "apc_rpdu2",
    "apc_smx750": "apc_smart_ups",
    "apc_symmetralx": "apc_smart_ups",
    "cyberpower": "cyberpower_ups",
    "cyberpower_pdu81005": "cyberpower_pdu",
    "deltaups": "ups_mib",
    "e3meter": "riedo_e3meter",
    "eaton-mgeups_93ps": "mge_ups",
    "eatonpdu_2": "eaton_epdu_g3",
    "eatonups": "eaton_xups",
    "eatonupsm2_9px": "eaton_xups",
    "enlogic-pdu_v2": "enlogic_pdu",
    "generex-ups_cs141": "ups_mib",
    "gude-epc_1202": "gude_epc",
    "huaweiups_ups2000": "huawei_ups2000",
    "janitza-umg96_umg96": "janitza_umg96",
    "liebert": "liebert_mph",
    "liebert_web485": "liebert_power",
    "netmanplus_204": "ups_mib",
    "netsure": "netsure_vortex",
    "panduit": "panduit_g5",
    "raritan-pdu_px2": "raritan_px",
    "raritan-pdu_px3": "raritan_px",
    "schleifenbauer": "schleifenbauer",
    "sentry3_3phase": "sentry3",
    "sentry4": "sentry4",
    "socomec-ups": "socomec_ups",
    "vertiv-pdu_mg02e4w1": "vertiv_geist",
}

LIBRENMS_IS_WRONG = {
    ("apc-mgeups_galaxy7000", "1.3.6.1.4.1.705.1.7.2.1.4"): "a load in percent, not kVA and not a power",
    ("huaweiups_ups2000", "1.3.6.1.2.1.33.1.4.4.1.4"): "the card gives kW: 230 V x 7.2 A is not 1 W",
    ("enlogic-pdu_v2", "1.3.6.1.4.1.38446.1.2.4.1.4"): "asked with one index too many; the unit says 1 120 W",
    ("enlogic-pdu_v2", "1.3.6.1.4.1.38446.1.3.4.1.7"): "asked with one index too many; the unit says 521 W",
}
"""(recording, column) -> why the profile disagrees; the profile's notes tell the whole story."""

NOT_ACTIVE = {
    ("gude-epc_1202", "1.3.6.1.4.1.28507.43.1.5.1.2.1.10"): "_kva",
    ("janitza-umg96_umg96", "1.3.6.1.4.1.34278.2.2"): "_kvar",
    ("janitza-umg96_umg96", "1.3.6.1.4.1.34278.1.16"): "_kvar",
    ("janitza-umg96_umg96", "1.3.6.1.4.1.34278.1.17"): "_kvar",
    ("janitza-umg96_umg96", "1.3.6.1.4.1.34278.1.18"): "_kvar",
    ("janitza-umg96_umg96", "1.3.6.1.4.1.34278.2.3"): "_kva",
    ("janitza-umg96_umg96", "1.3.6.1.4.1.34278.1.19"): "_kva",
    ("janitza-umg96_umg96", "1.3.6.1.4.1.34278.1.20"): "_kva",
    ("janitza-umg96_umg96", "1.3.6.1.4.1.34278.1.21"): "_kva",
    ("janitza-umg96_umg96", "1.3.6.1.4.1.34278.4.2"): "_kvarh",
    ("liebert_web485", "1.3.6.1.4.1.476.1.42.3.5.2.2.1.7"): "_kva",
    ("schleifenbauer", "1.3.6.1.4.1.31034.12.1.1.2.6.1.1.9"): "_kva",
}
"""(recording, column) -> unit of what LibreNMS calls power or energy, where it is apparent or reactive."""


@pytest.fixture(scope="session")
def snmpsim() -> Iterator[int]:
    """Port of one snmpsim process that serves every recording; the community is the file's name."""
    program = shutil.which("snmpsimd")
    if program is None:
        pytest.skip("snmpsimd is absent (Debian package snmpsim)")
    with tempfile.TemporaryDirectory(prefix="wattline-snmpsim-") as folder, contextlib.ExitStack() as stack:
        data, cache = _open_folders(Path(folder))
        port = _free_port()
        command = [program, f"--data-dir={data}", f"--cache-dir={cache}", "--v2c-arch"]
        command.append(f"--agent-udpv4-endpoint=127.0.0.1:{port}")
        if os.geteuid() == 0:
            command += ["--process-user=nobody", "--process-group=nogroup"]
        process = subprocess.Popen(command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        listening = threading.Event()
        reader = threading.Thread(target=_drain, args=(process, listening), daemon=True)
        reader.start()
        stack.callback(process.stdout.close)
        stack.callback(reader.join)
        stack.callback(_end, process)
        assert listening.wait(60), "snmpsimd did not begin to listen"
        yield port


def _open_folders(folder: Path) -> tuple[Path, Path]:
    """Data and cache folders that `nobody` may use."""
    data, cache = folder / "data", folder / "cache"
    shutil.copytree(DATA / "snmprec", data)
    cache.mkdir()
    for path in (folder, data, cache):
        path.chmod(0o777)
    for file in data.iterdir():
        file.chmod(0o644)
    return data, cache


def _drain(process: subprocess.Popen[str], listening: threading.Event) -> None:
    """Read what snmpsimd says until it ends; it stops where nobody reads its log."""
    assert process.stdout is not None
    for line in process.stdout:
        if "Listening at" in line:
            listening.set()


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        return int(udp.getsockname()[1])


async def _recognised(port: int, recording: str) -> Recognised:
    found = await probe("127.0.0.1", port, recording, timeout_s=20)
    assert found, f"no profile fits {recording}"
    return found[0]


async def _survey(port: int, recording: str, profile: str) -> Survey:
    settings = {"kind": "snmp", "host": "127.0.0.1", "port": port, "community": recording, "timeout_s": 20}
    agent = Agent(SnmpAccess.model_validate(settings), recording)
    loaded = load_profile(profile)
    assert isinstance(loaded, SnmpProfile)
    try:
        return await survey(agent, loaded)
    finally:
        agent.close()


def _expected(recording: str) -> list[dict[str, Any]]:
    text = (DATA / "librenms_expected" / f"{recording}.expected.json").read_text(encoding="utf-8")
    sensors: list[dict[str, Any]] = json.loads(text)["sensors"]
    return [s for s in sensors if s["sensor_class"] in ("power", "power_consumed")]


def _reason(table: dict[tuple[str, str], str], recording: str, oid: str) -> str:
    return next(
        (
            why
            for (rec, column), why in table.items()
            if rec == recording and f"{oid}.".startswith(f"{column}.")
        ),
        "",
    )


def _by_oid(seen: Survey) -> dict[str, tuple[str, float]]:
    values = seen.readings()
    return {
        source.oid: (name, values[name])
        for name, source in seen.sources.items()
        if isinstance(source, Cell) and name in values
    }


def test_there_are_profiles_for_25_models() -> None:
    assert len(profile_names("snmp")) >= 25


@pytest.mark.parametrize("recording", RECORDINGS)
async def test_model_is_recognised(snmpsim: int, recording: str) -> None:
    recognised = await _recognised(snmpsim, recording)
    assert recognised.profile == PROFILE_OF.get(recording, recognised.profile)


@pytest.mark.parametrize("recording", RECORDINGS)
async def test_power_and_energy_are_what_librenms_says(snmpsim: int, recording: str) -> None:
    seen = await _survey(snmpsim, recording, (await _recognised(snmpsim, recording)).profile)
    found = _by_oid(seen)
    for sensor in _expected(recording):
        oid = sensor["sensor_oid"].lstrip(".")
        if _reason(LIBRENMS_IS_WRONG, recording, oid):
            continue
        assert oid in found, f"{recording}: nothing reads {oid} ({sensor['sensor_descr']})"
        name, value = found[oid]
        per_house_unit = 1000 if sensor["sensor_class"] == "power" else 1
        assert value == pytest.approx(float(sensor["sensor_current"]) / per_house_unit), name
        unit = _reason(NOT_ACTIVE, recording, oid)
        assert name.endswith(unit or ("_kw" if sensor["sensor_class"] == "power" else "_kwh"))


@pytest.mark.parametrize(("recording", "column"), LIBRENMS_IS_WRONG)
async def test_disagreement_is_explained_in_the_profile(snmpsim: int, recording: str, column: str) -> None:
    profile = load_profile(PROFILE_OF[recording])
    assert "LibreNMS" in profile.notes
    disagreeing = [s for s in _expected(recording) if s["sensor_oid"].lstrip(".").startswith(f"{column}.")]
    found = _by_oid(await _survey(snmpsim, recording, profile.name))
    for sensor in disagreeing:
        name, value = found.get(sensor["sensor_oid"].lstrip("."), ("", None))
        assert not (name.endswith("_kw") and value == float(sensor["sensor_current"]) / 1000)


async def test_values_where_librenms_is_wrong(snmpsim: int) -> None:
    galaxy = (await _recognised(snmpsim, "apc-mgeups_galaxy7000")).values
    assert "power_kw" not in galaxy
    assert any("neither" in f for f in (await _recognised(snmpsim, "apc-mgeups_galaxy7000")).findings)
    assert [galaxy[f"load_l{n}_percent"] for n in (1, 2, 3)] == [9, 7, 11]
    assert galaxy["apparent_power_l1_kva"] == pytest.approx(400 * 35.0 / 3**0.5 / 1000)
    assert (await _recognised(snmpsim, "huaweiups_ups2000")).values["power_kw"] == 1.0
    enlogic = (await _recognised(snmpsim, "enlogic-pdu_v2")).values
    assert enlogic["power_kw"] == pytest.approx(1.120)
    assert enlogic["power_l1_kw"] + enlogic["power_l2_kw"] == pytest.approx(1.120)


def _csv_rows() -> list[dict[str, str]]:
    with (DATA / "snmp_oids.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["raw"]]
    return [r for r in rows if not _reason(LIBRENMS_IS_WRONG, Path(r["file"]).stem, r["oid"])]


@pytest.mark.parametrize("row", _csv_rows(), ids=lambda row: f"{Path(row['file']).stem}-{row['oid']}")
async def test_table_of_oids(snmpsim: int, row: dict[str, str]) -> None:
    recording = Path(row["file"]).stem
    found = _by_oid(await _survey(snmpsim, recording, PROFILE_OF[recording]))
    assert row["oid"] in found, f"{recording}: nothing reads {row['mib_object']}"
    name, value = found[row["oid"]]
    factor = {"W": 1e-3, "VA": 1e-3, "kWh": 1.0}[row["unit"]]
    assert value == pytest.approx(float(row["value"]) * factor)
    ending = {"W": "_kw", "VA": "_kva", "kWh": "_kwh"}[row["unit"]]
    assert name.endswith(ending)


TOTALS = {
    "apc_ap7900b": (0.312, None),
    "apc_ap8853": (1.14, 3512.8),
    "apc_ap8959eu3": (0.27, 1967.7),
    "cyberpower_pdu81005": (0.216, None),
    "e3meter": (0.657, 441.481),
    "eatonpdu_2": (1.589, 8185.553),
    "eatonups": (2.057, None),
    "gude-epc_1202": (0.017, 2020.584),
    "janitza-umg96_umg96": (10.041, 13481.2),
    "liebert": (2.411, 95937.5),
    "netsure": (54.01 * 1580 / 1000, None),
    "panduit": (0.956, 7405.0),
    "raritan-pdu_px3": (1.665, 74057.676),
    "schleifenbauer": (0.070 * 0.4594 + 0.070 * 0.4706, 132.0),
    "sentry3_3phase": (0.279, None),
    "sentry4": (1.701, 893.7),
    "socomec-ups": (0.0, None),
    "vertiv-pdu_mg02e4w1": (1.017, 8483.906),
}


@pytest.mark.parametrize("recording", sorted(TOTALS.keys() & set(RECORDINGS)))
async def test_total_of_the_device(snmpsim: int, recording: str) -> None:
    values = (await _recognised(snmpsim, recording)).values
    power_kw, energy_kwh = TOTALS[recording]
    assert values["power_kw"] == pytest.approx(power_kw)
    assert values.get("energy_import_kwh") == pytest.approx(energy_kwh)


BATTERIES = {
    "apc_smx750": (16374.0, 100.0, 20.9),
    "apc_symmetralx": (840.0, 100.0, 39.0),
    "apc-mgeups_galaxy7000": (7260.0, 100.0, 23.0),
    "cyberpower": (1740.0, 100.0, 36.0),
    "deltaups": (22 * 60.0, 100.0, 23.0),
    "eaton-mgeups_93ps": (8226.0, 100.0, 25.0),
    "eatonups": (8620.0, 100.0, None),
    "eatonupsm2_9px": (430 * 60.0, 98.0, None),
    "generex-ups_cs141": (544 * 60.0, 100.0, 25.0),
    "huaweiups_ups2000": (None, 100.0, 21.0),
    "netmanplus_204": (135 * 60.0, 100.0, 37.0),
}
"""Time on battery at the present load [s], charge [%] and temperature [C]; None where the card gives none."""


@pytest.mark.parametrize("recording", sorted(BATTERIES.keys() & set(RECORDINGS)))
async def test_battery_of_a_ups(snmpsim: int, recording: str) -> None:
    values = (await _recognised(snmpsim, recording)).values
    names = ("battery_runtime_s", "battery_charge_percent", "battery_temperature_c")
    for name, expected in zip(names, BATTERIES[recording], strict=True):
        assert values.get(name) == pytest.approx(expected), name


@pytest.mark.parametrize(
    ("recording", "sum_kw", "sum_kwh", "count"),
    [("raritan-pdu_px3", 1.671, 74_057.669, 24), ("eatonpdu_2", 1.568, 8_000.253, 24)],
)
async def test_outlets_against_the_inlet(
    snmpsim: int, recording: str, sum_kw: float, sum_kwh: float, count: int
) -> None:
    recognised = await _recognised(snmpsim, recording)
    powers = [v for k, v in recognised.values.items() if k.startswith("outlet_") and k.endswith("_power_kw")]
    energies = [
        v for k, v in recognised.values.items() if k.startswith("outlet_") and k.endswith("energy_kwh")
    ]
    assert len(powers) == len(energies) == count
    assert sum(powers) == pytest.approx(sum_kw)
    assert sum(energies) == pytest.approx(sum_kwh)
    assert not [f for f in recognised.findings if "sum" in f and "inlet" in f]


async def test_phases_against_the_total(snmpsim: int) -> None:
    values = (await _recognised(snmpsim, "janitza-umg96_umg96")).values
    phases_kwh = sum(values[f"energy_import_l{n}_kwh"] for n in (1, 2, 3))
    assert phases_kwh == pytest.approx(13_481.1)
    assert values["energy_import_kwh"] == pytest.approx(phases_kwh, abs=0.15)


async def test_chained_unit_keeps_its_own_total(snmpsim: int) -> None:
    values = (await _recognised(snmpsim, "sentry4")).values
    assert values["unit_2_power_kw"] == pytest.approx(1.265)
    assert values["unit_2_energy_import_kwh"] == pytest.approx(2565.9)
    (meter,) = yaml.safe_load((await _recognised(snmpsim, "sentry4")).yaml)
    proposed = {point["channel"] for point in meter["points"]}
    assert proposed == {"energy_import_kwh", "power_kw", "unit_2_energy_import_kwh", "unit_2_power_kw"}


async def test_apparent_power_is_never_proposed_as_power(snmpsim: int) -> None:
    for recording in {name for name, _ in NOT_ACTIVE} | {"apc_symmetralx", "apc-mgeups_galaxy7000"}:
        (meter,) = yaml.safe_load((await _recognised(snmpsim, recording)).yaml)
        assert not [p for p in meter["points"] if p["channel"].endswith(("_kva", "_kvar", "_kvarh"))]


@pytest.mark.parametrize("recording", RECORDINGS)
async def test_proposed_meter_can_be_polled(snmpsim: int, recording: str) -> None:
    recognised = await _recognised(snmpsim, recording)
    (meter,) = yaml.safe_load(recognised.yaml)
    profile = load_profile(meter["collector"]["profile"])
    extra = [{"id": name, "channel": name} for name in recognised.values]
    points = tuple(_point(profile, p["id"], p["channel"]) for p in (*meter["points"], *extra))
    collector = build(parse(meter["collector"]), Binding(meter["id"], points))
    try:
        for poll in (await collector.poll(AT), await collector.poll(AT)):
            assert poll.failures == ()
            assert {r.point: r.value for r in poll.readings if r.point in recognised.values} == pytest.approx(
                recognised.values
            )
            assert len(poll.readings) == len(points)
    finally:
        await collector.close()


def _point(profile: Any, point: str, channel: str) -> Point:
    found = find_channel(profile.channels, channel)
    assert found is not None
    kind = ReadingKind(found[0].kind)
    if kind is not ReadingKind.GAUGE:
        return Point(id=point, role=Role.IT_PDU_OUTPUT, kind=kind, channel=channel)
    role = {"temperature": Role.TEMPERATURE, "fraction": Role.UTILISATION}
    quantity = found[0].quantity.name if found[0].quantity else ""
    return Point(id=point, role=role.get(quantity, Role.NONE), kind=kind, channel=channel)


async def test_unknown_ups_is_read_by_the_standard_mib(snmpsim: int) -> None:
    """A UPS of a vendor without a profile of its own still gives its power."""
    seen = await _survey(snmpsim, "eaton-mgeups_93ps", "ups_mib")
    assert seen.readings()["power_kw"] == pytest.approx(3.1)
