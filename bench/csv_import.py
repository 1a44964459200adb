"""Import of a CSV file, checked row by row, against PostgreSQL's own COPY of the same readings.

The memory figure compares imports of 10 MB and of ``WATTLINE_BENCH_CSV_MB`` (default 100; the
project's figure is 1000, which takes minutes).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from app.domain.quantity import ReadingKind, Role
from app.domain.reading import ReadingColumns
from app.domain.site import Fleet, Institution, InstitutionClass, Meter, Point, Site
from app.jobs.imports import RejectsFile, import_file
from app.store import sites
from app.store.audit import Actor
from app.store.engine import begin, make_engine
from bench.ingest import copy_csv, durable_server, emptied, rate
from bench.series import register_series
from bench.table import Row

TITLE = "CSV import"

_RUNS = 3
_POINTS, _INTERVAL_S = 50, 60
_BAD_EVERY = 1000
_LARGE_MB = int(os.environ.get("WATTLINE_BENCH_CSV_MB", "100"))
_BYTES_PER_ROW = 33


def fleet() -> Fleet:
    """One site with the bench's registers."""
    meters = tuple(
        Meter(
            id=f"m{n}", points=(Point(id=f"p{n}", role=Role.NONE, kind=ReadingKind.REGISTER, interval_s=60),)
        )
        for n in range(1, _POINTS + 1)
    )
    bank = Institution(id="bank", institution_class=InstitutionClass.OTHER)
    site = Site(id="bench", institution="bank", time_zone="UTC", meters=meters)
    return Fleet(institutions=(bank,), sites=(site,))


def run() -> list[Row]:
    """Measure on an embedded server with full durability."""
    columns = register_series(_POINTS, 4, _INTERVAL_S)
    with durable_server() as url, tempfile.TemporaryDirectory() as folder:
        engine = make_engine(url)
        with begin(engine) as connection:
            sites.sync(connection, fleet())
        ours, theirs = Path(folder) / "export.csv", Path(folder) / "copy.csv"
        write_export(ours, columns)
        write_copy(theirs, columns)
        import_s, copy_s = _medians(engine, columns, ours, theirs)
        small, large = (_peak_mb(engine, url, Path(folder), megabytes) for megabytes in (10, _LARGE_MB))
        engine.dispose()
    count = len(columns)
    return [
        Row(
            "validation, rejects and storage",
            rate(count, import_s),
            f"`\\copy` {rate(count, copy_s)}",
            copy_s / import_s,
            ">= 0.65",
            f"1 row in {_BAD_EVERY} is refused",
        ),
        Row(
            f"resident memory, {_LARGE_MB} MB",
            f"{large:.0f} MB",
            f"10 MB file: {small:.0f} MB",
            large / small,
            "flat",
        ),
    ]


def _medians(engine: sa.Engine, columns: ReadingColumns, ours: Path, theirs: Path) -> list[float]:
    times: list[list[float]] = [[], []]
    for _ in range(_RUNS):
        emptied(engine, columns)
        times[0].append(_timed(lambda: load(engine, ours)))
        emptied(engine, columns)
        times[1].append(_timed(lambda: copy_csv(engine, theirs)))
    return [statistics.median(one) for one in times]


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def load(engine: sa.Engine, file: Path) -> None:
    """Import one file as ``wattline import`` does, without the rollup."""
    with begin(engine) as connection:
        stored = sites.load(connection)
    with RejectsFile(file.with_suffix(".rejects.csv")) as rejects:
        import_file(engine, stored, stored.fleet.site["bench"], file, by=Actor("bench"), rejects=rejects)


def write_export(file: Path, columns: ReadingColumns) -> None:
    """A long export as a building-management system writes it, with rows that are nonsense."""
    with file.open("w") as out:
        out.write("time,point,value\n")
        for number, (a, p, v) in enumerate(_texts(columns)):
            out.write(f"{a}Z,p{p},{'broken' if number % _BAD_EVERY == 999 else v}\n")


def write_copy(file: Path, columns: ReadingColumns) -> None:
    """The same readings in the table's own layout."""
    with file.open("w") as out:
        out.writelines(f"{a}Z,{p},{v},0,0\n" for a, p, v in _texts(columns))


def _texts(columns: ReadingColumns) -> Iterator[tuple[str, int, float]]:
    """Time, point and value of each reading; a gigabyte of them as Python objects would fill the machine."""
    for start in range(0, len(columns), 100_000):
        some = slice(start, start + 100_000)
        at = np.datetime_as_string(columns.at_us[some].view("datetime64[us]"), unit="s")
        yield from zip(
            at.tolist(), columns.point_id[some].tolist(), columns.value[some].tolist(), strict=True
        )


# -- memory ------------------------------------------------------------------------------------------

_CHILD = """
import sys, pathlib
from app.store.engine import make_engine
from bench.csv_import import load
load(make_engine(sys.argv[1]), pathlib.Path(sys.argv[2]))
status = pathlib.Path("/proc/self/status").read_text()  # ru_maxrss would count the parent's memory
print(status.split("VmHWM:")[1].split()[0])
"""


def _peak_mb(engine: sa.Engine, url: str, folder: Path, megabytes: int) -> float:
    days = megabytes * 1e6 / _BYTES_PER_ROW / _POINTS * _INTERVAL_S / 86_400
    columns = register_series(_POINTS, days, _INTERVAL_S)
    file = folder / f"{megabytes}.csv"
    write_export(file, columns)
    emptied(engine, columns)
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, url, str(file)], check=True, capture_output=True, text=True
    )
    return int(done.stdout) / 1024
