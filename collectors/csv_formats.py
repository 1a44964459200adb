"""Which formats a column of times is written in, and whether its day or its month comes first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from functools import cache

import numpy as np
import pyarrow as pa

from collectors.csv_time import DAY_US, SECOND_US, parse_text, parse_times, time_format

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


def swapped(formats: Sequence[str]) -> tuple[str, ...]:
    """The same formats with day and month in the other order."""
    return tuple(_swap(f) for f in formats)


def _swap(text: str) -> str:
    if re.match(r"%m.%d.%[Yy]", text):
        return "%d" + text[2] + "%m" + text[5:]
    if re.match(r"%d.%m.%[Yy]", text):
        return "%m" + text[2] + "%d" + text[5:]
    return text


def choose_formats(cells: Sequence[str], zone: tzinfo = UTC) -> FormatChoice | None:
    """The formats with which every one of these cells reads, by the whole of them.

    Day-first and month-first are told apart by a cell that only fits one; failing that, by which of
    them runs on without a break. If both would do, both are returned.
    """
    found = _covering(cells, zone)
    if not found:
        return None
    other = swapped(found)
    if other == found:
        return FormatChoice(found)
    if not _reads_all(cells, other, zone):
        return FormatChoice(found)
    if not _reads_all(cells, found, zone):
        return FormatChoice(other)
    return _by_continuity(cells, found, other)


def _covering(cells: Sequence[str], zone: tzinfo) -> tuple[str, ...]:
    """Formats, most common first, that together read all cells; empty if some cell is no time."""
    votes: dict[tuple[str, ...], int] = {}
    for cell in cells:
        options = formats_of(cell, zone)
        if not options:
            return ()
        votes[options] = votes.get(options, 0) + 1
    possible = [o for options in votes for o in options]
    ranked = sorted(
        set(possible), key=lambda f: (-sum(n for o, n in votes.items() if f in o), possible.index(f))
    )
    chosen: list[str] = []
    for options in sorted(votes, key=len):
        if not set(options) & set(chosen):
            chosen.append(next(f for f in ranked if f in options))
    return _same_order(chosen)


def _same_order(formats: Sequence[str]) -> tuple[str, ...]:
    """All numeric day/month formats put in the order of the first: one source does not mix them."""
    first = next((f for f in formats if _swap(f) != f), None)
    if first is None:
        return tuple(formats)
    day_first = first.startswith("%d")
    return tuple(
        dict.fromkeys(_swap(f) if _swap(f) != f and f.startswith("%d") != day_first else f for f in formats)
    )


def _reads_all(cells: Sequence[str], formats: Sequence[str], zone: tzinfo) -> bool:
    parsed = parse_times(pa.array(cells, pa.string()), [time_format(f) for f in formats], zone)
    return bool(parsed.ok.all())


def _by_continuity(cells: Sequence[str], found: tuple[str, ...], other: tuple[str, ...]) -> FormatChoice:
    def breaks(formats: tuple[str, ...]) -> tuple[int, int]:
        us = parse_times(pa.array(cells, pa.string()), [time_format(f) for f in formats]).us
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
