"""``wattline meter event``, ``events`` and ``withdraw``: what was declared about the meters of a site."""

from __future__ import annotations

from dataclasses import dataclass

from app.actions import ledger
from app.actions.ledger import Declaration
from app.api import schemas
from app.api.routes.events import event_out, events_out
from app.cli.console import show, show_json, show_table
from app.cli.opening import opened
from app.cli.periods import instant, local
from app.domain.energy import EventKind
from app.domain.site import Site
from app.jobs import imports
from app.store import events
from app.store.engine import connect

_MOST_CORRECTIONS = 10_000


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
        with here.write() as view:
            site, _ = view.meter(entry.meter)
            ids = [one.id for one in ledger.declare(view, _declaration(entry, site))]
        imports.settle(here.engine)
    if as_json:
        show_json({"meter": entry.meter, "kind": entry.kind, "entries": ids})
    else:
        numbers = ", ".join(map(str, ids))
        show(f"{entry.meter}: {entry.kind} declared, ledger entry {numbers}; energies are recomputed")


def _declaration(entry: Entry, site: Site) -> Declaration:
    start = instant(entry.at, site.zone)
    return Declaration(
        meter=entry.meter,
        kind=EventKind(entry.kind),
        start=start,
        end=start if entry.end is None else instant(entry.end, site.zone),
        note=entry.note,
        point=entry.point,
        old_value=entry.old,
        new_value=entry.new,
        energy_kwh=entry.energy_kwh,
    )


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
        found = events_out(connection, here.stored, entries, _MOST_CORRECTIONS)
    if as_json:
        show_json(schemas.EventsOut(site=site_id, events=found).model_dump(mode="json"))
        return
    columns = [">id", "point", "kind", "from", "to", ">old", ">new", ">kWh", "by", "declared", "note"]
    show_table(columns, (_cells(site, one) for one in found))


def _cells(site: Site, one: schemas.EventOut) -> list[str]:
    values = ["" if v is None else f"{v:,.12g}" for v in (one.old_value, one.new_value, one.energy_kwh)]
    times = [local(one.start, site.zone), "" if one.end == one.start else local(one.end, site.zone)]
    note = one.note if one.withdrawn_at is None else f"withdrawn by {one.withdrawn_by}: {one.note}"
    note = f"{one.corrected_readings:,} readings: {note}" if one.corrected_readings else note
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
        with here.write() as view:
            entry = event_out(here.stored, ledger.withdraw(view, site_id, entry_id))
        imports.settle(here.engine)
    if as_json:
        show_json(entry.model_dump(mode="json"))
    else:
        show(f"{entry.point or entry.meter}: {entry.kind} withdrawn; energies are recomputed")
