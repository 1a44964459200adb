"""Whatever a device answers: readings that are numbers, or failures of that device, soon and in bounds."""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point
from app.errors import CollectError, DecodeError
from collectors import registry
from collectors.base import Binding, Poll
from collectors.profiles.profile import SnmpProfile, load_profile
from collectors.simulated.snmp_agent import SimulatedSnmp
from collectors.snmp.session import Agent, SnmpAccess

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SOON_S = 30.0
"""Far more than the device's timeout of some hundredths: what takes longer hangs. [s]"""
TIMEOUT_S = 0.02
Answer = Callable[[bytes], bytes]


# -- Modbus ------------------------------------------------------------------------------------------


class Said(NamedTuple):
    """An answer: `body` as it is, in a frame for the request, or as registers in a good answer."""

    how: str
    body: bytes
    length_off: int

    def to(self, request: bytes) -> bytes:
        """The bytes that are sent."""
        if self.how == "raw" or len(request) < 12:  # RTU has no such frames
            return self.body
        body = self.body
        if self.how == "registers":
            count = 2 * struct.unpack(">H", request[10:12])[0]
            body = bytes([request[7], count]) + (self.body * count + bytes(count))[:count]
        length = (len(body) + 1 + self.length_off) & 0xFFFF
        return request[:4] + struct.pack(">H", length) + request[6:7] + body


SAID = st.builds(
    Said,
    st.sampled_from(["raw", "framed", "registers"]),
    st.binary(max_size=300),
    st.sampled_from([0, 0, 0, 1, -1, 65_000]),
)
POINTS = (
    Point(id="kwh", role=Role.FACILITY, kind=ReadingKind.REGISTER, channel="energy_import_kwh"),
    Point(id="kw", role=Role.FACILITY, kind=ReadingKind.POWER, channel="power_kw"),
)


async def _modbus(said: Said, transport: str) -> Poll:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while request := await reader.read(1000):
                writer.write(said.to(request))
                await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    mapping = {"kind": "modbus", "host": "127.0.0.1", "port": server.sockets[0].getsockname()[1]}
    more = {"profile": "schneider_pm5xxx", "transport": transport, "timeout_s": TIMEOUT_S, "retries": 0}
    collector = registry.build(registry.parse(mapping | more), Binding("meter", POINTS))
    try:
        async with asyncio.timeout(SOON_S):
            return await collector.poll(NOW)
    finally:
        await collector.close()
        server.close()
        while rest := asyncio.all_tasks() - {asyncio.current_task()}:  # one may be accepted only just now
            await asyncio.wait(rest)


@settings(max_examples=30)
@given(SAID, st.sampled_from(["tcp", "rtu_over_tcp"]))
@example(Said("registers", b"\xff", 0), "tcp")
@example(Said("registers", b"\x7f\xc0\x00\x00", 0), "tcp")
@example(Said("framed", b"", 0), "tcp")
def test_whatever_a_modbus_device_answers(said: Said, transport: str) -> None:
    with asyncio.Runner() as runner:
        outcome = runner.run(_modbus(said, transport))
    assert all(math.isfinite(reading.value) for reading in outcome.readings)
    assert {r.point for r in outcome.readings} | {f.point for f in outcome.failures} <= {"kwh", "kw", ""}
    assert len(outcome.readings) == 2 or outcome.failures


# -- DL/T 645 ----------------------------------------------------------------------------------------


class Spoken(NamedTuple):
    """What a line says to a request: `body` as it is, or as data of a good frame, with so much changed."""

    how: str
    control: int
    body: bytes
    at: float
    piece: bytes

    def to(self, request: bytes) -> bytes:
        """The bytes that are sent."""
        start = request.find(b"\x68")
        if self.how == "raw" or start < 0 or len(request) < start + 12:
            return self.body
        data = request[start + 10 : -2] + self.body if self.how == "echoed" else self.body
        head = request[start : start + 8] + bytes([self.control, len(data) & 0xFF])
        sent = head + data + bytes([sum(head + data) & 0xFF, 0x16])
        place = int(self.at * len(sent))
        return sent[:place] + self.piece + sent[place + len(self.piece) :]


SPOKEN = st.builds(
    Spoken,
    st.sampled_from(["raw", "framed", "echoed", "echoed"]),
    st.sampled_from([0x91, 0xB1, 0x92, 0xB2, 0xD1, 0x93, 0x11, 0x81, 0xFF]),
    st.binary(max_size=300),
    st.floats(0, 1),
    st.one_of(st.just(b""), st.binary(max_size=20)),
)


async def _dlt645(spoken: Spoken, profile: str) -> Poll:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while request := await reader.read(1000):
                writer.write(spoken.to(request))
                await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    mapping = {"kind": "dlt645", "host": "127.0.0.1", "port": server.sockets[0].getsockname()[1]}
    more = {"address": "42", "profile": profile, "timeout_s": TIMEOUT_S, "retries": 0, "gap_s": 0}
    collector = registry.build(registry.parse(mapping | more), Binding("meter", POINTS))
    try:
        async with asyncio.timeout(SOON_S):
            return await collector.poll(NOW)
    finally:
        await collector.close()
        server.close()
        while rest := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(rest)


@settings(max_examples=30)
@given(SPOKEN, st.sampled_from(["dlt645_2007", "dlt645_1997"]))
@example(Spoken("echoed", 0xB1, b"\x33" * 4, 0, b""), "dlt645_2007")
@example(Spoken("echoed", 0x91, b"\x32" * 4, 0, b""), "dlt645_2007")
@example(Spoken("raw", 0x91, b"\x68" * 300, 0, b""), "dlt645_2007")
def test_whatever_a_dlt645_line_says(spoken: Spoken, profile: str) -> None:
    with asyncio.Runner() as runner:
        outcome = runner.run(_dlt645(spoken, profile))
    assert all(math.isfinite(reading.value) for reading in outcome.readings)
    assert {r.point for r in outcome.readings} | {f.point for f in outcome.failures} == {"kwh", "kw"}
    assert len(outcome.readings) + len(outcome.failures) == 2


# -- SNMP --------------------------------------------------------------------------------------------

GET, GET_NEXT, GET_BULK, RESPONSE = 0xA0, 0xA1, 0xA5, 0xA2


class Damage(NamedTuple):
    """What is done to an answer that echoes the request: at a place, so much becomes something else."""

    at: float
    length: int
    piece: bytes

    def done_to(self, request: bytes) -> bytes:
        """The bytes that are sent."""
        tag = next((i for i, byte in enumerate(request) if byte in (GET, GET_NEXT, GET_BULK)), 0)
        echo = request[:tag] + bytes([RESPONSE]) + request[tag + 1 :]
        start = int(self.at * len(echo))
        return echo[:start] + self.piece + echo[start + self.length :]


DAMAGE = st.builds(Damage, st.floats(0, 1), st.integers(0, 100), st.binary(max_size=60))


@contextmanager
def udp_device(answer: Answer) -> Iterator[int]:
    """Answers every datagram; its port."""
    with socket.socket(type=socket.SOCK_DGRAM) as device:
        device.bind(("127.0.0.1", 0))

        def serve() -> None:
            with suppress(OSError):
                while True:
                    request, requester = device.recvfrom(65_535)
                    if not request:
                        return
                    device.sendto(answer(request), requester)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield device.getsockname()[1]
        finally:
            device.sendto(b"", device.getsockname())
            thread.join()


VERSIONS = {
    "1": {},
    "2c": {},
    "3": {"user": "u", "auth_password": "password1", "priv_password": "password2"},
}


async def _snmp(port: int, version: str) -> None:
    mapping = {"kind": "snmp", "host": "127.0.0.1", "port": port, "version": version, "retries": 0}
    access = SnmpAccess.model_validate({**mapping, **VERSIONS[version], "timeout_s": TIMEOUT_S})
    agent = Agent(access, "pdu")
    try:
        async with asyncio.timeout(SOON_S):
            with suppress(CollectError):
                values = await agent.get(["1.3.6.1.2.1.1.1.0", "1.3.6.1.2.1.1.3.0"])
                assert all(isinstance(v, bytes | str | int | float) for v in values.values())
            with suppress(CollectError):
                await agent.walk("1.3.6.1.2.1.2")
    finally:
        agent.close()


@settings(max_examples=30)
@given(DAMAGE, st.sampled_from(sorted(VERSIONS)))
@example(Damage(0, 0, b""), "2c")
@example(Damage(0, 1000, b"\x30\x84\xff\xff\xff\xff"), "2c")
@example(Damage(0, 1000, b"\x30\x80" * 20), "3")
def test_whatever_an_snmp_agent_answers(damage: Damage, version: str) -> None:
    with udp_device(damage.done_to) as port, asyncio.Runner() as runner:
        runner.run(_snmp(port, version))


async def test_an_answer_that_makes_the_library_panic_is_a_failure_of_that_device() -> None:
    """The length of the message is cut off; the panic is no ``Exception`` and would end the poller."""
    with udp_device(lambda request: b"\x30\x82\x01") as port:
        settings = {"kind": "snmp", "host": "127.0.0.1", "port": port, "timeout_s": 5, "retries": 0}
        agent = Agent(SnmpAccess.model_validate(settings), "pdu")
        with pytest.raises(DecodeError, match="invalid SNMP response"):
            await agent.get(["1.3.6.1.2.1.1.1.0"])
        agent.close()


async def test_an_agent_makes_the_library_panic_once_and_reads_well_again(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A panic writes to standard error and may hold up all others: not at every poll."""
    profile = load_profile("apc_rpdu2")
    assert isinstance(profile, SnmpProfile)
    async with SimulatedSnmp(profile, ["power_kw"], lambda channel, at: 1.5) as device:
        access = SnmpAccess.model_validate({"kind": "snmp", "host": "127.0.0.1", "port": device.port})
        agent = Agent(access, "pdu")
        for noise in (b"\x30\x82\x01", b"\x30\x82\x01", b"\xde\xad\xbe\xef", b"\x30\x03\x02\x05\x01"):
            device.faults.malformed = noise
            with pytest.raises(DecodeError, match="invalid SNMP response"):
                await agent.get(["1.3.6.1.2.1.1.5.0"])
        device.faults.malformed = b""
        assert await agent.get(["1.3.6.1.2.1.1.5.0"]) == {"1.3.6.1.2.1.1.5.0": b"simulated"}
        agent.close()
    assert capfd.readouterr().err.count("panicked") == 1
