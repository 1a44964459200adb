"""EPW weather files (EnergyPlus): eight header lines, then a line an hour of local standard time.

Dry bulb and relative humidity are taken, under the names of their roles. A typical year is made of months of
several years; every value keeps the year that its line states, so that it is the weather of no other day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from pathlib import Path

from app.domain.quantity import Role
from app.errors import FileNotUnderstood
from collectors.csv.source import open_source

Lines = Iterator[tuple[int, bytes]]
Refused = Callable[[str, int], FileNotUnderstood]

_HEADER_LINES = 8
_ZONE_CELL = 8
_DRY_BULB_CELL, _HUMIDITY_CELL = 6, 8
_MISSING_DRY_BULB_C, _MISSING_HUMIDITY_PERCENT = 99.9, 999.0


def is_epw(head: bytes) -> bool:
    """Whether the file begins like an EPW file."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:9].upper()
    return start == b"LOCATION," and b"DATA PERIODS" in head.upper()


def rows(lines: Lines, refused: Refused) -> Iterator[tuple[int, list[str]]]:
    """Rows of time (with its offset), role, value and unit.

    Raises
    ------
    FileNotUnderstood
        If a header line or a time is not that of an EPW file.
    """
    header = list(islice(lines, _HEADER_LINES))
    zone = _zone(header, refused)
    for line, data in lines:
        cells = [c.strip() for c in data.decode("utf-8", "replace").split(",")]
        if len(cells) <= _HUMIDITY_CELL:
            if any(cells):
                raise refused("a line of an EPW file has 35 values, this one has fewer", line)
            continue
        at = _end_of(cells, zone, line, refused)
        dry, humidity = cells[_DRY_BULB_CELL], cells[_HUMIDITY_CELL]
        yield line, [at, Role.OUTDOOR_DRY_BULB.value, _known(dry, _MISSING_DRY_BULB_C), "C"]
        humidity = _known(humidity, _MISSING_HUMIDITY_PERCENT)
        yield line, [at, Role.OUTDOOR_RELATIVE_HUMIDITY.value, humidity, "%"]


def _zone(header: list[tuple[int, bytes]], refused: Refused) -> timezone:
    cells = header[0][1].decode("utf-8", "replace").split(",") if header else []
    try:
        return timezone(timedelta(hours=float(cells[_ZONE_CELL])))
    except (IndexError, ValueError):
        problem = "the ninth value of LOCATION is no difference from UTC in hours, such as 8.0"
        raise refused(problem, 1) from None


def _end_of(cells: list[str], zone: timezone, line: int, refused: Refused) -> str:
    """The end of the interval that a line stands for: hour 1 ends at 01:00, hour 24 at midnight."""
    try:
        year, month, day, hour, minute = (int(float(c)) for c in cells[:5])
        start = datetime(year, month, day, tzinfo=zone) + timedelta(hours=hour - 1)
        return (start + timedelta(minutes=minute or 60)).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        raise refused(f"{','.join(cells[:5])} is no year, month, day, hour, minute", line) from None


def _known(text: str, missing: float) -> str:
    try:
        return "" if float(text) >= missing else text
    except ValueError:
        return text


def years(path: Path) -> list[int]:
    """Years of the lines, in order."""
    with open_source(path) as source:
        text = source.read(64 << 20)
    found = {line.split(b",", 1)[0].strip() for line in text.splitlines()[_HEADER_LINES:]}
    return sorted(int(year) for year in found if year.isdigit())
