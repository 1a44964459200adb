"""Files made for download: written to disk first, so that a slow reader holds no connection."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from app.actions.view import View
from app.domain.period import Period
from app.domain.reading import ReadingColumns
from app.domain.site import Point
from app.errors import SeriesError
from app.store import readings

COLUMNS = ("point", "at", "value", "unit", "interval_s", "valid_s")
_MEDIA_TYPE = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def safe_text(text: str) -> str:
    """`text` for a cell of CSV or a sheet: one that a spreadsheet would take for a formula is quoted."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def check_size(points: Sequence[Point], period: Period, most: int) -> None:
    """Refuse an export that would be too large, by the interval at which the points are read.

    Raises
    ------
    SeriesError
        With what is allowed.
    """
    expected = sum(period.duration_s / p.interval_s for p in points)
    if expected > most:
        raise SeriesError(
            f"about {expected:.0f} readings are more than the {most} of one export; "
            "ask for a shorter period or fewer points"
        )


def readings_file(
    view: View, points: Sequence[Point], period: Period, kind: str, folder: Path | None
) -> FileResponse:
    """The readings of some points as a file, deleted once it is sent."""
    with tempfile.NamedTemporaryFile(suffix=f".{kind}", dir=folder, delete=False) as file:
        path = Path(file.name)
        try:
            _WRITERS[kind](view, points, period, file)
        except BaseException:
            path.unlink()
            raise
    return FileResponse(
        path,
        media_type=_MEDIA_TYPE[kind],
        filename=f"readings.{kind}",
        background=BackgroundTask(path.unlink, missing_ok=True),
    )


def _write_csv(view: View, points: Sequence[Point], period: Period, file: IO[bytes]) -> None:
    with open(file.name, "w", encoding="utf-8", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        names = {view.stored.point_id[p.id]: (safe_text(p.id), p.quantity.house_unit) for p in points}
        for block in readings.copy_out(view.connection, list(names), period.start, period.end):
            writer.writerows(_csv_rows(block, names))


def _csv_rows(block: ReadingColumns, names: dict[int, tuple[str, str]]) -> list[tuple[object, ...]]:
    columns = (block.point_id, block.at_us, block.value, block.interval_s, block.valid_s)
    return [
        (names[n][0], readings.from_us(us).isoformat(), repr(value), names[n][1], interval_s, valid_s)
        for n, us, value, interval_s, valid_s in zip(*(c.tolist() for c in columns), strict=True)
    ]


def _write_parquet(view: View, points: Sequence[Point], period: Period, file: IO[bytes]) -> None:
    numbers = {view.stored.point_id[p.id]: p for p in points}
    order = {number: i for i, number in enumerate(numbers)}
    text = pa.dictionary(pa.int32(), pa.string())
    kinds = (text, pa.timestamp("us", "UTC"), pa.float64(), text, pa.int32(), pa.int32())
    schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
    ids = pa.array([p.id for p in numbers.values()])
    units = pa.array([p.quantity.house_unit for p in numbers.values()])
    with pq.ParquetWriter(file, schema) as writer:
        for block in readings.copy_out(view.connection, list(numbers), period.start, period.end):
            codes = pa.array([order[n] for n in block.point_id.tolist()], pa.int32())
            arrays = [
                pa.DictionaryArray.from_arrays(codes, ids),
                pa.array(block.at_us).cast(kinds[1]),
                pa.array(block.value),
                pa.DictionaryArray.from_arrays(codes, units),
                pa.array(block.interval_s),
                pa.array(block.valid_s),
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


_WRITERS: dict[str, Callable[[View, Sequence[Point], Period, IO[bytes]], None]] = {
    "csv": _write_csv,
    "parquet": _write_parquet,
}
