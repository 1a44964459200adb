"""The report of a period: the frozen revision where there is one, else a provisional one, built now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from app.domain.evidence import Frozen
from app.domain.period import floor
from app.domain.site import Institution, Site
from app.errors import NotFound
from app.reports import build, institution
from app.reports.document import Document, InstitutionReport, Report, SiteLine, Span, read
from app.store import deployment
from app.store.engine import Connection
from app.store.reports import revisions
from app.store.reports.revisions import Shelf
from app.store.sites import Stored


def of_site(
    connection: Connection, stored: Stored, site: Site, period: str, revision: int | None, now: datetime
) -> Document:
    """The report of a site; without a frozen revision a provisional one, which stays the same for 15 minutes.

    Raises
    ------
    NotFound
        If there is no such revision.
    SeriesError
        If the period is no month or year, or has not begun.
    """
    frozen = _frozen(connection, Shelf.of_site(stored, site.id), period, revision)
    if frozen is not None:
        return read(frozen.document)
    return build.build(revisions.gather(connection, stored, site, period, floor(now)))


def _frozen(connection: Connection, shelf: Shelf, period: str, revision: int | None) -> Frozen | None:
    """The newest frozen revision, or the one asked for; revision 0 is the provisional report."""
    if revision == 0:
        return None
    frozen = shelf.newest(connection, period, revision)
    if frozen is None and revision is not None:
        raise NotFound(f"there is no revision {revision} of {period}; leave it out for the newest")
    return frozen


def of_institution(
    connection: Connection,
    stored: Stored,
    bank: Institution,
    period: str,
    revision: int | None,
    now: datetime,
    *,
    on_site: Callable[[int], None] = lambda done: None,
) -> Document:
    """The report of all sites of an institution; raises as :func:`of_site`.

    `on_site` is called with the number of finished sites, after each.
    """
    shelf = Shelf.of_institution(connection, bank.id)
    frozen = _frozen(connection, shelf, period, revision)
    if frozen is not None:
        return read(frozen.document)
    return _together(connection, stored, bank, period, now, on_site)


def _together(
    connection: Connection,
    stored: Stored,
    bank: Institution,
    period: str,
    now: datetime,
    on_site: Callable[[int], None],
) -> InstitutionReport:
    spans: list[Span] = []
    found = []
    for one in _reports(connection, stored, sites_of(stored, bank), period, now, spans):
        found.append(one)
        on_site(len(found))
    if not found:
        raise NotFound(f"institution {bank.id} has no site; declare one in the site file")
    declared = [d for site in sites_of(stored, bank) for d in site.declared]
    targets = deployment.reference(connection).indicator_targets
    return institution.build(bank, spans[0], found, floor(now), targets=targets, declared=declared)


def sites_of(stored: Stored, bank: Institution) -> Sequence[Site]:
    """Sites of an institution."""
    return [site for site in stored.fleet.sites if site.institution == bank.id]


def _reports(
    connection: Connection,
    stored: Stored,
    own: Iterable[Site],
    period: str,
    now: datetime,
    spans: list[Span],
) -> Iterator[SiteLine]:
    for site in own:
        document = of_site(connection, stored, site, period, None, now)
        if isinstance(document, Report):
            spans.append(document.period)
            yield institution.line(document)


def lines(
    connection: Connection, stored: Stored, bank: Institution, period: str, now: datetime
) -> Iterator[SiteLine]:
    """One line per site, made one at a time: for institutions with any number of sites.

    Raises
    ------
    SeriesError
        At once, before the first line, if the period has not begun at every site.
    """
    own = sites_of(stored, bank)
    for site in own:
        revisions.begun(site, period, now)
    return _reports(connection, stored, own, period, now, [])
