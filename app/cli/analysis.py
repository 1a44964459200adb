"""``wattline budget``, ``balance``, ``capacity`` and ``attribution``: the documents of the HTTP interface."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from app.api import schemas
from app.api.routes.attribution import attribution_out
from app.api.routes.outlook import balance_out, budget_out, exhaustions_out
from app.api.routes.usage import capacity_out
from app.cli.console import kwh, percent, show, show_json, show_table
from app.cli.opening import opened
from app.cli.periods import Wanted, spoken
from app.domain.attribution import attribute
from app.store import deployment, outlook, usage
from app.store.engine import connect


def budget(site_id: str, *, year: int | None, config_path: Path | None, as_json: bool) -> None:
    """Print how the year will end and what each limit leaves of it.

    Raises
    ------
    NotFound
        If there is no such site.
    """
    with opened(config_path) as here, connect(here.engine) as connection:
        site, now = here.site(site_id), datetime.now(UTC)
        chosen = year or now.astimezone(site.zone).year
        profiles = deployment.limit_profiles(connection)
        document = budget_out(
            site, outlook.year_outlook(connection, here.stored, site, chosen, profiles, now)
        )
    if as_json:
        show_json(document.model_dump(mode="json"))
        return
    show(f"{site_id}, {document.year}: {_year_end(document.projection)}")
    columns = [">limit", "profile", ">used kWh", ">left kWh", "crossed in", ">chance above"]
    show_table(columns, (_budget_cells(one) for one in document.budgets))


def _year_end(one: schemas.ProjectionOut) -> str:
    if one.pue is None or one.low is None or one.high is None:
        return f"no projection: {one.reason}"
    days = f"{one.measured_days} days measured, {one.projected_days} projected"
    return f"PUE at the year's end {one.pue:.4f} ({one.low:.4f} .. {one.high:.4f} at {one.level:.0%}; {days})"


def _budget_cells(one: schemas.LimitBudgetOut) -> list[str]:
    return [
        f"{one.limit:g}",
        one.profile,
        kwh(one.used_kwh),
        _known(one.left_kwh),
        one.crossed_in or "-",
        "-" if one.chance_above_ratio is None else percent(one.chance_above_ratio),
    ]


def _known(value_kwh: float | None) -> str:
    return "-" if value_kwh is None else kwh(value_kwh)


def balance(site_id: str, wanted: Wanted, *, config_path: Path | None, as_json: bool) -> None:
    """Print whether the metering tree adds up.

    Raises
    ------
    SeriesError
        If the period is not understood, or nothing is known of it.
    NotFound
        If there is no such site.
    """
    with opened(config_path) as here, connect(here.engine) as connection:
        site = here.site(site_id)
        period = wanted.period(site.zone, datetime.now(UTC))
        document = balance_out(site, period, outlook.balance(connection, here.stored, site, period))
    if as_json:
        show_json(document.model_dump(mode="json"))
        return
    show(f"{site_id}: {spoken(period, site.zone)}")
    columns = ["fed by", "stage", ">in kWh", ">out kWh", ">remainder kWh", ">tolerance kWh", "state"]
    show_table(columns, (_node_cells(one) for one in document.nodes))
    losses = (
        [x.stage, _known(x.in_kwh), _known(x.out_kwh), _share(x.efficiency_ratio)] for x in document.losses
    )
    show_table(["behind", ">in kWh", ">out kWh", ">arrives"], losses)


def _node_cells(one: schemas.NodeOut) -> list[str]:
    figures = [one.in_kwh, one.out_kwh, one.remainder_kwh, one.tolerance_kwh]
    return [", ".join(one.meters), one.stage, *map(_known, figures), one.state]


def _share(ratio: float | None) -> str:
    return "-" if ratio is None else percent(ratio)


def capacity(site_id: str, wanted: Wanted, *, config_path: Path | None, as_json: bool) -> None:
    """Print the load of every feed, and when it will be full.

    Raises
    ------
    SeriesError
        If the period is not understood.
    NotFound
        If there is no such site.
    """
    with opened(config_path) as here, connect(here.engine) as connection:
        site, now = here.site(site_id), datetime.now(UTC)
        period = wanted.period(site.zone, now)
        table = usage.frame(connection, here.stored, usage.capacity_points(site), period)
        document = capacity_out(site, period, table)
        it = outlook.it_exhaustion(connection, here.stored, site, now)
        full = exhaustions_out(site, it, outlook.feed_exhaustions(connection, here.stored, site, now))
    if as_json:
        both = {**document.model_dump(mode="json"), "exhaustion": full.model_dump(mode="json")}
        show_json(both)
        return
    show(f"{site_id}: {spoken(period, site.zone)}")
    dates = {tuple(one.meters): one for one in full.feeds}
    rows = [_load_cells("site (IT)", "", document.it_load, full.it)]
    rows += [
        _load_cells(", ".join(x.meters), x.stage, x.load, dates.get(tuple(x.meters))) for x in document.feeds
    ]
    columns = ["what", "stage", ">mean kW", ">peak kW", ">usable kW", ">peak", "state", "full on"]
    show_table(columns, rows)


def _load_cells(
    name: str, stage: str, load: schemas.LoadOut, full: schemas.ExhaustionOut | None
) -> list[str]:
    figures = ["-" if x is None else f"{x:,.1f}" for x in (load.mean_kw, load.peak_kw, load.capacity_kw)]
    return [name, stage, *figures, _share(load.peak_ratio), load.state, _full_on(full)]


def _full_on(one: schemas.ExhaustionOut | None) -> str:
    if one is None or one.on is None:
        return "-"
    return f"{one.on} ({one.earliest or '...'} .. {one.latest or '...'})"


def attribution(
    site_id: str, wanted: Wanted, baseline: Wanted, *, config_path: Path | None, as_json: bool
) -> None:
    """Print which part of the data centre moved the PUE between two periods.

    Raises
    ------
    CoverageTooLow
        If one of the periods is covered too little.
    SeriesError
        If a period is not understood.
    NotFound
        If there is no such site.
    """
    with opened(config_path) as here, connect(here.engine) as connection:
        site, now = here.site(site_id), datetime.now(UTC)
        before, period = baseline.period(site.zone, now), wanted.period(site.zone, now)
        figure = attribute(
            usage.split(connection, here.stored, site, before),
            usage.split(connection, here.stored, site, period),
        )
    document = attribution_out(site_id, before, period, figure)
    if as_json:
        show_json(document.model_dump(mode="json"))
        return
    show(f"{site_id}: {spoken(before, site.zone)} -> {spoken(period, site.zone)}")
    moved = f"moved by {document.moved}" if document.moved else "nothing moved it"
    show(f"PUE {document.baseline_pue:.4f} -> {document.pue:.4f}, {document.change:+.4f}; {moved}")
    show_table(
        ["part", ">change of PUE"], ([name, f"{value:+.5f}"] for name, value in document.parts.items())
    )
