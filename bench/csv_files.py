"""Files as people have them: a workbook beside the CSV of its rows, three years of GB 18030 exports.

Processor time of this process and of those it starts, the database server apart: a shared machine's clock
tells little. The limit of the export files holds on a machine on which ``sum(range(30_000_000))`` takes
0.85 s; the figure is scaled to it.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import xlsxwriter

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Fleet, Institution, InstitutionClass, Meter, Point, Site
from app.jobs.dry_run import Seen, dry_run
from app.jobs.imports import import_file
from app.store import sites
from app.store.audit import Actor
from app.store.engine import begin, make_engine
from bench.ingest import durable_server
from bench.table import Row

TITLE = "Export files"

_ROWS, _COLUMNS = 100_000, 10
_FILES, _POINTS = 36, 10
_START = datetime(2023, 1, 1)  # noqa: DTZ001 - local time of the exports
_TEXT_START, _BOOK_START = datetime(2015, 1, 1), datetime(2019, 1, 1)  # noqa: DTZ001
_QUARTER = timedelta(minutes=15)
_REFERENCE_S = 0.85


def run() -> list[Row]:
    """Measure reading, and reading and storing."""
    with tempfile.TemporaryDirectory() as folder, durable_server() as url:
        engine = make_engine(url)
        with begin(engine) as connection:
            sites.sync(connection, _fleet())
            stored = sites.load(connection)
        site = stored.fleet.site["bench"]
        text, book = Path(folder) / "a.csv", Path(folder) / "a.xlsx"
        _write_text(text)
        _write_book(book)
        read_csv_s = _cpu_s(lambda: dry_run(text, site, seen=Seen()))
        read_xlsx_s = _cpu_s(lambda: dry_run(book, site, seen=Seen()))
        files = list(_write_exports(Path(folder)))
        slow = _slowness()

        def store(*files: Path) -> float:
            return _cpu_s(lambda: [import_file(engine, stored, site, f, by=Actor("bench")) for f in files])

        csv_s, xlsx_s, files_s = store(text), store(book), store(*files)
        engine.dispose()
    return [
        Row(
            "XLSX, 1 M cells, read and stored",
            f"{xlsx_s:.2f} s",
            f"CSV {csv_s:.2f} s",
            xlsx_s / csv_s,
            "<= 3",
            f"read only: {read_xlsx_s:.2f} s, CSV {read_csv_s:.2f} s",
        ),
        Row(
            f"{_FILES} files, 1.05 M GB 18030 rows, read and stored",
            f"{files_s:.1f} s",
            "",
            None,
            "<= 25 s",
            f"{files_s * slow:.1f} s on the slow reference machine",
        ),
    ]


def _fleet() -> Fleet:
    points = [f"p{n}" for n in range(1, _POINTS + 1)]
    meters = tuple(
        Meter(id=f"m-{p}", points=(Point(id=p, role=Role.NONE, kind=ReadingKind.REGISTER),)) for p in points
    )
    bank = Institution(id="bank", institution_class=InstitutionClass.OTHER)
    site = Site(id="bench", institution="bank", time_zone="Asia/Shanghai", meters=meters)
    return Fleet(institutions=(bank,), sites=(site,))


def _cpu_s(work: Callable[[], object]) -> float:
    """Processor time of this process and of its children that ended. [s]"""
    begin_s = time.process_time() + _children_s()
    work()
    return time.process_time() + _children_s() - begin_s


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _slowness() -> float:
    """How much slower the reference machine is."""
    return _REFERENCE_S / _cpu_s(lambda: sum(range(30_000_000)))


def _numbers(row: int) -> list[float]:
    return [round(1000 * j + row * 1.3 + (row * j) % 7 / 10, 2) for j in range(1, _COLUMNS)]


def _write_text(file: Path) -> None:
    with file.open("w", encoding="utf-8") as out:
        out.write(f"time,{','.join(f'p{j}' for j in range(1, _COLUMNS))}\n")
        for row in range(_ROWS):
            out.write(f"{_TEXT_START + row * _QUARTER},{','.join(map(str, _numbers(row)))}\n")


def _write_book(file: Path) -> None:
    with xlsxwriter.Workbook(
        file, {"constant_memory": True, "default_date_format": "yyyy-mm-dd hh:mm"}
    ) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["time", *(f"p{j}" for j in range(1, _COLUMNS))])
        for row in range(_ROWS):
            sheet.write_datetime(row + 1, 0, _BOOK_START + row * _QUARTER)
            for j, value in enumerate(_numbers(row), 1):
                sheet.write_number(row + 1, j, value)


def _write_exports(folder: Path) -> Iterator[Path]:
    """A file a month, a reading a row."""
    number, at = 0, _START
    for month in range(_FILES):
        file = folder / f"{month:02}.csv"
        begin = at
        with file.open("w", encoding="gb18030") as out:
            out.write("时间,测点名称,数值,单位\n")
            while (at.year, at.month) == (begin.year, begin.month):
                for p in range(1, _POINTS + 1):
                    out.write(f"{at:%Y/%m/%d %H:%M:%S},p{p},{1000 * p + number * 0.25:.2f},千瓦时\n")
                number, at = number + 1, at + _QUARTER
        yield file
