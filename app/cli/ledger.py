"""``wattline meter events`` and ``withdraw``: what was declared about the meters of a site."""

from __future__ import annotations

from app.api import schemas
from app.api.routes.events import event_out
from app.cli.actor import record, user
from app.cli.console import show, show_json, show_table
from app.cli.opening import opened
from app.cli.periods import local
from app.domain.site import Site
from app.errors import NotFound
from app.jobs import imports
from app.store import events
from app.store.engine import begin, connect


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
