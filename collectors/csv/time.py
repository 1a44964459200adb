"""Times as exports write them: one format, a whole column at once.

A format is a text with strptime directives (``%Y %y %m %d %b %H %I %p %M %S %f %z %Z``) that forgives
missing leading zeros, or one of ``epoch_s`` (``_ms``, ``_us``, ``_ns``), ``excel``. Whole columns are
parsed at once: the digits of all cells are cut into fields with NumPy; cells that are not plain digits
and separators are parsed one by one, each distinct text once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
NO_OFFSET = np.iinfo(np.int64).min
"""Marks a time whose text names no offset from UTC."""

_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: i for i, name in enumerate(_MONTH_NAMES, 1)}
_AFTERNOON = {"pm": True, "下午": True, "am": False, "上午": False}
_DIRECTIVES = {
    "Y": r"(?P<Y>\d{4})",
    "y": r"(?P<y>\d{2})",
    "m": r"(?P<m>\d{1,2})",
    "d": r"(?P<d>\d{1,2})",
    "b": r"(?P<b>[A-Za-z]{3,9})\.?",
    "H": r"(?P<H>\d{1,2})",
    "I": r"(?P<I>\d{1,2})",
    "p": r"(?P<p>[AaPp]\.?[Mm]\.?|上午|下午)",
    "M": r"(?P<M>\d{1,2})",
    "S": r"(?P<S>\d{1,2})",
    "f": r"(?P<f>\d{1,9})",
    "z": r"(?P<z>Z|[+-]\d{2}:?\d{2}|[+-]\d{2})",
    "Z": r"(?P<Z>[A-Z]{2,5})",
}
_NUMERIC = set("YymdHIMSf")
EPOCHS_US = {
    "epoch_s": 1_000_000.0,
    "epoch_ms": 1_000.0,
    "epoch_us": 1.0,
    "epoch_ns": 0.001,
    "excel": float(DAY_US),
}
_EXCEL_ZERO_US = -25_569 * DAY_US


class TimeFormat:
    """One way of writing a time, compiled.

    Raises
    ------
    ValueError
        If the text has an unknown directive or names no date.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.parts = tuple(_split_format(text)) if text not in EPOCHS_US else ()
        names = [name for is_directive, name in self.parts if is_directive]
        is_epoch = text in EPOCHS_US
        if not is_epoch and not ({"m", "b"} & set(names) and "d" in names and {"Y", "y"} & set(names)):
            raise ValueError(
                f"time format {text!r} needs year, month and day, or is one of {', '.join(EPOCHS_US)}"
            )
        if "I" in names and "p" not in names:
            raise ValueError(f"time format {text!r}: %I needs %p")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"time format {text!r} has %{twice[0]} twice")
        self.names = names

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """Matches a whole cell; its groups are the directives."""
        return re.compile(
            "".join(_DIRECTIVES[n] if d else re.sub(r"(\\ )+", r"\\s+", re.escape(n)) for d, n in self.parts)
        )

    @cached_property
    def is_plain(self) -> bool:
        """Whether cells are digits and separators only, no two fields without a separator between."""
        touching = any(a[0] and b[0] for a, b in zip(self.parts, self.parts[1:], strict=False))
        return not touching and all(name in _NUMERIC for name in self.names)


def _split_format(text: str) -> Iterator[tuple[bool, str]]:
    for piece in re.findall(r"%.|[^%]+", text):
        if not piece.startswith("%"):
            yield False, piece
        elif piece == "%b" or piece[1:] in _DIRECTIVES:
            yield True, piece[1:]
        elif piece == "%B":
            yield True, "b"
        else:
            raise ValueError(
                f"{piece} in {text!r} is no known directive; known are %{' %'.join(_DIRECTIVES)}"
            )


@cache
def time_format(text: str) -> TimeFormat:
    """The compiled format; see :class:`TimeFormat`."""
    return TimeFormat(text)


@dataclass(frozen=True, slots=True)
class Times:
    """Parsed cells. ``us`` is local time where ``offset_us`` is NO_OFFSET, else still local, offset known."""

    us: Int64s
    offset_us: Int64s
    ok: Bools

    @classmethod
    def empty(cls, n: int) -> Times:
        """n cells of which none was understood yet."""
        return cls(np.zeros(n, np.int64), np.full(n, NO_OFFSET, np.int64), np.zeros(n, np.bool_))


def parse_times(cells: Any, formats: Sequence[TimeFormat], zone: tzinfo = UTC) -> Times:
    """Cells (an Arrow string array) as times; each must match one of the formats.

    `zone` only explains abbreviations such as PST.
    """
    out = Times.empty(len(cells))
    for fmt in formats:
        rows = np.flatnonzero(~out.ok)
        if not len(rows):
            break
        part = cells if len(rows) == len(cells) else cells.take(pa.array(rows))
        got = _parse_one(part, fmt, zone)
        out.us[rows], out.offset_us[rows], out.ok[rows] = got.us, got.offset_us, got.ok
    return out


def _parse_one(cells: Any, fmt: TimeFormat, zone: tzinfo) -> Times:
    if fmt.text in EPOCHS_US:
        return _parse_epoch(cells, fmt.text)
    got = _parse_plain(cells, fmt) if fmt.is_plain else Times.empty(len(cells))
    rest = np.flatnonzero(~got.ok)
    if len(rest):
        careful = _parse_distinct(cells.take(pa.array(rest)), fmt, zone)
        got.us[rest], got.offset_us[rest], got.ok[rest] = careful.us, careful.offset_us, careful.ok
    return got


def _parse_epoch(cells: Any, name: str) -> Times:
    trimmed = pc.replace_substring(pc.utf8_trim_whitespace(cells), ",", ".")
    good = pc.match_substring_regex(trimmed, r"^\d{1,20}(\.\d+)?$")
    numbers = pc.cast(pc.if_else(good, trimmed, "0"), pa.float64()).to_numpy(zero_copy_only=False)
    us = numbers * EPOCHS_US[name] + (_EXCEL_ZERO_US if name == "excel" else 0)
    ok = good.to_numpy(zero_copy_only=False) & (us < 2.5e17)
    step_us = _step_us(trimmed) if name == "excel" else np.full(len(cells), 1000)
    local = np.round(np.where(ok, us, 0) / step_us).astype(np.int64) * step_us
    offset = np.full(len(cells), NO_OFFSET if name == "excel" else 0, np.int64)
    return Times(local, offset, ok)


def _step_us(days: Any) -> Int64s:
    """What the decimals of a day number can resolve: a minute, a second or a millisecond. [us]"""
    decimals = pc.utf8_length(pc.replace_substring_regex(days, r"^\d*\.?", ""))
    found: Int64s = np.choose(
        np.digitize(decimals.to_numpy(zero_copy_only=False), [5, 8]), [60 * SECOND_US, SECOND_US, 1000]
    ).astype(np.int64)
    return found


# --- whole columns of digits and separators ------------------------------------------------------


def _parse_plain(cells: Any, fmt: TimeFormat) -> Times:
    """Cells cut into digit fields all at once; cells of another shape are left not ok."""
    out = Times.empty(len(cells))
    fields = _equal_fields(cells, fmt) or _digit_fields(cells, fmt)
    if fields is None:
        return out
    rows, values, lengths = fields
    us, ok = _assemble(dict(zip(fmt.names, values, strict=True)), dict(zip(fmt.names, lengths, strict=True)))
    out.us[rows], out.ok[rows] = us, ok
    return out


_Fields = tuple[Int64s, list[Int64s], list[Int64s]]


def _equal_fields(cells: Any, fmt: TimeFormat) -> _Fields | None:
    """As :func:`_digit_fields`, where every cell has its fields at the places of the first one."""
    data, ends = _bytes_of(cells)
    n = len(ends)
    width = int(ends[0]) if n else 0
    if not width or not np.array_equal(ends, np.arange(1, n + 1) * width):
        return None
    table = data.reshape(n, width)
    match = fmt.regex.fullmatch(table[0].tobytes().decode("utf-8", "replace"))
    if not match or not match.string.isascii():
        return None
    spans = [match.span(name) for name in fmt.names]
    inside = {i for begin, end in spans for i in range(begin, end)}
    if not all((table[:, i] == table[0, i]).all() for i in range(width) if i not in inside):
        return None
    values = []
    for begin, end in spans:
        digits = table[:, begin:end] - np.uint8(48)
        if (digits > 9).any():
            return None
        values.append(digits @ 10 ** np.arange(end - begin - 1, -1, -1, dtype=np.int64))
    return np.arange(n), values, [np.full(n, end - begin, np.int64) for begin, end in spans]


def _digit_fields(cells: Any, fmt: TimeFormat) -> _Fields | None:
    """(rows, value of each field, digits of each field) for the cells of exactly the format's shape."""
    data, ends = _bytes_of(cells)
    if not len(data):
        return None
    starts = np.concatenate(([0], ends[:-1]))
    digit = (data - np.uint8(48)) < 10
    before = np.concatenate(([False], digit[:-1]))
    before[starts[starts < len(data)]] = False
    after = np.concatenate((digit[1:], [False]))
    after[ends[ends > 0] - 1] = False
    run_start, run_end = np.flatnonzero(digit & ~before), np.flatnonzero(digit & ~after) + 1
    k = len(fmt.names)
    counts = np.searchsorted(run_start, ends) - np.searchsorted(run_start, starts)
    rows = np.flatnonzero(counts == k)
    if not len(rows):
        return None
    first = np.searchsorted(run_start, starts[rows])
    begin = run_start[first[:, None] + np.arange(k)]
    end = run_end[first[:, None] + np.arange(k)]
    good = _separators_fit(data, fmt, starts[rows], begin, end, ends[rows])
    values = [_number(data, begin[:, i], end[:, i] - begin[:, i]) for i in range(k)]
    lengths = [end[:, i] - begin[:, i] for i in range(k)]
    return rows[good], [v[good] for v in values], [n[good] for n in lengths]


def _bytes_of(cells: Any) -> tuple[npt.NDArray[np.uint8], Int64s]:
    """The UTF-8 bytes of all cells after each other, and where each ends."""
    if cells.null_count:
        cells = cells.fill_null("")
    _, offsets, data = cells.buffers()
    edges = np.frombuffer(offsets, np.int32)[cells.offset : cells.offset + len(cells) + 1].astype(np.int64)
    if data is None or not len(cells):
        return np.empty(0, np.uint8), np.empty(0, np.int64)
    return np.frombuffer(data, np.uint8)[edges[0] : edges[-1]], edges[1:] - edges[0]


def _separators_fit(
    data: npt.NDArray[np.uint8],
    fmt: TimeFormat,
    cell_start: Int64s,
    begin: Int64s,
    end: Int64s,
    cell_end: Int64s,
) -> Bools:
    good: Bools = np.ones(len(begin), np.bool_)
    at, i = cell_start, 0
    for is_directive, text in fmt.parts:
        if is_directive:
            good &= begin[:, i] == at
            at, i = end[:, i], i + 1
            continue
        for byte in text.encode():
            good &= (at < cell_end) & (data[np.minimum(at, len(data) - 1)] == byte)
            at = at + 1
    good &= at == cell_end
    return good


def _number(data: npt.NDArray[np.uint8], begin: Int64s, length: Int64s) -> Int64s:
    value: Int64s = np.zeros(len(begin), np.int64)
    for j in range(min(int(length.max(initial=0)), 9)):
        here = data[np.minimum(begin + j, len(data) - 1)].astype(np.int64) - 48
        value = np.where(j < length, value * 10 + here, value)
    return value


_FIELD_DIGITS = {"Y": (4, 4), "y": (2, 2), "f": (1, 9)}
_MONTH_DAYS = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def _assemble(v: dict[str, Int64s], digits: dict[str, Int64s]) -> tuple[Int64s, Bools]:
    n = len(next(iter(v.values())))
    ok = np.ones(n, np.bool_)
    for name, length in digits.items():
        low, high = _FIELD_DIGITS.get(name, (1, 2))
        ok &= (length >= low) & (length <= high)
    zero = np.zeros(n, np.int64)
    year = v["Y"] if "Y" in v else np.where(v["y"] < 70, v["y"] + 2000, v["y"] + 1900)
    month, day, hour = v["m"], v["d"], v.get("H", zero)
    minute, second = v.get("M", zero), v.get("S", zero)
    ok &= _is_date(year, month, day)
    ok &= (hour < 24) | ((hour == 24) & (minute == 0) & (second == 0))
    ok &= (minute < 60) & (second < 60)
    fraction = (
        v["f"] * 10 ** np.maximum(6 - digits["f"], 0) // 10 ** np.maximum(digits["f"] - 6, 0)
        if "f" in v
        else zero
    )
    days = days_from_civil(year, np.clip(month, 1, 12), day)
    return ((days * 24 + hour) * 60 + minute) * 60 * SECOND_US + second * SECOND_US + fraction, ok


def _is_date(year: Int64s, month: Int64s, day: Int64s) -> Bools:
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    month_ok = (month >= 1) & (month <= 12)
    last = _MONTH_DAYS[np.where(month_ok, month, 0)] - ((month == 2) & ~leap)
    fits: Bools = month_ok & (day >= 1) & (day <= last)
    return fits


def days_from_civil(year: Int64s, month: Int64s, day: Int64s) -> Int64s:
    """Days since 1970-01-01 of Gregorian dates."""
    y = year - (month <= 2)
    era = y // 400
    of_era = y - era * 400
    of_year = (153 * (month + np.where(month > 2, -3, 9)) + 2) // 5 + day - 1
    days: Int64s = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
    return days


# --- one distinct text at a time -----------------------------------------------------------------


def _parse_distinct(cells: Any, fmt: TimeFormat, zone: tzinfo) -> Times:
    coded = cells.dictionary_encode()
    got = _parse_utc(coded.dictionary, fmt) or _parse_texts(coded.dictionary.to_pylist(), fmt, zone)
    codes = coded.indices.to_numpy(zero_copy_only=False)
    return Times(got.us[codes], got.offset_us[codes], got.ok[codes])


def _parse_utc(cells: Any, fmt: TimeFormat) -> Times | None:
    """Cells that are digits, separators and a Z at the end, cut into fields at once; None if any is not."""
    if fmt.names[-1:] != ["z"] or not fmt.text.endswith("%z"):
        return None
    plain = time_format(fmt.text.removesuffix("%z"))
    if not plain.is_plain or not pc.all(pc.ends_with(cells, "Z"), min_count=0).as_py():
        return None
    got = _parse_plain(pc.utf8_slice_codeunits(cells, 0, -1), plain)
    return Times(got.us, np.zeros(len(cells), np.int64), got.ok) if got.ok.all() else None


@lru_cache(maxsize=1 << 14)
def parse_text(text: str, fmt: TimeFormat, zone: tzinfo = UTC) -> tuple[int, int | None] | None:
    """(local microseconds, offset in microseconds or None) of one cell, or None if it does not fit."""
    if fmt.text in EPOCHS_US:
        got = _parse_epoch(pa.array([text]), fmt.text)
    else:
        got = _parse_texts([text], fmt, zone)
    if not got.ok[0]:
        return None
    return int(got.us[0]), None if got.offset_us[0] == NO_OFFSET else int(got.offset_us[0])


def _parse_texts(texts: Sequence[str], fmt: TimeFormat, zone: tzinfo) -> Times:
    out = Times.empty(len(texts))
    found = [(i, m) for i, m in enumerate(map(fmt.regex.fullmatch, map(str.strip, texts))) if m]
    if not found:
        return out
    groups = {name: [m[name] for _, m in found] for name in fmt.names}
    numbers = {n: np.array([int(g) for g in groups[n]], np.int64) for n in fmt.names if n in _NUMERIC}
    digits = {n: np.array([len(g) for g in groups[n]], np.int64) for n in numbers}
    named = _named_fields(groups, numbers)
    us, ok = _assemble({k: v for k, v in (numbers | named).items() if k != "I"}, digits)
    offset_us = [_offset_us(groups, k, t, zone) for k, t in enumerate(us.tolist())]
    rows = [i for i, _ in found]
    out.us[rows], out.ok[rows] = us, ok & np.array([o is not None for o in offset_us])
    out.offset_us[rows] = [NO_OFFSET if o is None else o for o in offset_us]
    return out


_FARTHEST_OFFSET_US = 15 * 3600 * SECOND_US
_NO_SUCH = 99
"""Month or hour that no date has: the text was no month, or no hour of a 12-hour clock."""


def _named_fields(groups: dict[str, list[str]], numbers: dict[str, Int64s]) -> dict[str, Int64s]:
    """Month names and 12-hour clocks as numbers."""
    found = {}
    if "b" in groups:
        months = [_MONTHS.get(text[:3].lower(), _NO_SUCH) for text in groups["b"]]
        found["m"] = np.array(months, np.int64)
    if "I" in groups:
        is_pm = np.array([_AFTERNOON[text.lower().replace(".", "")] for text in groups["p"]])
        hour = numbers["I"]
        found["H"] = np.where(hour <= 12, hour % 12 + 12 * is_pm, _NO_SUCH)
    return found


def _offset_us(groups: dict[str, list[str]], k: int, local_us: int, zone: tzinfo) -> int | None:
    """Offset that text k names in microseconds; NO_OFFSET if it names none, None if it is not understood."""
    if "z" in groups:
        offset_us = _numeric_offset_us(groups["z"][k])
        return offset_us if abs(offset_us) <= _FARTHEST_OFFSET_US else None
    if "Z" not in groups:
        return NO_OFFSET
    name = groups["Z"][k]
    if name in ("UTC", "GMT", "Z"):
        return 0
    for fold in (0, 1):
        moment = (datetime(1970, 1, 1) + timedelta(microseconds=local_us)).replace(tzinfo=zone, fold=fold)  # noqa: DTZ001
        if moment.tzname() == name:
            return (moment.utcoffset() or timedelta()) // timedelta(microseconds=1)
    return None


def _numeric_offset_us(text: str) -> int:
    if text == "Z":
        return 0
    sign = -1 if text[0] == "-" else 1
    digits = text[1:].replace(":", "").ljust(4, "0")
    return sign * (int(digits[:2]) * 3600 + int(digits[2:]) * 60) * SECOND_US
