"""A small service at rest and at work: processor time of everything it runs, as users run it.

``wattline serve`` on its embedded database, with one site of 100 registers: at first nothing comes in, then
100 readings a second, one request each second; the half hour before is known, as in service.
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
from bench.serving import service, until
from bench.table import Row

TITLE = "A small service at rest and at work"
FOR_S = float(os.environ.get("WATTLINE_LIVE_S", "180"))
SETTLE_S = float(os.environ.get("WATTLINE_LIVE_SETTLE_S", "60"))
DEMO_SETTLES = 5
READINGS = 100
"""In each request, of as many points. [1/s]"""
HISTORY_S = 1800


@dataclass(frozen=True, slots=True)
class Spent:
    """Processor time of a process and of its database, up to an instant. [s]"""

    python_s: float
    database_s: float
    at_s: float

    @classmethod
    def by(cls, pid: int) -> Spent:
        """Up to now."""
        return cls(processor_s(pid, gone=False), sum(map(processor_s, below(pid))), time.monotonic())

    def since(self, before: Spent) -> Spent:
        """The difference."""
        return Spent(
            self.python_s - before.python_s, self.database_s - before.database_s, self.at_s - before.at_s
        )


def run() -> list[Row]:
    """All rows of this bench."""
    return [*_served(), *_demo()]


def _served() -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="wattline-live-") as name:
        folder = _entered(name)
        file = folder / "site.yaml"
        file.write_text(site_file(1, READINGS, interval_s=1), encoding="utf-8")
        with service(folder, file, 1) as (process, base), httpx.Client(base_url=base, timeout=60) as http:
            now = datetime.now(UTC).replace(microsecond=0)
            _send_at_once(http, now - timedelta(seconds=HISTORY_S), HISTORY_S)
            time.sleep(SETTLE_S)
            yield _measured(process.pid, "100 points, nothing comes in", "", lambda: time.sleep(FOR_S))
            start = datetime.now(UTC).replace(microsecond=0)
            _send_at_once(http, now, (start - now) // timedelta(seconds=1))
            _send(http, start, SETTLE_S)
            going_on = start + timedelta(seconds=SETTLE_S)
            yield _measured(process.pid, "100 readings/s", "<= 4 %", lambda: _send(http, going_on, FOR_S))


def _demo() -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="wattline-live-") as name:
        folder = _entered(name)
        with service(folder, None, command="demo --no-browser") as (process, _):
            until(lambda: "are on record" in (folder / "log").read_text(), process)
            time.sleep(DEMO_SETTLES * SETTLE_S)
            yield _measured(process.pid, "the demo", "<= 3 %, 350 MB", lambda: time.sleep(FOR_S))


def _entered(name: str) -> Path:
    """A folder that the user of the database may enter."""
    folder = Path(name)
    folder.chmod(0o711)
    return folder


def _measured(pid: int, what: str, asked: str, work: Callable[[], None]) -> Row:
    """What some work costs, as shares of a core of the reference machine."""
    slow, before = slowness(), Spent.by(pid)
    work()
    spent = Spent.by(pid).since(before)
    unit = 100 / spent.at_s / ((slow + slowness()) / 2)
    python, database = spent.python_s * unit, spent.database_s * unit
    note = (
        f"{python:.1f} % Python, {database:.1f} % database; {memory_mib(pid, alone=True):.0f} MiB, "
        f"with the database {memory_mib(pid):.0f}"
    )
    return Row(what, f"{python + database:.1f} % of a core", "", None, asked, note)


def _send(http: httpx.Client, start: datetime, for_s: float) -> None:
    """One request a second."""
    for second in range(round(for_s)):
        at = start + timedelta(seconds=second)
        time.sleep(max((at - datetime.now(UTC)).total_seconds(), 0.0))
        _post(http, _lines(at), READINGS)


def _send_at_once(http: httpx.Client, start: datetime, for_s: int) -> None:
    lines = "\n".join(_lines(start + timedelta(seconds=second)) for second in range(for_s))
    _post(http, lines, READINGS * for_s)


def _lines(at: datetime) -> str:
    """A reading of each point."""
    second = at.timestamp() % 1e7
    loads = [("s0-m.kwh", 1e6, 0.2)] + [(f"s0-p{n}.kwh", 5e4, 0.001) for n in range(READINGS - 1)]
    return "\n".join(
        json.dumps({"point": key, "at": at.isoformat(), "value": first + second * kwh_per_s})
        for key, first, kwh_per_s in loads
    )


def _post(http: httpx.Client, lines: str, count: int) -> None:
    kind = {"Content-Type": "application/x-ndjson"}
    taken = http.post("/api/v1/readings", content=lines, headers=kind).json()
    if taken["accepted"] != count:
        raise RuntimeError(f"{count} readings were sent: {str(taken)[:500]}")
