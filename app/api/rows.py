"""Rows of readings as they are sent: each becomes a reading, or gets a reason why not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from app.actions.view import View
from app.domain.access import Role
from app.domain.quantity import ReadingKind, to_house
from app.domain.reading import Reading, refusal
from app.domain.site import Point, Stamp
from app.errors import SeriesError
from app.store import pushed_readings

KEYS = {"point", "at", "value", "interval_s", "valid_s"}
_INTERVAL_KINDS = (ReadingKind.INTERVAL_ENERGY, ReadingKind.INTERVAL_MEAN_POWER)
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

    def add(self, part: Outcome) -> None:
        """Count another batch."""
        self.accepted += part.accepted
        self.duplicate += part.duplicate
        self.rejected += part.rejected
        for site, count in part.by_site.items():
            self.by_site[site] = self.by_site.get(site, 0) + count

    def as_dict(self) -> dict[str, Any]:
        """As the interface says it."""
        rejected = [{"row": row, "reason": reason} for row, reason in sorted(self.rejected)]
        return {"accepted": self.accepted, "duplicate": self.duplicate, "rejected": rejected}


class Refused(Exception):
    """Why a row is not stored."""


def take(view: View, rows: Iterable[tuple[int, Any]], now: datetime, outcome: Outcome) -> None:
    """Store the good rows in the view's transaction and add to `outcome` what became of each.

    Raises
    ------
    StoreUnavailable
        If the database is away; the rows may be sent again.
    """
    good: list[Reading] = []
    numbers: list[int] = []
    for number, row in rows:
        try:
            good.append(_reading(view, row, now))
            numbers.append(number)
        except Refused as refused:
            outcome.rejected.append((number, str(refused)))
    if good:
        _store(view, good, numbers, outcome)


def _store(view: View, good: list[Reading], numbers: list[int], outcome: Outcome) -> None:
    by_site: dict[str, list[int]] = {}
    for index, reading in enumerate(good):
        by_site.setdefault(view.stored.fleet.point[reading.point][0].id, []).append(index)
    for site, own in by_site.items():
        taken = pushed_readings.store_rows(view.connection, view.stored, [good[i] for i in own])
        outcome.accepted += taken.accepted
        outcome.duplicate += taken.duplicate
        outcome.by_site[site] = outcome.by_site.get(site, 0) + taken.accepted
        for row, stored in taken.conflicts.items():
            reason = f"{good[own[row]].value:g} contradicts {stored:g}, which was stored for this time first"
            outcome.rejected.append((numbers[own[row]], reason))


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
        at += timedelta(seconds=interval_s)
    house = to_house(value, point.source_unit)
    problem = refusal(at, house, point.quantity, now)
    if problem:
        raise Refused(problem)
    return Reading(point.id, at, house, interval_s, valid_s)


def _point(view: View, key: Any) -> Point:
    found = view.stored.fleet.point.get(key) if isinstance(key, str) else None
    if found is None:
        raise Refused("unknown point")
    site, _, point = found
    role = view.principal.role_at(site)
    if role is None or role.rank < Role.OPERATOR.rank:
        raise Refused("you may not send readings of this site")
    if point.formula:
        raise Refused("the point is computed by its formula; send readings of the points in it")
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


def _interval(point: Point, row: Mapping[str, Any]) -> tuple[int, int]:
    """Length and valid part of the stated interval; 0 for kinds without one. [s]"""
    stated = point.kind in _INTERVAL_KINDS
    if not stated:
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
