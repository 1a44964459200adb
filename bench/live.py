"""A small service at rest and at work: processor time of everything it runs, as users run it.

``wattline serve`` on its embedded database, with one site of 100 registers: at first nothing comes in, then
100 readings a second, one request each second, each minute of which moves figures, findings and evaluations.
``wattline demo`` after its history and its alarms are loaded, with its simulated meters.

``WATTLINE_LIVE_S`` (180) says how long each is measured, ``WATTLINE_LIVE_SETTLE_S`` (60) how long it is left
alone before, the demo five times as long. Percent are those of one core of the reference machine.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from bench.capacity import below, memory_mib, processor_s, site_file, slowness
from bench.serving import service
from bench.table import Row

TITLE = "A small service at rest and at work"
FOR_S = float(os.environ.get("WATTLINE_LIVE_S", "180"))
SETTLE_S = float(os.environ.get("WATTLINE_LIVE_SETTLE_S", "60"))
READINGS = 100
"""In each request, of as many points. [1/s]"""


@dataclass(frozen=True, slots=True)
class Spent:
    """Processor time of a process and of its database, over some time. [s]"""

    python_s: float
    database_s: float
    wall_s: float

    @classmethod
    def at(cls, pid: int) -> Spent:
        """Up to now."""
        database = sum(map(processor_s, below(pid)))
        return cls(processor_s(pid, gone=False), database, time.monotonic())

    def row(self, what: str, before: Spent, slow: float, asked: str, note: str = "") -> Row:
        """Since an earlier time, as shares of a reference core."""
        unit = 100 / slow / (self.wall_s - before.wall_s)
        python, database = self.python_s - before.python_s, self.database_s - before.database_s
        parts = f"{python * unit:.2f} % Python, {database * unit:.2f} % database{note}"
        return Row(what, f"{(python + database) * unit:.2f} % of a core", "", None, asked, parts)


def run() -> list[Row]:
    """All rows of this bench."""
    with tempfile.TemporaryDirectory(prefix="wattline-live-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        return list(_served(folder))


def _served(folder: Path) -> Iterator[Row]:
    file = folder / "site.yaml"
    file.write_text(site_file(1, READINGS, interval_s=1), encoding="utf-8")
    with service(folder, file, 1) as (process, base), httpx.Client(base_url=base, timeout=60) as http:
        time.sleep(SETTLE_S)
        yield _spent(process.pid, "100 points, nothing comes in", "", lambda: time.sleep(FOR_S))
        start = datetime.now(UTC).replace(microsecond=0)
        _send(http, start, SETTLE_S)
        going_on = start + timedelta(seconds=SETTLE_S)
        yield _spent(process.pid, "100 readings/s", "<= 4 %", lambda: _send(http, going_on, FOR_S))


def _spent(pid: int, what: str, asked: str, work: Callable[[], None]) -> Row:
    slow, before = slowness(), Spent.at(pid)
    work()
    after = Spent.at(pid)
    return after.row(what, before, (slow + slowness()) / 2, asked, f"; {memory_mib(pid):.0f} MiB")


def _send(http: httpx.Client, start: datetime, for_s: float) -> None:
    """One request a second."""
    for second in range(round(for_s)):
        at = start + timedelta(seconds=second)
        time.sleep(max((at - datetime.now(UTC)).total_seconds(), 0.0))
        seconds = at.timestamp() % 1e6
        rows = [{"point": "s0-m.kwh", "at": at.isoformat(), "value": 1e6 + seconds * 0.2}]
        rows += [
            {"point": f"s0-p{n}.kwh", "at": at.isoformat(), "value": 5e4 + seconds * 0.001}
            for n in range(READINGS - 1)
        ]
        lines = "\n".join(map(json.dumps, rows))
        sent = http.post(
            "/api/v1/readings", content=lines, headers={"content-type": "application/x-ndjson"}
        ).json()
        if sent["accepted"] != READINGS:
            raise RuntimeError(f"not all readings were taken: {sent}")
