"""``wattline meter event``, ``events`` and ``withdraw``: what was declared about the meters of a site."""

from __future__ import annotations

from dataclasses import dataclass

from app.api import schemas
from app.api.routes.events import event_out
from app.cli.actor import record, user
from app.cli.console import show, show_json, show_table
from app.cli.opening import Opened, opened
from app.cli.periods import instant, local
from app.domain.energy import Event, EventKind
from app.domain.quantity import ReadingKind
from app.domain.site import Meter, Site
from app.errors import NotFound, SeriesError
from app.jobs import imports
from app.store import events
from app.store.engine import begin, connect
from app.store.readings import to_us


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the ledger as it was typed."""

    meter: str
    kind: str
    at: str
    end: str | None
    point: str | None
    old: float | None
    new: float | None
    energy_kwh: float | None
    note: str


def declare(entry: Entry, *, as_json: bool) -> None:
    """Write an entry into the ledger and compute what it changes.

    Raises
    ------
    NotFound
        If there is no such meter or point.
    SeriesError
        If a time is not understood, or values are given for several registers at once.
    """
    with opened() as here:
        ids = _write(here, entry)
        imports.settle(here.engine)
    if as_json:
        show_json({"meter": entry.meter, "kind": entry.kind, "entries": ids})
    else:
        numbers = ", ".join(map(str, ids))
        show(f"{entry.meter}: {entry.kind} declared, ledger entry {numbers}; energies are computed anew")


def _write(here: Opened, entry: Entry) -> list[int]:
    if entry.meter not in here.stored.fleet.meter:
        raise NotFound(f"there is no meter {entry.meter!r}")
    site, meter = here.stored.fleet.meter[entry.meter]
    start = instant(entry.at, site.zone)
    end = start if entry.end is None else instant(entry.end, site.zone)
    span = (to_us(start), to_us(end))
    event = Event(EventKind(entry.kind), *span, entry.old, entry.new, entry.energy_kwh)
    points = [here.stored.point_id[p] for p in _points(meter, entry)]
    with begin(here.engine) as connection:
        ids = events.add(
            connection,
            site_id=here.stored.site_id[site.id],
            meter_id=here.stored.meter_id[meter.id],
            point_ids=points,
            event=event,
            start=start,
            end=end,
            author=user(),
            note=entry.note,
        )
        record(connection, "event.add", meter.id, {"kind": entry.kind, "entries": ids})
    return ids


def _points(meter: Meter, entry: Entry) -> list[str]:
    """Points that the entry is about: the named one, else the meter's registers, else all."""
    ids = [p.id for p in meter.points]
    if entry.point is not None:
        if entry.point not in ids:
            raise NotFound(f"meter {meter.id} has no point {entry.point!r}; it has {', '.join(ids)}")
        return [entry.point]
    registers = [p.id for p in meter.points if p.kind is ReadingKind.REGISTER]
    stated = (entry.old, entry.new, entry.energy_kwh) != (None, None, None)
    if stated and len(registers) > 1:
        raise SeriesError(
            f"meter {meter.id} has several registers; say --point, one of {', '.join(registers)}"
        )
    return registers or ids


def listing(site_id: str, *, as_json: bool) -> None:
    """Print the ledger of a site, withdrawn entries too.

    Raises
    ------
    NotFound
        If there is no such site.
    """
    with opened() as here, connect(here.engine) as connection:
        site = here.site(site_id)
        entries = events.listing(connection, here.stored.site_id[site.id])
        found = [event_out(here.stored, entry) for entry in entries]
    if as_json:
        show_json(schemas.EventsOut(site=site_id, events=found).model_dump(mode="json"))
        return
    columns = [">id", "point", "kind", "from", "to", ">old", ">new", ">kWh", "by", "declared", "note"]
    show_table(columns, (_cells(site, one) for one in found))


def _cells(site: Site, one: schemas.EventOut) -> list[str]:
    values = ["" if v is None else f"{v:,.12g}" for v in (one.old_value, one.new_value, one.energy_kwh)]
    times = [local(one.start, site.zone), "" if one.end == one.start else local(one.end, site.zone)]
    note = one.note if one.withdrawn_at is None else f"withdrawn by {one.withdrawn_by}: {one.note}"
    what = [one.point or one.meter or "", one.kind]
    declared = local(one.created_at, site.zone)[:10]
    return [str(one.id), *what, *times, *values, one.author, declared, note]


def withdraw(site_id: str, entry_id: int, *, as_json: bool) -> None:
    """Take an entry back and compute its effect away; it stays in the ledger, marked.

    Raises
    ------
    NotFound
        If there is no such site, or no such entry in force there.
    """
    with opened() as here:
        site = here.site(site_id)
        with begin(here.engine) as connection:
            known = {e.id for e in events.listing(connection, here.stored.site_id[site.id])}
            if entry_id not in known:
                raise NotFound(f"there is no entry {entry_id} at site {site_id}; see: wattline meter events")
            entry = event_out(here.stored, events.withdraw(connection, entry_id, user()))
            record(connection, "event.withdraw", site.id, {"entry": entry_id})
        imports.settle(here.engine)
    if as_json:
        show_json(entry.model_dump(mode="json"))
    else:
        show(f"{entry.point or entry.meter}: {entry.kind} withdrawn; energies are computed anew")
