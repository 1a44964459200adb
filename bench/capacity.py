"""What a reading costs at each station, and how far the figures lag, by the number of sites.

``wattline serve`` runs as users run it: all jobs, on an embedded database of its own. N sites of 500
registers are sent to it over HTTP, minute by minute; the next minute follows when the figures of the last
site stand. Then, where asked for, a backlog of one site comes beside the live minutes. Processor time is that
of the product alone, by ``/proc``; each job says on ``/metrics`` what its thread cost. What is left of the
process is the HTTP interface, ingest included.

``WATTLINE_CAPACITY_SITES`` (default ``1,10``) says how many sites, ``WATTLINE_CAPACITY_MINUTES`` (4) how
long, ``WATTLINE_CAPACITY_BACKLOG`` (0) how many readings the backlog has. ``WATTLINE_CAPACITY_EVERY_S`` (0)
is the time from one minute's readings to the next: with 60 jobs run as often for each reading as they do in
service; without it fewer times, and what a start costs weighs more. ``WATTLINE_CAPACITY_POINTS`` (500) says
how many registers a site has, ``WATTLINE_CAPACITY_INTERVAL_S`` (60) how often they are read: what is called a
minute here lasts so long then. Runs of one size, or with such settings, are shown and not kept. Single
evaluations and readings are measured by :mod:`bench.costs`.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from app.charts import report as charts
from bench.serving import service
from bench.table import Row

TITLE = "Capacity: N sites of 500 points a minute, everything on"
SITES = tuple(int(n) for n in os.environ.get("WATTLINE_CAPACITY_SITES", "1,10").split(","))
MINUTES = int(os.environ.get("WATTLINE_CAPACITY_MINUTES", "4"))
BACKLOG = int(os.environ.get("WATTLINE_CAPACITY_BACKLOG", "0"))
EVERY_S = float(os.environ.get("WATTLINE_CAPACITY_EVERY_S", "0"))
CHART = Path(__file__).parent / "capacity.svg"
POINTS = int(os.environ.get("WATTLINE_CAPACITY_POINTS", "500"))
INTERVAL_S = int(os.environ.get("WATTLINE_CAPACITY_INTERVAL_S", "60"))
PATIENCE_S = 240.0
REFERENCE_LOOP_S = 0.85
"""What ``sum(range(30_000_000))`` takes on the machine for which the aims are stated. [s]"""
REST_S = 20.0
"""After the last minute jobs go on that the readings have caused. [s]"""
IS_KEPT = len(SITES) > 1 and (POINTS, INTERVAL_S, EVERY_S) == (500, 60, 0)
"""Whether a run is the one of ``RESULTS.md``; others are shown only."""
INTERVAL = timedelta(seconds=INTERVAL_S)
OUTLET_KWH = 0.016 * INTERVAL_S / 60
FACILITY_KWH = 1.5 * OUTLET_KWH * POINTS
"""By how much each register counts on from one reading to the next."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Costs:
    """Processor time since the start. [s]"""

    python_s: float
    database_s: float
    jobs_s: dict[str, float]
    waited_s: dict[str, float]
    """Wall time of each job without its own processor time: the database's work, mostly."""

    def since(self, before: Costs) -> Costs:
        """The difference."""
        return Costs(
            self.python_s - before.python_s,
            self.database_s - before.database_s,
            {k: v - before.jobs_s.get(k, 0.0) for k, v in self.jobs_s.items()},
            {k: v - before.waited_s.get(k, 0.0) for k, v in self.waited_s.items()},
        )


def run() -> list[Row]:
    """All rows of this bench, and a chart of what the stations cost."""
    slow = slowness()
    rows = [row for n in SITES for row in _rows(n, slow)]
    if IS_KEPT:
        CHART.write_text(drawn(rows), encoding="utf-8")
    return rows


def drawn(rows: Sequence[Row]) -> str:
    """The chart: what a reading costs at each station, by the number of sites."""
    costs: dict[str, dict[str, float]] = {}
    for row in rows:
        sites, station = row.what.split(": ")
        if row.ours.endswith(" us"):
            costs.setdefault(station, {})[sites] = float(row.ours.removesuffix(" us").replace(",", ""))
    names = list(dict.fromkeys(row.what.split(": ")[0] for row in rows))
    series = [charts.Series(station, [of.get(n, 0.0) for n in names]) for station, of in costs.items()]
    return charts.svg(charts.Bars(names, series, "us a reading"))


def slowness() -> float:
    """How many times as long as on the reference machine something takes here."""
    began = time.process_time()
    sum(range(30_000_000))
    return (time.process_time() - began) / REFERENCE_LOOP_S


def _rows(sites: int, slowness: float) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="wattline-capacity-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "site.yaml").write_text(site_file(sites), encoding="utf-8")
        began = time.monotonic()
        with service(folder, folder / "site.yaml", sites) as (process, base):
            return list(_measured(sites, process, base, time.monotonic() - began, slowness))


def _measured(
    sites: int, process: subprocess.Popen[str], base: str, up_s: float, slowness: float
) -> Iterator[Row]:
    of = f"{sites} sites"
    with httpx.Client(base_url=base, timeout=120) as http, _asking(base) as answers_s:
        start = datetime.now(UTC).replace(second=0, microsecond=0) - INTERVAL * (MINUTES + 1)
        before, began = costs(http, process.pid), time.monotonic()
        lags_s = [_paced_minute(http, sites, start, m) for m in range(MINUTES)]
        time.sleep(REST_S)
        spent, took_s = costs(http, process.pid).since(before), time.monotonic() - began
        readings = sites * POINTS * MINUTES
        unit = 1e6 / readings / slowness
        total = spent.python_s + spent.database_s
        asked = "<= 600 us" if sites >= 20 else ""
        share = f", {total / slowness / took_s:.1%} of a core" if EVERY_S else ""
        note = f"up in {up_s:.0f} s{share}"
        yield Row(f"{of}: all", f"{total * unit:,.0f} us a reading", "", None, asked, note)
        yield Row(f"{of}: database", f"{spent.database_s * unit:,.0f} us", "", None, "")
        rest_s = spent.python_s - sum(spent.jobs_s.values())
        yield Row(f"{of}: HTTP, ingest", f"{rest_s * unit:,.0f} us", "", None, "", "Python without the jobs")
        for job, job_s in sorted(spent.jobs_s.items(), key=lambda item: -item[1]):
            if job_s * unit >= 1:
                note = f"and waited {spent.waited_s[job] * unit:,.0f} us, for the database mostly"
                yield Row(f"{of}: {job}", f"{job_s * unit:,.0f} us", "", None, "", note)
        yield Row(f"{of}: figures behind", f"{max(lags_s):.0f} s", "", None, "<= 60 s")
        if BACKLOG:
            yield from _backlog(http, process.pid, sites, start, slowness)
        p95_ms = statistics.quantiles(answers_s, n=20)[-1] * 1e3
        yield Row(f"{of}: API p95", f"{p95_ms:.0f} ms", "", None, "<= 300 ms", f"{len(answers_s)} answers")
        yield Row(f"{of}: memory", f"{memory_mib(process.pid):,.0f} MiB", "", None, "<= 3 GB")


def _paced_minute(http: httpx.Client, sites: int, start: datetime, minute: int) -> float:
    """As :func:`_minute`; it lasts :data:`EVERY_S` at least."""
    began = time.monotonic()
    lag_s = _minute(http, sites, start, minute)
    time.sleep(max(EVERY_S - (time.monotonic() - began), 0.0))
    return lag_s


def _minute(http: httpx.Client, sites: int, start: datetime, minute: int) -> float:
    """Send a minute of every site; time until the figures of the last one stand. [s]"""
    for site in range(sites):
        _post(http, _lines(site, start, [minute]))
    began = time.monotonic()
    wanted_kwh = OUTLET_KWH * (POINTS - 1) * minute * 0.99
    while minute and _it_kwh(http, sites - 1, start, minute) < wanted_kwh:
        if time.monotonic() - began > PATIENCE_S:
            raise RuntimeError(f"the figures of minute {minute} did not come within {PATIENCE_S:.0f} s")
        time.sleep(0.5)
    return time.monotonic() - began


def _backlog(http: httpx.Client, pid: int, sites: int, start: datetime, slowness: float) -> Iterator[Row]:
    """The readings of a site before `start`, while one live minute after the other comes in."""
    minutes = BACKLOG // POINTS
    before, began = costs(http, pid), time.monotonic()
    sender = threading.Thread(target=_send_backlog, args=(str(http.base_url), start, minutes), daemon=True)
    sender.start()
    lags_s, live = [], MINUTES
    wanted_kwh = OUTLET_KWH * (POINTS - 1) * minutes * 0.99
    while sender.is_alive() or _it_kwh(http, 0, start - INTERVAL * minutes, minutes) < wanted_kwh:
        lags_s.append(_minute(http, sites, start, live))
        live += 1
        time.sleep(2)
    spent, took_s = costs(http, pid).since(before), time.monotonic() - began
    used = (spent.python_s + spent.database_s) * 1e6 / BACKLOG / slowness
    what = f"{sites} sites: backlog of {BACKLOG:,} readings"
    complete = f"figures complete in {took_s:.0f} s"
    yield Row(what, f"{used:,.0f} us a reading", "", None, "complete in 600 s", complete)
    worst = f"worst {max(lags_s):.1f} s behind"
    yield Row(f"{what}, live minutes beside it", worst, "", None, "< 5 s", f"{len(lags_s)} minutes")


def _send_backlog(base: str, start: datetime, minutes: int) -> None:
    with httpx.Client(base_url=base, timeout=120) as http:
        for begin in range(-minutes, 0, 10):
            _post(http, _lines(0, start, range(begin, min(begin + 10, 0))))


def _post(http: httpx.Client, lines: str) -> None:
    kind = {"Content-Type": "application/x-ndjson"}
    http.post("/api/v1/readings", content=lines, headers=kind).raise_for_status()


def _lines(site: int, start: datetime, minutes: range | list[int]) -> str:
    """Readings of a site: each register counts on by the same amount a minute."""
    out = []
    for minute in minutes:
        at = (start + INTERVAL * minute).isoformat()
        out.append(json.dumps({"point": f"s{site}-m.kwh", "at": at, "value": 1e6 + minute * FACILITY_KWH}))
        out += [
            json.dumps({"point": f"s{site}-p{n}.kwh", "at": at, "value": 5e4 + minute * OUTLET_KWH})
            for n in range(POINTS - 1)
        ]
    return "\n".join(out)


def _it_kwh(http: httpx.Client, site: int, start: datetime, minutes: int) -> float:
    span = {"start": start.isoformat(), "end": (start + INTERVAL * minutes).isoformat()}
    answer = http.get(f"/api/v1/sites/s{site}/pue", params=span)
    return float(answer.json().get("it_kwh") or 0.0) if answer.is_success else 0.0


def site_file(sites: int, points: int = POINTS, interval_s: int = INTERVAL_S) -> str:
    """A site file: per site a facility meter and PDU outlets below it, `points` in all."""
    lines = ["institutions: [{id: b, institution_class: joint_stock}]", "sites:"]
    for s in range(sites):
        lines += [f"  - id: s{s}", "    institution: b", "    time_zone: Asia/Shanghai", "    meters:"]
        lines.append(_meter(f"s{s}-m", "facility", f"rated_power_kw: {4 * points}", interval_s))
        fed = f"rated_power_kw: 20, fed_by: [s{s}-m]"
        lines += [_meter(f"s{s}-p{n}", "it_pdu_output", fed, interval_s) for n in range(points - 1)]
    return "\n".join(lines) + "\n"


def _meter(name: str, role: str, more: str, interval_s: int) -> str:
    point = f"{{id: {name}.kwh, role: {role}, kind: register, interval_s: {interval_s}}}"
    return f"      - {{id: {name}, {more}, points: [{point}]}}"


# -- what it costs -----------------------------------------------------------------------------------


def costs(http: httpx.Client, pid: int) -> Costs:
    jobs: dict[str, dict[str, float]] = {"processor": {}, "duration": {}}
    found = re.findall(
        r'wattline_job_(\w+?)_seconds_(?:total|sum)\{job="([^"]*)"\} (\S+)',
        http.get("/metrics", timeout=60).text,
    )
    for what, job, value in found:
        jobs[what][job] = float(value)
    waited = {name: jobs["duration"][name] - own for name, own in jobs["processor"].items()}
    database = [processor_s(child) for child in below(pid)]
    return Costs(processor_s(pid, gone=False), sum(database), jobs["processor"], waited)


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def processor_s(pid: int, *, gone: bool = True) -> float:
    """Processor time of a process; with `gone` also of its children that have ended. [s]"""
    try:
        fields = _stat(pid)
    except OSError:
        return 0.0
    return sum(map(int, fields[11 : 15 if gone else 13])) / _TICKS


def below(pid: int) -> list[int]:
    """All processes below one: the database's."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(_stat(int(folder.name))[1])
        except OSError:
            continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def memory_mib(pid: int, *, alone: bool = False) -> float:
    """Proportional share of memory of the process and, unless `alone`, its database. [MiB]"""
    total = 0
    for one in (pid, *([] if alone else below(pid))):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(map(int, re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)))  # none: it just ended
    return total / 1024


@contextmanager
def _asking(base: str) -> Iterator[list[float]]:
    """Somebody looks at a board meanwhile; how long each answer takes. [s]"""
    answers_s: list[float] = []
    ended = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=base, timeout=120) as http:
            while not ended.wait(1.0):
                for path in ("/api/v1/sites", "/api/v1/sites/s0/pue?window=24h", "/api/v1/sites/s0/findings"):
                    began = time.perf_counter()
                    http.get(path)
                    answers_s.append(time.perf_counter() - began)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield answers_s
    finally:
        ended.set()
        thread.join()
