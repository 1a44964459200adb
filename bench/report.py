"""Reports: a month of 500 points in every form, and an institution of up to 660 sites; time and memory.

Times of forms are of the processor, so that a busy machine changes them little. Memory is that of a
process that does nothing else; an interpreter with pandas, pyarrow and the store's driver is 150 MB of it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from app import config
from app.api import reports as of_period
from app.charts import report as charts
from app.domain.evidence import Frozen
from app.reports import canonical, output
from app.reports.build import build
from app.reports.document import Report, as_data
from app.reports.render import csv
from app.store import sites
from app.store.engine import make_engine
from app.store.reports import revisions
from app.store.reports.revisions import Shelf
from app.store.sites import Stored
from bench.figure import fill, opened, put, served
from bench.table import Row

TITLE = "Reports: time and memory"
RACKS = 480
DAYS = 31
NOW = datetime(2025, 2, 10, tzinfo=UTC)
AFTER = datetime(2026, 2, 10, tzinfo=UTC)
FLEETS = (66, 660)
_MOST_MB = 300
_ASKED_S = {"json": 0.2, "csv": None, "html": None, "xlsx": 2.0, "pdf": 2.0}


def run() -> list[Row]:
    """All rows of this bench."""
    with served() as url:
        with opened(url) as engine:
            fill(engine, RACKS, DAYS * 86_400)
        rows = _month(_child(url, "month", ""), _child(url, "memory", ""))
    with served() as url:
        with opened(url) as engine:
            yearly(engine)
        small, large = (_child(url, "fleet", str(count)) for count in FLEETS)
    return [*rows, *_fleet(small, large)]


def _month(times_s: dict[str, float], peak_mb: dict[str, float]) -> list[Row]:
    rows = [
        _timed(f"{form} of a month of {RACKS + 20} points", times_s[form], _ASKED_S[form])
        for form in _ASKED_S
    ]
    processor = f"of which {times_s['processor'] * 1e3:.0f} ms processor, the rest the database"
    files = f"with pages of program files {peak_mb['resident']:.0f} MB"
    return [
        _timed("a closed month, read and given out as json", times_s["closed"], _ASKED_S["json"]),
        *rows,
        replace(_timed("figures of an open month, before any form", times_s["open"], None), note=processor),
        Row(
            "memory, all forms but PDF", f"{peak_mb['own']:.0f} MB", "", None, f"<= {_MOST_MB} MB", "resident"
        ),
        Row(
            "memory, PDF, of both processes",
            f"{peak_mb['anonymous']:.0f} MB",
            "",
            None,
            f"<= {_MOST_MB} MB",
            f"anonymous; {files}",
        ),
    ]


def _timed(what: str, time_s: float, asked_s: float | None) -> Row:
    if asked_s is None:
        return Row(what, f"{time_s * 1e3:.0f} ms", "", None, "")
    missed = "" if time_s <= asked_s else "MISSED"
    return Row(what, f"{time_s * 1e3:.0f} ms", "", None, f"<= {asked_s:g} s", missed)


def _fleet(small: dict[str, Any], large: dict[str, Any]) -> list[Row]:
    few, many = FLEETS
    return [
        Row(
            f"resident memory, year of {many} sites, {form}",
            f"{large[form]['peak_mb']:.0f} MB",
            f"{few} sites: {small[form]['peak_mb']:.0f} MB",
            large[form]["peak_mb"] / small[form]["peak_mb"],
            "flat",
            f"{large[form]['bytes'] / 1e3:.0f} kB in {large[form]['time_s']:.1f} s",
        )
        for form in ("csv", "json")
    ]


# -- what is measured, in a process of its own --------------------------------------------------------


def _child(url: str, what: str, argument: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.report", url, what, argument]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def month(url: str, _: str) -> dict[str, Any]:
    """Times of the report of a month; of its forms the processor's, each the median of three. [s]"""
    _january(url)  # whatever only the first one has to import
    start_s, start = _processor_s(), time.perf_counter()
    report = _january(url)
    times_s = {"open": time.perf_counter() - start, "processor": _processor_s() - start_s}
    times_s |= {form: sorted(_time_s(report, form) for _ in range(3))[1] for form in _ASKED_S}
    return times_s | {"closed": _closed_s(url, report)}


def _closed_s(url: str, report: Report) -> float:
    """Time from the row of the frozen report to its JSON, the median of five. [s]"""
    engine, times_s = make_engine(url), []
    with engine.begin() as connection:
        stored = sites.load(connection)
        _freeze(connection, stored, report, "s")
    for _ in range(5):
        with engine.connect() as connection:
            start = time.perf_counter()
            document = of_period.of_site(connection, stored, stored.fleet.site["s"], "2025-01", None, NOW)
            output.render(document, "json", "en")
            times_s.append(time.perf_counter() - start)
    return statistics.median(times_s)


def memory(url: str, _: str) -> dict[str, Any]:
    """The highest memory of a process that makes every form of the report once, PDF last. [MB]"""
    with watched("RssAnon") as anonymous, watched() as resident:
        report = _january(url)
        for form in sorted(_ASKED_S, key="pdf".__eq__):
            own_kb = _highest_kb()
            output.render(report, form, "zh")
    return {"own": own_kb / 1024, "anonymous": anonymous[0] / 1024, "resident": resident[0] / 1024}


def _january(url: str) -> Report:
    with make_engine(url).connect() as connection:
        stored = sites.load(connection)
        return build(revisions.gather(connection, stored, stored.fleet.site["s"], "2025-01", NOW))


def _time_s(report: Report, form: str) -> float:
    """Processor time of rendering, with that of the process that sets the PDF; charts are drawn anew. [s]"""
    charts.forget()
    start_s = _processor_s()
    output.render(report, form, "zh")
    return _processor_s() - start_s


def _processor_s() -> float:
    return sum(os.times()[:4])


def fleet(url: str, count: str) -> dict[str, Any]:
    """The yearly report of so many sites, as CSV line by line and as one JSON document."""
    engine = make_engine(url)
    measured = {}
    for form in ("csv", "json"):
        with watched() as peak, engine.connect() as connection:
            start = time.perf_counter()
            size = sum(map(len, _parts(connection, int(count), form)))
            measured[form] = {"time_s": time.perf_counter() - start, "bytes": size}
        measured[form]["peak_mb"] = peak[0] / 1024
    return measured


def _parts(connection: sa.Connection, count: int, form: str) -> Iterator[bytes]:
    whole = sites.load(connection)
    stored = replace(whole, fleet=replace(whole.fleet, sites=whole.fleet.sites[:count]))
    bank = stored.fleet.institutions[0]
    if form == "csv":
        yield from csv.lines(of_period.lines(connection, stored, bank, "2025", AFTER))
        return
    whole_fleet = of_period.of_institution(connection, stored, bank, "2025", None, AFTER)
    yield output.render(whole_fleet, "json", "en")


@contextmanager
def watched(what: str = "VmRSS") -> Iterator[list[int]]:
    """The highest resident memory of this process and its children in the block, as its one element. [kB]

    `what` ``RssAnon``: without the pages of program files, which are shared and can be read again.
    """
    peak, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            peak[0] = max(peak[0], _resident_kb(what))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def _highest_kb() -> int:
    """The highest resident memory of this process so far. [kB]"""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def _resident_kb(what: str) -> int:
    children = [n for p in Path("/proc/self/task").glob("*/children") for n in p.read_text().split()]
    return _rss_kb(what, "self") + sum(_rss_kb(what, n, b"typeset") for n in children)


def _rss_kb(what: str, process: str, named: bytes = b"") -> int:
    """Of a process; 0 where it is gone, or is still a copy of its parent that has not begun its program."""
    try:
        if named not in Path(f"/proc/{process}/cmdline").read_bytes():
            return 0
        status = Path(f"/proc/{process}/status").read_text()
        return int(status.partition(f"{what}:")[2].split()[0])
    except (OSError, IndexError):
        return 0


# -- 660 sites ---------------------------------------------------------------------------------------


def yearly(engine: sa.Engine) -> None:
    """Sites whose year is frozen: the report of one that was measured, under every name."""
    count = max(FLEETS)
    names = [f"s{n:03}" for n in range(count)]
    text = "institutions: [{id: b, institution_class: other}]\nsites:\n" + "".join(map(_site, names))
    with engine.begin() as connection:
        sites.sync(connection, config.parse(text).fleet)
        stored = sites.load(connection)
    first = {p.id: stored.point_id[p.id] for p in stored.fleet.site[names[0]].points()}
    put(engine, first, 365 * 86_400)
    with engine.begin() as connection:
        site = stored.fleet.site[names[0]]
        report = build(revisions.gather(connection, stored, site, "2025", AFTER), 1)
        for name in names:
            _freeze(connection, stored, report, name)


def _site(name: str) -> str:
    points = [("main", "facility"), ("ups", "it_ups_output"), ("chiller", "cooling")]
    meters = ", ".join(
        f"{{id: {name}.{m}, points: [{{id: {name}.{m}.kwh, role: {role}, kind: register}}]}}"
        for m, role in points
    )
    return f"  - {{id: {name}, institution: b, time_zone: Asia/Shanghai, meters: [{meters}]}}\n"


def _freeze(connection: sa.Connection, stored: Stored, report: Report, name: str) -> None:
    own = replace(report, site=replace(report.site, id=name, name=name))
    final = canonical.sealed(own)
    frozen = Frozen(report.period.name, 1, as_data(final), final.sha256, AFTER)
    Shelf.of_site(stored, name).freeze(connection, frozen)


if __name__ == "__main__":
    print(
        json.dumps({"month": month, "memory": memory, "fleet": fleet}[sys.argv[2]](sys.argv[1], sys.argv[3]))
    )
