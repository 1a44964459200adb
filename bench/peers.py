"""The same month in Wattline, VictoriaMetrics, Prometheus, InfluxDB and plain PostgreSQL, and who is right.

The month of :mod:`bench.month` goes into each program in the way that it takes fastest: a CSV file into
Wattline, JSON lines into VictoriaMetrics, blocks made by ``promtool``, line protocol into InfluxDB, COPY into
a table with one index. Then its late hundredth. Each is asked the same five questions in its own language, as
its users write them: counters by ``increase``, by ``non_negative_difference``, by ``lag``.

Processor time is that of the program (for Wattline also of the database, until figures and findings stand);
what it takes to write down the readings for it is nobody's. A program that is not installed is skipped.
``WATTLINE_PEERS_MINUTES`` (43200) shortens the month.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from app import config
from app.api.app import create_app
from app.domain.energy import Event, EventKind
from app.jobs import imports
from app.store import events, sites
from app.store.audit import Actor
from app.store.engine import begin, connect, driver
from app.store.readings import from_us
from bench import month
from bench.capacity import below, processor_s, slowness
from bench.figure import opened
from bench.ingest import durable_server
from bench.month import START, Month
from bench.serving import free_port, served
from bench.table import Row

TITLE = "Beside other programs: one month of 100 points at 60 s, the truth is known"
MINUTES = int(os.environ.get("WATTLINE_PEERS_MINUTES", "43200"))
QUESTIONS = ("PUE of 24 h", "PUE of the month", "PUE by day", "energy by class", "power now by point")
_BATCH = 50_000
_RUNS, _LONG_S = 5, 10.0
"""Each question is put so often, but not again after so long."""
_PATIENCE_S = 120.0
Rows = npt.NDArray[np.bool_]


class Peer(ABC):
    """A program that takes the month and is asked about it."""

    name = ""
    program = ""
    """What must be installed."""
    package = ""

    def __init__(self, folder: Path, stack: ExitStack, made: Month) -> None:
        self.folder, self.stack, self.made = folder, stack, made
        self.end = START + timedelta(minutes=MINUTES)
        self.start()

    @abstractmethod
    def start(self) -> None:
        """Begin."""

    @abstractmethod
    def load(self, rows: Rows) -> float:
        """Take some readings; processor time until they can be asked for. [s]"""

    @abstractmethod
    def ask(self, question: str) -> Any:
        """Put a question."""

    @abstractmethod
    def energies_kwh(self) -> tuple[float, float]:
        """Facility and IT energy of the month. [kWh]"""

    @abstractmethod
    def size_bytes(self) -> int:
        """What it takes on disk."""

    @property
    def days(self) -> list[int]:
        """Ends of the days. [s since 1970]"""
        count = MINUTES // 1440
        return [int((START + timedelta(days=n + 1)).timestamp()) for n in range(count)]


class Server(Peer):
    """A peer with a process of its own and an HTTP interface."""

    def start(self) -> None:
        self.port = free_port()
        log = self.stack.enter_context((self.folder / "log").open("w"))
        self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.folder)
        self.stack.callback(self._stop)
        self.http = self.stack.enter_context(
            httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=300)
        )
        deadline = time.monotonic() + _PATIENCE_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not start: {(self.folder / 'log').read_text()[-300:]}")
            time.sleep(0.2)

    @abstractmethod
    def command(self) -> list[str]:
        """How it is started."""

    def _answers(self) -> bool:
        try:
            return self.http.get("/health" if self.program != "influxd" else "/ping").status_code < 300
        except httpx.TransportError:
            return False

    def _stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def used(self, work: Callable[[], object]) -> float:
        """Processor time of the process while `work` is done. [s]"""
        before = processor_s(self.process.pid)
        work()
        return processor_s(self.process.pid) - before

    def size_bytes(self) -> int:
        """After a stop, which writes down what is only in memory."""
        self._stop()
        return sum(f.stat().st_size for f in (self.folder / "data").rglob("*") if f.is_file())


# -- PromQL ------------------------------------------------------------------------------------------


def _increase(role: str, span: str) -> str:
    return f'sum(increase(kwh{{role="{role}"}}[{span}]))'


class PromQl(Server):
    """What speaks PromQL."""

    def query(self, text: str, at_s: float | None = None) -> list[Any]:
        asked = {"query": text, "time": str(at_s or self.end.timestamp())}
        answer = self.http.get("/api/v1/query", params=asked).raise_for_status().json()
        found: list[Any] = answer["data"]["result"]
        return found

    def ask(self, question: str) -> Any:
        whole = f"{MINUTES}m"
        ratio = "{} / {}"
        if question == "PUE by day":
            text = ratio.format(_increase("facility", "1d"), _increase("it_pdu_output", "1d"))
            span = {"start": str(self.days[0]), "end": str(self.days[-1]), "step": "1d"}
            return (
                self.http.get("/api/v1/query_range", params={"query": text, **span}).raise_for_status().json()
            )
        text = {
            "PUE of 24 h": ratio.format(_increase("facility", "24h"), _increase("it_pdu_output", "24h")),
            "PUE of the month": ratio.format(_increase("facility", whole), _increase("it_pdu_output", whole)),
            "energy by class": f"sum by (role) (increase(kwh[{whole}]))",
            "power now by point": "kw",
        }[question]
        return self.query(text)

    def energies_kwh(self) -> tuple[float, float]:
        facility, it = (
            float(self.query(_increase(role, f"{MINUTES}m"))[0]["value"][1])
            for role in ("facility", "it_pdu_output")
        )
        return facility, it


class VictoriaMetrics(PromQl):
    """Single-node, without its query cache."""

    name, program, package = "VictoriaMetrics", "victoria-metrics", "victoria-metrics"

    def command(self) -> list[str]:
        data = f"-storageDataPath={self.folder / 'data'}"
        address = f"-httpListenAddr=127.0.0.1:{self.port}"
        return [self.program, data, address, "-retentionPeriod=24", "-search.disableCache"]

    def load(self, rows: Rows) -> float:
        blocks = list(_json_lines(self.made, rows))

        def send() -> None:
            for block in blocks:
                self.http.post("/api/v1/import", content=block).raise_for_status()
            self.http.get("/internal/force_flush").raise_for_status()

        return self.used(send)


def _json_lines(made: Month, rows: Rows) -> Iterator[str]:
    for some in _batches(rows):
        lines = []
        point = made.point[some]
        for number in np.unique(point).tolist():
            own = some[point == number]
            body = {"metric": _labels(made.names[number]), "values": made.value[own].tolist()}
            body["timestamps"] = (made.at_us[own] // 1000).tolist()
            lines.append(json.dumps(body))
        yield "\n".join(lines)


def _labels(name: str) -> dict[str, str]:
    meter, kind = name.split(".")
    return {"__name__": kind, "point": name, "role": month.role_of(meter)}


def _batches(rows: Rows) -> Iterator[npt.NDArray[np.intp]]:
    chosen = np.flatnonzero(rows)
    for first in range(0, len(chosen), _BATCH):
        yield chosen[first : first + _BATCH]


class Prometheus(PromQl):
    """Blocks made of the past by promtool, as its documents say; restarted on them."""

    name, program, package = "Prometheus", "prometheus", "prometheus"

    def command(self) -> list[str]:
        (self.folder / "prometheus.yml").write_text("global: {}\n")
        data = f"--storage.tsdb.path={self.folder / 'data'}"
        address = f"--web.listen-address=127.0.0.1:{self.port}"
        return [
            self.program,
            f"--config.file={self.folder / 'prometheus.yml'}",
            data,
            address,
            "--storage.tsdb.retention.time=10y",
        ]

    def _answers(self) -> bool:
        try:
            return self.http.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def load(self, rows: Rows) -> float:
        text = self.folder / "month.om"
        _openmetrics(self.made, rows, text)
        self._stop()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [
            "promtool",
            "tsdb",
            "create-blocks-from",
            "openmetrics",
            str(text),
            str(self.folder / "data"),
        ]
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        text.unlink()
        self.start()
        made_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return made_s + processor_s(self.process.pid)


def _openmetrics(made: Month, rows: Rows, file: Path) -> None:
    chosen = np.flatnonzero(rows)
    kinds = np.array([name.endswith(".kwh") for name in made.names])
    with file.open("w") as out:
        for is_register in (True, False):
            own = chosen[kinds[made.point[chosen]] == is_register]
            kind = "kwh" if is_register else "kw"
            out.write(f"# TYPE {kind} gauge\n")
            for number in np.unique(made.point[own]).tolist():
                labels = _labels(made.names[number])
                head = f'{kind}{{point="{labels["point"]}",role="{labels["role"]}"}}'
                some = own[made.point[own] == number]
                pairs = zip(made.value[some].tolist(), (made.at_us[some] // 1_000_000).tolist(), strict=True)
                out.writelines(f"{head} {value} {at}\n" for value, at in pairs)
        out.write("# EOF\n")


# -- InfluxQL ----------------------------------------------------------------------------------------


class InfluxDb(Server):
    """Version 1 of Debian; energy by `non_negative_difference`, as its documents say for counters."""

    name, program, package = "InfluxDB", "influxd", "influxdb"

    def command(self) -> list[str]:
        backup = free_port()
        (self.folder / "influxdb.conf").write_text(
            f'reporting-disabled = true\nbind-address = "127.0.0.1:{backup}"\n'
            f'[meta]\n  dir = "{self.folder}/data/meta"\n'
            f'[data]\n  dir = "{self.folder}/data/data"\n  wal-dir = "{self.folder}/data/wal"\n'
            f'[http]\n  bind-address = "127.0.0.1:{self.port}"\n  log-enabled = false\n'
            "[monitor]\n  store-enabled = false\n"
        )
        return [self.program, "-config", str(self.folder / "influxdb.conf")]

    def start(self) -> None:
        super().start()
        self.http.post("/query", params={"q": "CREATE DATABASE m"}).raise_for_status()

    def load(self, rows: Rows) -> float:
        blocks = list(_line_protocol(self.made, rows))

        def send() -> None:
            for block in blocks:
                asked = {"db": "m", "precision": "s"}
                self.http.post("/write", params=asked, content=block).raise_for_status()

        return self.used(send)

    def query(self, text: str) -> list[Any]:
        answer = (
            self.http.get("/query", params={"db": "m", "q": text, "epoch": "s"}).raise_for_status().json()
        )
        series: list[Any] = answer["results"][0].get("series", [])
        return series

    def _energy(self, start_s: float, by: str) -> str:
        end_s = int(self.end.timestamp())
        steps = "SELECT NON_NEGATIVE_DIFFERENCE(value) AS d FROM kwh"
        span = f"time >= {int(start_s)}s AND time <= {end_s}s"
        return f"SELECT SUM(d) FROM ({steps} WHERE {span} GROUP BY point, role) WHERE {span} GROUP BY {by}"

    def ask(self, question: str) -> Any:
        first_s = START.timestamp()
        text = {
            "PUE of 24 h": self._energy(self.end.timestamp() - 86_400, "role"),
            "PUE of the month": self._energy(first_s, "role"),
            "PUE by day": self._energy(first_s, "time(1d, 16h), role"),
            "energy by class": self._energy(first_s, "role"),
            "power now by point": "SELECT LAST(value) FROM kw GROUP BY point",
        }[question]
        return self.query(text)

    def energies_kwh(self) -> tuple[float, float]:
        found = {one["tags"]["role"]: one["values"][0][1] for one in self.ask("PUE of the month")}
        return float(found["facility"]), float(found["it_pdu_output"])


def _line_protocol(made: Month, rows: Rows) -> Iterator[str]:
    heads = []
    for name in made.names:
        labels = _labels(name)
        heads.append(f"{labels['__name__']},point={name},role={labels['role']} value=")
    for some in _batches(rows):
        columns = (made.point[some], made.value[some], made.at_us[some] // 1_000_000)
        triples = zip(*(column.tolist() for column in columns), strict=True)
        yield "\n".join(f"{heads[point]}{value} {at}" for point, value, at in triples)


# -- SQL ---------------------------------------------------------------------------------------------


class PlainPostgres(Peer):
    """A table with one index in the embedded PostgreSQL; energy by `lag`, falls left out."""

    name, program, package = "PostgreSQL", "", ""

    def start(self) -> None:
        self.engine = self.stack.enter_context(opened(self.stack.enter_context(durable_server())))
        points = [{"id": n, "name": name, **_labels(name)} for n, name in enumerate(self.made.names)]
        with begin(self.engine) as connection:
            connection.exec_driver_sql("CREATE SCHEMA plain")
            connection.exec_driver_sql(
                "CREATE TABLE plain.points (id int PRIMARY KEY, name text, kind text, role text)"
            )
            connection.exec_driver_sql(
                "CREATE TABLE plain.readings"
                " (point int, at timestamptz, value float8, PRIMARY KEY (point, at))"
            )
            insert = sa.text("INSERT INTO plain.points VALUES (:id, :name, :__name__, :role)")
            connection.execute(insert, points)

    def load(self, rows: Rows) -> float:
        blocks = list(_csv_blocks(self.made, rows))
        before = _below_s()
        copy = "COPY plain.readings FROM STDIN (FORMAT CSV)"
        with (
            begin(self.engine) as connection,
            driver(connection).cursor() as cursor,
            cursor.copy(copy) as stream,
        ):
            for block in blocks:
                stream.write(block)
        return _below_s() - before

    def query(self, text: str, **values: object) -> Any:
        with connect(self.engine) as connection:
            return connection.execute(sa.text(text), values).all()

    def _energy(self, days: int, by: str) -> Any:
        first = START if not days else self.end - timedelta(days=days)
        text = f"""
            SELECT {by}, sum(d) FILTER (WHERE d >= 0) FROM (
                SELECT role, at, value - lag(value) OVER (PARTITION BY point ORDER BY at) AS d
                FROM plain.readings JOIN plain.points ON points.id = point
                WHERE kind = 'kwh' AND at >= :start AND at <= :end
            ) steps GROUP BY {by}
        """
        return self.query(text, start=first, end=self.end)

    def ask(self, question: str) -> Any:
        if question == "power now by point":
            return self.query(
                "SELECT name, last.* FROM plain.points p, LATERAL (SELECT at, value FROM plain.readings"
                " WHERE point = p.id ORDER BY at DESC LIMIT 1) last WHERE kind = 'kw'"
            )
        if question == "PUE by day":
            return self._energy(0, "role, date_trunc('day', at, 'Asia/Shanghai')")
        return self._energy(1 if question == "PUE of 24 h" else 0, "role")

    def energies_kwh(self) -> tuple[float, float]:
        found = dict(tuple(row) for row in self._energy(0, "role"))
        return found["facility"], found["it_pdu_output"]

    def size_bytes(self) -> int:
        text = "SELECT pg_total_relation_size('plain.readings')"
        return int(self.query(text)[0][0])


def _below_s() -> float:
    return sum(map(processor_s, below(os.getpid())))


def _csv_blocks(made: Month, rows: Rows) -> Iterator[str]:
    for some in _batches(rows):
        at = np.datetime_as_string(made.at_us[some].view("datetime64[us]"), unit="s").tolist()
        triples = zip(made.point[some].tolist(), at, made.value[some].tolist(), strict=True)
        yield "".join(f"{point},{a}Z,{value}\n" for point, a, value in triples)


# -- ours --------------------------------------------------------------------------------------------


class Wattline(Peer):
    """A CSV file, imported until figures and findings stand; asked over HTTP."""

    name, program, package = "Wattline", "", ""

    def start(self) -> None:
        self.engine = self.stack.enter_context(opened(self.stack.enter_context(durable_server())))
        with begin(self.engine) as connection:
            sites.sync(connection, config.parse(month.site_file()).fleet)
        with connect(self.engine) as connection:
            self.stored = sites.load(connection)
        app = create_app(self.engine, clock=lambda: self.end + timedelta(minutes=3))
        base = self.stack.enter_context(served(app))
        self.http = self.stack.enter_context(httpx.Client(base_url=f"{base}/api/v1/sites/s", timeout=300))

    def load(self, rows: Rows) -> float:
        file = self.folder / "month.csv"
        month.write_csv(file, self.made, rows)
        before = time.process_time() + _below_s()
        imports.import_file(self.engine, self.stored, self.stored.fleet.site["s"], file, by=Actor("bench"))
        imports.settle(self.engine)
        return time.process_time() + _below_s() - before

    def declare(self) -> None:
        """Write the fitter's notes into the ledger."""
        with begin(self.engine) as connection:
            for one in self.made.replacements:
                at = from_us(one.at_us)
                events.add(
                    connection,
                    site_id=self.stored.site_id["s"],
                    meter_id=self.stored.meter_id[one.meter],
                    point_ids=[self.stored.point_id[f"{one.meter}.kwh"]],
                    event=Event(EventKind.REPLACED, one.at_us, one.at_us, one.old_kwh, one.new_kwh, None),
                    start=at,
                    end=at,
                    author="bench",
                    note="as the fitter wrote down",
                )
        imports.settle(self.engine)

    def ask(self, question: str) -> Any:
        whole = {"start": START.isoformat(), "end": self.end.isoformat()}
        day = {"start": (self.end - timedelta(days=1)).isoformat(), "end": self.end.isoformat()}
        path, asked = {
            "PUE of 24 h": ("/pue", day),
            "PUE of the month": ("/pue", whole),
            "PUE by day": ("/pue/series", {**whole, "step": "1d"}),
            "energy by class": ("/energy", {**whole, "by": "load_class"}),
            "power now by point": ("/power", {}),
        }[question]
        return self.http.get(path, params=asked).raise_for_status().json()

    def energies_kwh(self) -> tuple[float, float]:
        found = self.ask("PUE of the month")
        return found["facility_kwh"], found["it_kwh"]

    def size_bytes(self) -> int:
        with connect(self.engine) as connection:
            return int(
                connection.execute(sa.text("SELECT pg_database_size(current_database())")).scalar_one()
            )


# -- the table ---------------------------------------------------------------------------------------

PEERS: tuple[type[Peer], ...] = (Wattline, PlainPostgres, VictoriaMetrics, Prometheus, InfluxDb)


class _Result:
    """What was measured of one program."""

    def __init__(self, kind: type[Peer], made: Month, slow: float) -> None:
        with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
            folder = Path(name)
            folder.chmod(0o711)
            peer = kind(folder, stack, made)
            count, late = len(made.point), int(made.is_late.sum())
            self.loaded_s = peer.load(~made.is_late) / slow * 1e6 / (count - late)
            self.late_s = peer.load(made.is_late) / slow * 1e6 / late
            self.asked_ms = {question: _median_ms(peer, question) for question in QUESTIONS}
            self.errors = [_errors(peer, made)]
            if isinstance(peer, Wattline):
                peer.declare()
                self.errors.append(_errors(peer, made))
            self.bytes = peer.size_bytes() / count


def _median_ms(peer: Peer, question: str) -> float:
    times: list[float] = []
    while len(times) < _RUNS and sum(times) < _LONG_S:
        began = time.perf_counter()
        if not peer.ask(question):
            raise RuntimeError(f"{peer.name} does not answer: {question}")
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def _errors(peer: Peer, made: Month) -> tuple[float, float]:
    """Of the month's IT energy and of its PUE. [%]"""
    facility_kwh, it_kwh = peer.energies_kwh()
    true_kwh = made.of_role("it_pdu_output")
    return 100 * (it_kwh / true_kwh - 1), 100 * (facility_kwh / it_kwh / made.pue - 1)


def run() -> list[Row]:
    """All rows of this bench."""
    made, slow = month.generate(MINUTES), slowness()
    results: dict[str, _Result] = {}
    for kind in PEERS:
        if kind.program and not shutil.which(kind.program):
            print(f"{kind.name} is not installed: apt-get install {kind.package}", flush=True)
            continue
        results[kind.name] = _Result(kind, made, slow)
        print(f"{kind.name}: {vars(results[kind.name])}", flush=True)
    return list(_rows(results))


def _rows(results: Mapping[str, _Result]) -> Iterator[Row]:
    ours = results["Wattline"]
    for name in [n for n in results if n != "Wattline"]:
        peer = results[name]
        yield _row(
            "processor until it can be asked",
            "s a million",
            ours.loaded_s,
            name,
            peer.loaded_s,
            "ours with figures and findings",
        )
        yield _row("1 % late", "s a million late ones", ours.late_s, name, peer.late_s)
        yield _row("on disk", "B a reading", ours.bytes, name, peer.bytes, "ours with figures")
        for question in QUESTIONS:
            yield _row(question, "ms", ours.asked_ms[question], name, peer.asked_ms[question])
        for n, what in enumerate(("IT energy of the month", "PUE of the month")):
            found = f"{ours.errors[0][n]:+.3f} %, {ours.errors[1][n]:+.3f} % with the replacements declared"
            yield Row(f"error of the {what}", found, f"{name} {peer.errors[0][n]:+.3f} %", None, "")


def _row(what: str, unit: str, ours: float, name: str, peer: float, note: str = "") -> Row:
    return Row(what, f"{ours:,.1f} {unit}", f"{name} {peer:,.1f}", ours / peer if peer else None, "", note)
