"""``wattline baseline``: what a plant would use by load and weather."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from app.actions import baselines as actions
from app.api.routes.baseline import baseline_out
from app.api.schemas import BaselineModelOut, BaselineOut
from app.cli.console import show, show_json, show_table
from app.cli.opening import opened
from app.cli.periods import Wanted
from app.domain.baseline import Baseline, NoBaseline, Resolution, fit
from app.domain.figure import percent
from app.errors import SeriesError
from app.store import baselines, conditions


def baseline(
    site_id: str, wanted: Wanted, of: str, *, version: int | None, freeze: bool, as_json: bool
) -> None:
    """Fit, freeze or show a baseline; the last 12 months by default.

    Raises
    ------
    SeriesError
        If the period is not understood, or there is nothing to freeze.
    NotFound
        If there is no such site or frozen baseline.
    """
    if of not in tuple(Resolution):
        raise SeriesError(f"--resolution {of!r}; say day or hour")
    resolution = Resolution(of)
    with opened() as here, here.write() as view:
        site, number = view.site(site_id), view.stored.site_id[site_id]
        period = _asked(wanted).period(site.zone, datetime.now(UTC))
        if version is not None or freeze:
            one = (
                actions.freeze(view, site_id, period, resolution)
                if version is None
                else baselines.load(view.connection, number, version)
            )
            found: Baseline | NoBaseline = one.baseline
            number_of: int | None = one.version
        else:
            rows = conditions.of_site(view.connection, view.stored, site, period, resolution=resolution)
            found, number_of = fit(rows), None
        frozen = baselines.listing(view.connection, number)
    document = baseline_out(site, None if version else period, found, frozen, number_of)
    if as_json:
        show_json(document.model_dump(mode="json"))
    else:
        _show(document)


def _asked(wanted: Wanted) -> Wanted:
    is_open = (wanted.window, wanted.month, wanted.start, wanted.end) == (None, None, None, None)
    return replace(wanted, window="12mo") if is_open else wanted


def _show(document: BaselineOut) -> None:
    frozen = f"frozen as version {document.version}" if document.version else "not frozen"
    if document.model is None:
        show(f"{document.site}: no baseline")
    else:
        show(f"{document.site}: {'accepted' if document.accepted else 'not accepted'}, {frozen}")
    for reason in document.reasons:
        show(f"because {reason.text}")
    for left in document.left_out:
        show(f"{left.rows} left out: {left.text}")
    if document.model is not None:
        _show_model(document.model, document.sha256 or "")


def _show_model(model: BaselineModelOut, sha256: str) -> None:
    show(f"{model.form}, {model.first_day} to {model.last_day}, {percent(model.coverage_ratio)} of the time")
    weather = model.weather
    show(f"weather {weather.provenance}: {weather.source}" if weather else "no weather")
    show_table(
        ["coefficient", ">value", ">standard error", "unit"],
        ([c.name, f"{c.value:.4f}", f"{c.standard_error:.4f}", c.unit] for c in model.coefficients),
    )
    checks = {
        "CV(RMSE)": (model.cv_rmse_ratio, model.cv_rmse_limit_ratio),
        "CV(RMSE) of months": (model.monthly_cv_rmse_ratio, model.monthly_cv_rmse_limit_ratio),
        "NMBE": (model.nmbe_ratio, model.nmbe_limit_ratio),
    }
    rows = ([name, f"{value:.1%}", f"{most:.0%}"] for name, (value, most) in checks.items())
    show_table(["check", ">value", ">limit"], rows)
    low, high = model.it_range_kw
    show(f"IT load seen: {low:,.0f} to {high:,.0f} kW")
    if model.wet_bulb_range_c is not None:
        show("wet bulb seen: {:.1f} to {:.1f} C".format(*model.wet_bulb_range_c))
    show(f"sha256 {sha256}")
