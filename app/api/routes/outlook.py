"""Where the year is going, and whether the metering tree adds up."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.api import schemas
from app.api.context import Caller, SiteId
from app.api.periods import Last30d, check_bars
from app.domain.forecast import Budget, Exhaustion, Projection
from app.domain.limits import Limit
from app.domain.period import Period, Step
from app.domain.site import Site
from app.domain.tree import FeedBalance, StageLoss
from app.reports.charges import forecast_row
from app.store import deployment, outlook, outlook_cache
from app.store.outlook import Balance, YearOutlook
from app.store.outlook_cache import Exhaustions

router = APIRouter(tags=["capacity"])

_MOST_CELLS = 4_000_000
_Year = Annotated[
    int | None, Query(ge=1990, le=2199, description="Year of the site's own zone; default: this year")
]


@router.get("/sites/{site}/budget")
def get_budget(site: SiteId, caller: Caller, year: _Year = None) -> schemas.BudgetOut:
    """The year's projected PUE with its interval, and the overhead energy that every limit leaves."""
    with caller.read() as view:
        found = view.site(site)
        profiles, now = deployment.limit_profiles(view.connection), caller.now
        if year in (None, now.astimezone(found.zone).year):
            figures = outlook_cache.this_year(view.connection, view.stored, found, profiles, now)
        else:
            figures = outlook.year_outlook(view.connection, view.stored, found, year, profiles, now)
    return budget_out(found, figures)


@router.get("/sites/{site}/balance")
def get_balance(site: SiteId, asked: Last30d, caller: Caller) -> schemas.BalanceOut:
    """What goes into every node of the metering tree against what comes out of it."""
    with caller.read() as view:
        found = view.site(site)
        period = asked.resolve(caller.now, found.zone)
        check_bars(period, Step.QUARTER_HOUR, found.zone, len(list(found.points())), _MOST_CELLS)
        figures = outlook.balance(view.connection, view.stored, found, period)
    return balance_out(found, period, figures)


@router.get("/sites/{site}/exhaustion")
def get_exhaustion(site: SiteId, caller: Caller) -> schemas.ExhaustionsOut:
    """The dates on which the site and its UPS, PDU and racks reach what they can carry."""
    with caller.read() as view:
        found = view.site(site)
        figures = outlook_cache.exhaustions(view.connection, view.stored, found, caller.now)
    return exhaustions_out(found, figures)


def budget_out(site: Site, figures: YearOutlook) -> schemas.BudgetOut:
    """The outlook of a year as a document."""
    return schemas.BudgetOut(
        site=site.id,
        year=figures.projection.year,
        projection=_projection(figures.projection),
        budgets=[_budget(limit, one, figures.projection) for limit, one in figures.budgets],
        surcharges=[forecast_row(one, 3) for one in figures.surcharges],
    )


def _projection(one: Projection) -> schemas.ProjectionOut:
    return schemas.ProjectionOut(
        pue=one.pue,
        low=one.low,
        high=one.high,
        level=one.level,
        measured_days=one.measured_days,
        projected_days=one.projected_days,
        facility_kwh=one.facility_kwh,
        it_kwh=one.it_kwh,
        seasonal=one.seasonal,
        reason=one.reason,
    )


def _budget(limit: Limit, one: Budget, projection: Projection) -> schemas.LimitBudgetOut:
    return schemas.LimitBudgetOut(
        profile=limit.profile,
        limit=limit.pue,
        used_kwh=one.used_kwh,
        margin_kwh=one.margin_kwh,
        allowed_kwh=one.allowed_kwh,
        left_kwh=one.left_kwh,
        crossed_in=None if one.crossed_in is None else f"{one.crossed_in:%Y-%m}",
        chance_above_ratio=projection.chance_above(limit.pue),
    )


def balance_out(site: Site, period: Period, figures: Balance) -> schemas.BalanceOut:
    """The balance of the tree as a document."""
    return schemas.BalanceOut(
        site=site.id,
        start=period.start,
        end=period.end,
        nodes=[_node(one) for one in figures.feeds],
        losses=[_loss(one) for one in figures.losses],
    )


def _node(one: FeedBalance) -> schemas.NodeOut:
    return schemas.NodeOut(
        meters=list(one.feed.meters),
        children=list(one.feed.children),
        stage=one.feed.stage.value,
        in_kwh=_known(one.remainder.in_kwh),
        out_kwh=_known(one.remainder.out_kwh),
        remainder_kwh=_known(one.remainder.remainder_kwh),
        tolerance_kwh=_known(one.remainder.tolerance_kwh),
        state=one.remainder.state.value,
        coverage_ratio=one.coverage_ratio,
    )


def _loss(one: StageLoss) -> schemas.StageLossOut:
    return schemas.StageLossOut(
        stage=one.stage.value,
        in_kwh=one.in_kwh,
        out_kwh=one.out_kwh,
        efficiency_ratio=one.efficiency_ratio,
    )


def _known(value: float) -> float | None:
    return value if value == value else None  # NaN: not known


def exhaustions_out(site: Site, figures: Exhaustions) -> schemas.ExhaustionsOut:
    """The dates of full capacity as a document."""
    return schemas.ExhaustionsOut(
        site=site.id,
        evaluated_at=figures.evaluated_at,
        it=None if figures.it is None else _exhaustion((), "site", figures.it),
        feeds=[_exhaustion(one.meters, one.stage.value, one.exhaustion) for one in figures.feeds],
    )


def _exhaustion(meters: tuple[str, ...], stage: str, one: Exhaustion) -> schemas.ExhaustionOut:
    return schemas.ExhaustionOut(
        meters=list(meters),
        stage=stage,
        capacity_kw=one.capacity_kw,
        on=one.on,
        earliest=one.earliest,
        latest=one.latest,
        level=one.level,
        reason=one.reason,
    )
