"""Freeze the reports of months and years that are over, and revise them when late data changes figures.

A report is frozen some days after its period ended (``close_month_after_days`` of the site), once no
reading from before then waits for its energy to be computed or its quality to be looked at. Afterwards it
is looked at again whenever something in it was computed again; if figures differ, a new revision with the
list of them is frozen. Frozen revisions are never changed. Their recipients are notified in the same
transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import structlog

from app.domain.evidence import Frozen
from app.domain.period import Period, month_or_year, shift_months
from app.domain.site import Institution, Site
from app.jobs.notifications import report_mail
from app.reports import build, canonical, institution
from app.reports.document import Cause, Document, InstitutionReport, Report, as_data, read
from app.store import alarms, audit, deployment
from app.store.engine import Connection, Engine, begin, connect
from app.store.fleet_cache import FleetCache
from app.store.reports import revisions
from app.store.reports.revisions import Shelf
from app.store.sites import Stored

CLOSE_EVERY_S = 600.0
LOOK_EVERY_S = 20.0
"""How soon after an import, and while something due waits, it is looked again."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Closed:
    """A revision that was frozen."""

    of: str
    """Site or institution."""
    period: str
    revision: int
    changes: int


def run(engine: Engine, now: datetime, fleet: FleetCache | None = None) -> list[Closed]:
    """Freeze what is due and revise what changed; what was frozen.

    `fleet` is the caller's, so that the fleet is not read at every call.

    Raises
    ------
    StoreUnavailable
        If the database is away; what was frozen stays, the rest follows next time.
    """
    with connect(engine) as connection:
        stored = (fleet or FleetCache()).current(connection)
    done = [c for site in stored.fleet.sites for c in close_site(engine, stored, site, now)]
    done += [c for bank in stored.fleet.institutions for c in close_institution(engine, stored, bank, now)]
    for closed in done:
        _log.info(
            "report frozen",
            of=closed.of,
            period=closed.period,
            revision=closed.revision,
            changes=closed.changes,
        )
    return done


def is_waiting(engine: Engine, now: datetime, fleet: FleetCache | None = None) -> bool:
    """Whether a site has readings of a period that is due whose energy or quality is not looked at yet.

    `fleet` is the caller's, so that the fleet is not read at every call.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with connect(engine) as connection:
        stored = (fleet or FleetCache()).current(connection)
        return not all(
            revisions.is_settled(connection, stored, site, now - _after(site)) for site in stored.fleet.sites
        )


def close_site(engine: Engine, stored: Stored, site: Site, now: datetime) -> list[Closed]:
    """Freeze and revise the reports of one site."""
    with connect(engine) as connection:
        if not revisions.is_settled(connection, stored, site, now - _after(site)):
            return []
        marks = revisions.marks(connection, stored, site)
    out = []
    for period in due(site, marks, now):
        with begin(engine) as connection:
            closed = _close(connection, stored, site, period, _mark(marks, period), now)
        out += [closed] if closed else []
    return out


def revise(engine: Engine, stored: Stored, site: Site, now: datetime) -> list[Closed]:
    """Revise the frozen reports of one site and of its institution; freezes no period for the first time.

    Raises
    ------
    StoreUnavailable
        If the database is away; what was frozen stays.
    """
    with connect(engine) as connection:
        frozen = set(_hashes(connection, stored, site))
        if not frozen or not revisions.is_settled(connection, stored, site, now - _after(site)):
            return []
        marks = revisions.marks(connection, stored, site)
    done = []
    for period in (p for p in due(site, marks, now) if p in frozen):
        with begin(engine) as connection:
            closed = _close(connection, stored, site, period, _mark(marks, period), now)
        done += [closed] if closed else []
    banks = [b for b in stored.fleet.institutions if b.id == site.institution] if done else []
    return done + [c for bank in banks for c in close_institution(engine, stored, bank, now)]


def due(site: Site, marks: Mapping[str, str], now: datetime) -> Iterator[str]:
    """Months, then years, from the first with energy, that ended long enough ago, oldest first."""
    if not marks:
        return
    at = date.fromisoformat(f"{min(marks)}-01")
    years = {}
    while is_over(site, f"{at:%Y-%m}", now):
        yield f"{at:%Y-%m}"
        years[f"{at:%Y}"] = True
        at = (at + timedelta(days=32)).replace(day=1)
    yield from (y for y in years if is_over(site, y, now))


def is_over(site: Site, period: str, now: datetime) -> bool:
    """Whether the period ended long enough ago to be frozen."""
    return month_or_year(period, site.zone).end + _after(site) <= now


def _after(site: Site) -> timedelta:
    return timedelta(days=site.close_month_after_days)


def _mark(marks: Mapping[str, str], period: str) -> str:
    """Marks of everything that enters the report: the period, the year so far, and the 12 months before."""
    year = int(period[:4])
    first, last = f"{year - 1}-{period[5:] or '01'}", period if len(period) > 4 else f"{year}-12"
    return "|".join(f"{month} {mark}" for month, mark in marks.items() if first <= month <= last)


def _close(
    connection: Connection, stored: Stored, site: Site, period: str, mark: str, now: datetime
) -> Closed | None:
    revisions.lock_closing(connection)
    seen = revisions.seen_marks(connection, site.id)
    if seen.get(period) == mark:
        return None
    shelf = Shelf.of_site(stored, site.id)
    evidence = revisions.gather(connection, stored, site, period, now)
    before = shelf.newest(connection, period)
    causes = [] if before is None else _causes(connection, site, evidence.period, before.created_at)
    names = {} if before is None else _renamed(site, before.document)
    fresh = build.build(evidence, 1)
    closed = _freeze(connection, shelf, site.id, period, fresh, now, causes=causes, renamed=names)
    revisions.save_marks(connection, site.id, {**seen, period: mark})
    return closed


def _causes(connection: Connection, site: Site, period: Period, since: datetime) -> list[Cause]:
    """Definitions of the site changed since an instant that touch a period or the year before it."""
    own = {f"site {site.id}", *(f"point {p.id}" for p in site.points())}
    first = shift_months(period.start, -12, site.zone)
    return [
        Cause(definition=what, start=e["start"], end=e["end"], edited_at=at, edited_by=e["by"] or "")
        for e in deployment.edits(connection)
        if (what := e["what"] or "") in own
        and datetime.fromisoformat(at := e["at"] or "") > since
        and (e["start"] is None or datetime.fromisoformat(e["start"]) < period.end)
        and (e["end"] is None or datetime.fromisoformat(e["end"]) > first)
    ]


def _renamed(site: Site, before: Mapping[str, Any]) -> dict[str, str]:
    """Earlier names of points of a site, and of their meters in a frozen report, with those of today."""
    points = {former: p.id for p in site.points() for former in p.formerly}
    rows = before.get("method", {}).get("points", ())
    meters = {r["meter"]: site.meter_of[points[r["point"]]].id for r in rows if r["point"] in points}
    return {**{old: new for old, new in meters.items() if old != new}, **points}


def _freeze(
    connection: Connection,
    shelf: Shelf,
    of: str,
    period: str,
    fresh: Document,
    now: datetime,
    *,
    causes: Sequence[Cause] = (),
    renamed: Mapping[str, str] | None = None,
) -> Closed | None:
    """Store a first revision, or one with changes; None where the figures are as they were."""
    before = shelf.newest(connection, period)
    changes = [] if before is None else canonical.changes(before.document, as_data(fresh), renamed)
    if before is not None and not changes:
        return None
    revision = 1 if before is None else before.revision + 1
    head = audit.head(connection)
    entry = f"seq {head.seq}, hash {head.hash}" if head else ""
    final = canonical.revised(fresh, revision, changes, causes if changes else (), entry)
    shelf.freeze(connection, Frozen(period, revision, as_data(final), final.sha256, now))
    report_mail.announce(connection, alarms.notifications(connection), final, now)
    return Closed(of, period, revision, len(changes))


def close_institution(engine: Engine, stored: Stored, bank: Institution, now: datetime) -> list[Closed]:
    """Freeze and revise the reports of one institution, of periods that all its sites have closed."""
    own = [s for s in stored.fleet.sites if s.institution == bank.id]
    with connect(engine) as connection:
        newest = {site.id: _hashes(connection, stored, site) for site in own}
    reporting = [site for site in own if newest[site.id]]
    out = []
    for period in sorted({p for hashes in newest.values() for p in hashes}):
        ready = [s for s in reporting if period >= min(newest[s.id])[: len(period)]]
        if all(period in newest[s.id] for s in ready):
            mark = " ".join(newest[s.id][period] for s in ready)
            with begin(engine) as connection:
                closed = _close_together(connection, stored, bank, ready, period, mark, now)
            out += [closed] if closed else []
    return out


def _hashes(connection: Connection, stored: Stored, site: Site) -> dict[str, str]:
    """Hash of the newest revision of every period of a site."""
    listed = Shelf.of_site(stored, site.id).listing(connection)
    return {period: sha for period, _, sha, _ in reversed(listed)}


def _close_together(
    connection: Connection,
    stored: Stored,
    bank: Institution,
    own: Sequence[Site],
    period: str,
    mark: str,
    now: datetime,
) -> Closed | None:
    revisions.lock_closing(connection)
    seen = revisions.seen_marks(connection, f"institution {bank.id}")
    if seen.get(period) == mark:
        return None
    shelf = Shelf.of_institution(connection, bank.id)
    fresh = together(connection, stored, bank, own, period, now)
    closed = _freeze(connection, shelf, bank.id, period, fresh, now)
    revisions.save_marks(connection, f"institution {bank.id}", {**seen, period: mark})
    return closed


def together(
    connection: Connection,
    stored: Stored,
    bank: Institution,
    own: Sequence[Site],
    period: str,
    now: datetime,
) -> InstitutionReport:
    """The institution's report from its sites' frozen ones, read one at a time."""
    lines, span = [], None
    for site in own:
        frozen = Shelf.of_site(stored, site.id).newest(connection, period)
        document = None if frozen is None else read(frozen.document)
        if isinstance(document, Report):
            lines.append(institution.line(document))
            span = span or document.period
    assert span is not None, "called for periods that a site has closed"
    declared = [d for site in own for d in site.declared]
    targets = deployment.reference(connection).indicator_targets
    return institution.build(bank, span, lines, now, targets=targets, declared=declared, revision=1)
