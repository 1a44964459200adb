"""OPC UA collectors against an asyncua server on loopback, and against what is none."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from asyncua import ua
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import ConfigError
from collectors import probe as probing
from collectors import registry
from collectors.base import Binding, Collector, Poll
from collectors.found import Target
from collectors.opcua.collector import OpcUaChannel
from tests.protocol.modbus_helpers import failed, point_of, read
from tests.protocol.opcua_server import Building, free_port

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:asyncua")
AT = datetime(2026, 11, 30, 4, 15, tzinfo=UTC)
CHANNELS: list[dict[str, Any]] = [
    {"name": "power_kw", "unit": "W", "node": "ns=2;s=Main.Power"},
    {"name": "energy_import_kwh", "unit": "kWh", "node": "ns=2;s=Main.Energy"},
    {"name": "voltage_l1_v", "unit": "V", "node": "ns=2;s=Main.Voltage"},
]
EXPECTED = {"power_kw": 42.5, "energy_import_kwh": 123_456.7, "voltage_l1_v": 230.5}


def collector(port: int, channels: Sequence[dict[str, Any]] = CHANNELS, **more: Any) -> Collector:
    """A collector through the registry, as the service makes it."""
    mapping = {
        "kind": "opcua",
        "host": "127.0.0.1",
        "port": port,
        "path": "UA/Server",
        "timeout_s": 5,
        **more,
    }
    points = tuple(point_of(OpcUaChannel.model_validate(channel)) for channel in channels)
    return registry.build(registry.parse({**mapping, "channels": channels}), Binding("meter-1", points))


async def polled(port: int, channels: Sequence[dict[str, Any]] = CHANNELS, **more: Any) -> Poll:
    meter = collector(port, channels, **more)
    try:
        return await meter.poll(AT)
    finally:
        await meter.close()


async def test_every_point_is_read_with_the_asked_time_in_house_units() -> None:
    async with Building() as building:
        poll = await polled(building.port)
    assert read(poll) == pytest.approx(EXPECTED)
    assert {reading.at for reading in poll.readings} == {AT}
    assert not poll.failures


async def test_many_variables_are_one_request() -> None:
    many = [
        {"name": f"infeed_{n}_power_kw", "unit": "kW", "node": f"ns=2;s=Main.Feed {n} power"}
        for n in range(60)
    ]
    async with Building(many=60) as building:
        meter = collector(building.port, many)
        assert list(read(await meter.poll(AT)).values()) == [float(n) for n in range(60)]
        assert meter._session.requests == 1  # type: ignore[attr-defined]
        await meter.close()


@pytest.mark.parametrize(
    ("channel", "said"),
    [
        ({"unit": "kW", "node": "ns=2;s=Main.Power"}, "is in 'W', the channel in kW"),
        ({"unit": "kW", "node": "ns=2;s=Main.Cooling power"}, "is in 'RT', the channel in kW"),
    ],
)
async def test_other_units_and_unknown_ones_are_a_question(channel: dict[str, Any], said: str) -> None:
    channel = {"name": "power_kw", **channel}
    async with Building() as building:
        poll = await polled(building.port, [channel])
        assert failed(poll) == {"power_kw": "DecodeError"}
        assert said in str(poll.failures[0])
        confirmed = {**channel, "device_unit": said.split("'")[1]}
        assert len((await polled(building.port, [confirmed])).points) == 1


@pytest.mark.parametrize(
    ("value", "how", "said"),
    [
        (1.0, {"StatusCode": ua.StatusCode(ua.StatusCodes.BadSensorFailure)}, "BadSensorFailure"),
        (1.0, {"StatusCode": ua.StatusCode(ua.StatusCodes.UncertainLastUsableValue)}, "UncertainLastUsable"),
        (math.nan, {}, "is no number"),
        (1e30, {}, "no meter can mean"),
    ],
)
async def test_what_is_not_good_is_a_failure_and_leaves_the_rest(
    value: float, how: dict[str, Any], said: str
) -> None:
    async with Building() as building:
        await building.say("Power", value, **how)
        poll = await polled(building.port)
    assert failed(poll) == {"power_kw": "DecodeError"}
    assert said in str(poll.failures[0])
    assert len(poll.points) == 2


async def test_a_node_that_is_not_there_leaves_the_rest() -> None:
    channels = [*CHANNELS, {"name": "current_l1_a", "unit": "A", "node": "ns=2;s=Main.Nothing"}]
    async with Building() as building:
        poll = await polled(building.port, channels)
    assert failed(poll) == {"current_l1_a": "DeviceRefused"}
    assert read(poll) == pytest.approx(EXPECTED)


async def test_source_time_stamps_are_the_readings_times_each_once() -> None:
    then = datetime(2026, 11, 30, 4, 14, 30, tzinfo=UTC)
    async with Building() as building:
        await building.say("Power", 1000.0, SourceTimestamp=then)
        meter = collector(building.port, CHANNELS[:1], stamp="source")
        poll = await meter.poll(AT)
        assert [(r.at, r.value) for r in poll.readings] == [(then, 1.0)]
        assert (await meter.poll(AT)).readings == ()
        await building.say("Power", 2000.0, SourceTimestamp=then + timedelta(seconds=1))
        assert [r.value for r in (await meter.poll(AT)).readings] == [2.0]
        await meter.close()


async def test_what_is_too_old_is_no_value() -> None:
    async with Building() as building:
        await building.say("Power", 1000.0, SourceTimestamp=datetime(2020, 1, 1, tzinfo=UTC))
        poll = await polled(building.port, CHANNELS[:1], max_age_s=300)
    assert failed(poll) == {"power_kw": "DecodeError"}
    assert "older than 300 s" in str(poll.failures[0])


# -- told by the server ------------------------------------------------------------------------------


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0.01)


async def test_changes_are_told_and_not_read() -> None:
    async with Building() as building:
        meter = collector(building.port, subscribe=True, interval_s=0.05)
        told = meter._session._given  # type: ignore[attr-defined]
        assert read(await meter.poll(AT)) == pytest.approx(EXPECTED)
        await until(lambda: len(told) == 3)
        before = meter._session.requests  # type: ignore[attr-defined]
        await building.say("Power", 50_000.0)
        await until(lambda: told["ns=2;s=Main.Power"].value == 50_000.0)
        assert read(await meter.poll(AT))["power_kw"] == 50.0
        assert meter._session.requests == before  # type: ignore[attr-defined]
        await meter.close()


async def test_what_was_told_is_nothing_once_the_server_is_gone() -> None:
    async with Building() as building:
        meter = collector(building.port, subscribe=True, interval_s=0.05, timeout_s=1)
        await meter.poll(AT)
        await until(lambda: len(meter._session._given) == 3)  # type: ignore[attr-defined]
    poll = await meter.poll(AT)
    assert not poll.readings
    assert set(failed(poll).values()) == {"DeviceUnreachable"}
    await meter.close()


# -- who may -----------------------------------------------------------------------------------------


async def test_a_user_is_let_in_with_the_right_password_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    async with Building(users=True) as building:
        for password, kinds in (("right", set()), ("wrong", {"DeviceRefused"})):
            secret.write_text(f"{password}\n")
            poll = await polled(building.port, user="wattline", password_file=str(secret))
            assert set(failed(poll).values()) == kinds, poll.failures
        assert set(failed(await polled(building.port)).values()) == {"DeviceRefused"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Certificate and key of server, client and somebody else."""
    folder = tmp_path_factory.mktemp("pki")
    found = {}
    for name in ("server", "client", "other"):
        certificate, key = (
            folder / f"{name}.pem",
            folder / f"{name}{'.key' if name == 'client' else '-key.pem'}",
        )
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        command += ["-subj", f"/CN={name}", "-keyout", str(key), "-out", str(certificate)]
        uses = "digitalSignature,nonRepudiation,keyEncipherment,dataEncipherment"
        for extension in (
            f"subjectAltName=URI:urn:test:{name},DNS:localhost,IP:127.0.0.1",
            f"keyUsage={uses}",
            "extendedKeyUsage=serverAuth,clientAuth",
        ):
            command += ["-addext", extension]
        subprocess.run(command, check=True, capture_output=True)
        found[name] = (certificate, key)
    return found


async def test_messages_are_encrypted_and_only_the_named_server_is_trusted(
    certificates: dict[str, tuple[Path, Path]],
) -> None:
    ours = {
        "security_policy": "Basic256Sha256",
        "certificate_file": str(certificates["client"][0]),
        "key_file": str(certificates["client"][1]),
        "application_uri": "urn:test:client",
    }
    async with Building(secure=(*certificates["server"], certificates["client"][0])) as building:
        trusted = {**ours, "server_certificate_file": str(certificates["server"][0])}
        assert read(await polled(building.port, **trusted)) == pytest.approx(EXPECTED)
        other = {**ours, "server_certificate_file": str(certificates["other"][0]), "timeout_s": 1}
        assert not (await polled(building.port, **other)).readings
        assert not (await polled(building.port, timeout_s=1)).readings


# -- what servers do ---------------------------------------------------------------------------------


async def test_nobody_there_is_one_failure_for_each_point_and_later_an_answer() -> None:
    building = Building()
    meter = collector(building.port, timeout_s=1)
    poll = await meter.poll(AT)
    assert set(failed(poll).values()) == {"DeviceUnreachable"}
    assert len(poll.failures) == 3
    async with building:
        assert read(await meter.poll(AT)) == pytest.approx(EXPECTED)
    assert not (await meter.poll(AT)).readings
    again = Building()
    again.port = building.port
    async with again:
        assert read(await meter.poll(AT)) == pytest.approx(EXPECTED)
        await meter.close()
        await meter.close()


async def test_cancelled_at_any_await_the_next_poll_succeeds() -> None:
    async with Building() as building:
        meter = collector(building.port)
        tasks = len(asyncio.all_tasks())
        for steps in (0, 1, 3, 10, 30, 60):
            task = asyncio.ensure_future(meter.poll(AT))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert read(await meter.poll(AT)) == pytest.approx(EXPECTED)
        await meter.close()
        await until(lambda: len(asyncio.all_tasks()) <= tasks)


async def test_many_polls_leave_nothing_over() -> None:
    async with Building() as building:
        meter = collector(building.port)
        for _ in range(65):
            await meter.poll(AT)
        gc.collect()
        before, tasks = len(gc.get_objects()), len(asyncio.all_tasks())
        for _ in range(100):
            await meter.poll(AT)
        gc.collect()
        assert len(gc.get_objects()) < before + 2000
        assert len(asyncio.all_tasks()) == tasks
        await meter.close()


@settings(max_examples=15, deadline=None)
@given(st.binary(max_size=300))
@example(b"ACKF\x1c\x00\x00\x00" + bytes(20))
@example(b"ACKF\xff\xff\xff\x7f" + bytes(20))
def test_whatever_listens_there(said: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(1000):
                writer.write(said)
                await writer.drain()
        writer.close()

    async def run() -> Poll:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            async with asyncio.timeout(30):
                return await polled(server.sockets[0].getsockname()[1], timeout_s=0.05)
        finally:
            server.close()
            while rest := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(rest, timeout=1)
                for task in rest:
                    task.cancel()

    with asyncio.Runner() as runner:
        outcome = runner.run(run())
    assert not outcome.readings
    assert len(outcome.failures) == 3


# -- settings and probe ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "key", "fault"),
    [
        ({"channels": []}, "channels", "at least 1"),
        ({"channels": [{**CHANNELS[0], "node": "Main.Power"}]}, "channels", "match pattern"),
        ({"channels": CHANNELS[:1] * 2}, "channels", "described twice"),
        ({"security_policy": "Basic256Sha256"}, "", "belong together"),
        ({"password_file": "/x"}, "", "need user"),
        ({"user": "ann"}, "", "needs password_file"),
        ({"user": "ann", "password_file": "/no/such/file"}, "password_file", "cannot be read"),
        ({"host": "8.8.8.8"}, "host", "outside of private networks"),
    ],
)
def test_wrong_settings_are_refused_with_key_and_what_is_allowed(
    wrong: dict[str, Any], key: str, fault: str
) -> None:
    mapping = {"kind": "opcua", "host": "10.0.0.7", "channels": CHANNELS, **wrong}
    point = point_of(OpcUaChannel.model_validate(CHANNELS[0]))
    with pytest.raises(ConfigError, match=fault) as error:
        registry.build(registry.parse(mapping), Binding("m", (point,)))
    assert error.value.key.startswith(key)


async def test_a_probe_lists_what_measures_power_and_asks_about_the_rest() -> None:
    async with Building(many=5) as building:
        target = Target("127.0.0.1", "opcua", building.port, timeout_s=5, options={"path": "UA/Server"})
        outcome = await probing.probe(target)
        (found,) = outcome.found
        assert found.values["main_power_kw"] == 42.5
        assert len([name for name in found.values if "feed_" in name]) == 5
        assert any("Main.Cooling power' has unit 'RT'" in note for note in found.notes)
        assert any("Main.Total energy' has no unit" in note for note in found.notes)
        (meter,) = yaml.safe_load(found.yaml)
        channels = {c["name"]: OpcUaChannel.model_validate(c) for c in meter["collector"]["channels"]}
        points = tuple(point_of(channels[p["channel"]]) for p in meter["points"])
        built = registry.build(registry.parse({**meter["collector"], "timeout_s": 5}), Binding("m", points))
        assert len((await built.poll(AT)).points) == len(points) == 7
        await built.close()


async def test_a_probe_of_nobody_says_so() -> None:
    outcome = await probing.probe(Target("127.0.0.1", "opcua", free_port(), timeout_s=0.5))
    assert not outcome.found
    assert outcome.problems[0].startswith("OPC UA: ")


def test_the_library_is_not_imported_before_it_is_needed() -> None:
    code = (
        "import sys, collectors.opcua.probe, collectors.opcua.collector; from collectors import registry;"
        "registry.parse({'kind': 'opcua', 'host': 'h', 'channels': [{'name': 'power_kw', 'unit': 'W',"
        " 'node': 'i=1'}]}); assert 'asyncua' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
