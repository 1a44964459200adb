"""The ledger: declare what happened to a meter, and take an entry back. Figures follow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from app.actions.view import View
from app.domain.access import Role
from app.domain.energy import Event, EventKind
from app.domain.quantity import ENERGY_KINDS, ReadingKind
from app.domain.quantity import Role as PointRole
from app.domain.site import Meter, Point
from app.errors import NotFound, SeriesError
from app.store import events
from app.store.events import LedgerEntry
from app.store.readings import to_us

_ABOUT_REGISTERS = (EventKind.REPLACED, EventKind.RESET)
_NEEDS = {
    EventKind.REPLACED: ("a replacement", "a register"),
    EventKind.RESET: ("a reset", "a register"),
    EventKind.TEST: ("a test", "a point that carries energy"),
    EventKind.MAINTENANCE: ("maintenance", "a point that carries energy"),
    EventKind.CORRECTION: ("a correction", "a point that carries energy"),
    EventKind.ESTIMATE: ("an estimate", "a point that carries energy"),
    EventKind.CONFIRMED: ("a confirmation", "a point that carries energy"),
}
"""What each declaration is called in messages, and the kind of point that it is about."""
_MOST = 1e12
"""Largest value that can be declared; more is a slip of the keyboard."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What somebody says happened to a meter."""

    meter: str
    kind: EventKind
    start: datetime
    end: datetime
    note: str
    """Why, and on whose word."""
    point: str | None = None
    """None: every point that it can be about."""
    old_value: float | None = None
    new_value: float | None = None
    energy_kwh: float | None = None

    @property
    def values(self) -> dict[str, float]:
        """The values that are stated, by name."""
        stated = {"old_value": self.old_value, "new_value": self.new_value, "energy_kwh": self.energy_kwh}
        return {name: value for name, value in stated.items() if value is not None}


def declare(view: View, wanted: Declaration) -> list[LedgerEntry]:
    """Write a declaration into the ledger, one entry for each point, and queue what it changes.

    Raises
    ------
    NotFound
        If there is no such meter, or the caller may not know of it.
    Forbidden
        If the caller is not operator of its site.
    SeriesError
        If it ends before it starts, has no note, or does not say which point a value is of.
    StoreUnavailable
        If the database is away.
    """
    site, meter = view.meter(wanted.meter, Role.OPERATOR)
    _check(wanted)
    points = _points(meter, wanted)
    span = (to_us(wanted.start), to_us(wanted.end))
    number = view.stored.site_id[site.id]
    ids = events.add(
        view.connection,
        site_id=number,
        meter_id=view.stored.meter_id[meter.id],
        point_ids=[view.stored.point_id[p.id] for p in points],
        event=Event(wanted.kind, *span, wanted.old_value, wanted.new_value, wanted.energy_kwh),
        start=wanted.start,
        end=wanted.end,
        author=view.principal.name,
        note=wanted.note.strip(),
    )
    added = [entry for entry in events.listing(view.connection, number) if entry.id in ids]
    view.audit("event.add", meter.id, {"kind": wanted.kind.value, "entries": ids})
    return added


def _check(wanted: Declaration) -> None:
    if wanted.end < wanted.start:
        raise SeriesError("end: is before the start")
    if not wanted.note.strip():
        raise SeriesError("note: is empty; say why, and on whose word")
    for name, value in wanted.values.items():
        if not math.isfinite(value) or abs(value) > _MOST:
            raise SeriesError(f"{name}: {value} is no value of a meter; allowed are {-_MOST:g} to {_MOST:g}")


def _points(meter: Meter, wanted: Declaration) -> list[Point]:
    """The points that a declaration is about: the named one, or all that it can be about."""
    if wanted.point is not None and wanted.point not in {p.id for p in meter.points}:
        raise SeriesError(f"point: meter {meter.id} has no point {wanted.point}")
    fitting = [p for p in _fitting(meter, wanted.kind) if wanted.point in (None, p.id)]
    if not fitting:
        raise SeriesError(f"point: {_unfitting(meter, wanted)}")
    return [_valued(fitting)] if wanted.values else fitting


def _unfitting(meter: Meter, wanted: Declaration) -> str:
    """Why no point of the meter, or not the named one, can have the declaration."""
    what, needed = _NEEDS[wanted.kind]
    about = f"meter {meter.id} has none" if wanted.point is None else f"{wanted.point} is not one"
    return f"{what} needs {needed}; {about}"


def _fitting(meter: Meter, kind: EventKind) -> list[Point]:
    """Registers for what happens to registers, else the points that carry energy, or any where none does."""
    if kind in _ABOUT_REGISTERS:
        return [p for p in meter.points if p.kind is ReadingKind.REGISTER]
    return [p for p in meter.points if p.kind in ENERGY_KINDS] or list(meter.points)


def _valued(fitting: list[Point]) -> Point:
    """The one point whose value is stated: the only one that counts, else the only register among those."""
    counted = [p for p in fitting if p.role is not PointRole.NONE] or fitting
    registers = [p for p in counted if p.kind is ReadingKind.REGISTER] or counted
    if len(registers) > 1:
        raise SeriesError(f"point: say which the value is of: {', '.join(p.id for p in registers)}")
    return registers[0]


def withdraw(view: View, site_id: str, entry_id: int) -> LedgerEntry:
    """Take an entry back; it stays in the ledger, marked, and its effect is computed away.

    Raises
    ------
    NotFound
        If there is no such site or entry in force, or the caller may not know of it.
    Forbidden
        If the caller is not operator of the site.
    StoreUnavailable
        If the database is away.
    """
    view.site(site_id, Role.OPERATOR)
    known = {entry.id for entry in events.listing(view.connection, view.stored.site_id[site_id])}
    if entry_id not in known:
        raise NotFound(f"there is no event {entry_id} at site {site_id}")
    withdrawn = events.withdraw(view.connection, entry_id, view.principal.name)
    view.audit("event.withdraw", site_id, {"entry": entry_id})
    return withdrawn
