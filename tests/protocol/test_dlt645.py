"""DL/T 645 collectors against meters on loopback: right, several on a line, slow, refusing, garbled."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from app.errors import ConfigError
from collectors import probe as probing
from collectors import registry
from collectors.base import Binding, Collector, Poll
from collectors.dlt645.codec import WILDCARD, frame, frames, number, request
from collectors.found import Target
from collectors.profiles.profile import Channel, load_profile
from tests.protocol.dlt645_meter import OLD, PLAIN, Bus, Meter, SerialLine, SerialServer, answer, bcd
from tests.protocol.modbus_helpers import failed, point_of, read

AT = datetime(2026, 11, 30, 4, 15, tzinfo=UTC)
ADDRESS, OTHER = "202311000042", "000000000017"
USUAL = ("energy_import_kwh", "energy_export_kwh", "power_kw", "current_l2_a", "voltage_l1_v")
EXPECTED = {
    "energy_import_kwh": 123_456.78,
    "energy_export_kwh": 0.26,
    "power_kw": 4.6,
    "current_l2_a": 0.25,
    "voltage_l1_v": 230.1,
}


def channels(profile: str = "dlt645_2007") -> dict[str, Channel]:
    return {channel.name: channel for channel in load_profile(profile).channels}


def collector(port: int, names: Sequence[str] = USUAL, address: str = ADDRESS, **more: Any) -> Collector:
    """A collector through the registry, as the service makes it."""
    given: dict[str, Any] = {"kind": "dlt645", "address": address, "timeout_s": 0.2, "retries": 0, "gap_s": 0}
    given |= more if "serial_port" in more else {"host": "127.0.0.1", "port": port, **more}
    offered = channels(more.get("profile", "dlt645_2007"))
    points = tuple(point_of(offered[name]) for name in names)
    return registry.build(registry.parse(given), Binding("meter-1", points))


async def polled(port: int, names: Sequence[str] = USUAL, **more: Any) -> Poll:
    meter = collector(port, names, **more)
    try:
        return await meter.poll(AT)
    finally:
        await meter.close()


def plain(**more: Any) -> Meter:
    return Meter(ADDRESS, dict(PLAIN), **more)


# -- published examples ------------------------------------------------------------------------------

EXAMPLES = [
    ("000000000161", "00010000", "68 61 01 00 00 00 00 68 11 04 33 33 34 33 14 16"),
    ("000000000161", "02010100", "68 61 01 00 00 00 00 68 11 04 33 34 34 35 17 16"),
    ("000102030425", "00010000", "68 25 04 03 02 01 00 68 11 04 33 33 34 33 E1 16"),
    ("000003430163", "9010", "68 63 01 43 03 00 00 68 01 02 43 C3 83 16"),
    ("138000130754", "9010", "68 54 07 13 00 80 13 68 01 02 43 C3 DA 16"),
]


@pytest.mark.parametrize(("address", "identifier", "expected"), EXAMPLES)
def test_requests_are_the_frames_that_are_published(address: str, identifier: str, expected: str) -> None:
    assert request(address, identifier) == bytes.fromhex(expected)


def test_the_address_is_asked_for_as_published() -> None:
    assert frame(WILDCARD, 0x13) == bytes.fromhex("68 AA AA AA AA AA AA 68 13 00 DF 16")


@pytest.mark.parametrize(
    ("said", "address", "identifier", "raw"),
    [
        ("68 61 01 00 00 00 00 68 91 08 33 33 34 33 59 33 33 33 8A 16", "000000000161", "00010000", 26),
        ("68 61 01 00 00 00 00 68 91 06 33 34 34 35 34 43 10 16", "000000000161", "02010100", 1001),
        ("68 25 04 03 02 01 00 68 91 08 33 33 34 33 75 39 45 33 8B 16", "000102030425", "00010000", 120_642),
        ("68 54 07 13 00 80 13 68 81 06 43 C3 34 33 33 33 2B 16", "138000130754", "9010", 1),
    ],
)
def test_published_answers_are_read(said: str, address: str, identifier: str, raw: int) -> None:
    ((found, _),) = frames(b"\xfe\xfe" + bytes.fromhex(said))
    size = len(identifier) // 2
    assert (found.address, found.data[:size][::-1].hex().upper()) == (address, identifier)
    assert number(found.data[size:]) == raw


# -- right -------------------------------------------------------------------------------------------


async def test_every_point_is_read_with_the_asked_time_in_house_units() -> None:
    async with SerialServer(Bus(plain())) as server:
        poll = await polled(server.port)
    assert read(poll) == pytest.approx(EXPECTED)
    assert {reading.at for reading in poll.readings} == {AT}
    assert not poll.failures


async def test_a_meter_on_a_serial_port_is_read() -> None:
    async with SerialLine(Bus(plain(), Meter(OTHER, {"00010000": bcd("000001.00")}))) as line:
        poll = await polled(0, serial_port=line.path, parity="none")
        other = await polled(0, ["energy_import_kwh"], address="17", serial_port=line.path, parity="none")
    assert read(poll) == pytest.approx(EXPECTED)
    assert read(other) == {"energy_import_kwh": 1.0}


async def test_every_shipped_identifier_of_both_editions_is_read_as_its_digits_say() -> None:
    for profile, edition in (("dlt645_2007", 8), ("dlt645_1997", 4)):
        values, expected = {}, {}
        for n, channel in enumerate(load_profile(profile).channels, 1):
            value, after = n, bytes(channel.followed_by)
            values[channel.identifier] = after + bytes.fromhex(f"{value:0{channel.digits}d}")
            expected[channel.name] = value * 10.0**-channel.decimals
            assert len(channel.identifier) == edition
        names = [n for n in expected if not n.startswith(("temperature", "frequency"))]
        meter = Meter(ADDRESS, values)
        async with SerialServer(Bus(meter)) as server:
            device = collector(server.port, names, profile=profile, blocks=False)
            device._check._left = 0  # type: ignore[attr-defined]  # such values agree with nothing
            poll = await device.poll(AT)
            await device.close()
        assert read(poll) == pytest.approx({name: expected[name] for name in names})


async def test_a_meter_of_1997_is_read() -> None:
    names = ["energy_import_kwh", "energy_export_kwh", "power_kw", "voltage_l1_v", "current_l1_a"]
    async with SerialServer(Bus(Meter(ADDRESS, OLD))) as server:
        poll = await polled(server.port, names, profile="dlt645_1997")
    assert list(read(poll).values()) == pytest.approx([6543.21, 1.0, 1.21, 231.0, 5.25])


async def test_neighbours_are_one_request_and_what_they_are_not_is_learned() -> None:
    names = [f"voltage_l{n}_v" for n in (1, 2, 3)] + [f"current_l{n}_a" for n in (1, 2, 3)]
    meter = plain()
    async with SerialServer(Bus(meter)) as server:
        device = collector(server.port, names)
        assert len((await device.poll(AT)).points) == 6
        assert meter.asked == ["0201FF00", "0202FF00"]
        del meter.values["0202FF00"], meter.asked[:]
        assert len((await device.poll(AT)).points) == 6
        del meter.asked[:]
        assert read(await device.poll(AT)) == pytest.approx(
            dict(zip(names, [230.1, 229.9, 230.0, 10.5, 0.25, 10.0], strict=True))
        )
        assert meter.asked == ["0201FF00", "02020100", "02020200", "02020300"]
        await device.close()


async def test_a_block_that_ends_early_is_read_one_by_one() -> None:
    meter = plain()
    meter.values["0001FF00"] = PLAIN["0001FF00"][8:]  # total, T1, T2
    names = ["energy_import_kwh", "energy_import_t2_kwh", "energy_import_t4_kwh"]
    async with SerialServer(Bus(meter)) as server:
        poll = await polled(server.port, names)
    assert list(read(poll).values()) == pytest.approx([123_456.78, 50_000.0, 20_000.0])


async def test_frames_that_follow_are_joined() -> None:
    names = ["energy_import_kwh", "energy_import_t1_kwh", "energy_import_t4_kwh"]
    async with SerialServer(Bus(plain(in_frames_of=7))) as server:
        poll = await polled(server.port, names)
        assert list(read(poll).values()) == pytest.approx([123_456.78, 23_456.78, 20_000.0])
    old = Meter(ADDRESS, OLD, in_frames_of=2)
    async with SerialServer(Bus(old)) as server:
        poll = await polled(server.port, ["energy_import_kwh"], profile="dlt645_1997")
    assert read(poll) == pytest.approx({"energy_import_kwh": 6543.21})


async def test_own_identifiers_stand_beside_the_profiles() -> None:
    meter = plain()
    meter.values["00B00000"] = bcd("0012.3456")
    own = {"name": "energy_import_kwh", "unit": "kWh", "identifier": "00B00000", "digits": 8, "decimals": 4}
    async with SerialServer(Bus(meter)) as server:
        poll = await polled(server.port, ["energy_import_kwh", "voltage_l1_v"], channels=[own])
    assert read(poll) == pytest.approx({"energy_import_kwh": 12.3456, "voltage_l1_v": 230.1})


async def test_a_register_of_eight_digits_wraps_at_a_million_kwh() -> None:
    config = registry.parse({"kind": "dlt645", "host": "10.0.0.7", "address": ADDRESS})
    (point,) = registry.with_defaults(config, [point_of(channels()["energy_import_kwh"])], ())
    assert point.modulus_kwh == 1_000_000.0


# -- several on a line -------------------------------------------------------------------------------


async def test_meters_on_one_line_take_turns_over_one_connection() -> None:
    meters = [Meter(f"{n:012d}", {"00010000": bcd(f"{n:06d}.50")}) for n in range(1, 9)]
    bus = Bus(*meters)
    async with SerialServer(bus) as server:
        devices = [collector(server.port, ["energy_import_kwh"], address=m.address) for m in meters]
        polls = await asyncio.gather(*(device.poll(AT) for device in devices))
        assert [next(iter(read(poll).values())) for poll in polls] == [n + 0.5 for n in range(1, 9)]
        assert (bus.connections, bus.overlaps) == (1, 0)
        assert len({registry.parse({"kind": "dlt645", "host": "h", "address": a}).gateway for a in "12"}) == 1
        for device in devices:
            await device.close()


async def test_a_silent_meter_leaves_the_others_of_its_line_alone() -> None:
    bus = Bus(plain(), Meter(OTHER, dict(PLAIN)))
    bus.silent = {OTHER}
    async with SerialServer(bus) as server:
        devices = [collector(server.port, address=a, timeout_s=0.1) for a in (ADDRESS, OTHER)]
        for _ in range(3):
            polls = [await device.poll(AT) for device in devices]
            assert [len(poll.readings) for poll in polls] == [5, 0]
            assert set(failed(polls[1]).values()) == {"DeviceUnreachable"}
            assert f"meter {OTHER} at 127.0.0.1" in str(polls[1].failures[0])
        bus.silent = set()
        assert len((await devices[1].poll(AT)).readings) == 5
        for device in devices:
            await device.close()


# -- what lines and meters do ------------------------------------------------------------------------


async def test_a_refused_identifier_leaves_the_rest_and_says_what_the_meter_said() -> None:
    meter = plain()
    del meter.values["00020000"]
    async with SerialServer(Bus(meter)) as server:
        poll = await polled(server.port)
    assert failed(poll) == {"energy_export_kwh": "DeviceRefused"}
    assert "error 02H (no such data)" in str(poll.failures[0])
    assert len(poll.readings) == 4


async def test_silence_about_one_identifier_costs_one_wait_and_is_asked_last_from_then_on() -> None:
    meter = plain(silent_about={"00010000"})
    async with SerialServer(Bus(meter)) as server:
        device = collector(server.port, timeout_s=0.1)
        assert failed(await device.poll(AT)) == {"energy_import_kwh": "DeviceUnreachable"}
        del meter.asked[:]
        assert len((await device.poll(AT)).readings) == 4
        assert meter.asked[-1] == "00010000"
        await device.close()


@pytest.mark.parametrize("said", ["FFFFFFFF", "EEEEEEEE", "0000000A"])
async def test_what_is_no_number_is_a_failure_and_never_zero(said: str) -> None:
    meter = plain()
    meter.values["00010000"] = bytes.fromhex(said)
    async with SerialServer(Bus(meter)) as server:
        poll = await polled(server.port)
    assert failed(poll) == {"energy_import_kwh": "DecodeError"}
    assert f"holds {said}" in str(poll.failures[0])


async def test_another_number_of_digits_is_a_failure() -> None:
    meter = plain()
    meter.values["00010000"] = bcd("01234567.89")
    async with SerialServer(Bus(meter)) as server:
        poll = await polled(server.port)
    assert failed(poll) == {"energy_import_kwh": "DecodeError"}
    assert "has 5 bytes where 4 are expected" in str(poll.failures[0])


async def test_the_lines_own_echo_is_not_an_answer() -> None:
    bus = Bus(plain(), echo=True)
    async with SerialServer(bus) as server:
        assert read(await polled(server.port)) == pytest.approx(EXPECTED)
        bus.silent = {ADDRESS}
        poll = await polled(server.port, timeout_s=0.1)
    assert set(failed(poll).values()) == {"DeviceUnreachable"}


def pieces(sent: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in b"\xfe\xfe\xfe\xfe" + sent]


def noise_before(sent: bytes) -> list[bytes]:
    return [b"\x00\x68\x12\x68\xff\x16" + sent + b"\x68"]


def other_first(sent: bytes) -> list[bytes]:
    """Another meter's answer, one to something else, and then the right one."""
    foreign = answer("999999999999", 0x91, bytes.fromhex("00000100") + bytes(4))
    late = answer(ADDRESS, 0x91, bytes.fromhex("00000900") + bytes(4))
    return [foreign + late + sent]


@pytest.mark.parametrize("spoil", [pieces, noise_before, other_first])
async def test_an_answer_is_found_in_what_else_is_on_the_line(spoil: Any) -> None:
    bus = Bus(plain())
    bus.spoil = spoil
    async with SerialServer(bus) as server:
        assert read(await polled(server.port)) == pytest.approx(EXPECTED)


def wrong_sum(sent: bytes) -> list[bytes]:
    return [sent[:-2] + bytes([(sent[-2] + 1) % 256]) + sent[-1:]]


def cut(sent: bytes) -> list[bytes]:
    return [sent[:-3]]


def wrong_address(sent: bytes) -> list[bytes]:
    return [answer("999999999999", sent[8], bytes((b - 0x33) % 256 for b in sent[10:-2]))]


def wrong_identifier(sent: bytes) -> list[bytes]:
    return [answer(ADDRESS, sent[8], b"\x00\x00\x09\x00" + bytes(len(sent) - 16))]


def wrong_function(sent: bytes) -> list[bytes]:
    return [answer(ADDRESS, 0x94, bytes((b - 0x33) % 256 for b in sent[10:-2]))]


def endless(sent: bytes) -> list[bytes]:
    return [b"\x68" * 20_000]


def nothing(sent: bytes) -> list[bytes]:
    return []


SPOILT = [wrong_sum, cut, wrong_address, wrong_identifier, wrong_function, endless, nothing]


@pytest.mark.parametrize("spoil", SPOILT)
async def test_what_is_no_sound_answer_is_none_and_the_line_recovers(spoil: Any) -> None:
    bus = Bus(plain())
    good, bus.spoil = bus.spoil, spoil
    async with SerialServer(bus) as server:
        device = collector(server.port, timeout_s=0.1)
        poll = await device.poll(AT)
        assert set(failed(poll).values()) == {"DeviceUnreachable"}
        assert not poll.readings
        bus.spoil = good
        assert read(await device.poll(AT)) == pytest.approx(EXPECTED)
        await device.close()


async def test_an_answer_that_comes_too_late_is_not_the_next_ones() -> None:
    """The first request's answer arrives during the second's wait; the connection is another one by then."""
    meter, gate = plain(), asyncio.Event()
    bus = Bus(meter)
    async with SerialServer(bus) as server:
        device = collector(server.port, ["energy_import_kwh"], timeout_s=0.1)
        write_late = bus.heard

        async def late(data: bytes, write: Any) -> None:
            await gate.wait()
            with contextlib.suppress(ConnectionError):
                await write_late(data, write)

        bus.heard = late  # type: ignore[method-assign]
        assert failed(await device.poll(AT)) == {"energy_import_kwh": "DeviceUnreachable"}
        meter.values["00010000"] = bcd("000002.00")
        gate.set()
        assert read(await device.poll(AT)) == {"energy_import_kwh": 2.0}
        await device.close()


async def test_frames_that_follow_without_end_are_bounded() -> None:
    meter = plain()
    meter.values["00010000"] = bytes(10_000)
    bus = Bus(meter)
    async with SerialServer(bus) as server:
        poll = await polled(server.port, ["energy_import_kwh"])
    assert failed(poll) == {"energy_import_kwh": "DecodeError"}
    assert len(bus.requests) < 30


async def test_a_line_that_was_cut_is_opened_again() -> None:
    async with SerialServer(Bus(plain())) as server:
        device = collector(server.port)
        assert len((await device.poll(AT)).readings) == 5
        server.hang_up()
        await asyncio.sleep(0.01)
        assert len((await device.poll(AT)).readings) == 5
        await device.close()


async def test_nobody_there_is_one_failure_for_each_point_and_later_an_answer() -> None:
    server = SerialServer(Bus(plain()))
    async with server:
        pass
    device = collector(server.port, retries=1)
    poll = await device.poll(AT)
    assert set(failed(poll).values()) == {"DeviceUnreachable"}
    assert len(poll.failures) == 5
    async with server:
        async with asyncio.timeout(10):  # meters of a dead server share an attempt for as long as it took
            while len((await device.poll(AT)).readings) < 5:
                await asyncio.sleep(0)
        await device.close()


async def test_cancelled_at_any_await_the_next_poll_succeeds() -> None:
    async with SerialServer(Bus(plain())) as server:
        device = collector(server.port)
        for steps in range(0, 60, 3):
            task = asyncio.create_task(device.poll(AT))  # type: ignore[arg-type]
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            if (link := device._link) is not None:  # type: ignore[attr-defined]
                link._left_alone_until.clear()  # else the meter rests, as it should
            assert read(await device.poll(AT)) == pytest.approx(EXPECTED)
        await device.close()
        await device.close()


async def test_many_polls_leave_nothing_over() -> None:
    async with SerialServer(Bus(plain())) as server:
        device = collector(server.port)
        await device.poll(AT)
        gc.collect()
        before, tasks = len(gc.get_objects()), len(asyncio.all_tasks())
        for _ in range(300):
            await device.poll(AT)
        gc.collect()
        assert len(gc.get_objects()) < before + 200
        assert len(asyncio.all_tasks()) == tasks
        await device.close()


# -- settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "key", "fault"),
    [
        ({"address": 202311000042}, "address", "in quotes"),
        ({"address": "12ab"}, "address", "up to twelve digits"),
        ({"address": "1234567890123"}, "address", "up to twelve digits"),
        ({"host": ""}, "", "host or serial_port"),
        ({"serial_port": "/dev/ttyUSB0"}, "", "host or serial_port"),
        ({"profile": "schneider_pm5xxx"}, "profile", "use kind: modbus"),
        ({"profile": "none_such"}, "profile", "no profile"),
        ({"channels": [{"name": "power_kw", "unit": "kW", "identifier": 2030000}]}, "channels", "in quotes"),
        ({"host": "8.8.8.8"}, "host", "outside of private networks"),
        ({"port": 70_000}, "port", "less than or equal"),
        ({"colour": "red"}, "colour", "Extra inputs"),
    ],
)
def test_wrong_settings_are_refused_with_key_and_what_is_allowed(
    settings: dict[str, Any], key: str, fault: str
) -> None:
    mapping = {"kind": "dlt645", "host": "10.0.0.7", "address": ADDRESS, **settings}
    with pytest.raises(ConfigError, match=fault) as error:
        registry.build(registry.parse(mapping), Binding("m", (point_of(channels()["power_kw"]),)))
    assert error.value.key.startswith(key)


# -- probe -------------------------------------------------------------------------------------------


async def probed(port: int, **options: Any) -> Any:
    return await probing.probe(Target("127.0.0.1", "dlt645", port, timeout_s=0.2, options=options))


async def test_a_meter_alone_on_its_line_is_found_with_its_address_and_ratios() -> None:
    async with SerialServer(Bus(plain())) as server:
        outcome = await probed(server.port)
        (found,) = outcome.found
        assert found.profile == "dlt645_2007"
        assert found.values["energy_import_kwh"] == pytest.approx(123_456.78)
        assert found.values["demand_max_import_kw"] == pytest.approx(12.3456)
        assert f"address {ADDRESS}" in found.notes
        assert any("multiplier is 40" in note for note in found.notes)
        assert any("2026-11-30 10:15:30" in note for note in found.notes)
        assert "maximum demand 12.3456 kW at 2026-11-30 10:15 by its clock" in found.notes
        assert f'address: "{ADDRESS}"' in found.yaml
        assert "channel: power_kw" in found.yaml


async def test_a_meter_of_1997_answers_the_wildcard_too() -> None:
    class Old(Meter):
        def reply(self, control: int, data: bytes) -> bytes | None:
            return super().reply(control, data) if control == 1 else None

    async with SerialServer(Bus(Old(ADDRESS, OLD))) as server:
        outcome = await probed(server.port)
    (found,) = outcome.found
    assert (found.profile, found.values["power_kw"]) == ("dlt645_1997", 1.21)


async def test_several_meters_are_asked_by_their_addresses() -> None:
    bus = Bus(plain(), Meter(OTHER, {"00010000": bcd("000001.00")}))
    async with SerialServer(bus) as server:
        outcome = await probed(server.port, address=f"{ADDRESS}, 17, 000000000099")
    assert [found.notes[0] for found in outcome.found] == [f"address {ADDRESS}", f"address {OTHER}"]
    assert len(outcome.problems) == 1
    assert "000000000099" in outcome.problems[0]


async def test_meters_that_answer_all_at_once_are_told_apart_from_silence() -> None:
    bus = Bus(plain())
    bus.spoil = lambda sent: [bytes(a & b for a, b in zip(sent, sent[::-1], strict=True))]
    async with SerialServer(bus) as server:
        outcome = await probed(server.port)
        assert "several meters answer at once" in outcome.problems[0]
        bus.silent = {ADDRESS}
        outcome = await probed(server.port)
        assert "gave no answer" in outcome.problems[0]
        assert "several" not in outcome.problems[0]
    assert not outcome.found


async def test_what_cannot_be_opened_is_said_once() -> None:
    server = SerialServer(Bus())
    async with server:
        pass
    outcome = await probed(server.port)
    assert len(outcome.problems) == 1
    assert "cannot open" in outcome.problems[0]
