"""Sites, their meters and points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query

from app.actions.view import View
from app.api import schemas
from app.api.context import Caller, MeterId, SiteId
from app.domain.limits import LimitProfile, limits_for
from app.domain.site import Meter, Point, Site
from app.store import deployment, readings
from app.store.readings import Latest

router = APIRouter(tags=["sites"])


_Limit = Annotated[
    int | None, Query(ge=1, le=1000, description="Most sites of one answer; without it all are given")
]
_Cursor = Annotated[str | None, Query(max_length=100, description="next_cursor of the answer before")]


@router.get("/sites")
def list_sites(caller: Caller, limit: _Limit = None, cursor: _Cursor = None) -> schemas.SitesOut:
    """The sites you may see, all of them or a page at a time."""
    with caller.read() as view:
        profiles = deployment.limit_profiles(view.connection)
        page, further = _page(view.stored.fleet.sites, limit, cursor)
        sites = [_site(view, site, profiles, caller.now) for site in page]
    return schemas.SitesOut(sites=sites, next_cursor=further)


def _page(sites: Sequence[Site], limit: int | None, cursor: str | None) -> tuple[Sequence[Site], str | None]:
    """The sites after that of the `cursor`, and the cursor of those after them."""
    if limit is None and cursor is None:
        return sites, None
    ordered = sorted(sites, key=lambda site: site.id)
    if cursor is not None:
        ordered = [site for site in ordered if site.id > cursor]
    page = ordered if limit is None else ordered[:limit]
    return page, page[-1].id if len(page) < len(ordered) else None


@router.get("/sites/{site}")
def get_site(site: SiteId, caller: Caller) -> schemas.SiteOut:
    """One site with the limits that hold today."""
    with caller.read() as view:
        return _site(view, view.site(site), deployment.limit_profiles(view.connection), caller.now)


@router.get("/sites/{site}/meters")
def list_meters(site: SiteId, caller: Caller) -> schemas.MetersOut:
    """The meters of a site with the newest reading of each point."""
    with caller.read() as view:
        found = view.site(site)
        newest = {one.point: one for one in readings.latest(view.connection, site)}
    meters = [_meter(found, m.latest(caller.now), newest, m) for m in found.meters]
    return schemas.MetersOut(site=site, meters=meters)


@router.get("/meters/{meter}")
def get_meter(meter: MeterId, caller: Caller) -> schemas.MeterOut:
    """One meter with the newest reading of each point."""
    with caller.read() as view:
        site, found = view.meter(meter)
        newest = {one.point: one for one in readings.latest(view.connection, site.id)}
    return _meter(site, found.latest(caller.now), newest, found)


def _site(view: View, site: Site, profiles: Mapping[str, LimitProfile], now: datetime) -> schemas.SiteOut:
    bank = view.stored.fleet.institution[site.institution]
    limits = limits_for(site, bank, dict(profiles), now.astimezone(site.zone).date())
    return schemas.SiteOut(
        id=site.id,
        name=site.name,
        region=site.region,
        institution=schemas.InstitutionOut(
            id=bank.id, name=bank.name, institution_class=bank.institution_class.value
        ),
        time_zone=site.time_zone,
        it_capacity_kw=site.design.it_capacity_kw,
        meters=len(site.at(now).meters),
        rooms=list(site.rooms),
        limits={limit.profile: limit.pue for limit in limits},
    )


def _meter(site: Site, meter: Meter, newest: Mapping[str, Latest], declared: Meter) -> schemas.MeterOut:
    return schemas.MeterOut(
        id=meter.id,
        site=site.id,
        name=meter.name,
        room=meter.room,
        stage=meter.stage.value,
        fed_by=list(meter.fed_by),
        rated_power_kw=meter.rated_power_kw if math.isfinite(meter.rated_power_kw) else None,
        redundancy=meter.redundancy,
        accuracy_class_percent=meter.accuracy_class_percent,
        collector=str(meter.collector["kind"]) if meter.collector else None,
        valid_from=declared.valid_from,
        valid_to=declared.valid_to,
        points=[_point(p, newest.get(p.id)) for p in meter.points],
    )


def _point(point: Point, newest: Latest | None) -> schemas.PointOut:
    return schemas.PointOut(
        id=point.id,
        name=point.name,
        role=point.role.value,
        kind=point.kind.value,
        unit=point.source_unit,
        house_unit=point.quantity.house_unit,
        weight=point.weight,
        interval_s=point.interval_s,
        last_reading_at=newest.at if newest else None,
        last_value=newest.value if newest else None,
    )
