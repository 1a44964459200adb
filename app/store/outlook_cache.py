"""The outlook of each site as it was last worked out: what takes too long for every look at a board."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any

import pandas as pd
import sqlalchemy as sa
from psycopg.types.json import Json
from pydantic import TypeAdapter

from app.domain import capacity, tree
from app.domain.capacity import Load
from app.domain.drift_figure import DriftFigure, Watched
from app.domain.forecast import Budget, Exhaustion, Projection
from app.domain.limits import LimitProfile, governing, limits_for
from app.domain.normalised import NormalisedPue
from app.domain.opportunities import Opportunity, opportunities
from app.domain.period import Period, floor, midnight, shift_months
from app.domain.savings import Range
from app.domain.site import Site
from app.domain.surcharge import SurchargeForecast
from app.domain.surcharge_rule import SurchargeRule, rules_between
from app.domain.verification import Verified
from app.errors import SeriesError
from app.store import baselines, deployment, drifts, measures, outlook, plant, savings, usage
from app.store.engine import driver, store_errors
from app.store.outlook import FeedExhaustion, YearOutlook
from app.store.sites import Stored

SPAN = timedelta(days=30)
"""Time over which loads and the balance of the tree are looked at."""
KEPT = timedelta(hours=1)
"""An outlook is worked out again after so long, or where the history has grown backwards, a baseline was
frozen or the measures ledger has changed."""
SHOWN_MONTHS = 25
"""Months of which the normalised PUE is kept."""

_STATE = sa.text(
    """
    SELECT s.id, o.evaluated_at, o.known_from,
        (SELECT min(at) FROM site_15m x WHERE x.site_id = s.id AND x.room = ''),
        EXISTS (SELECT FROM baselines b WHERE b.site_id = s.id AND b.created_at > o.evaluated_at)
        OR EXISTS (
            SELECT FROM measures m
            WHERE m.site_id = s.id AND greatest(m.created_at, m.withdrawn_at) > o.evaluated_at
        )
    FROM sites s LEFT JOIN outlooks o ON o.site_id = s.id WHERE s.retired_at IS NULL
    ORDER BY o.evaluated_at NULLS FIRST, s.id
    """
)


def due(connection: sa.Connection, now: datetime) -> dict[int, datetime]:
    """Sites whose outlook is to be worked out, the oldest first, with the beginning of their history.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        rows = connection.execute(_STATE).all()
    return {
        site: begins
        for site, at, known_from, begins, has_news in rows
        if begins is not None and (at is None or now - at > KEPT or begins != known_from or has_news)
    }


def compute(
    connection: sa.Connection,
    stored: Stored,
    site: Site,
    profiles: dict[str, LimitProfile],
    now: datetime,
) -> dict[str, Any]:
    """The outlook of a site as a JSON document: projection, budgets, capacities, balances, flows.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    span = Period(floor(now) - SPAN, floor(now))
    table = usage.frame(connection, stored, usage.capacity_points(site), span)
    balances = list(_balances(site, table))  # first: it fails where nothing is known yet
    year = outlook.year_outlook(connection, stored, site, now.astimezone(site.zone).year, profiles, now)
    it = outlook.it_exhaustion(connection, stored, site, now)
    feeds = outlook.feed_exhaustions(connection, stored, site, now)
    kept = _kept_parts(connection, stored.site_id[site.id])
    document = {
        "projection": asdict(year.projection),
        "budgets": [{"profile": limit.profile, **asdict(budget)} for limit, budget in year.budgets],
        "surcharges": [{**asdict(one), "chance": one.chance} for one in year.surcharges],
        "capacities": list(_capacities(site, table, it, feeds)),
        "exhaustion": {"it": it and asdict(it), "feeds": [asdict(f.exhaustion) for f in feeds]},
        "balances": balances,
        "flows": list(_flows(site, table, span)),
        "savings": _savings(connection, stored, site, now, kept.savings),
        "drift": _drift(connection, stored, site, profiles, now, kept.drift),
        "opportunities": _opportunities(connection, stored, site, now, kept.opportunities),
    }
    return {name: _plain(part) for name, part in document.items()}


def save(
    connection: sa.Connection, site_id: int, now: datetime, known_from: datetime, document: dict[str, Any]
) -> None:
    """Keep the outlook of a site in place of the one before.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        driver(connection).execute(_SAVE, (site_id, now, known_from, Json(document)))


_SAVE = """
    INSERT INTO outlooks (site_id, evaluated_at, known_from, document) VALUES (%s, %s, %s, %s)
    ON CONFLICT (site_id) DO UPDATE SET evaluated_at = excluded.evaluated_at,
        known_from = excluded.known_from, document = excluded.document
"""


@dataclass(frozen=True, slots=True)
class Exhaustions:
    """When the site and its feeds reach what they can carry."""

    evaluated_at: datetime
    it: Exhaustion | None
    feeds: tuple[FeedExhaustion, ...]


def exhaustions(connection: sa.Connection, stored: Stored, site: Site, now: datetime) -> Exhaustions:
    """When the site and its feeds reach what they can carry: as worked out last, else now.

    What was worked out counts for two hours, and as long as it is about the same day and capacities.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    kept = _kept_exhaustions(connection, stored, site, now)
    if kept is not None:
        return kept
    return Exhaustions(
        now,
        outlook.it_exhaustion(connection, stored, site, now),
        outlook.feed_exhaustions(connection, stored, site, now),
    )


def this_year(
    connection: sa.Connection, stored: Stored, site: Site, profiles: dict[str, LimitProfile], now: datetime
) -> YearOutlook:
    """Projection, budgets and surcharges of the current local year: as worked out last, else now.

    What was worked out counts as for :func:`exhaustions`, and as long as limits and rules are the same.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    number = now.astimezone(site.zone).year
    kept = _kept(connection, stored, site, now)
    if kept is not None:
        projection = _PROJECTION.validate_python(kept[1]["projection"])
        budgets = [_BUDGET.validate_python(one) for one in kept[1]["budgets"]]
        limits = outlook.limits_of_year(stored, site, number, profiles)
        expected = [_SURCHARGE.validate_python(one) for one in kept[1].get("surcharges", [])]
        is_same = projection.year == number and [b.limit_pue for b in budgets] == [x.pue for x in limits]
        if is_same and [s.rule for s in expected] == _rules(connection, site, number):
            return YearOutlook(projection, tuple(zip(limits, budgets, strict=True)), tuple(expected))
    return outlook.year_outlook(connection, stored, site, number, profiles, now)


def _rules(connection: sa.Connection, site: Site, number: int) -> list[SurchargeRule]:
    """Surcharge rules that hold for the site in a calendar year, as they are now."""
    if not site.jurisdiction:
        return []
    rules = deployment.reference(connection).surcharges
    spans = rules_between(rules, site.jurisdiction, date(number, 1, 1), date(number, 12, 31))
    return [span.rule for span in spans]


_KEPT_DOCUMENT = sa.text(
    "SELECT evaluated_at, document FROM outlooks WHERE site_id = :site AND known_from = "
    "(SELECT min(at) FROM site_15m WHERE site_id = :site AND room = '')"
)
_EXHAUSTION, _PROJECTION, _BUDGET = TypeAdapter(Exhaustion), TypeAdapter(Projection), TypeAdapter(Budget)
_SURCHARGE = TypeAdapter(SurchargeForecast)


def _kept(
    connection: sa.Connection, stored: Stored, site: Site, now: datetime
) -> tuple[datetime, dict[str, Any]] | None:
    """The outlook worked out last, with its time; None where it counts no longer."""
    with store_errors():
        row = connection.execute(_KEPT_DOCUMENT, {"site": stored.site_id[site.id]}).one_or_none()
    if row is None or not timedelta(0) <= now - row[0] <= 2 * KEPT:
        return None
    is_same_day = row[0].astimezone(site.zone).date() == now.astimezone(site.zone).date()
    return (row[0], row[1]) if is_same_day else None


def _kept_exhaustions(
    connection: sa.Connection, stored: Stored, site: Site, now: datetime
) -> Exhaustions | None:
    kept = _kept(connection, stored, site, now)
    if kept is None or kept[1].get("exhaustion") is None:
        return None
    at, exhaustion = kept[0], kept[1]["exhaustion"]
    it = None if exhaustion["it"] is None else _EXHAUSTION.validate_python(exhaustion["it"])
    found = [_EXHAUSTION.validate_python(one) for one in exhaustion["feeds"]]
    feeds = outlook.rated_feeds(site)
    is_same = [e.capacity_kw for e in found] == [usable_kw for _, usable_kw in feeds]
    if not is_same or (it and it.capacity_kw) != site.design.it_capacity_kw:
        return None
    own = (FeedExhaustion(f.meters, f.stage, e) for (f, _), e in zip(feeds, found, strict=True))
    return Exhaustions(at, it, tuple(own))


_KEPT_PARTS = sa.text(
    "SELECT document -> 'savings', document -> 'drift', document -> 'opportunities'"
    " FROM outlooks WHERE site_id = :site"
)


@dataclass(frozen=True, slots=True)
class _KeptParts:
    """What is of whole days, as it was worked out last: it is worked out again once a day."""

    savings: dict[str, Any] | None
    drift: dict[str, Any] | None
    opportunities: dict[str, Any] | None


def _kept_parts(connection: sa.Connection, number: int) -> _KeptParts:
    with store_errors():
        row = connection.execute(_KEPT_PARTS, {"site": number}).one_or_none()
    return _KeptParts(None, None, None) if row is None else _KeptParts(*row)


def _ledger(connection: sa.Connection, number: int) -> list[list[int]]:
    """Entries of the measures ledger that are in force, with their adjustments."""
    entries = measures.in_force(connection, number)
    return [[entry.id, *(a.id for a in entry.adjustments if a.withdrawn_at is None)] for entry in entries]


def _savings(
    connection: sa.Connection, stored: Stored, site: Site, now: datetime, kept: dict[str, Any] | None
) -> dict[str, Any]:
    """Verified savings and normalised PUE; they are of whole days, so once a day and for every ledger."""
    number, until = stored.site_id[site.id], now.astimezone(site.zone).date()
    ledger = _ledger(connection, number)
    if kept is not None and (kept["until"], kept["ledger"]) == (until.isoformat(), ledger):
        return kept
    found = savings.gather(connection, stored, site, until)
    return {
        "until": until,
        "ledger": ledger,
        "statements": [_statement(one) for one in found.verified],
        "normalised": [_month(first, one) for first, one in found.plant.months(until, SHOWN_MONTHS)],
    }


_SHOWN_DAYS = 400
"""Days of which the drift is kept."""


def _drift(
    connection: sa.Connection,
    stored: Stored,
    site: Site,
    profiles: Mapping[str, LimitProfile],
    now: datetime,
    kept: dict[str, Any] | None,
) -> dict[str, Any]:
    """How the plant stands against its frozen baseline, with its last days."""
    today, number = now.astimezone(site.zone).date(), stored.site_id[site.id]
    frozen = [one.sha256 for one in baselines.listing(connection, number)[:1]]
    rests_on = [today.isoformat(), frozen, _ledger(connection, number)]
    if kept is not None and kept["rests_on"] == rests_on:
        return kept
    bank = stored.fleet.institution[site.institution]
    limit = governing(limits_for(site, bank, dict(profiles), today))
    limit_pue = None if limit is None else limit.pue
    found = drifts.figure(connection, stored, site, midnight(today, site.zone), limit_pue)
    is_known = found.state in (Watched.DRIFTING, Watched.NONE)
    excess_ratio = 0.0 if is_known else None
    return {
        "rests_on": rests_on,
        "state": found.state.value,
        "known_to": found.known_to,
        "onset": None if found.going is None else found.going.onset,
        "excess_ratio": excess_ratio if found.going is None else found.going.excess_ratio,
        **_ends("excess_kwh", None if found.excess is None else found.excess.kwh),
        "mostly": found.blame.mostly,
        "weeks_to_limit": found.weeks_to_limit,
        "limit_pue": found.limit_pue,
        "days": list(_drift_days(found)),
    }


def _drift_days(found: DriftFigure) -> Iterator[dict[str, Any]]:
    if found.days is None or found.level_ratio is None:
        return
    expected_kw = found.days.expected_kw * found.level_ratio
    columns = (found.days.dates.astype(str), found.days.actual_kw, expected_kw)
    for day, actual, expected in list(zip(*columns, strict=True))[-_SHOWN_DAYS:]:
        yield {"day": str(day), "actual_kw": float(actual), "expected_kw": float(expected)}


def _opportunities(
    connection: sa.Connection, stored: Stored, site: Site, now: datetime, kept: dict[str, Any] | None
) -> dict[str, Any]:
    """What could be saved next, from the 12 months up to now; once a day."""
    today = now.astimezone(site.zone).date().isoformat()
    if kept is not None and kept["of"] == today:
        return kept
    end = floor(now)
    span = Period(shift_months(end, -12, site.zone), end)
    try:
        found = opportunities(plant.of_site(connection, stored, site, span, now))
    except SeriesError:  # more sensors than one answer holds
        found = ()
    return {"of": today, "rows": [_opportunity(rank, one) for rank, one in enumerate(found, 1)]}


def _opportunity(rank: int, one: Opportunity) -> dict[str, Any]:
    kwh, amount = one.kwh_per_year, one.amount_per_year
    return {
        "rank": rank,
        "kind": one.kind.value,
        "subject": one.subject,
        "state": one.state.value,
        "kwh_per_year": None if kwh is None else kwh.typical,
        "kwh_low": None if kwh is None else kwh.low,
        "kwh_high": None if kwh is None else kwh.high,
        "amount_per_year": None if amount is None else amount.typical,
        "whole_year": one.is_whole_year,
        "coverage_ratio": one.coverage_ratio,
    }


def _statement(one: Verified) -> dict[str, Any]:
    energy, said = one.saving.energy_kwh, one.statement
    return {
        "measures": " + ".join(said.keys),
        "what": " + ".join(m.what for m in said.measures),
        "boundary": str(said.where),
        "since": said.spans[0][0],
        "until": said.spans[-1][1],
        "in_total": said.in_total,
        "result": one.saving.result.value,
        **_ends("saving_kwh", energy),
        "level": one.saving.level,
        "days": one.saving.days,
        "counted_days": one.saving.counted_days,
    }


def _month(first: date, one: NormalisedPue) -> dict[str, Any]:
    return {"month": first, "measured_pue": one.measured_pue, **_ends("pue", one.pue)}


def _ends(name: str, figure: Range | None) -> dict[str, float | None]:
    if figure is None:
        return {name: None, "low": None, "high": None}
    return {name: figure.value, "low": figure.low, "high": figure.high}


def _capacities(
    site: Site, table: pd.DataFrame, it: Exhaustion | None, feeds: tuple[FeedExhaustion, ...]
) -> Iterator[dict[str, Any]]:
    whole = capacity.it_load(usage.it_energy(site, table), site)
    yield {"name": site.id, "kind": "it", **_load(whole), "state": whole.state, **_reached(it)}
    for room, load in capacity.room_it_loads(site, table).items():
        yield {"name": room, "kind": "room", **_load(load), "state": load.state}
    exhaustions = {f.meters: f.exhaustion for f in feeds}
    for found in capacity.feed_loads(site, table):
        yield {
            "name": " + ".join(found.feed.meters),
            "kind": found.feed.stage,
            "redundancy": found.redundancy,
            "rated_kw": found.rated_kw,
            **_load(found.load),
            "stranded_kw": found.stranded_kw,
            "state": found.state,
            **_reached(exhaustions.get(found.feed.meters)),
        }


def _load(load: Load) -> dict[str, Any]:
    return {"capacity_kw": load.capacity_kw, "mean_kw": load.mean_kw, "peak_kw": load.peak_kw}


def _reached(exhaustion: Exhaustion | None) -> dict[str, Any]:
    if exhaustion is None:
        return {}
    return {"reached_on": exhaustion.on, "earliest": exhaustion.earliest, "latest": exhaustion.latest}


def _balances(site: Site, table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    flows = dict.fromkeys(p.id for p in usage.flow_points(site))
    for found in tree.balances(site, table[list(flows)].dropna(how="all")):
        left = found.remainder
        yield {
            "name": " + ".join(found.feed.meters),
            "stage": found.feed.stage,
            "in_kwh": left.in_kwh,
            "out_kwh": left.out_kwh,
            "tolerance_kwh": left.tolerance_kwh,
            "coverage_ratio": found.coverage_ratio,
            "state": left.state,
        }


def _flows(site: Site, table: pd.DataFrame, span: Period) -> Iterator[dict[str, Any]]:
    flows = [tree.meter_flows(state, rows) for state, rows in tree.by_state(site, table)]
    sums = pd.concat(flows).sum(min_count=1).to_dict() if flows else {}
    site = site.during(span)
    for meter in site.meters:
        if meter.id in sums:
            yield {
                "meter": meter.id,
                "stage": meter.stage,
                "fed_by": list(meter.fed_by),
                "energy_kwh": float(sums[meter.id]),
            }


def _plain(part: Any) -> Any:
    """A part of the document as JSON has it: days as text, what is not a number as null."""
    if isinstance(part, dict):
        return {name: _plain(value) for name, value in part.items()}
    if isinstance(part, list):
        return [_plain(value) for value in part]
    if isinstance(part, float):
        return part if math.isfinite(part) else None
    return part.isoformat() if hasattr(part, "isoformat") else part
