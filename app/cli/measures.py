"""``wattline measures``: what was done to save energy, and the non-routine adjustments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from app.actions import measures as actions
from app.api.routes.measures import measure_out, measures_out
from app.api.schemas import MeasureOut
from app.cli.console import kwh, show, show_json, show_table
from app.cli.opening import opened
from app.domain.measure import Adjustment, Boundary, Measure
from app.errors import SeriesError
from app.store import measures
from app.store.engine import connect

_DAYS = (
    "implementation_start",
    "implementation_end",
    "baseline_start",
    "baseline_end",
    "reporting_start",
    "reporting_end",
)


def add(site_id: str, typed: Mapping[str, Any], *, as_json: bool) -> None:
    """Declare a measure.

    Raises
    ------
    NotFound
        If there is no such site.
    SeriesError
        If the measure cannot be verified, or its key is taken.
    """
    days = {name: _day(name, typed[name]) for name in _DAYS}
    stated = {**typed, **days, "where": Boundary.parse(typed["where"])}
    with opened() as here, here.write() as view:
        found = measure_out(actions.add(view, site_id, Measure.declared(**stated)))
    if as_json:
        show_json(found.model_dump(mode="json"))
    else:
        show(f"{site_id}: measure {found.key} declared, IPMVP option {found.ipmvp_option}")
        show(
            f"baseline {found.baseline_start} to {found.baseline_end}, reporting from {found.reporting_start}"
        )


def _day(name: str, text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise SeriesError(f"{name}: {text!r} is no day; write it like 2026-10-01") from None


def adjust(
    site_id: str, key: str, start: str, end: str, energy_kwh: float, reason: str, *, as_json: bool
) -> None:
    """Note a non-routine adjustment.

    Raises
    ------
    NotFound
        If there is no such site or measure.
    SeriesError
        If it does not lie in the reporting period or has no reason.
    """
    first, last = _day("start", start), _day("end", end)
    if first is None or last is None:
        raise SeriesError("start, end: both are needed")
    wanted = Adjustment(measure=key, start=first, end=last, energy_kwh=energy_kwh, reason=reason)
    with opened() as here, here.write() as view:
        found = measure_out(actions.adjust(view, site_id, wanted))
    _show_one(site_id, found, "adjustment noted", as_json=as_json)


def withdraw(site_id: str, key: str, adjustment: int | None, *, as_json: bool) -> None:
    """Take a measure back, or one of its adjustments.

    Raises
    ------
    NotFound
        If there is no such site, or no such entry in force.
    """
    with opened() as here, here.write() as view:
        if adjustment is None:
            found = measure_out(actions.withdraw(view, site_id, key))
        else:
            found = measure_out(actions.withdraw_adjustment(view, site_id, key, adjustment))
    what = "withdrawn" if adjustment is None else f"adjustment {adjustment} withdrawn"
    _show_one(site_id, found, what, as_json=as_json)


def _show_one(site_id: str, found: MeasureOut, what: str, *, as_json: bool) -> None:
    if as_json:
        show_json(found.model_dump(mode="json"))
    else:
        show(f"{site_id}: measure {found.key}: {what}")


def listing(site_id: str, *, as_json: bool) -> None:
    """Print the measures of a site, withdrawn ones too.

    Raises
    ------
    NotFound
        If there is no such site.
    """
    with opened() as here, connect(here.engine) as connection:
        site = here.site(site_id)
        found = measures_out(site, measures.listing(connection, here.stored.site_id[site.id]))
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    columns = [">measure", "what", ">where", ">work", ">baseline", ">reporting"]
    show_table(columns, (_spans(one) for one in found.measures))
    columns = [">measure", ">cost", ">expected kWh/a", "evidence", "by"]
    show_table(columns, (_stated(one, found.currency) for one in found.measures))
    adjusted = [(one.key, adjustment) for one in found.measures for adjustment in one.adjustments]
    if adjusted:
        columns = [">id", "measure", "from", "to", ">kWh", "reason", "by"]
        show_table(columns, (_adjusted(key, one) for key, one in adjusted), title="Non-routine adjustments")


def _spans(one: MeasureOut) -> list[str]:
    spans = (
        (one.implementation_start, one.implementation_end),
        (one.baseline_start, one.baseline_end),
        (one.reporting_start, one.reporting_end),
    )
    where = f"{one.where} ({one.ipmvp_option})"
    return [one.key, one.what, where, *(f"{start} .. {end or 'open'}" for start, end in spans)]


def _stated(one: MeasureOut, currency: str) -> list[str]:
    cost = "-" if one.cost is None else f"{one.cost:,.2f} {currency}"
    expected = "-" if one.expected_kwh_per_year is None else kwh(one.expected_kwh_per_year)
    by = one.author if one.withdrawn_at is None else f"{one.author}; withdrawn by {one.withdrawn_by}"
    return [one.key, cost, expected, one.evidence, by]


def _adjusted(key: str, one: Any) -> list[str]:
    by = one.author if one.withdrawn_at is None else f"{one.author}; withdrawn by {one.withdrawn_by}"
    return [str(one.id), key, str(one.start), str(one.end), f"{one.energy_kwh:+,.3f}", one.reason, by]
