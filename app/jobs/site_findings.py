"""Look for what the meters of a site tell about each other.

By local months after an import and once a day; over the last days while readings come in.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

import structlog

from app.domain.period import Period, floor, midnight
from app.domain.pue import Boundary, boundary
from app.domain.quality.finding import Finding, FindingKind
from app.domain.quality.flows import flow_findings, it_missing
from app.domain.site import Point, Site
from app.errors import StoreUnavailable
from app.jobs.findings import BALANCE_DAYS, of_tree
from app.store import failed_months, sites, usage
from app.store import findings as store
from app.store.engine import Connection, Engine, begin, connect, glance
from app.store.findings import Scope
from app.store.sites import Stored

_log = structlog.get_logger(__name__)

LIVE = timedelta(days=2)
"""Stretch that is looked at while readings come in; longer changes are looked at by whole months."""
USUAL = timedelta(days=35)
"""Time before a month that says what its points usually take: a load may be missing all month."""
FLOW_KINDS = (
    FindingKind.IT_MISSING,
    FindingKind.RATIO_CHANGED,
    FindingKind.IT_ABOVE_FACILITY,
    FindingKind.SAME_ENERGY,
)


def waiting(engine: Engine, longer_than: timedelta = LIVE) -> dict[int, Period]:
    """Stretches in the queue by number of their site; to be asked before the queue is worked off.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with glance(engine) as connection:
        spans = store.queued_sites(connection)
    return {n: span for n, span in spans.items() if span.end - span.start > longer_than}


def look_at_months(engine: Engine, spans: dict[int, Period], now: datetime) -> int:
    """Look at the local months that these stretches touch; how many there were.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    looked = 0
    for number, span in spans.items():
        with connect(engine) as connection:
            stored = sites.load(connection)
            site = next((s for s in stored.fleet.sites if stored.site_id[s.id] == number), None)
            if site is None:
                continue
            months = store.months_of_site(connection, number, _days(span, site))
        for month in months:
            _try_month(engine, stored, site, month, now)
        looked += len(months)
    return looked


def try_failed_months(engine: Engine, now: datetime) -> None:
    """Look again at the months at which something failed.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with connect(engine) as connection:
        failed = failed_months.of_sites(connection)
        stored = sites.load(connection) if failed else None
    for site_id, months in failed.items():
        site = stored.fleet.site.get(site_id) if stored else None
        for month in months:
            day = date.fromisoformat(f"{month}-01")
            if stored is None or site is None:
                with begin(engine) as connection:
                    failed_months.clear(connection, site_id, day)
            else:
                _try_month(engine, stored, site, day, now)


def _try_month(engine: Engine, stored: Stored, site: Site, month: date, now: datetime) -> None:
    """Look at a month; one that fails keeps no other from being looked at, and is shown until it succeeds."""
    try:
        with begin(engine) as connection:
            _look_at_month(connection, stored, site, month, now)
            failed_months.clear(connection, site.id, month)
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - shown on the page and in the metrics, and tried again
        _log.exception("findings of a month failed; retrying", site=site.id, month=f"{month:%Y-%m}")
        with begin(engine) as connection:
            failed_months.record(connection, site.id, month, f"{type(error).__name__}: {error}", now)


def _days(span: Period, site: Site) -> tuple[date, date]:
    return span.start.astimezone(site.zone).date(), span.end.astimezone(site.zone).date()


def _look_at_month(connection: Connection, stored: Stored, site: Site, month: date, now: datetime) -> None:
    after = (month + timedelta(days=32)).replace(day=1)
    span = Period(midnight(month, site.zone), midnight(after, site.zone))
    for part in site.interval_segments(span):
        parts, start = boundary(part.site), part.period.start
        table = usage.frame(connection, stored, _points(parts), Period(start - USUAL, part.period.end))
        lasting = store.lasting(connection, _numbers(stored, parts), start - USUAL, start)
        is_now = part.period.end > now
        found = flow_findings(part.site, parts, table, start, is_now=is_now, lasting=lasting)
        _keep(connection, stored, site, parts, FLOW_KINDS, part.period, found)
    if span.start < now - timedelta(days=BALANCE_DAYS + 1):  # later ones are balanced every day
        tree = (FindingKind.NEGATIVE_REMAINDER,)
        _keep(connection, stored, site, parts, tree, span, of_tree(connection, stored, site, span))


def _points(parts: Boundary) -> list[Point]:
    return [*parts.it, *(p for p in parts.apart if p.id in parts.facility)]


def _numbers(stored: Stored, parts: Boundary) -> list[int]:
    return [stored.point_id[p.id] for p in _points(parts)]


def _keep(
    connection: Connection,
    stored: Stored,
    site: Site,
    parts: Boundary,
    kinds: tuple[FindingKind, ...],
    span: Period,
    found: list[Finding],
) -> None:
    numbers = {p.id: stored.point_id[p.id] for p in _points(parts)}
    scope = Scope(stored.site_id[site.id], [0, *numbers.values()], kinds, span.start, span.end)
    store.replace(connection, scope, found, numbers)


def look_at_last_days(engine: Engine, now: datetime) -> None:
    """Look at the last days of every site for loads that vanish.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with begin(engine) as connection:
        stored = sites.load(connection)
        for site in stored.fleet.sites:
            span = Period(midnight((now - LIVE).astimezone(site.zone).date(), site.zone), floor(now))
            for part in site.interval_segments(span):
                parts = boundary(part.site)
                table = usage.frame(connection, stored, _points(parts), part.period)
                start, is_now = part.period.start, part.period.end == span.end
                lasting = store.lasting(connection, _numbers(stored, parts), start, part.period.end)
                found = it_missing(parts, table, is_now=is_now, lasting=lasting)
                _keep(connection, stored, site, parts, FLOW_KINDS[:1], part.period, found)


def look_at_this_month(engine: Engine, now: datetime) -> None:
    """Look at the local month of yesterday of every site, as once a day.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with connect(engine) as connection:
        numbers = sites.load(connection).site_id.values()
    yesterday = Period(now - timedelta(days=1), now)
    look_at_months(engine, dict.fromkeys(numbers, yesterday), now)
