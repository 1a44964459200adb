"""Times of rows as instants, those of a local clock too, with the hour that comes twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import AfterValidator

from app.domain.site import time_zones

_QUARTER = timedelta(minutes=15)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PER_SECOND = {"epoch_s": 1, "epoch_ms": 1000, "epoch_us": 1_000_000}
"""Formats that count from 1970: name -> counts in a second."""


def _known_zone(zone: str) -> str:
    if zone and zone not in time_zones():
        raise ValueError(f"unknown time zone {zone!r}; use an IANA name such as Asia/Shanghai")
    return zone


Zone = Annotated[str, AfterValidator(_known_zone)]
"""Name of a time zone; empty where it is that of the site."""


class NotATime(ValueError):
    """A value that is no time; the text says what it is."""


def time_of(value: object, form: str, zone: ZoneInfo | None) -> datetime:
    """A row's time: an instant in UTC, or of the local clock (without zone) where it may come twice.

    Parameters
    ----------
    value : object
        As the driver gives it.
    form : str
        ``epoch_s``, ``epoch_ms``, ``epoch_us``, a pattern of strptime, or empty: the column's own type.
    zone : ZoneInfo or None
        Of times that have none themselves.

    Raises
    ------
    NotATime
        If it is none, or the zone is needed and not known.
    """
    if form in PER_SECOND:
        return _counted(value, PER_SECOND[form])
    at = value if isinstance(value, datetime) else _parsed(value, form)
    if at.tzinfo is not None:
        return at.astimezone(UTC)
    if zone is None:
        raise NotATime(f"{value} has no time zone; set time_zone")
    if is_twice(at, zone):
        return at
    instant = at.replace(tzinfo=zone).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) != at:
        raise NotATime(f"{value} does not exist in {zone.key}: the clock is put forward there")
    return instant


def _counted(value: object, per_second: int) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise NotATime(f"{value!r} is no count of time")
    try:
        return _EPOCH + timedelta(microseconds=round(Decimal(str(value)) * 1_000_000 / per_second))
    except (ArithmeticError, ValueError):
        raise NotATime(f"{value!r} is no count of time") from None


def _parsed(value: object, form: str) -> datetime:
    if not isinstance(value, str):
        raise NotATime(f"{value!r} is no time; set time_format")
    try:
        return datetime.strptime(value, form) if form else datetime.fromisoformat(value)  # noqa: DTZ007
    except ValueError:
        raise NotATime(f"{value!r} is no time; set time_format") from None


def is_twice(local: datetime, zone: ZoneInfo) -> bool:
    """Whether a local time comes twice, as the clock is put back."""
    first, second = (local.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    return first != second and first is not None and second is not None and first > second


def bound(at: datetime, form: str, zone: ZoneInfo | None) -> object:
    """An instant as a query compares it with the time column; see `time_of`."""
    if form in PER_SECOND:
        return (at - _EPOCH) // timedelta(microseconds=1_000_000 // PER_SECOND[form])
    local = at if zone is None else at.astimezone(zone).replace(tzinfo=None)
    return local.strftime(form) if form else local


def span(since: datetime, now: datetime, zone: ZoneInfo | None) -> tuple[datetime, datetime]:
    """The instants from `since` until `now` whose local times are the lowest and the highest.

    Where the clock was put back meanwhile, those are not the ends.
    """
    if zone is None:
        return since, now
    quarters = min(int((now - since) / _QUARTER) + 1, 500)
    steps = [
        now,
        *(since + _QUARTER * n for n in range(quarters)),
        *(now - _QUARTER * n for n in range(quarters)),
    ]

    def local(at: datetime) -> datetime:
        return at.astimezone(zone).replace(tzinfo=None)

    return min(steps, key=local), max(steps, key=local)


class Row(NamedTuple):
    """A value of one series, in the order of the result."""

    time: datetime
    """With zone, or of the local clock where it comes twice."""
    value: float


def placed(
    rows: Sequence[Row],
    zone: ZoneInfo | None,
    now: datetime,
    known: Mapping[datetime, float],
    *,
    rises: bool,
    in_order: bool,
) -> tuple[list[tuple[datetime, float]], list[datetime]]:
    """Instants of one series' rows, and the local times that could not be decided.

    Parameters
    ----------
    rows : sequence of Row
    zone : ZoneInfo or None
        Of those without one.
    now : datetime
        What would lie after it did not happen yet.
    known : mapping
        What was read of the series before, by instant.
    rises : bool
        Whether values never fall (registers): of two at one local time the lower one is the first.
    in_order : bool
        Whether rows come in the order in which they were written, and not by their local times.
    """
    sure = [(row.time, row.value) for row in rows if row.time.tzinfo is not None]
    twice: dict[datetime, list[float]] = {}
    for row in rows:
        if row.time.tzinfo is None:
            twice.setdefault(row.time, []).append(row.value)
    doubtful = []
    for local, values in twice.items():
        assert zone is not None
        first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        ordered = sorted(values) if rises else values
        found = _decided(ordered, (first, second), now, known, is_ordered=rises or in_order)
        if found is None:
            doubtful.append(local)
        else:
            sure += found
    return sure, doubtful


def _decided(
    values: list[float],
    instants: tuple[datetime, datetime],
    now: datetime,
    known: Mapping[datetime, float],
    *,
    is_ordered: bool,
) -> list[tuple[datetime, float]] | None:
    """Instants of the values at one local time; None where it cannot be told which hour they are of."""
    first, second = instants
    if len(values) == 1:
        if second > now or known.get(first) == values[0]:
            return [(first, values[0])]
        return [(second, values[0])] if first in known else None
    if len(values) != 2 or second > now:
        return None
    if not is_ordered and values[0] != values[1]:
        if known.get(first) == values[1]:
            values = values[::-1]
        elif known.get(first) != values[0]:
            return None
    return [(first, values[0]), (second, values[1])]
