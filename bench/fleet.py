"""A fleet of 660 sites: what a reading costs at each station, and how long the fleet's answers take.

A real hub of three servers, which write to disk before they acknowledge, carries what 660 edges of 500 points
a minute send: those of a real cell (``wattline serve`` on an embedded database) are real senders with real
spools, the others send the same batches from this process to cells that take them and answer. Then
``/fleet/pue`` is asked of 3 and of 10 cells: one real, the others answer what it answers, after as long; with
all there, with one that is switched off, and with one that never answers.

Processor time is that of the product and of the hub, by ``/proc``, in microseconds of the reference machine;
the bench's own is not in it. ``WATTLINE_FLEET_SITES`` (default 66) says how many sites the real cell has,
``WATTLINE_FLEET_ALL`` (660) how many the fleet, ``WATTLINE_FLEET_MINUTES`` (4) how long: 15 have a whole
quarter-hour with its evaluations. `bench.sizing` makes the table of ``docs/how-to/sizing.md`` of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from app.api.app import create_app
from app.domain.edge_message import Claim, Message, State, encode
from app.domain.hub_message import Subjects, seal
from app.domain.reading import Reading
from app.fleet.cells import Cell
from app.fleet.watch import Watch
from app.store.embedded.server import EmbeddedServer
from app.store.engine import make_engine
from bench import capacity, edges
from bench.edges import Edges
from bench.returning import CELL, environment, when_there
from bench.serving import served, service
from bench.table import Row
from tests.hub import Cluster

TITLE = "A fleet of 660 sites: hub, one cell, answers of all cells"
SITES = int(os.environ.get("WATTLINE_FLEET_SITES", "66"))
ALL = int(os.environ.get("WATTLINE_FLEET_ALL", "660"))
MINUTES = int(os.environ.get("WATTLINE_FLEET_MINUTES", "4"))
POINTS, LOTS, SPREAD_S, BEATS = capacity.POINTS, 5, 10.0, 5
"""Points are read in the first ten seconds of a minute; then an edge says now and then that it is there."""
WARM_S = 90.0
CONNECTIONS = 8
PROTOCOL_BYTES = 110
"""Of a message beside its payload: subject, headers, lengths. [B]"""
ASKED = 9
PUSHERS, PUSHED_S = 64, 10.0
_SECRET = "0" * 64


@dataclass(frozen=True, slots=True)
class Looked:
    """What was used until one moment."""

    at_s: float
    cell: capacity.Costs
    hub_s: float
    hub_written_bytes: int
    stored: float
    """Readings in the real cell."""
    carried: int
    """Readings of all cells, as acknowledged to the edges."""


def run() -> list[Row]:
    """All rows of this bench."""
    slow = capacity.slowness()
    with tempfile.TemporaryDirectory(prefix="wattline-fleet-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "hub").mkdir()
        cluster = stack.enter_context(Cluster(folder / "hub"))
        (folder / "site.yaml").write_text(capacity.site_file(SITES), encoding="utf-8")
        hub = {"WATTLINE_REQUIRE_KEYS": "true", "WATTLINE_HUB_URL": f"{cluster.url}/{CELL}"}
        with environment(hub), service(folder, folder / "site.yaml", 0) as (process, base):
            ids = [f"s{n}" for n in range(SITES)]
            *keys, viewer = when_there(lambda: edges.made_keys(folder / "data", ids))
            with httpx.Client(
                base_url=base, timeout=120, headers={"Authorization": f"Bearer {viewer}"}
            ) as http:
                while len(http.get("/api/v1/sites").json().get("sites", ())) < SITES:
                    time.sleep(1.0)
                rows = list(_carried(folder, cluster, keys, http, process.pid, slow))
                rows.append(_most(cluster.url))
                rows += _asked(folder, http, viewer)
        return rows


def _carried(
    folder: Path, cluster: Cluster, keys: list[str], http: httpx.Client, pid: int, slow: float
) -> Iterator[Row]:
    began = datetime.now(UTC)
    group = Edges(
        folder,
        keys,
        [[f"s{s}-m.kwh", *(f"s{s}-p{n}.kwh" for n in range(POINTS - 1))] for s in range(SITES)],
        live_every_s=60.0,
        way=edges.through_hub(f"{cluster.url}/{CELL}"),
        value=lambda point, at: _value(point, (at - began).total_seconds() / 60),
        lots=LOTS,
        spread_s=SPREAD_S,
        learns=False,
    )
    others = Others(cluster.url, ALL - SITES)
    group.start()
    others.start()
    try:
        time.sleep(WARM_S)
        before, lags_s = _looked(cluster, http, pid, group, others), list[float]()
        ages = len(group.seen.ages_s)
        while time.monotonic() - before.at_s < 60 * MINUTES:
            time.sleep(5.0)
            lags_s.append(_worst_lag_s(http))
        after = _looked(cluster, http, pid, group, others)
        yield from _stations(before, after, slow)
        yield from _delays(group.seen.ages_s[ages:], others.waited_s, lags_s)
        memory = f"{capacity.memory_mib(pid):,.0f} MiB"
        yield Row("cell: memory", memory, "", None, "", f"{SITES} sites, with the database")
        yield Row("hub: memory of a server", f"{cluster.memory_mib():.0f} MiB", "", None, "")
    finally:
        others.stop()
        group.stop()


def _looked(cluster: Cluster, http: httpx.Client, pid: int, group: Edges, others: Others) -> Looked:
    metrics = http.get("/metrics").text
    stored = sum(map(float, re.findall(r"^wattline_readings_stored_total\{.* (\S+)$", metrics, re.MULTILINE)))
    return Looked(
        time.monotonic(),
        capacity.costs(http, pid),
        sum(map(capacity.processor_s, cluster.pids)),
        sum(map(_written_bytes, cluster.pids)),
        stored,
        group.seen.live + others.sent,
    )


def _stations(before: Looked, after: Looked, slow: float) -> Iterator[Row]:
    took_s, stored = after.at_s - before.at_s, after.stored - before.stored
    carried, spent = after.carried - before.carried, after.cell.since(before.cell)
    rate = f"of {ALL} sites through the hub; {stored / took_s:,.0f} readings/s of {SITES} sites into the cell"
    asked = f"{ALL * POINTS / 60:,.0f} readings/s"
    yield Row("carried", f"{carried / took_s:,.0f} readings/s", "", None, asked, rate)
    bytes_ = _bytes_of_a_minute() / POINTS
    yield Row(
        "edge to hub", f"{bytes_:.1f} B a reading", "", None, "", f"{LOTS} batches and {BEATS} beats a minute"
    )
    hub_us = (after.hub_s - before.hub_s) * 1e6 / carried / slow
    yield Row("hub: processor of three servers", f"{hub_us:.1f} us a reading", "", None, "")
    written = (after.hub_written_bytes - before.hub_written_bytes) / carried
    yield Row("hub: written to disk by three servers", f"{written:.0f} B a reading", "", None, "")
    unit = 1e6 / stored / slow
    rest_s = spent.python_s - sum(spent.jobs_s.values())
    yield Row(
        "cell: all", f"{(spent.python_s + spent.database_s) * unit:.0f} us a reading", "", None, "<= 600 us"
    )
    yield Row("cell: database", f"{spent.database_s * unit:.0f} us a reading", "", None, "")
    yield Row("cell: intake", f"{rest_s * unit:.0f} us a reading", "", None, "", "Python without the jobs")
    for job, job_s in sorted(spent.jobs_s.items(), key=lambda item: -item[1]):
        if job_s * unit >= 1:
            yield Row(f"cell: {job}", f"{job_s * unit:.0f} us a reading", "", None, "")


def _delays(ages_s: Sequence[float], waited_s: Sequence[float], lags_s: Sequence[float]) -> Iterator[Row]:
    p95_s = statistics.quantiles(ages_s, n=20)[-1]
    note = f"median {statistics.median(ages_s):.1f} s, worst {max(ages_s):.1f} s; edges send each 2 s"
    yield Row("from the meter to the commit, p95", f"{p95_s:.1f} s", "", None, "<= 5 s", note)
    note = f"median {statistics.median(waited_s) * 1e3:.0f} ms"
    yield Row(
        "receipt of the hub, p95",
        f"{statistics.quantiles(waited_s, n=20)[-1] * 1e3:.0f} ms",
        "",
        None,
        "",
        note,
    )
    note = f"median {statistics.median(lags_s):.0f} s"
    yield Row("figures behind, worst", f"{max(lags_s):.0f} s", "", None, "<= 60 s", note)


def _bytes_of_a_minute() -> float:
    """What an edge sends to the hub in a minute, before TLS. [B]"""
    at = datetime(2026, 11, 30, tzinfo=UTC)
    batch = len(_batch("s100", 0, POINTS // LOTS, at, secrets.token_hex(16)))
    beat = len(_batch("s100", 0, 0, at, secrets.token_hex(16)))
    return LOTS * (batch + PROTOCOL_BYTES) + BEATS * (beat + PROTOCOL_BYTES)


def _batch(site: str, first: int, count: int, at: datetime, spool: str) -> bytes:
    rows = tuple(
        Reading(
            f"{site}-p{n}.kwh", at + timedelta(microseconds=137 * n), _value(f"-p{n}.", n * 0.37 + at.minute)
        )
        for n in range(first, first + count)
    )
    state = State(spool, at, "0.9", 3, clock_offset_s=0.0123, waiting=count, oldest_at=at)
    return seal(secrets.token_hex(12).encode() + encode(Message(Claim(spool, 1), state, rows)), site, _SECRET)


def _value(point: str, minutes: float) -> float:
    """As `bench.capacity` has it: each register counts on by the same amount a minute."""
    return 1e6 + minutes * 12.0 if "-m." in point else 5e4 + minutes * 0.016


def _worst_lag_s(http: httpx.Client) -> float:
    found = re.findall(r"^wattline_figures_lag_seconds\S* (\S+)$", http.get("/metrics").text, re.MULTILINE)
    return max(map(float, found), default=0.0)


def _written_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/io").read_text()
    return int(re.findall(r"^write_bytes: (\d+)", text, re.MULTILINE)[0])


# -- the other edges and cells ---------------------------------------------------------------------------


class Others:
    """Edges and cells beside the real ones: their batches go through the hub and are answered."""

    def __init__(self, url: str, count: int) -> None:
        self._servers, self._count = url.removeprefix("nats://").split(","), count
        self.sent = 0
        """Readings that were answered."""
        self.waited_s: list[float] = []
        """From each batch to the receipt of the hub. [s]"""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="others")

    def start(self) -> None:
        """Begin."""
        if self._count:
            self._thread.start()

    def stop(self) -> None:
        """End."""
        self._ended.set()
        if self._count:
            self._thread.join()

    async def _main(self) -> None:
        import nats
        from nats.js.api import RetentionPolicy, StorageType

        servers = [f"nats://{server}" for server in self._servers]
        clients = [await nats.connect(servers) for _ in range(CONNECTIONS)]
        cells = [f"other{n}" for n in range(-(-self._count // SITES))]
        for cell in cells:
            await (
                clients[0]
                .jetstream()
                .add_stream(
                    name=f"READINGS_{cell}",
                    subjects=[Subjects(cell, "*").readings],
                    retention=RetentionPolicy.WORK_QUEUE,
                    storage=StorageType.FILE,
                    num_replicas=3,
                )
            )
        tasks = [asyncio.create_task(self._cell(clients[n % CONNECTIONS], c)) for n, c in enumerate(cells)]
        tasks += [
            asyncio.create_task(self._edge(clients[n % CONNECTIONS], n, cells[n // SITES]))
            for n in range(self._count)
        ]
        await asyncio.to_thread(self._ended.wait)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in clients:
            await client.close()

    async def _cell(self, client: Any, cell: str) -> None:
        """Takes batches and answers, as a cell does after its commit."""
        subject, stream = Subjects(cell, "*").readings, f"READINGS_{cell}"
        batches = await client.jetstream().pull_subscribe(subject, durable="cell", stream=stream)
        while True:
            with suppress(TimeoutError):
                for message in await batches.fetch(256, timeout=2):
                    count = int(message.headers["Wattline-Bench"])
                    await client.publish(message.subject.replace("readings", "answers"), bytes(200))
                    await message.ack()
                    self.sent += count

    async def _edge(self, client: Any, n: int, cell: str) -> None:
        """Batches in the first seconds of each minute, and then a sign of life now and then."""
        loop, spool = asyncio.get_running_loop(), secrets.token_hex(16)
        subject = Subjects(cell, f"{n:012d}").readings
        count = POINTS // LOTS
        offsets = [(SPREAD_S * (lot + n / self._count) / LOTS, count) for lot in range(LOTS)]
        offsets += [(SPREAD_S + (50.0 / BEATS) * (beat + n / self._count), 0) for beat in range(BEATS)]
        began = loop.time()
        while True:
            for lot, (offset_s, size) in enumerate(offsets):
                await asyncio.sleep(max(began + offset_s - loop.time(), 0.0))
                body = _batch(f"s{n}", lot * count, size, datetime.now(UTC), spool)
                headers = {"Nats-Msg-Id": secrets.token_hex(12), "Wattline-Bench": str(size)}
                sent_s = loop.time()
                with suppress(Exception):  # it would be sent again; here it is missing in what was carried
                    await client.jetstream().publish(subject, body, timeout=20, headers=headers)
                    self.waited_s.append(loop.time() - sent_s)
            began += 60.0


def _most(url: str) -> Row:
    """How many batches of a hundred readings the hub stores in a second, with its streams of four cells."""
    count = asyncio.run(_pushed(url.removeprefix("nats://").split(",")))
    note = f"{PUSHERS} edges at once; the three servers share a disk here"
    return Row("hub: most batches", f"{count / PUSHED_S:,.0f} a second", "", None, "", note)


async def _pushed(addresses: Sequence[str]) -> int:
    import nats
    from nats.js.api import StorageType

    clients = [await nats.connect([f"nats://{one}" for one in addresses]) for _ in range(CONNECTIONS)]
    for n in range(4):
        await (
            clients[0]
            .jetstream()
            .add_stream(name=f"MOST_{n}", subjects=[f"most.{n}"], storage=StorageType.FILE, num_replicas=3)
        )
    body = _batch("s100", 0, POINTS // LOTS, datetime.now(UTC), secrets.token_hex(16))
    ended = time.monotonic() + PUSHED_S

    async def push(n: int) -> int:
        count = 0
        while time.monotonic() < ended:
            with suppress(TimeoutError):
                await clients[n % CONNECTIONS].jetstream().publish(f"most.{n % 4}", body, timeout=20)
                count += 1
        return count

    counts = await asyncio.gather(*(push(n) for n in range(PUSHERS)))
    for client in clients:
        await client.close()
    return sum(counts)


# -- answers of all cells --------------------------------------------------------------------------------


def _asked(folder: Path, http: httpx.Client, viewer: str) -> Iterator[Row]:
    own = [_timed(http, "/api/v1/fleet/pue?scope=cell") for _ in range(ASKED)]
    own_s = statistics.median(own)
    said = http.get("/api/v1/fleet/pue?scope=cell").json()
    yield Row(
        "/fleet/pue of one cell",
        f"{own_s * 1e3:.0f} ms",
        "",
        None,
        "",
        f"{SITES} sites, {_kib(said):.0f} KiB",
    )
    key = folder / "viewer"
    key.write_text(viewer)
    key.chmod(0o600)
    with EmbeddedServer(folder / "data") as server:
        engine = make_engine(server.url)
        try:
            for count in (3, 10):
                yield from _of_cells(count, said, own_s, key, engine)
        finally:
            engine.dispose()


def _of_cells(count: int, said: dict[str, Any], own_s: float, key: Path, engine: Any) -> Iterator[Row]:
    with ExitStack() as stack:
        urls = [stack.enter_context(_cell(_renamed(said, n), own_s)) for n in range(count - 1)]
        silent, gone = stack.enter_context(_silent()), "http://127.0.0.1:9"
        for what, instead in (("all there", None), ("one switched off", gone), ("one never answers", silent)):
            chosen = urls if instead is None else [*urls[:-1], instead]
            cells = [Cell(id=f"c{n}", url=url, key_file=key) for n, url in enumerate(chosen)]
            app = create_app(engine, fleet_watch=Watch(cells), cell_id="real")
            with served(app) as base, httpx.Client(base_url=base, timeout=60) as http:
                asks = 3 if instead == silent else ASKED
                took_s = [_timed(http, "/api/v1/fleet/pue") for _ in range(asks)]
                answer = http.get("/api/v1/fleet/pue").json()
            note = (
                f"worst {max(took_s) * 1e3:.0f} ms; {len(answer['sites'])} sites, missing {answer['missing']}"
            )
            asked = "<= 5.5 s" if instead == silent else ""
            name = f"/fleet/pue of {count} cells, {what}"
            yield Row(name, f"{statistics.median(took_s) * 1e3:.0f} ms", "", None, asked, note)


def _kib(document: Any) -> float:
    return len(json.dumps(document)) / 1024


def _timed(http: httpx.Client, path: str) -> float:
    began = time.perf_counter()
    http.get(path).raise_for_status()
    return time.perf_counter() - began


def _renamed(said: dict[str, Any], n: int) -> bytes:
    """The answer of another cell: the same sites under other names."""
    text = re.sub(r'"s(\d+)"', rf'"c{n}-s\1"', json.dumps(said))
    return text.encode()


@contextmanager
def _cell(body: bytes, takes_s: float) -> Iterator[str]:
    """A cell that answers so, after so long."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer."""
            time.sleep(takes_s)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _silent() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
