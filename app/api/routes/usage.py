"""How much of the capacity is used."""

from __future__ import annotations

import pandas as pd
from fastapi import APIRouter

from app.api import schemas
from app.api.context import Caller, SiteId
from app.api.periods import Last24h, Last30d, check_bars
from app.domain import capacity
from app.domain.capacity import FeedLoad, Load
from app.domain.period import Period, Step
from app.domain.quantity import ENERGY_KINDS
from app.domain.site import Point, Site
from app.store import power, usage
from app.store.power import Power

router = APIRouter(tags=["capacity"])

_MOST_CELLS = 4_000_000


@router.get("/sites/{site}/utilisation")
def get_utilisation(site: SiteId, asked: Last24h, caller: Caller) -> schemas.UtilisationOut:
    """IT load against the design capacity of the site and of its rooms."""
    with caller.read() as view:
        found = view.site(site)
        period = asked.resolve(caller.now, found.zone)
        carriers = usage.it_points(found)
        check_bars(period, Step.QUARTER_HOUR, found.zone, len(carriers), _MOST_CELLS)
        table = usage.frame(view.connection, view.stored, carriers, period)
    return schemas.UtilisationOut(
        site=site,
        start=period.start,
        end=period.end,
        it_load=_load(capacity.it_load(usage.it_energy(found, table), found)),
        rooms={room: _load(load) for room, load in capacity.room_it_loads(found, table).items()},
    )


@router.get("/sites/{site}/power")
def get_power(site: SiteId, caller: Caller) -> schemas.PowerOut:
    """Power of every point that carries energy: the mean of its newest quarter-hour."""
    with caller.read() as view:
        there = view.site(site).at(caller.now)
        carriers = [(m, p) for m in there.meters for p in m.points if p.kind in ENERGY_KINDS]
        numbers = [view.stored.point_id[p.id] for _, p in carriers]
        known = power.latest(view.connection, caller.now, numbers)
    pairs = zip(carriers, numbers, strict=True)
    points = [_power(meter.id, point, known.get(number)) for (meter, point), number in pairs]
    return schemas.PowerOut(site=site, points=points)


def _power(meter: str, point: Point, known: Power | None) -> schemas.PointPowerOut:
    return schemas.PointPowerOut(
        point=point.id,
        meter=meter,
        role=point.role.value,
        start=known and known.start,
        power_kw=known and known.power_kw,
        coverage_ratio=known.coverage_ratio if known else 0.0,
    )


@router.get("/sites/{site}/capacity")
def get_capacity(site: SiteId, asked: Last30d, caller: Caller) -> schemas.CapacityOut:
    """Load of every feed against what its redundancy lets it carry, from the incomers to the racks."""
    with caller.read() as view:
        found = view.site(site)
        period = asked.resolve(caller.now, found.zone)
        points = usage.capacity_points(found)
        check_bars(period, Step.QUARTER_HOUR, found.zone, len(points), _MOST_CELLS)
        table = usage.frame(view.connection, view.stored, points, period)
    return capacity_out(found, period, table)


def capacity_out(site: Site, period: Period, table: pd.DataFrame) -> schemas.CapacityOut:
    """Load of every feed as a document, from the energies of ``usage.capacity_points``."""
    return schemas.CapacityOut(
        site=site.id,
        start=period.start,
        end=period.end,
        it_load=_load(capacity.it_load(usage.it_energy(site, table), site)),
        feeds=[_feed(one) for one in capacity.feed_loads(site, table)],
    )


def _feed(one: FeedLoad) -> schemas.FeedOut:
    return schemas.FeedOut(
        meters=list(one.feed.meters),
        children=list(one.feed.children),
        stage=one.feed.stage.value,
        redundancy=one.redundancy,
        rated_kw=one.rated_kw,
        stranded_kw=one.stranded_kw,
        load=_load(one.load),
    )


def _load(load: Load) -> schemas.LoadOut:
    return schemas.LoadOut(
        capacity_kw=load.capacity_kw,
        mean_kw=load.mean_kw,
        peak_kw=load.peak_kw,
        peak_at=load.peak_at,
        mean_ratio=load.mean_ratio,
        peak_ratio=load.peak_ratio,
        headroom_kw=load.headroom_kw,
        coverage_ratio=load.coverage_ratio,
        state=load.state.value,
    )
