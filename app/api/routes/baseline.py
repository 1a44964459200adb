"""What the plant would use by load and weather: the baseline of a site, fitted now or frozen."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.actions import baselines as actions
from app.api import schemas
from app.api.context import Caller, SiteId
from app.api.periods import Last12mo
from app.domain import forms
from app.domain.baseline import HOURLY_LIMITS, MONTHLY_LIMITS, Baseline, NoBaseline, Resolution, fit
from app.domain.period import Period
from app.domain.site import Site
from app.domain.terms import term
from app.store import baselines, conditions
from app.store.baselines import Frozen

router = APIRouter(tags=["savings"])

_Resolution = Annotated[Resolution, Query(description="What one row of the model stands for")]
_Version = Annotated[
    int | None, Query(ge=1, le=1 << 30, description="A frozen baseline instead of one that is fitted now")
]


@router.get("/sites/{site}/baseline")
def get_baseline(
    site: SiteId,
    asked: Last12mo,
    caller: Caller,
    resolution: _Resolution = Resolution.DAY,
    version: _Version = None,
) -> schemas.BaselineOut:
    """Overhead power by IT load and weather, with its uncertainty and acceptance, or why there is none."""
    with caller.read() as view:
        found = view.site(site)
        number = view.stored.site_id[site]
        frozen = baselines.listing(view.connection, number)
        if version is not None:
            one = baselines.load(view.connection, number, version)
            return baseline_out(found, None, one.baseline, frozen, version)
        period = asked.resolve(caller.now, found.zone)
        rows = conditions.of_site(view.connection, view.stored, found, period, resolution=resolution)
    return baseline_out(found, period, fit(rows), frozen)


@router.post("/sites/{site}/baseline", status_code=201)
def post_baseline(
    site: SiteId, asked: Last12mo, caller: Caller, resolution: _Resolution = Resolution.DAY
) -> schemas.BaselineOut:
    """Fit a baseline to a period and freeze it with the rows that it was fitted to."""
    with caller.write() as view:
        found = view.site(site)
        period = asked.resolve(caller.now, found.zone)
        one = actions.freeze(view, site, period, resolution)
        frozen = baselines.listing(view.connection, view.stored.site_id[site])
    return baseline_out(found, period, one.baseline, frozen, one.version)


def baseline_out(
    site: Site,
    period: Period | None,
    found: Baseline | NoBaseline,
    frozen: list[Frozen],
    version: int | None = None,
) -> schemas.BaselineOut:
    """A baseline as a document."""
    model = found if isinstance(found, Baseline) else None
    return schemas.BaselineOut(
        site=site.id,
        start=None if period is None else period.start,
        end=None if period is None else period.end,
        version=version,
        accepted=model is not None and model.accepted,
        reasons=[schemas.CodeOut(code=r.code, text=r.text()) for r in found.reasons],
        row_count=found.row_count,
        left_out=[
            schemas.LeftOutOut(code=code, text=term("en", "left_out", code), rows=rows)
            for code, rows in found.left_out.items()
        ],
        model=None if model is None else _model(model),
        sha256=None if model is None else model.digest,
        document=None if model is None else model.as_dict(),
        frozen=[_frozen(one) for one in frozen],
    )


def _model(one: Baseline) -> schemas.BaselineModelOut:
    errors = one.standard_errors
    return schemas.BaselineModelOut(
        form=one.form,
        resolution=one.resolution.value,
        coefficients=[
            schemas.CoefficientOut(name=name, value=value, standard_error=errors[name], unit=forms.unit(name))
            for name, value in one.coefficients.items()
        ],
        cv_rmse_ratio=one.cv_rmse_ratio,
        cv_rmse_limit_ratio=HOURLY_LIMITS[0],
        monthly_cv_rmse_ratio=one.monthly_cv_rmse_ratio,
        monthly_cv_rmse_limit_ratio=MONTHLY_LIMITS[0],
        nmbe_ratio=one.nmbe_ratio,
        nmbe_limit_ratio=one.nmbe_limit,
        coverage_ratio=one.coverage_ratio,
        first_day=one.first_day,
        last_day=one.last_day,
        it_range_kw=one.it_range_kw,
        wet_bulb_range_c=one.wet_bulb_range_c,
        weather=None if one.weather is None else schemas.WeatherOut(**one.weather.as_dict()),
        residual_sd_kw=one.residual_sd_kw,
        autocorrelation=one.autocorrelation,
    )


def _frozen(one: Frozen) -> schemas.FrozenOut:
    return schemas.FrozenOut(
        version=one.version,
        sha256=one.sha256,
        author=one.author,
        created_at=one.created_at,
        first_day=one.baseline.first_day,
        last_day=one.baseline.last_day,
        form=one.baseline.form,
        accepted=one.baseline.accepted,
    )
