"""Rows of readings as they are sent: each becomes a reading, or gets a reason why not."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from app.actions.view import View
from app.domain.access import Role
from app.domain.incoming import STATED, Bools, Ints, taken
from app.domain.quantity import to_house
from app.domain.reading import Reading, ReadingColumns, refusal
from app.domain.site import Point, Stamp
from app.errors import SeriesError
from app.store import pushed_readings
from app.store.readings import to_columns, to_us
from app.store.site_moves import elsewhere

KEYS = {"point", "at", "value", "interval_s", "valid_s"}
_LONGEST_INTERVAL_S = 400 * 86_400
_AT = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}(?::\d{2})?)(\.\d+)?([Zz]|[+-]\d{2}:?\d{2})", re.ASCII)


@dataclass
class Outcome:
    """What became of the rows so far."""

    accepted: int = 0
    duplicate: int = 0
    rejected: list[tuple[int, str]] = field(default_factory=list)
    by_site: dict[str, int] = field(default_factory=dict)
    """Readings accepted, by site."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Rows rejected, by kind of reason."""

    def add(self, part: Outcome) -> None:
        """Count another batch."""
        self.accepted += part.accepted
        self.duplicate += part.duplicate
        self.rejected += part.rejected
        self.reasons += part.reasons
        for site, count in part.by_site.items():
            self.by_site[site] = self.by_site.get(site, 0) + count

    def as_dict(self) -> dict[str, Any]:
        """As the interface says it."""
        rejected = [{"row": row, "reason": reason} for row, reason in sorted(self.rejected)]
        return {"accepted": self.accepted, "duplicate": self.duplicate, "rejected": rejected}


class Refused(Exception):
    """Why a row is not stored."""

    def __init__(self, text: str, code: str = "malformed") -> None:
        super().__init__(text)
        self.code = code


def take(view: View, rows: Iterable[tuple[int, Any]], now: datetime, outcome: Outcome) -> None:
    """Store the good rows in the view's transaction and add to `outcome` what became of each.

    Raises
    ------
    StoreUnavailable
        If the database is away; the rows may be sent again.
    """
    given = list(rows)
    usual, rest = _usual(view, given, now)
    odd = list(_one_by_one(view, [given[n] for n in rest], now, outcome))
    good = _Good.concat([usual, _Good.of(view, odd)]) if odd else usual
    if len(good.columns):
        _store(view, good, outcome)


class _Good(NamedTuple):
    """Rows that can be stored."""

    number: Ints
    site_id: Ints
    columns: ReadingColumns

    @classmethod
    def of(cls, view: View, readings: list[tuple[int, Reading]]) -> _Good:
        """Those that were looked at one by one."""
        places = [view.stored.intake_rows[reading.point] for _, reading in readings]
        return cls(
            np.array([number for number, _ in readings], np.int64),
            np.array([site for _, _, site in places], np.int64),
            to_columns([reading for _, reading in readings], view.stored.point_id),
        )

    @classmethod
    def concat(cls, parts: list[_Good]) -> _Good:
        """All parts, in the order in which they were sent."""
        number = np.concatenate([p.number for p in parts])
        order = np.argsort(number, kind="stable")
        site_id = np.concatenate([p.site_id for p in parts])
        return cls(
            number[order], site_id[order], ReadingColumns.concat([p.columns for p in parts]).take(order)
        )

    def take(self, rows: Ints) -> _Good:
        """The chosen ones."""
        return _Good(self.number[rows], self.site_id[rows], self.columns.take(rows))


def _store(view: View, good: _Good, outcome: Outcome) -> None:
    for number in np.unique(good.site_id).tolist():
        own = good.take(np.flatnonzero(good.site_id == number))
        site = view.stored.site_key[number]
        taken = pushed_readings.store_rows(view.connection, own.columns)
        outcome.accepted += taken.accepted
        outcome.duplicate += taken.duplicate
        outcome.by_site[site] = outcome.by_site.get(site, 0) + taken.accepted
        for row, stored in taken.conflicts.items():
            value = float(own.columns.value[row])
            reason = f"{value:g} contradicts {stored:g}, which was stored for this time first"
            outcome.rejected.append((int(own.number[row]), reason))
            outcome.reasons["conflicting"] += 1


# -- many at once ------------------------------------------------------------------------------------


def _usual(view: View, rows: list[tuple[int, Any]], now: datetime) -> tuple[_Good, list[int]]:
    """Good rows of a point, a time and a number, and the places of all others: those are looked at singly."""
    places, known = [], []
    stored, may_send = view.stored.intake_rows, _may_send(view)
    instants: dict[str, int | None] = {}
    for place, (_, row) in enumerate(rows):
        if type(row) is not dict or row.keys() != _USUAL_KEYS:
            continue
        key, at, value = row["point"], row["at"], row["value"]
        if type(key) is not str or type(at) is not str or type(value) not in _NUMBERS:
            continue
        found = stored.get(key)
        at_us = instants[at] if at in instants else instants.setdefault(at, _at_us(at))
        if found is not None and at_us is not None and may_send(found[2]):
            places.append(place)
            known.append((*found, at_us, value))
    good, sound = _sound(view, rows, places, known, now)
    kept = set(np.asarray(places, np.int64)[sound].tolist())
    return good, [place for place in range(len(rows)) if place not in kept]


_USUAL_KEYS = {"point", "at", "value"}
_NUMBERS = (float, int)


def _sound(
    view: View, rows: list[tuple[int, Any]], places: list[int], known: list[tuple[Any, ...]], now: datetime
) -> tuple[_Good, Bools]:
    """Those of the known rows that can be stored, and which these are."""
    columns = zip(*known, strict=True) if known else ((), (), (), (), ())
    intake_row, point_id, site_id, at_us, value = columns
    found = taken(
        view.stored.intake,
        np.array(intake_row, np.int64),
        np.array(at_us, np.int64),
        np.array(list(map(_float, value)), np.float64),
        now,
    )
    sound = np.flatnonzero(found.is_sound)
    interval_s = found.interval_s[sound].astype(np.int32)
    readings = ReadingColumns(
        np.array(point_id, np.int32)[sound], found.at_us[sound], found.value[sound], interval_s, interval_s
    )
    numbers = np.array([rows[place][0] for place in places], np.int64)
    return _Good(numbers[sound], np.array(site_id, np.int64)[sound], readings), found.is_sound


def _float(value: float) -> float:
    """The number; NaN, which is not stored, where it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _may_send(view: View) -> Callable[[int], bool]:
    """Whether the caller may send readings of a site, given by number."""
    known: dict[int, bool] = {}

    def may_send(site_id: int) -> bool:
        if site_id not in known:
            role = view.principal.role_at(view.stored.fleet.site[view.stored.site_key[site_id]])
            known[site_id] = role is not None and role.rank >= Role.OPERATOR.rank
        return known[site_id]

    return may_send


def _at_us(text: str) -> int | None:
    """Instant of a text; None where it is none. [us]"""
    try:
        return to_us(_instant(text))
    except Refused:
        return None


# -- one by one --------------------------------------------------------------------------------------


def _one_by_one(
    view: View, rows: list[tuple[int, Any]], now: datetime, outcome: Outcome
) -> Iterator[tuple[int, Reading]]:
    """The good ones of some rows; `outcome` gets the reasons of the others."""
    for number, row in rows:
        try:
            yield number, _reading(view, row, now)
        except Refused as refused:
            outcome.rejected.append((number, str(refused)))
            outcome.reasons[refused.code] += 1


def _reading(view: View, row: Any, now: datetime) -> Reading:
    if not isinstance(row, Mapping):
        raise Refused("not an object with point, at and value")
    unknown = sorted(set(row) - KEYS)
    if unknown:
        raise Refused(f"unknown key {unknown[0][:50]!r}; allowed are {', '.join(sorted(KEYS))}")
    point = _point(view, row.get("point"))
    value = _number(row.get("value"))
    interval_s, valid_s = _interval(point, row)
    at = _instant(row.get("at"))
    if interval_s and point.stamp is Stamp.START:
        at = _later(at, interval_s)
    house = to_house(value, point.source_unit)
    problem = refusal(at, house, point.quantity, now)
    if problem:
        raise Refused(problem, "impossible")
    return Reading(point.id, at, house, interval_s, valid_s)


def _point(view: View, key: Any) -> Point:
    found = view.stored.fleet.point.get(key) if isinstance(key, str) else None
    if found is None and isinstance(key, str) and key in view.stored.moved_points:
        raise elsewhere(view.stored.moved[view.stored.moved_points[key]])
    if found is None:
        raise Refused("unknown point", "unknown_point")
    site, _, point = found
    role = view.principal.role_at(site)
    if role is None or role.rank < Role.OPERATOR.rank:
        raise Refused("you may not send readings of this site", "not_allowed")
    if point.formula:
        text = "the point is computed by its formula; send readings of the points in it"
        raise Refused(text, "computed_point")
    return point


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused("value is not a number")
    try:
        return float(value)
    except OverflowError:
        raise Refused("value is not a finite number") from None


def _instant(text: Any) -> datetime:
    match = _AT.fullmatch(text) if isinstance(text, str) else None
    try:
        if match is None:
            raise ValueError
        fraction = (match[3] or "")[:7]
        clock = match[2] if len(match[2]) > 5 else f"{match[2]}:00"
        return datetime.fromisoformat(f"{match[1]}T{clock}{fraction}{match[4].upper()}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise Refused("at is not an instant with a zone, like 2026-10-01T00:15:00+08:00") from None


def _later(at: datetime, seconds: int) -> datetime:
    try:
        return at + timedelta(seconds=seconds)
    except OverflowError:
        raise Refused(f"time {at.isoformat()} is in the future") from None


def _interval(point: Point, row: Mapping[str, Any]) -> tuple[int, int]:
    """Length and valid part of the stated interval; 0 for kinds without one. [s]"""
    if point.kind not in STATED:
        if row.get("interval_s") or row.get("valid_s"):
            raise Refused(f"a {point.kind} has no interval; leave interval_s and valid_s out")
        return 0, 0
    interval_s = _seconds(row, "interval_s", int(point.interval_s), 1)
    return interval_s, min(_seconds(row, "valid_s", interval_s, 0), interval_s)


def _seconds(row: Mapping[str, Any], key: str, default: int, least: int) -> int:
    value = row.get(key)
    if value is None:
        return default
    if not _is(value, (int,)) or not least <= value <= _LONGEST_INTERVAL_S:
        raise Refused(f"{key} is not a whole number of seconds from {least} to {_LONGEST_INTERVAL_S}")
    return int(value)


def parsed_lines(lines: list[bytes]) -> list[Any]:
    """What each line of JSON says; None, which no row is, where it says nothing.

    Lines of one object each, which nearly all are, are parsed as one document: they begin and end with the
    only braces that they have, so that no two of them can be taken for one, nor one for two.
    """
    stripped = [line.strip() for line in lines]
    whole = b",".join(stripped)
    alone = all(line[:1] == b"{" and line[-1:] == b"}" for line in stripped)
    if alone and whole.count(b"{") == whole.count(b"}") == len(lines):
        found = _parsed(b"[" + whole + b"]")
        if isinstance(found, list) and len(found) == len(lines):
            return found
    return [_parsed(line) for line in lines]


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def batches(rows: Iterable[tuple[int, Any]], size: int) -> Iterator[list[tuple[int, Any]]]:
    """`rows` in lists of at most `size`."""
    batch: list[tuple[int, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


def check_shape(document: Any) -> list[Any]:
    """The rows of a JSON document.

    Raises
    ------
    SeriesError
        If it is not ``{"readings": [...]}`` or a row is not of the shape that the interface states.
    """
    if not isinstance(document, dict) or not isinstance(document.get("readings"), list):
        raise SeriesError('body: expected {"readings": [{"point", "at", "value"}, ...]}')
    unknown = sorted(set(document) - {"readings"})
    if unknown:
        raise SeriesError(f"{unknown[0][:50]}: unknown key; the only one is readings")
    rows: list[Any] = document["readings"]
    for number, row in enumerate(rows):
        problem = _shape_problem(row)
        if problem:
            raise SeriesError(f"readings.{number}: {problem}")
    return rows


_TYPES: dict[str, tuple[type, ...]] = {
    "point": (str,),
    "at": (str,),
    "value": (int, float, str),
    "interval_s": (int,),
    "valid_s": (int,),
}


def _shape_problem(row: Any) -> str | None:
    if not isinstance(row, dict):
        return "is no object"
    if not row.keys() <= KEYS:
        return f"{sorted(row.keys() - KEYS)[0][:50]}: unknown key; allowed are {', '.join(sorted(KEYS))}"
    missing = [key for key in ("point", "at", "value") if key not in row]
    if missing:
        return f"{missing[0]} is missing; add it"
    wrong = [k for k, v in row.items() if v is not None and not _is(v, _TYPES[k])]
    return f"{wrong[0]}: is of another type; see the interface's description" if wrong else None


def _is(value: Any, kinds: tuple[type, ...]) -> bool:
    """Whether JSON `value` is of one of the kinds; true and false are no numbers, 900.0 is whole."""
    if isinstance(value, bool):
        return False
    return isinstance(value, kinds) or (int in kinds and isinstance(value, float) and value.is_integer())
