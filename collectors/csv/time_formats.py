"""Which formats a column of times is written in, and whether its day or its month comes first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from functools import cache, lru_cache

import numpy as np
import pyarrow as pa

from collectors.csv.time import DAY_US, SECOND_US, parse_text, parse_times, time_format

_DATES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"\d{4}([-/.])\d{1,2}\1\d{1,2}", ("%Y{s}%m{s}%d",)),
    (r"\d{1,2}([-/.])\d{1,2}\1\d{4}", ("%m{s}%d{s}%Y", "%d{s}%m{s}%Y")),
    (r"\d{1,2}([-/.])\d{1,2}\1\d{2}", ("%m{s}%d{s}%y", "%d{s}%m{s}%y", "%y{s}%m{s}%d")),
    (r"\d{1,2}([-/ ])[A-Za-z]{3,9}\1\d{4}", ("%d{s}%b{s}%Y",)),
    (r"\d{1,2}([-/ ])[A-Za-z]{3,9}\1\d{2}", ("%d{s}%b{s}%y",)),
    (r"[A-Za-z]{3,9} \d{1,2}(,) \d{4}", ("%b %d, %Y",)),
    (r"[A-Za-z]{3,9} \d{1,2}( )\d{4}", ("%b %d %Y",)),
    (r"\d{4}()年\d{1,2}月\d{1,2}日", ("%Y年%m月%d日",)),
    (r"(?:19|20)\d{2}()(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d)", ("%Y%m%d",)),
)
_CLOCKS: tuple[tuple[str, str], ...] = (
    (r"\d{1,2}:\d{2}:\d{2}\.\d{1,9}", "%H:%M:%S.%f"),
    (r"\d{1,2}:\d{2}:\d{2},\d{1,9}", "%H:%M:%S,%f"),
    (r"\d{1,2}:\d{2}:\d{2}", "%H:%M:%S"),
    (r"\d{1,2}:\d{2}", "%H:%M"),
    (r"\d{1,2}时\d{1,2}分\d{1,2}秒", "%H时%M分%S秒"),
    (r"\d{1,2}时\d{1,2}分", "%H时%M分"),
    (r"\d{1,2}點\d{1,2}分", "%H點%M分"),
)
_HALVES = r"(?:[AaPp]\.?[Mm]\.?|上午|下午)"
_CLOCK_ONLY = re.compile(rf"(?:{_HALVES}\s*)?(?:{'|'.join(c for c, _ in _CLOCKS)})(?:\s*{_HALVES})?")


@cache
def _date_patterns() -> tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]:
    return tuple((re.compile(regex), formats) for regex, formats in _DATES)


def is_clock(cell: str) -> bool:
    """Whether the cell is a time of day without a date."""
    return bool(_CLOCK_ONLY.fullmatch(cell.strip()))


@lru_cache(maxsize=1 << 14)
def formats_of(cell: str, zone: tzinfo = UTC) -> tuple[str, ...]:
    """Every format this one cell can be read with; several where day and month may be swapped."""
    text = cell.strip()
    for pattern, formats in _date_patterns():
        match = pattern.match(text)
        if match:
            rest = _clock_format(text[match.end() :])
            if rest is None:
                continue
            wanted = (f.replace("{s}", match[1]) + rest for f in formats)
            return tuple(f for f in wanted if parse_text(text, time_format(f), zone) is not None)
    return ()


def _clock_format(text: str) -> str | None:
    """Format of what follows the date; "" for nothing, None if it is no time of day."""
    if not text:
        return ""
    gap = re.match(r"(T|[ ,_]+)(?=\S)", text)
    lead = "" if gap is None else "T" if gap[1] == "T" else gap[1] if gap[1].strip() else " "
    rest = text[gap.end() :] if gap else text
    before = re.match(rf"({_HALVES})(\s*)", rest)
    if before:
        rest = rest[before.end() :]
    for regex, clock in _CLOCKS:
        match = re.match(regex, rest)
        if match and re.fullmatch(r"|\D.*", rest[match.end() :]):
            return _with_suffix(lead, clock, rest[match.end() :], before)
    return None


def _with_suffix(lead: str, clock: str, tail: str, before: re.Match[str] | None) -> str | None:
    if before:
        clock = f"%p{' ' if before[2] else ''}{clock.replace('%H', '%I')}"
    half = re.match(rf"(\s*){_HALVES}(?![A-Za-z])", tail)
    if half:
        clock = clock.replace("%H", "%I") + (" " if half[1] else "") + "%p"
        tail = tail[half.end() :]
    zone = re.fullmatch(r"(\s*)(?:(Z|[+-]\d{2}:?\d{2}|[+-]\d{2})|([A-Z]{3,5}))?", tail)
    if zone is None:
        return None
    gap = " " if zone[1] else ""
    return lead + clock + (f"{gap}%z" if zone[2] else f"{gap}%Z" if zone[3] else "")


@dataclass(frozen=True)
class FormatChoice:
    """Formats that together read a column; `rivals` if another set does so as well."""

    formats: tuple[str, ...]
    rivals: tuple[str, ...] = ()
    reason: str = ""


_CLEAR = 2
"""An order of day, month and year is accepted if so many times more cells need it than need another."""
_ODD_SHARE = 0.05
"""Cells of undecided order that are fewer than this share are odd ones among better times: left out."""

_Votes = Mapping[tuple[str, ...], int]


def choose_formats(cells: Sequence[str], zone: tzinfo = UTC) -> FormatChoice | None:
    """The formats by which most of these cells read; None if one of them is no time.

    Orders of day, month and year are distinguished by the cells that fit only one, by majority: a single
    cell typed the other way round is refused later and does not turn all others. Failing that, by which
    order runs on without a break. If two would do, both are returned.
    """
    votes = Counter(formats_of(cell, zone) for cell in cells)
    if not cells or () in votes:
        return None
    left = _unbeaten(votes)
    found = [_covering(votes, order) for order in left or [""]]
    if len(found) == 1:
        return FormatChoice(found[0])
    open_cells = sum(n for options, n in votes.items() if _orders(options))
    if open_cells < _ODD_SHARE * len(cells):
        return FormatChoice(_covering(votes, ""))
    return _by_continuity(cells, found[0], found[1], zone)


def _order(text: str) -> str:
    """Which of day, month and year comes first in an all-numeric date; "" where it cannot be mistaken."""
    match = re.match(r"%([dmy]).%[dm].%[dyY]", text)
    return match[1] if match else ""


def _orders(options: Sequence[str]) -> set[str]:
    return {order for f in options if (order := _order(f))}


def _unbeaten(votes: _Votes) -> list[str]:
    """Orders that no other one clearly outdoes, those that read most cells first."""

    def only(one: str, other: str) -> int:
        return sum(n for o, n in votes.items() if one in _orders(o) and other not in _orders(o))

    seen = {order for options in votes for order in _orders(options)}
    left = [
        one
        for one in seen
        if not any((mine := only(other, one)) and mine >= _CLEAR * only(one, other) for other in seen - {one})
    ]
    reads = {one: sum(n for o, n in votes.items() if one in _orders(o)) for one in left}
    return sorted(left, key=lambda one: (-reads[one], "mdy".index(one)))


def _covering(votes: _Votes, order: str) -> tuple[str, ...]:
    """Formats, most common first, that read all cells of one order and those that cannot be mistaken."""
    allowed = {o: tuple(f for f in o if _order(f) in ("", order)) for o in votes}
    counts: Counter[str] = Counter()
    for options, n in votes.items():
        counts.update(dict.fromkeys(allowed[options], n))
    return tuple(f for f, _ in counts.most_common())


def _by_continuity(
    cells: Sequence[str], found: tuple[str, ...], other: tuple[str, ...], zone: tzinfo
) -> FormatChoice:
    def breaks(formats: tuple[str, ...]) -> tuple[int, int]:
        got = parse_times(pa.array(cells, pa.string()), [time_format(f) for f in formats], zone)
        us = got.us[got.ok]
        days = np.diff(us // DAY_US)
        turns = min(
            int((np.diff(us) < -3 * 3600 * SECOND_US).sum()), int((np.diff(us) > 3 * 3600 * SECOND_US).sum())
        )
        return turns, int((np.abs(days) > 7).sum())

    within_days = len(cells) > 2 * len({c.strip().split(" ")[0].split("T")[0] for c in cells})
    (turns_a, jumps_a), (turns_b, jumps_b) = breaks(found), breaks(other)
    mixed = len(found) > 1
    if (within_days or mixed) and (turns_a, jumps_a) != (turns_b, jumps_b) and 0 in (jumps_a, jumps_b):
        best = found if jumps_a <= jumps_b else other
        return FormatChoice(best, reason="the days then follow each other without a break")
    return FormatChoice(found, other)
