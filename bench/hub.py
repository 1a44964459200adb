"""Batches of edges through a hub of three servers, against the same batches over HTTP into the same cell.

``wattline serve`` takes both at once; eight edges send batches of 2,000 readings one after another, each
waiting for the cell's answer, in turns of a few seconds by one way and by the other. The three servers of the
hub write to disk before they acknowledge, as ``deploy/hub`` has them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import yaml

from app.domain.edge_message import Claim, Message, State
from app.domain.reading import Reading
from app.edge.hub import Hub
from app.edge.transport import Https, Transport
from app.errors import StoreUnavailable
from bench.serving import service
from bench.table import Row, paired
from tests.hub import Cluster

TITLE = "Hub: NATS JetStream between edges and a cell"
EDGES, BATCH, TURN_S, TURNS = 8, 2000, 6.0, 7
_POINTS = 20


def run() -> list[Row]:
    """Measure."""
    with tempfile.TemporaryDirectory() as scratch, Cluster(Path(scratch)) as cluster:
        folder = Path(scratch)
        file = folder / "site.yaml"
        file.write_text(yaml.safe_dump(_document()))
        more = {"WATTLINE_REQUIRE_KEYS": "true", "WATTLINE_HUB_URL": f"{cluster.url}/north"}
        with _environment(more), service(folder, file, 0) as (_, centre):
            keys = [_key(folder, file, n) for n in range(EDGES)]
            return _measured(keys, centre, f"{cluster.url}/north")


def _measured(keys: list[str], centre: str, hub: str) -> list[Row]:
    with ExitStack() as stack:
        direct: list[Transport] = [_closed(stack, Https(centre, key)) for key in keys]
        through: list[Transport] = [_closed(stack, Hub(hub, key)) for key in keys]
        claims = [_begun(one) for one in direct]
        numbers = [count() for _ in keys]

        def turn(ways: list[Transport]) -> float:
            return _readings_per_s(ways, claims, numbers)

        turn(direct), turn(through)  # caches and connections
        rates = [(turn(direct), turn(through)) for _ in range(TURNS)]
    one, other = (sorted(side)[TURNS // 2] for side in zip(*rates, strict=True))
    found = paired([b for _, b in rates], [a for a, _ in rates])
    return [
        Row(
            f"{EDGES} edges, batches of {BATCH:,} readings, answered after the commit",
            f"{other:,.0f} readings/s",
            f"HTTP into the same cell {one:,.0f}/s",
            found.ratio,
            ">= 0.8",
            str(found),
        )
    ]


def _readings_per_s(ways: list[Transport], claims: list[Claim], numbers: Sequence[Iterator[int]]) -> float:
    sent, ended = [0] * len(ways), time.monotonic() + TURN_S

    def send(n: int) -> None:
        while time.monotonic() < ended:
            try:
                ways[n].send(_batch(n, next(numbers[n]), claims[n]))
            except StoreUnavailable:  # a connection that was closed while the other way had its turn
                continue
            sent[n] += BATCH

    began = time.monotonic()
    threads = [threading.Thread(target=send, args=(n,)) for n in range(len(ways))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(sent) / (time.monotonic() - began)


def _batch(n: int, number: int, claim: Claim) -> Message:
    """Readings that nobody has sent before: a minute's of each point, and so on."""
    first = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number * BATCH // _POINTS)
    rows = tuple(
        Reading(f"p{n}.{i % _POINTS}", first + timedelta(minutes=i // _POINTS), 5.0) for i in range(BATCH)
    )
    return Message(claim, State(f"spool-{n}", datetime.now(UTC), clock_offset_s=0.0), rows)


def _begun(way: Transport) -> Claim:
    while True:
        try:
            return way.begin("bench")
        except StoreUnavailable:
            time.sleep(0.5)


def _closed(stack: ExitStack, way: Https | Hub) -> Https | Hub:
    stack.callback(way.close)
    return way


def _document() -> dict[str, object]:
    def points(n: int) -> list[dict[str, str]]:
        return [{"id": f"p{n}.{i}", "role": "none", "kind": "power"} for i in range(_POINTS)]

    sites = [
        {
            "id": f"s{n}",
            "institution": "bank",
            "time_zone": "Asia/Shanghai",
            "meters": [{"id": f"m{n}", "points": points(n)}],
        }
        for n in range(EDGES)
    ]
    return {"institutions": [{"id": "bank", "institution_class": "joint_stock"}], "sites": sites}


def _key(folder: Path, file: Path, n: int) -> str:
    here = {**os.environ, "WATTLINE_CONFIG": str(file), "WATTLINE_DATA_DIR": str(folder / "data")}
    wattline = str(Path(sys.executable).with_name("wattline"))
    command = [wattline, "edges", "create", f"e{n}", "--site", f"s{n}"]
    while True:
        done = subprocess.run(command, env=here, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
        time.sleep(0.5)


@contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    os.environ.update(more)
    try:
        yield
    finally:
        for name in more:
            os.environ.pop(name)
