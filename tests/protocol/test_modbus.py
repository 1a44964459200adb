"""Modbus collectors against meters on loopback: right, slow, silent, refusing, lying."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import struct
from datetime import datetime, timedelta

import pytest

from app.errors import ConfigError
from collectors import registry
from collectors.base import Binding
from collectors.modbus.collector import ModbusCollector
from collectors.modbus.link import find_rtu_answer, rtu_frame
from collectors.profiles.profile import ModbusProfile, load_profile
from collectors.simulated.fault_proxy import FaultProxy, wrong_transaction_id
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit
from tests.protocol.modbus_helpers import (
    AT,
    PLAIN,
    VALUES,
    collector,
    failed,
    plain_profile,
    point_of,
    read,
    unit,
)

TRANSPORTS = [("tcp", "tcp"), ("rtu_over_tcp", "rtu")]


def twenty_values() -> ModbusProfile:
    """A meter with twenty floats in a row."""
    lines = [
        f"  - {{name: infeed_{i}_power_kw, kind: power, unit: kW, address: {100 + 2 * i}, type: float32}}"
        for i in range(20)
    ]
    return plain_profile(PLAIN.split("  - ")[0] + "\n".join(lines))


@pytest.mark.parametrize(("transport", "framing"), TRANSPORTS)
async def test_every_point_is_read_with_the_asked_time_in_house_units(transport: str, framing: str) -> None:
    async with SimulatedModbus({7: unit()}, framing=framing) as server:  # type: ignore[arg-type]
        meter = collector(server.port, device_id=7, transport=transport)
        poll = await meter.poll(AT)
        await meter.close()
    assert read(poll) == pytest.approx(VALUES)
    assert {reading.at for reading in poll.readings} == {AT}
    assert not poll.failures


async def test_twenty_adjacent_values_are_one_request_and_single_mode_makes_twenty() -> None:
    served = SimulatedUnit(twenty_values(), lambda channel, at: float(channel.split("_")[1]))
    async with SimulatedModbus({1: served}) as server:
        for settings, requests in (({}, 1), ({"blocks": {"single": True}}, 20)):
            served.requests.clear()
            meter = collector(server.port, model=twenty_values(), **settings)
            poll = await meter.poll(AT)
            await meter.close()
            assert read(poll) == {f"infeed_{i}_power_kw": float(i) for i in range(20)}
            assert len(served.requests) == requests


async def test_a_dead_unit_behind_a_gateway_leaves_the_others_alone() -> None:
    """Failure story 2: one dead slave discards the whole bus."""
    units = {1: unit(), 2: unit(), 3: unit()}
    units[2].faults.silent = True
    async with SimulatedModbus(units) as server:
        meters = [collector(server.port, device_id=i, timeout_s=0.1) for i in (1, 2, 3)]
        for _ in range(3):
            polls = [await meter.poll(AT) for meter in meters]
            assert [len(poll.readings) for poll in polls] == [3, 0, 3]
            assert set(failed(polls[1]).values()) == {"DeviceUnreachable"}
            assert "unit 2" in str(polls[1].failures[0])
        for meter in meters:
            await meter.close()


async def test_one_timeout_does_not_throw_away_the_other_values_of_the_poll() -> None:
    """Failure story 2, second half: only the value that went unanswered is missing."""
    served = unit()
    served.faults.silent_at = frozenset({10})
    async with SimulatedModbus({1: served}) as server:
        meter = collector(server.port, blocks={"single": True}, timeout_s=0.1)
        poll = await meter.poll(AT)
        await meter.close()
    assert failed(poll) == {"power_kw": "DeviceUnreachable"}
    assert set(read(poll)) == {"energy_import_kwh", "energy_export_kwh"}


async def test_a_silent_device_is_not_asked_for_every_value() -> None:
    served = SimulatedUnit(twenty_values(), lambda channel, at: 1.0)
    served.faults.silent_at = frozenset(range(100, 140))
    async with SimulatedModbus({1: served}) as server:
        meter = collector(server.port, model=twenty_values(), blocks={"single": True}, timeout_s=0.05)
        poll = await meter.poll(AT)
        await meter.close()
    assert len(poll.failures) == 20
    assert sum("no answer within" in str(failure) for failure in poll.failures) == 2


@pytest.mark.parametrize(("transport", "framing"), TRANSPORTS)
async def test_a_late_answer_is_never_taken_for_the_next_ones(transport: str, framing: str) -> None:
    """Failure story 3. Two blocks of equal length; the answer to the first comes during the second."""
    text = PLAIN.split("  - ")[0] + (
        "  - {name: power_l1_kw, kind: power, unit: kW, address: 10, type: float32}\n"
        "  - {name: power_l2_kw, kind: power, unit: kW, address: 90, type: float32}\n"
    )
    model = plain_profile(text)
    served = SimulatedUnit(model, lambda channel, at: 1.0 if channel == "power_l1_kw" else 2.0)
    async with (
        SimulatedModbus({1: served}, framing=framing) as server,  # type: ignore[arg-type]
        FaultProxy("127.0.0.1", server.port) as proxy,
    ):
        meter = collector(proxy.port, model=model, transport=transport, timeout_s=0.2)
        proxy.faults.delay_s = 0.3
        for _ in range(3):
            late = await meter.poll(AT)
            assert read(late).get("power_l2_kw", 2.0) == 2.0
            assert read(late).get("power_l1_kw", 1.0) == 1.0
            assert late.failures
        proxy.faults.delay_s = 0.0
        for _ in range(2):
            good = await meter.poll(AT)
        await meter.close()
    assert read(good) == {"power_l1_kw": 1.0, "power_l2_kw": 2.0}


async def test_an_answer_with_another_requests_number_is_no_answer() -> None:
    """Failure story 3, with the number of the request before."""
    async with SimulatedModbus({1: unit()}) as server, FaultProxy("127.0.0.1", server.port) as proxy:
        meter = collector(proxy.port, timeout_s=0.1)
        proxy.faults.change = wrong_transaction_id
        poll = await meter.poll(AT)
        assert set(failed(poll).values()) == {"DeviceUnreachable"}
        proxy.faults.change = None
        assert read(await meter.poll(AT)) == pytest.approx(VALUES)
        await meter.close()


async def test_a_doubled_answer_does_no_harm() -> None:
    async with SimulatedModbus({1: unit()}) as server, FaultProxy("127.0.0.1", server.port) as proxy:
        proxy.faults.duplicate = True
        meter = collector(proxy.port, blocks={"max_hole": 0})
        for _ in range(3):
            assert read(await meter.poll(AT)) == pytest.approx(VALUES)
        await meter.close()


async def test_a_busy_device_is_asked_again_and_never_recorded_as_zero() -> None:
    """Failure story 4."""
    served = unit()
    async with SimulatedModbus({1: served}) as server:
        served.faults.busy_times = 1
        patient = collector(server.port, retries=1)
        assert read(await patient.poll(AT)) == pytest.approx(VALUES)
        served.faults.busy_times = 99
        busy = await patient.poll(AT)
        await patient.close()
    assert busy.readings == ()
    assert set(failed(busy).values()) == {"DeviceRefused"}
    assert "device busy" in str(busy.failures[0])


@pytest.mark.parametrize("no_number", ["sentinel", "nan"])
async def test_registers_without_a_value_are_failures_of_their_points(no_number: str) -> None:
    served = unit(source=lambda channel, at: math.nan)
    served.faults.no_value = no_number == "sentinel"
    async with SimulatedModbus({1: served}) as server:
        meter = collector(server.port)
        poll = await meter.poll(AT)
        await meter.close()
    assert poll.readings == ()
    assert failed(poll) == dict.fromkeys(VALUES, "DecodeError")


async def test_a_refused_block_is_read_in_parts_and_the_parts_are_remembered() -> None:
    served = unit()
    served.refuse_holes = True
    async with SimulatedModbus({1: served}) as server:
        meter = collector(server.port, blocks={"max_hole": 124})
        assert read(await meter.poll(AT)) == pytest.approx(VALUES)
        served.requests.clear()
        assert read(await meter.poll(AT)) == pytest.approx(VALUES)
        await meter.close()
    assert served.requests == [("holding", 10, 4), ("holding", 60, 2)]


async def test_a_refused_value_leaves_the_others() -> None:
    served = unit(
        profile=plain_profile(PLAIN.replace("address: 60, type: uint32", "address: 300, type: uint32"))
    )
    served.refuse_holes = True
    async with SimulatedModbus({1: served}) as server:
        meter = collector(server.port)
        poll = await meter.poll(AT)
        await meter.close()
    assert failed(poll) == {"energy_export_kwh": "DeviceRefused"}
    assert set(read(poll)) == {"power_kw", "energy_import_kwh"}


@pytest.mark.parametrize("fault", ["silent", "half_open", "truncated"])
@pytest.mark.parametrize(("transport", "framing"), TRANSPORTS)
async def test_after_a_fault_the_device_is_read_again(transport: str, framing: str, fault: str) -> None:
    served = unit()
    async with SimulatedModbus({1: served}, framing=framing) as server:  # type: ignore[arg-type]
        meter = collector(server.port, transport=transport, timeout_s=0.1)
        assert len((await meter.poll(AT)).readings) == 3
        setattr(served.faults, fault, True)
        for _ in range(3):
            poll = await meter.poll(AT)
            assert set(failed(poll).values()) == {"DeviceUnreachable"}
        setattr(served.faults, fault, False)
        for _ in range(2):
            poll = await meter.poll(AT)
        assert read(poll) == pytest.approx(VALUES)
        await meter.close()


async def test_an_answer_of_the_wrong_length_is_not_decoded() -> None:
    served = unit()
    served.faults.short = True
    async with SimulatedModbus({1: served}) as server:
        meter = collector(server.port)
        poll = await meter.poll(AT)
        await meter.close()
    assert failed(poll) == dict.fromkeys(VALUES, "DecodeError")


async def test_a_connection_closed_by_the_device_is_opened_again_within_the_poll() -> None:
    async with SimulatedModbus({1: unit()}) as server:
        meter = collector(server.port, retries=1)
        for _ in range(3):
            assert len((await meter.poll(AT)).readings) == 3
            server.reset_connections()
        await meter.close()


async def test_a_gateway_says_which_unit_it_cannot_find() -> None:
    async with SimulatedModbus({1: unit()}) as server:
        meter = collector(server.port, device_id=9)
        poll = await meter.poll(AT)
        await meter.close()
    assert set(failed(poll).values()) == {"DeviceUnreachable"}
    assert "finds no unit 9" in str(poll.failures[0])


async def test_where_nobody_listens_the_points_fail_and_nothing_raises() -> None:
    async with SimulatedModbus({1: unit()}) as server:
        port = server.port
    meter = collector(port)
    poll = await meter.poll(AT)
    await meter.close()
    assert set(failed(poll).values()) == {"DeviceUnreachable"}
    assert f"cannot open 127.0.0.1:{port}" in str(poll.failures[0])


async def test_something_else_than_modbus_is_told_apart() -> None:
    gone = asyncio.Event()

    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(12)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 100_000)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.transport.abort()
        gone.set()

    server = await asyncio.start_server(web, "127.0.0.1", 0)
    meter = collector(server.sockets[0].getsockname()[1], blocks={"max_hole": 124})
    poll = await meter.poll(AT)
    await meter.close()
    await gone.wait()
    server.close()
    await server.wait_closed()
    assert "not a Modbus TCP response" in str(poll.failures[0])


@pytest.mark.parametrize(("transport", "framing"), TRANSPORTS)
async def test_a_cancelled_poll_leaves_nothing_behind(transport: str, framing: str) -> None:
    served = unit()
    async with SimulatedModbus({1: served}, framing=framing) as server:  # type: ignore[arg-type]
        meter = collector(server.port, transport=transport, timeout_s=0.2)
        served.faults.silent = True
        polling = asyncio.create_task(meter.poll(AT))
        while not server.connections:
            await asyncio.sleep(0)
        polling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await polling
        served.faults.silent = False
        assert read(await meter.poll(AT)) == pytest.approx(VALUES)
        await meter.close()
        await meter.close()


async def test_units_of_one_gateway_share_one_connection() -> None:
    async with SimulatedModbus({i: unit() for i in range(1, 6)}) as server:
        meters = [collector(server.port, device_id=i) for i in range(1, 6)]
        polls = await asyncio.gather(*(meter.poll(AT) for meter in meters))
        assert all(len(poll.readings) == 3 for poll in polls)
        assert server.connections == 1
        for meter in meters:
            await meter.close()


async def test_many_polls_leak_neither_memory_nor_tasks() -> None:
    """Failure story 11."""
    async with SimulatedModbus({1: unit()}) as server:
        meter = collector(server.port)

        async def hundred() -> tuple[int, int]:
            for _ in range(100):
                await meter.poll(AT)
            gc.collect()
            return len(gc.get_objects()), len(asyncio.all_tasks())

        await hundred()
        objects, tasks = await hundred()
        for _ in range(3):
            more_objects, more_tasks = await hundred()
        await meter.close()
    assert more_tasks == tasks
    assert more_objects <= objects + 100


async def test_a_stale_meter_says_the_same_again() -> None:
    count = iter(range(100))
    served = unit(source=lambda channel, at: at.timestamp())
    served.clock = lambda: datetime.fromtimestamp(0, tz=AT.tzinfo) + timedelta(seconds=next(count))
    async with SimulatedModbus({1: served}) as server:
        meter = collector(server.port)
        moving = [read(await meter.poll(AT))["energy_import_kwh"] for _ in range(2)]
        served.faults.stale = True
        still = [read(await meter.poll(AT))["energy_import_kwh"] for _ in range(2)]
        await meter.close()
    assert moving[0] != moving[1]
    assert still[0] == still[1]


async def test_sunspec_models_are_found_and_scaled() -> None:
    profile = load_profile("sunspec_meter")
    assert isinstance(profile, ModbusProfile)
    there = {c.name: 9.0 for c in profile.channels} | {"power_kw": 87.65, "energy_import_kwh": 12_345.678}
    served = SimulatedUnit(profile, lambda channel, at: there[channel])
    async with SimulatedModbus({1: served}) as server:
        meter = collector(server.port, model=profile, profile="sunspec_meter")
        assert isinstance(meter, ModbusCollector)
        meter.check(None)  # its phases have values of their own
        poll = await meter.poll(AT)
        served.requests.clear()
        again = await meter.poll(AT)
        await meter.close()
    assert not poll.failures
    assert read(poll)["energy_import_kwh"] == pytest.approx(12_345.678)
    assert read(poll)["power_kw"] == pytest.approx(87.65, abs=0.01)
    assert read(again) == read(poll)
    assert len(served.requests) == 1


async def test_a_device_without_sunspec_says_so() -> None:
    async with SimulatedModbus({1: unit()}) as server:
        profile = load_profile("sunspec_meter")
        assert isinstance(profile, ModbusProfile)
        meter = collector(server.port, model=profile, profile="sunspec_meter")
        poll = await meter.poll(AT)
        await meter.close()
    assert set(failed(poll).values()) == {"DecodeError"}
    assert "no SunSpec map at 40000" in str(poll.failures[0])


async def test_a_word_order_set_on_the_meter_is_set_in_the_site_file() -> None:
    served = unit()
    served.words = {("holding", 12): 0x5000, ("holding", 13): 0x449A}
    async with SimulatedModbus({1: served}) as server:
        meter = collector(server.port, word_order="little")
        poll = await meter.poll(AT)
        await meter.close()
    assert read(poll)["energy_import_kwh"] == 1234.5


async def test_rtu_on_a_serial_line() -> None:
    """A pseudo-terminal stands for the cable; the meter's side answers in RTU frames, noise before them."""
    master, slave = os.openpty()
    os.set_blocking(master, False)
    loop = asyncio.get_running_loop()
    served = unit()

    def answer() -> None:
        request = os.read(master, 256)
        assert request == rtu_frame(3, request[1:-2])
        table = {3: "holding", 4: "input"}[request[1]]
        words = served.read(table, *struct.unpack(">HH", request[2:6]))
        assert not isinstance(words, int)
        pdu = struct.pack(f">BB{len(words)}H", request[1], 2 * len(words), *words)
        os.write(master, b"\x00\xff" + rtu_frame(3, pdu))

    loop.add_reader(master, answer)
    meter = collector(
        0, transport="rtu", serial_port=os.ttyname(slave), device_id=3, baud_rate=19_200, parity="even"
    )
    try:
        for _ in range(2):
            assert read(await meter.poll(AT)) == pytest.approx(VALUES)
    finally:
        await meter.close()
        loop.remove_reader(master)
        os.close(slave)
        os.close(master)


async def test_a_serial_port_that_is_not_there_is_unreachable() -> None:
    meter = collector(0, transport="rtu", serial_port="/dev/no-such-port")
    poll = await meter.poll(AT)
    await meter.close()
    assert set(failed(poll).values()) == {"DeviceUnreachable"}


def test_an_rtu_answer_is_found_behind_noise_and_other_units_frames() -> None:
    mine = rtu_frame(5, bytes([3, 2, 0x12, 0x34]))
    other = rtu_frame(6, bytes([3, 2, 0x99, 0x99]))
    broken = mine[:-1] + bytes([mine[-1] ^ 0xFF])
    assert find_rtu_answer(b"\x00" + other + broken + mine, 5, 3) == bytes([3, 2, 0x12, 0x34])
    assert find_rtu_answer(mine[:-1], 5, 3) is None
    assert find_rtu_answer(mine, 5, 4) is None


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"kind": "modbus", "host": "h", "profile": "no_such"}, "there is no profile 'no_such'"),
        ({"kind": "modbus", "host": "h"}, "give either profile or channels"),
        ({"kind": "modbus", "profile": "schneider_pm5xxx"}, "host is needed"),
        ({"kind": "modbus", "host": "h", "profile": "x", "prot": 1}, "prot: Extra inputs"),
        (
            {"kind": "modbus", "host": "h", "profile": "x", "device_id": 300},
            "device_id: .* less than or equal",
        ),
        ({"kind": "modbus", "host": "http://h", "profile": "x"}, "host"),
        (
            {"kind": "modbus", "host": "h", "profile": "x", "transport": "rtu"},
            "serial_port is needed",
        ),
        ({"kind": "mudbus"}, "'mudbus' is not known; allowed are"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_polled(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        registry.build(registry.parse(settings), Binding("m", ()))


def test_a_point_without_its_channel_is_refused_before_anything_is_polled() -> None:
    settings = {"kind": "modbus", "host": "h", "profile": "eastron_sdm120"}
    missing = load_profile("schneider_pm5xxx").channels[1]
    with pytest.raises(ConfigError, match="'power_l1_kw' is not offered"):
        registry.build(registry.parse(settings), Binding("m", (point_of(missing),)))
