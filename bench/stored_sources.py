"""Sources with a memory: processor time of the reader and requests, against one value at a time.

Each server is a process of its own, so only the reader's processor time counts. The peer asks its library in
the plainest way: a Prometheus query for every point and instant, a statement for every meter and instant, the
library's own loop over messages, a GET for every outlet. Both sides decode what they read to numbers.
"""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import sqlalchemy as sa
import uvloop

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point
from bench.figure import served
from bench.table import Row, paired
from collectors import registry
from collectors.base import Binding, Poll

TITLE = "Sources with a memory: values a second of processor time, and requests"
AT_LEAST = 5.0
SERIES, STEPS = 40, 60
MESSAGES = 3000
OUTLETS = 48
TOPICS = 200
ROUNDS = 7
Work = Callable[[], Coroutine[Any, Any, tuple[int, int]]]
"""Reads; values and requests."""


def run() -> list[Row]:
    """All rows of this bench."""
    return [*_prometheus(), *_sql(), *_redfish(), *_mqtt()]


def _row(what: str, ours: Work, peer: str, theirs: Work, note: str = "") -> Row:
    rounds = [(_once(ours), _once(theirs)) for _ in range(ROUNDS + 1)][1:]  # the first one imports
    mine, its = ([one[side][0] for one in rounds] for side in (0, 1))
    ratio = paired(mine, its)
    return Row(
        what,
        f"{statistics.median(mine):,.0f}/s, {rounds[0][0][1]} requests",
        f"{peer} {statistics.median(its):,.0f}/s, {rounds[0][1][1]} requests",
        ratio.ratio,
        f">= {AT_LEAST:g}",
        note,
    )


def _once(work: Work) -> tuple[float, int]:
    """Values a second of processor time, and requests."""
    began = time.process_time()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        values, requests = runner.run(work())
    return values / (time.process_time() - began), requests


def _points(count: int) -> tuple[Point, ...]:
    return tuple(
        Point(id=f"p{n}", role=Role.NONE, kind=ReadingKind.POWER, channel=f"p{n}") for n in range(count)
    )


def _collector(mapping: dict[str, Any], count: int) -> Any:
    return registry.build(registry.parse(mapping), Binding("m", _points(count), "bench"))


def _read(poll: Poll, wanted: int) -> int:
    if len(poll.readings) < wanted:
        raise RuntimeError(f"{len(poll.readings)} readings of {wanted}: {poll.failures[:2]}")
    return len(poll.readings)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def _program(command: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                with socket.socket() as one:
                    if one.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield
        finally:
            process.terminate()


def _prometheus() -> Iterator[Row]:
    last = int(time.time()) // 60 - 10
    lines = ["# TYPE w gauge"]
    for n in range(SERIES):
        lines += [f'w{{n="{n}"}} {1000 + s % 7} {s * 60 - 10}' for s in range(last - STEPS, last + 1)]
    with tempfile.TemporaryDirectory() as folder:
        history, port = Path(folder) / "history.txt", _free_port()
        history.write_text("\n".join([*lines, "# EOF", ""]), encoding="utf-8")
        (Path(folder) / "p.yml").write_text("{}", encoding="utf-8")
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(history), f"{folder}/data"]
        subprocess.run(command, check=True, capture_output=True)
        start = ["prometheus", f"--config.file={folder}/p.yml", f"--storage.tsdb.path={folder}/data"]
        with _program([*start, f"--web.listen-address=127.0.0.1:{port}"], port):
            time.sleep(2)
            url = f"http://127.0.0.1:{port}"
            channels = [{"name": f"p{n}", "labels": {"n": str(n)}, "unit": "W"} for n in range(SERIES)]

            async def ours() -> tuple[int, int]:
                given = {"kind": "prometheus", "url": url, "query": "w", "channels": channels}
                collector = _collector({**given, "catch_up_s": 60 * (STEPS + 15)}, SERIES)
                poll = await collector.poll(datetime.now(UTC))
                await collector.close()
                return _read(poll, SERIES * STEPS), collector._server.session.requests

            async def theirs() -> tuple[int, int]:
                values = 0
                async with httpx.AsyncClient(base_url=url) as client:
                    for n in range(SERIES):
                        for step in range(last - STEPS, last):
                            query = {"query": f'w{{n="{n}"}}', "time": str(60 * step)}
                            answer = await client.get("/api/v1/query", params=query)
                            values += float(answer.json()["data"]["result"][0]["value"][1]) > 0
                return values, SERIES * STEPS

            yield _row(f"Prometheus, {SERIES} points, {STEPS} steps", ours, "a query each, httpx", theirs)


def _sql() -> Iterator[Row]:
    with served() as url:
        base = datetime.now(UTC) - timedelta(hours=2)
        with psycopg.connect(url, autocommit=True) as writer:
            writer.execute("CREATE TABLE r (ts timestamptz, meter int, kw float8, PRIMARY KEY (meter, ts))")
            writer.execute(
                "INSERT INTO r SELECT %s + s * interval '1 minute', m, m + s "
                "FROM generate_series(0, %s) m, generate_series(0, %s) s",
                (base, SERIES - 1, STEPS - 1),
            )
        parts = sa.make_url(url).set(drivername="postgresql+psycopg")
        channels = [
            {"name": f"p{n}", "column": "kw", "where": {"meter": n}, "unit": "kW"} for n in range(SERIES)
        ]

        async def ours() -> tuple[int, int]:
            with tempfile.NamedTemporaryFile("w", suffix=".txt") as password:
                password.write(parts.password or "")
                password.flush()
                where = (parts.host, parts.port, parts.database)
                plain = sa.URL.create("postgresql", parts.username, None, *where)
                access = {"url": plain.render_as_string(), "password_file": password.name}
                given = {"kind": "sql", **access}
                query = "SELECT ts, meter, kw FROM r WHERE ts > :since ORDER BY ts"
                collector = _collector({**given, "query": query, "channels": channels}, SERIES)
            poll = await collector.poll(datetime.now(UTC))
            await collector.close()
            return _read(poll, SERIES * STEPS), collector._database.queries

        async def theirs() -> tuple[int, int]:
            values = 0
            engine = sa.create_engine(parts)
            with engine.connect() as connection:
                one = sa.text("SELECT kw FROM r WHERE meter = :m AND ts = :at")
                for n in range(SERIES):
                    for step in range(STEPS):
                        at = base + timedelta(minutes=step)
                        values += connection.execute(one, {"m": n, "at": at}).scalar_one() is not None
            engine.dispose()
            return values, SERIES * STEPS

        yield _row(f"SQL, {SERIES} meters, {STEPS} instants", ours, "a SELECT each, SQLAlchemy", theirs)


_PEER = """
import asyncio, sys
from tests.protocol.http_peer import http_peer
from tests.protocol.test_redfish import Bmc
async def main():
    async with http_peer(Bmc()) as port:
        print(port, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def _redfish() -> Iterator[Row]:
    with subprocess.Popen([sys.executable, "-c", _PEER], stdout=subprocess.PIPE, text=True) as peer:
        assert peer.stdout is not None
        url = f"http://127.0.0.1:{int(peer.stdout.readline())}"
        place, polls = "/redfish/v1/PowerEquipment/RackPDUs/1/Outlets", 20
        channels = [
            {"name": f"p{n}", "path": f"{place}/A{n + 1}", "value": "PowerWatts/Reading", "unit": "W"}
            for n in range(OUTLETS)
        ]

        async def ours() -> tuple[int, int]:
            with tempfile.NamedTemporaryFile("w") as password:
                password.write("sesame")
                password.flush()
                given = {"kind": "redfish", "url": url, "user": "wattline", "password_file": password.name}
                collector = _collector({**given, "channels": channels}, OUTLETS)
                values = 0
                for _ in range(polls):
                    values += _read(await collector.poll(datetime.now(UTC)), OUTLETS)
                requests = collector._service.http.requests
                await collector.close()
            return values, requests

        async def theirs() -> tuple[int, int]:
            values = 0
            async with httpx.AsyncClient(base_url=url, auth=("wattline", "sesame")) as client:
                for _ in range(polls):
                    for n in range(OUTLETS):
                        answer = await client.get(f"{place}/A{n + 1}")
                        values += answer.json()["PowerWatts"]["Reading"] >= 0
            return values, polls * OUTLETS

        yield _row(f"Redfish, {OUTLETS} outlets, {polls} polls", ours, "a GET each, httpx", theirs)
        peer.terminate()


def _mqtt() -> Iterator[Row]:
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "m.conf"
        more = "allow_anonymous true\nmax_queued_messages 0\nuser root\n"
        file.write_text(f"listener {port} 127.0.0.1\n{more}", encoding="utf-8")
        with _program(["/usr/sbin/mosquitto", "-c", str(file)], port):
            yield _row(
                f"MQTT, {MESSAGES} messages of one value, QoS 1",
                lambda: _by_collector(port),
                "the loop of aiomqtt",
                lambda: _by_library(port),
                "not reached: both read, decode and acknowledge message by message, most of it in paho; "
                "ours acknowledges what is on disk only, the loop as soon as a message is there",
            )
            with asyncio.Runner() as runner:
                runner.run(_retain(port))
            yield _row(
                f"MQTT, {TOPICS} retained topics",
                lambda: _retained_by_collector(port),
                "a connection each, aiomqtt",
                lambda: _retained_by_library(port),
            )


async def _retain(port: int) -> None:
    import aiomqtt

    document = json.dumps({"ts": datetime.now(UTC).isoformat(), "w": 1000})
    async with aiomqtt.Client("127.0.0.1", port) as client:
        for n in range(TOPICS):
            await client.publish(f"t/{n}", document, qos=1, retain=True)


async def _retained_by_collector(port: int) -> tuple[int, int]:
    channels = [{"name": f"p{n}", "topic": f"t/{n}", "path": "w", "unit": "W"} for n in range(TOPICS)]
    given = {"kind": "mqtt", "url": f"mqtt://127.0.0.1:{port}", "time": "ts", "channels": channels}
    collector = _collector(given, TOPICS)
    poll = await collector.poll(datetime.now(UTC))
    await collector.close()
    return _read(poll, TOPICS), 1


async def _retained_by_library(port: int) -> tuple[int, int]:
    import aiomqtt

    values = 0
    for n in range(TOPICS):
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.subscribe(f"t/{n}", qos=1)
            message = await anext(client.messages)
            values += json.loads(message.payload)["w"] > 0
    return values, TOPICS


def _publish(port: int) -> subprocess.Popen[bytes]:
    """Publishes in a process of its own."""
    document = json.dumps({"ts": datetime.now(UTC).isoformat(), "w": 1000})
    script = f"for i in $(seq {MESSAGES}); do echo '{document}'; done | mosquitto_pub -p {port} -t a -q 1 -l"
    return subprocess.Popen(["/bin/sh", "-c", script])


async def _by_collector(port: int) -> tuple[int, int]:
    channels = [{"name": "p0", "topic": "a", "path": "w", "unit": "W"}]
    given = {"kind": "mqtt", "url": f"mqtt://127.0.0.1:{port}", "time": "ts", "channels": channels}
    collector = _collector({**given, "client_id": "ours"}, 1)
    collector.resume("")
    await collector.poll(datetime.now(UTC))
    values = 0
    with _publish(port):
        while values < MESSAGES:
            await asyncio.sleep(0.2)
            poll = await collector.poll(datetime.now(UTC))
            values += len(poll.dated)
            if poll.kept is not None:
                poll.kept()
    await collector.close()
    return values, 1


async def _by_library(port: int) -> tuple[int, int]:
    import aiomqtt

    values, version = 0, aiomqtt.ProtocolVersion.V5
    async with aiomqtt.Client("127.0.0.1", port, identifier="theirs", protocol=version) as client:
        await client.subscribe("a", qos=1)
        with _publish(port):
            async for message in client.messages:
                document = json.loads(message.payload)
                datetime.fromisoformat(document["ts"])
                values += float(document["w"]) > 0
                if values >= MESSAGES:
                    break
    return values, 1
