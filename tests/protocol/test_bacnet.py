"""BACnet/IP collectors against bacpypes3 on loopback, and against what no device should say."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from bacpypes3.basetypes import EngineeringUnits, Reliability
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import ConfigError
from collectors import probe as probing
from collectors import registry
from collectors.bacnet.codec import (
    PRESENT_VALUE,
    STATUS_FLAGS,
    Malformed,
    answer,
    changes_in,
    error_in,
    properties_in,
    property_in,
)
from collectors.bacnet.collector import BacnetChannel, Known, NoValue, value_in
from collectors.bacnet.units import UNITS
from collectors.base import Binding, Collector, Poll
from collectors.found import Target
from tests.protocol.bacnet_device import Device, Old, free_port
from tests.protocol.modbus_helpers import failed, point_of, read
from tests.protocol.test_hostile_devices import udp_device

AT = datetime(2026, 11, 30, 4, 15, tzinfo=UTC)
CHANNELS: list[dict[str, Any]] = [
    {"name": "power_kw", "unit": "W", "object": "analog-input,1"},
    {"name": "energy_import_kwh", "unit": "kWh", "object": "accumulator,1"},
    {"name": "voltage_l1_v", "unit": "V", "object": "analog-input,2"},
]
EXPECTED = {"power_kw": 42.5, "energy_import_kwh": 123_456.7, "voltage_l1_v": 230.5}


def collector(port: int, channels: Sequence[dict[str, Any]] = CHANNELS, **more: Any) -> Collector:
    """A collector through the registry, as the service makes it."""
    given = {"kind": "bacnet", "host": "127.0.0.1", "port": port, "timeout_s": 0.5, "retries": 0, **more}
    points = tuple(point_of(BacnetChannel.model_validate(channel)) for channel in channels)
    return registry.build(registry.parse({**given, "channels": channels}), Binding("meter-1", points))


async def polled(port: int, channels: Sequence[dict[str, Any]] = CHANNELS, **more: Any) -> Poll:
    meter = collector(port, channels, **more)
    try:
        return await meter.poll(AT)
    finally:
        await meter.close()


def requests(meter: Collector) -> int:
    return int(meter._session.requests)  # type: ignore[attr-defined]


# -- right -------------------------------------------------------------------------------------------


async def test_every_point_is_read_with_the_asked_time_in_house_units() -> None:
    async with Device() as device:
        poll = await polled(device.port)
    assert read(poll) == pytest.approx(EXPECTED)
    assert {reading.at for reading in poll.readings} == {AT}
    assert not poll.failures


async def test_a_hundred_objects_are_few_requests() -> None:
    many = [
        {"name": f"infeed_{n}_power_kw", "unit": "kW", "object": f"analog-input,{100 + n}"}
        for n in range(100)
    ]
    async with Device(many=100) as device:
        meter = collector(device.port, many)
        assert len((await meter.poll(AT)).points) == 100
        before = requests(meter)
        poll = await meter.poll(AT)
        assert list(read(poll).values()) == [float(n) for n in range(100)]
        assert requests(meter) - before <= 4
        await meter.close()


async def test_a_device_that_reads_one_property_at_a_time_is_read() -> None:
    async with Device(kind=Old) as device:
        meter = collector(device.port)
        assert read(await meter.poll(AT)) == pytest.approx(EXPECTED)
        assert read(await meter.poll(AT)) == pytest.approx(EXPECTED)
        await meter.close()


def test_units_are_those_of_the_standard() -> None:
    words = {
        "mA": "milliamperes", "A": "amperes", "V": "volts", "VA": "volt-amperes", "kVA": "kilovolt-amperes",
        "MVA": "megavolt-amperes", "var": "volt-amperes-reactive", "kvar": "kilovolt-amperes-reactive",
        "pf": "power-factor", "J": "joules", "Wh": "watt-hours", "kWh": "kilowatt-hours", "Hz": "hertz",
        "W": "watts", "kW": "kilowatts", "MW": "megawatts", "degC": "degrees-celsius", "K": "degrees-kelvin",
        "degF": "degrees-fahrenheit", "s": "seconds", "m3": "cubic-meters", "l": "liters", "1": "no-units",
        "mV": "millivolts", "MJ": "megajoules", "MWh": "megawatt-hours", "VAh": "volt-ampere-hours",
        "kVAh": "kilovolt-ampere-hours", "varh": "volt-ampere-hours-reactive",
        "kvarh": "kilovolt-ampere-hours-reactive",
    }  # fmt: skip
    for number, unit in UNITS.items():
        name = str(EngineeringUnits(number))
        assert name in ("percent", "percent-relative-humidity") if unit == "%" else name == words[unit]


# -- not a number, not of that unit ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("object_", "said"),
    [
        ("analog-input,1", "is in W (unit 47), the channel in kW"),
        ("analog-input,3", "unit 52, which Wattline does not know"),
    ],
)
async def test_other_units_and_unknown_ones_are_a_question(object_: str, said: str) -> None:
    channel = {"name": "power_kw", "unit": "kW", "object": object_}
    async with Device() as device:
        poll = await polled(device.port, [channel])
        assert failed(poll) == {"power_kw": "DecodeError"}
        assert said in str(poll.failures[0])
        confirmed = {**channel, "device_unit": 47 if object_.endswith("1") else 52}
        assert len((await polled(device.port, [confirmed])).points) == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (b"\0\1\0\0", "is faulty"),
        (b"\0\0\1\0", "is overridden by hand"),
        (b"\1\0\0\1", "is out of service"),
        (b"\1\0\0\0", None),
    ],
)
def test_what_is_not_measured_is_no_value(flags: bytes, said: str | None) -> None:
    values: dict[int, Any] = {STATUS_FLAGS: flags, PRESENT_VALUE: 1000.0}
    channel = BacnetChannel.model_validate(CHANNELS[0])
    if said is None:  # an alarm is a value all the same
        assert value_in(channel, Known(), values) == 1.0
    else:
        with pytest.raises(NoValue, match=said):
            value_in(channel, Known(), values)


async def test_an_object_out_of_service_has_no_value() -> None:
    async with Device() as device:
        device.power.outOfService = True
        poll = await polled(device.port)
    assert failed(poll) == {"power_kw": "DecodeError"}
    assert "out of service" in str(poll.failures[0])


async def test_an_unreliable_value_is_none() -> None:
    async with Device() as device:
        device.power.reliability = Reliability.noSensor
        poll = await polled(device.port)
    assert failed(poll) == {"power_kw": "DecodeError"}
    assert "not reliable (reliability 1)" in str(poll.failures[0])


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
async def test_what_is_no_number_is_a_failure_and_never_zero(value: float) -> None:
    async with Device() as device:
        device.power.presentValue = value
        poll = await polled(device.port)
    assert failed(poll) == {"power_kw": "DecodeError"}


async def test_an_object_that_is_not_there_leaves_the_rest() -> None:
    channels = [*CHANNELS, {"name": "current_l1_a", "unit": "A", "object": "analog-value,9"}]
    async with Device() as device:
        poll = await polled(device.port, channels)
    assert failed(poll) == {"current_l1_a": "DeviceRefused"}
    assert read(poll) == pytest.approx(EXPECTED)


# -- changes told by the device ----------------------------------------------------------------------


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.005)


async def test_changes_are_told_and_nothing_is_asked_in_between() -> None:
    async with Device() as device:
        meter = collector(device.port, CHANNELS[::2], cov_lifetime_s=60)
        told = meter._changes._told  # type: ignore[attr-defined]
        await meter.poll(AT)
        await until(lambda: len(told) == 2)
        before = requests(meter)
        device.power.presentValue = 50_000.0
        await until(lambda: any(50_000.0 in one.values.values() for one in told.values()))
        assert read(await meter.poll(AT)) == pytest.approx({"power_kw": 50.0, "voltage_l1_v": 230.5})
        assert requests(meter) == before
        await meter.close()


async def test_subscriptions_are_made_again_and_what_is_too_old_is_polled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr("collectors.bacnet.collector._now_s", lambda: clock[0])
    async with Device() as device:
        meter = collector(device.port, CHANNELS[:1], cov_lifetime_s=60)
        told, subscribed = meter._changes._told, meter._changes._subscribed  # type: ignore[attr-defined]
        await meter.poll(AT)
        await until(lambda: len(told) == 1)
        clock[0] = 31.0
        assert read(await meter.poll(AT)) == {"power_kw": 42.5}
        assert set(subscribed.values()) == {31.0}
        told.clear()
        before = requests(meter)
        assert read(await meter.poll(AT)) == {"power_kw": 42.5}
        assert requests(meter) == before + 1
        await meter.close()


async def test_a_device_without_subscriptions_is_polled() -> None:
    async with Device(kind=Old) as device:
        assert read(await polled(device.port, cov_lifetime_s=60)) == pytest.approx(EXPECTED)


# -- what devices do ---------------------------------------------------------------------------------


async def test_silence_is_one_failure_for_each_point_and_later_an_answer() -> None:
    port = free_port()
    meter = collector(port, timeout_s=0.1)
    poll = await meter.poll(AT)
    assert set(failed(poll).values()) == {"DeviceUnreachable"}
    assert len(poll.failures) == 3
    device = Device()
    device.port = port
    async with device:
        assert read(await meter.poll(AT)) == pytest.approx(EXPECTED)
    await meter.close()
    await meter.close()


async def test_cancelled_at_any_await_the_next_poll_succeeds() -> None:
    async with Device() as device:
        meter = collector(device.port, timeout_s=5)
        for steps in range(0, 40, 4):
            task = asyncio.ensure_future(meter.poll(AT))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert read(await meter.poll(AT)) == pytest.approx(EXPECTED)
        await meter.close()


def ours() -> int:
    """Objects of the collectors' that are alive."""
    gc.collect()
    return sum(str(type(one).__module__).startswith("collectors") for one in gc.get_objects())


async def test_many_polls_leave_nothing_over() -> None:
    async with Device() as device:
        meter = collector(device.port, timeout_s=5)
        for _ in range(70):
            await meter.poll(AT)
        before = ours()
        for _ in range(150):
            await meter.poll(AT)
        assert ours() <= before + 5
        await meter.close()


def aborting(request: bytes) -> bytes:
    """Has no room for any answer, and no multiple reads."""
    apdu = request[6:]
    said = bytes([0x71, apdu[2], 4]) if apdu[3] == 14 else bytes([0x50, apdu[2], apdu[3], 0x91, 2, 0x91, 32])
    return struct.pack(">BBH", 0x81, 0x0A, 6 + len(said)) + b"\x01\x00" + said


async def test_a_device_that_aborts_everything_is_asked_a_bounded_number_of_times() -> None:
    with udp_device(aborting) as port:
        meter = collector(port)
        poll = await meter.poll(AT)
        assert set(failed(poll).values()) == {"DeviceRefused"}
        assert requests(meter) < 60
        await meter.close()


def another_number(request: bytes) -> bytes:
    return aborting(request[:8] + bytes([request[8] ^ 1]) + request[9:])


async def test_an_answer_with_another_number_is_none() -> None:
    with udp_device(another_number) as port:
        poll = await polled(port, timeout_s=0.1)
    assert set(failed(poll).values()) == {"DeviceUnreachable"}


@st.composite
def damage(draw: st.DrawFn) -> tuple[int, bytes, float, bytes]:
    return draw(
        st.tuples(st.integers(0, 255), st.binary(max_size=200), st.floats(0, 1), st.binary(max_size=8))
    )


def spoken(request: bytes, kind: int, body: bytes, at: float, piece: bytes) -> bytes:
    """An answer of a kind to a request, with a piece of it changed."""
    apdu = request[6:] + bytes(4)
    said = bytes([kind, apdu[2], apdu[3]]) + body
    sent = struct.pack(">BBH", 0x81, 0x0A, 6 + len(said)) + b"\x01\x00" + said
    place = int(at * len(sent))
    return sent[:place] + piece + sent[place + len(piece) :]


@settings(max_examples=30)
@given(damage())
@example((0x30, b"\x0c\x00\x00\x00\x01\x1e\x29\x55\x4e\x44\x7f\xc0\x00\x00\x4f\x1f", 1.0, b""))
@example((0x30, b"\x0e" * 150, 1.0, b""))
def test_whatever_a_bacnet_device_answers(how: tuple[int, bytes, float, bytes]) -> None:
    async def run(port: int) -> Poll:
        async with asyncio.timeout(30):
            return await polled(port, timeout_s=0.02)

    with udp_device(lambda request: spoken(request, *how)) as port, asyncio.Runner() as runner:
        outcome = runner.run(run(port))
    assert all(math.isfinite(reading.value) for reading in outcome.readings)
    assert len(outcome.readings) + len(outcome.failures) == 3


@settings(max_examples=200)
@given(st.binary(max_size=300))
@example(b"\x4e" * 300)
def test_any_bytes_are_understood_or_malformed(data: bytes) -> None:
    for parse in (answer, property_in, properties_in, error_in, changes_in):
        with contextlib.suppress(Malformed):
            parse(data)


# -- settings and probe ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings_", "key", "fault"),
    [
        ({"channels": []}, "channels", "at least 1"),
        ({"channels": [{**CHANNELS[0], "object": "binary-input,1"}]}, "channels", "TYPE,INSTANCE"),
        ({"channels": [{**CHANNELS[0], "unit": "parsec"}]}, "channels", "unknown unit"),
        ({"channels": CHANNELS[:1] * 2}, "", "described twice"),
        ({"network": 5}, "", "belong together"),
        ({"host": "8.8.8.8"}, "host", "outside of private networks"),
        ({"cov_lifetime_s": -1}, "cov_lifetime_s", "greater than"),
    ],
)
def test_wrong_settings_are_refused_with_key_and_what_is_allowed(
    settings_: dict[str, Any], key: str, fault: str
) -> None:
    mapping = {"kind": "bacnet", "host": "10.0.0.7", "channels": CHANNELS, **settings_}
    point = point_of(BacnetChannel.model_validate(CHANNELS[0]))
    with pytest.raises(ConfigError, match=fault) as error:
        registry.build(registry.parse(mapping), Binding("m", (point,)))
    assert error.value.key.startswith(key)


async def test_a_probe_lists_what_measures_power_and_asks_about_the_rest() -> None:
    async with Device(many=60) as device:
        outcome = await probing.probe(Target("127.0.0.1", "bacnet", device.port, timeout_s=0.5))
        (found,) = outcome.found
        assert found.model == "Nobody M 3 (BACnet 1234)"
        assert found.values["main_power_kw"] == 42.5
        assert found.values["main_energy_kwh"] == pytest.approx(123_456.7)
        assert len([name for name in found.values if name.startswith("feed_")]) == 60
        assert any("analog-input,3 'Cooling power' has unit 52" in note for note in found.notes)
        assert any("analog-input,4 'Total energy' has no unit" in note for note in found.notes)
        assert "modulus: 10000000.0" in found.yaml
        (meter,) = yaml.safe_load(found.yaml)
        channels = {c["name"]: BacnetChannel.model_validate(c) for c in meter["collector"]["channels"]}
        points = tuple(point_of(channels[p["channel"]]) for p in meter["points"])
        built = registry.build(registry.parse({**meter["collector"], "timeout_s": 1}), Binding("m", points))
        assert len((await built.poll(AT)).points) == len(points) == 62
        await built.close()


async def test_a_probe_of_nobody_says_so() -> None:
    outcome = await probing.probe(Target("127.0.0.1", "bacnet", free_port(), timeout_s=0.1))
    assert not outcome.found
    assert outcome.problems[0].startswith("BACnet/IP: ")
