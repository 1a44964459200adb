"""``wattline verify``, ``findings`` and ``meter event``: keeping the figures right."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import typer

from app.cli.actor import record, user
from app.cli.console import show, show_json, show_table
from app.cli.opening import Opened, opened
from app.cli.periods import instant, local
from app.domain.energy import Event, EventKind
from app.domain.quantity import ReadingKind
from app.domain.site import Meter, Site
from app.errors import NotFound, SeriesError
from app.jobs import imports
from app.jobs import verify as verification
from app.jobs.verify import Breach, Verification
from app.store import events, findings
from app.store.engine import begin, connect
from app.store.findings import StoredFinding
from app.store.readings import to_us


def verify(site: str | None, *, as_json: bool) -> None:
    """Check the invariant; exits 1 where it is broken.

    Raises
    ------
    NotFound
        If there is no such site.
    """
    with opened() as here:
        found = verification.verify(here.engine, site)
    if as_json:
        show_json({**asdict(found), "ok": not found.breaches})
    else:
        _show_verification(found)
    if found.breaches:
        raise typer.Exit(1)


def _show_verification(found: Verification) -> None:
    show(f"{found.points:,} points, {found.intervals:,} intervals computed again from their readings")
    if found.pending:
        show(f"{found.pending} points have readings that wait for their rollup; those times were left out")
    if not found.breaches:
        show("everything adds up")
        return
    columns = ["rule", "site", "what", "from", ">expected", ">found", "note"]
    show_table(columns, map(_breach_row, found.breaches))
    show(f"{len(found.breaches)} breaches")


def _breach_row(breach: Breach) -> list[str]:
    values = ["" if v is None else f"{v:,.6f}" for v in (breach.expected, breach.found)]
    return [breach.rule, breach.site, breach.what, breach.start, *values, breach.note]


# -- findings ----------------------------------------------------------------------------------------


def findings_list(site_id: str, *, with_cleared: bool, as_json: bool) -> None:
    """Print what was found about the readings of a site.

    Raises
    ------
    NotFound
        If there is no such site.
    """
    with opened() as here:
        site = here.site(site_id)
        with connect(here.engine) as connection:
            found = findings.listing(connection, here.stored.site_id[site.id], with_cleared=with_cleared)
    if as_json:
        show_json({"site": site.id, "findings": [_finding_document(f) for f in found]})
    elif not found:
        show(f"nothing was found about the readings of {site.id}")
    else:
        columns = [">id", "severity", "state", "point", "kind", "from", "to", ">kWh"]
        show_table(columns, (_finding_row(site, f) for f in found))


def _finding_document(finding: StoredFinding) -> dict[str, Any]:
    times = {k: v.isoformat() for k, v in asdict(finding).items() if hasattr(v, "isoformat")}
    return {**asdict(finding), **times}


def _finding_row(site: Site, finding: StoredFinding) -> list[str]:
    span = [local(finding.start, site.zone), local(finding.end, site.zone)]
    effect = "" if finding.effect_kwh is None else f"{finding.effect_kwh:,.1f}"
    what = [finding.severity, finding.state, finding.point, finding.kind]
    return [str(finding.id), *what, *span, effect]


# -- the ledger --------------------------------------------------------------------------------------


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
