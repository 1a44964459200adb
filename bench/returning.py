"""Two hundred edges come back at once, each with readings that waited: what the centre takes, and its memory.

``wattline serve`` runs as users run it, on an embedded database of its own; the edges are real senders with
real spools, in this process. First they send live readings only; then each finds a backlog in its spool and
all begin at once, while live readings go on; at last the backlog is through and its figures stand. The
resident memory of the centre and the share of its database are read every second.

``WATTLINE_RETURN_EDGES`` (default 200) says how many edges, ``WATTLINE_RETURN_MINUTES`` (300) how many
minutes of ten points each has waiting, ``WATTLINE_RETURN_SETTLE_S`` (120) how long before and after,
``WATTLINE_RETURN_WAYS`` (``https,hub``) by which ways.
"""

from __future__ import annotations

import os
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
import yaml

from app.errors import StoreUnavailable
from app.store.embedded.server import EmbeddedServer
from app.store.engine import make_engine
from bench import capacity, edges
from bench.edges import Edges, Seen
from bench.serving import service
from bench.table import Row
from tests.hub import Cluster

TITLE = "Edges come back at once"
EDGES = int(os.environ.get("WATTLINE_RETURN_EDGES", "200"))
MINUTES = int(os.environ.get("WATTLINE_RETURN_MINUTES", "300"))
SETTLE_S = float(os.environ.get("WATTLINE_RETURN_SETTLE_S", "120"))
WAYS = os.environ.get("WATTLINE_RETURN_WAYS", "https,hub").split(",")
TRACE = bool(os.environ.get("WATTLINE_RETURN_TRACE"))
POINTS = 10
LIVE_EVERY_S = 20.0
CELL = "north"
_PATIENCE_S = 3600.0
_MIB = 1 << 20


@dataclass
class Memory:
    """Memory of the centre and of its database over time."""

    pid: int
    centre_mib: list[float] = field(default_factory=list)
    database_mib: list[float] = field(default_factory=list)

    def forget(self) -> None:
        """Begin anew."""
        self.centre_mib.clear()
        self.database_mib.clear()

    def look(self) -> None:
        """Once."""
        self.centre_mib.append(_resident_mib(self.pid))
        self.database_mib.append(capacity.memory_mib(self.pid) - _share_mib(self.pid))


def run() -> list[Row]:
    """Measure by each way, on a centre of its own."""
    return [row for way in WAYS for row in _by(way)]


def _by(way: str) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="wattline-return-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "site.yaml").write_text(yaml.safe_dump(_document()))
        hub = ""
        if way == "hub":
            (folder / "hub").mkdir()
            hub = f"{stack.enter_context(Cluster(folder / 'hub')).url}/{CELL}"
        stack.enter_context(environment({"WATTLINE_REQUIRE_KEYS": "true", "WATTLINE_HUB_URL": hub}))
        process, base = stack.enter_context(service(folder, folder / "site.yaml", 0))
        *keys, viewer = when_there(lambda: edges.made_keys(folder / "data", [f"s{n}" for n in range(EDGES)]))
        group = Edges(
            folder,
            keys,
            [_points(n) for n in range(EDGES)],
            live_every_s=LIVE_EVERY_S,
            way=edges.through_hub(hub) if hub else edges.https(base),
            value=_value,
        )
        (folder / "spools").mkdir()
        return _measured(f"{way}, {EDGES} edges", process.pid, group, folder / "data", base, viewer)


def _measured(of: str, pid: int, group: Edges, data: Path, base: str, viewer: str) -> list[Row]:
    memory = Memory(pid)
    with _sampled(memory):
        group.start()
        time.sleep(SETTLE_S)
        group.stop()
        before = _quantiles(memory)
        waiting = group.keep_back(MINUTES, datetime.now(UTC).replace(second=0, microsecond=0))
        memory.forget()
        began = time.monotonic()
        group.start()
        first_s = _when(lambda: len(group.seen.first_live) == EDGES, began)
        sent_s = _when(lambda: group.seen.old >= waiting, began)
        done_s = _when(lambda: _is_rolled_up(data), began)
        during = _quantiles(memory)
        memory.forget()
        time.sleep(SETTLE_S)
        after = _quantiles(memory)
        seen = group.seen
        group.stop()
    return list(_rows(of, waiting, (before, during, after), seen, (first_s, sent_s, done_s)))


def _rows(
    of: str,
    waiting: int,
    phases: Sequence[list[tuple[float, float]]],
    seen: Seen,
    times_s: tuple[float, float, float],
) -> Iterator[Row]:
    before, during, after = phases
    first_s, sent_s, done_s = times_s
    yield Row(
        f"{of}: live readings of all stored",
        f"{first_s:.0f} s after the return",
        "",
        None,
        "<= 60 s",
        f"then at most {max(seen.ages_s):.0f} s old, in the median {statistics.median(seen.ages_s):.1f} s",
    )
    yield Row(
        f"{of}: {waiting:,} readings that waited",
        f"{waiting / sent_s:,.0f} readings/s",
        "",
        None,
        "<= 5,000",
        f"sent in {sent_s:.0f} s, figures complete in {done_s:.0f} s; {seen.batches:,} batches",
    )
    yield Row(
        f"{of}: put off, and came too early", f"{seen.refused}, {seen.too_early}", "", None, "0 too early"
    )
    for what, n in (("memory of the centre", 0), ("memory of its database", 1)):
        yield Row(
            f"{of}: {what}",
            f"most {during[n][1]:.0f} MiB",
            f"live only: most {before[n][1]:.0f} MiB",
            during[n][1] / before[n][1],
            "",
            f"median {before[n][0]:.0f} before, {during[n][0]:.0f} during, {after[n][0]:.0f} after",
        )


def _quantiles(memory: Memory) -> list[tuple[float, float]]:
    """Median and most of the centre's memory, and of its database's."""
    return [(statistics.median(seen), max(seen)) for seen in (memory.centre_mib, memory.database_mib)]


@contextmanager
def _sampled(memory: Memory) -> Iterator[None]:
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(1.0):
            memory.look()
            if os.environ.get("WATTLINE_RETURN_TRACE"):
                print(
                    f"{time.monotonic():.0f} {memory.centre_mib[-1]:.0f} {memory.database_mib[-1]:.0f}",
                    flush=True,
                )

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _resident_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"^VmRSS:\s+(\d+)", text, re.MULTILINE)[0]) / 1024


def _share_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(map(int, re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE))) / 1024


def _is_rolled_up(data: Path) -> bool:
    """Whether nothing of before the last hours waits for its figures."""
    with EmbeddedServer(data) as server:
        engine = make_engine(server.url)
        try:
            with engine.connect() as connection:
                query = "SELECT count(*) FROM rollup_queue WHERE end_at < now() - interval '15 minutes'"
                return bool(connection.execute(sa.text(query)).scalar_one() == 0)
        finally:
            engine.dispose()


def _when(what: Callable[[], bool], began: float) -> float:
    """Time from `began` until something is so. [s]"""
    while not what():
        if time.monotonic() - began > _PATIENCE_S:
            raise RuntimeError("it did not happen in time")
        time.sleep(0.5)
    return time.monotonic() - began


def when_there(what: Callable[[], list[str]]) -> list[str]:
    """What something gives once the service knows its sites."""
    for _ in range(200):
        try:
            return what()
        except (StoreUnavailable, sa.exc.SQLAlchemyError):
            time.sleep(1.0)
    raise RuntimeError("the service did not start")


def _value(point: str, at: datetime) -> float:
    """Registers count on."""
    return 1e4 + (at.timestamp() % 1e7) / 3600 * 5.0


def _points(n: int) -> list[str]:
    return [f"p{n}.{i}.kwh" for i in range(POINTS)]


def _document() -> dict[str, object]:
    def meter(n: int, point: str) -> dict[str, object]:
        role = "facility" if point.endswith(".0.kwh") else "it_pdu_output"
        fed = {} if role == "facility" else {"fed_by": [f"m.p{n}.0"]}
        declared = {"id": point, "role": role, "kind": "register", "interval_s": 60}
        return {"id": f"m.{point.removesuffix('.kwh')}", "rated_power_kw": 100, **fed, "points": [declared]}

    sites = [
        {
            "id": f"s{n}",
            "institution": "bank",
            "time_zone": "Asia/Shanghai",
            "meters": [meter(n, point) for point in _points(n)],
        }
        for n in range(EDGES)
    ]
    return {"institutions": [{"id": "bank", "institution_class": "joint_stock"}], "sites": sites}


@contextmanager
def environment(more: dict[str, str]) -> Iterator[None]:
    """Variables for the block; those without a value are left out."""
    os.environ.update({name: value for name, value in more.items() if value})
    try:
        yield
    finally:
        for name in more:
            os.environ.pop(name, None)
