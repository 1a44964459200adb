"""``wattline budget``, ``balance``, ``capacity``, ``attribution``, ``indicators``, ``fleet``."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from app.api import schemas
from app.api.routes.attribution import attribution_out
from app.api.routes.fleet import fleet_out
from app.api.routes.outlook import balance_out, budget_out, exhaustions_out
from app.api.routes.usage import capacity_out
from app.cli.console import kwh, say, show, show_json, show_table
from app.cli.environment import cells_of, settings
from app.cli.opening import opened
from app.cli.periods import Wanted, period_text
from app.domain import terms
from app.domain.attribution import attribute
from app.domain.figure import percent
from app.fleet import pue
from app.fleet.fanout import DEADLINE_S
from app.fleet.pue import SitePue, Together
from app.reports import document as documents
from app.reports.indicators import build
from app.store import deployment, outlook, outlook_cache, savings, usage
from app.store.engine import connect
from app.store.reports import revisions


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
    columns = [">limit", "profile", ">used kWh", ">remaining kWh", "expected to exceed in", ">probability"]
    show_table(columns, (_budget_cells(one) for one in document.budgets))
    for s in document.surcharges:
        show(_expected_surcharge(s))


def _expected_surcharge(s: documents.SurchargeForecastRow) -> str:
    unverified = "" if s.verified else ", not verified"
    of = f"surcharge {s.rule}{unverified}, {s.first} to {s.last}, PUE above {s.limit_pue:g}"
    if s.amount is None or s.low is None or s.high is None:
        return f"{of}: unknown, {terms.term('en', 'surcharge_reason', s.reason)}"
    chance = "-" if s.chance is None else percent(s.chance)
    band = f"{s.low:,.2f} to {s.high:,.2f}"
    return f"{of}: {_amount(s.amount, s.currency)} expected ({band}), probability {chance}"


def _year_end(one: schemas.ProjectionOut) -> str:
    if one.pue is None or one.low is None or one.high is None:
        return f"no projection: {one.reason}"
    days = f"{one.measured_days} days measured, {one.projected_days} projected"
    within = f"{one.low:.4f} to {one.high:.4f} at {one.level * 100:.0f} %"
    return f"projected year-end PUE {one.pue:.4f} ({within}; {days})"


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
    show(f"{site_id}: {period_text(period, site.zone)}")
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
        full = exhaustions_out(site, outlook_cache.exhaustions(connection, here.stored, site, now))
    if as_json:
        both = {**document.model_dump(mode="json"), "exhaustion": full.model_dump(mode="json")}
        show_json(both)
        return
    show(f"{site_id}: {period_text(period, site.zone)}")
    dates = {tuple(one.meters): one for one in full.feeds}
    rows = [_load_cells("site (IT)", "", document.it_load, full.it)]
    rows += [
        _load_cells(", ".join(x.meters), x.stage, x.load, dates.get(tuple(x.meters))) for x in document.feeds
    ]
    columns = ["feed", "stage", ">mean kW", ">peak kW", ">usable kW", ">peak", "state", "reached by"]
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
        splits = (
            usage.split(connection, here.stored, site, before),
            usage.split(connection, here.stored, site, period),
        )
        why = savings.causes(connection, here.stored, site, splits, (before, period))
    document = attribution_out(site_id, before, period, attribute(*splits), why)
    if as_json:
        show_json(document.model_dump(mode="json"))
        return
    show(f"{site_id}: {period_text(before, site.zone)} -> {period_text(period, site.zone)}")
    moved = f"moved by {document.moved}" if document.moved else "nothing moved it"
    show(f"PUE {document.baseline_pue:.4f} -> {document.pue:.4f}, {document.change:+.4f}; {moved}")
    show_table(
        ["part", ">change of PUE"], ([name, f"{value:+.5f}"] for name, value in document.parts.items())
    )
    if document.causes is not None:
        show_table(
            ["cause", ">change of PUE"],
            ([name, f"{value:+.5f}"] for name, value in document.causes.items()),
        )


def indicators(site_id: str, wanted: Wanted, *, config_path: Path | None, as_json: bool) -> None:
    """Print the indicators beside PUE.

    Raises
    ------
    SeriesError
        If the period is not understood, or has not begun.
    NotFound
        If there is no such site.
    """
    with opened(config_path) as here, connect(here.engine) as connection:
        site, now = here.site(site_id), datetime.now(UTC)
        period = wanted.period(site.zone, now)
        basis = revisions.basis(connection, here.stored, site, period, now)
    found = build(basis)
    if as_json:
        show_json(asdict(found))
        return
    show(f"{site_id}: {period_text(basis.known, site.zone)}")
    measured = ([_named(i.name), _number(i.value), _inputs(i)] for i in found.indicators)
    show_table(
        ["indicator", ">value", "from"], [*measured, ["it_load_ratio", _number(found.it_load_ratio), ""]]
    )
    _show_money(found)
    _show_judged(found)


_UNITS = {"wue": "m3/MWh", "cue": "kgCO2e/kWh"}


def _named(indicator: str) -> str:
    unit = _UNITS.get(indicator)
    return f"{indicator} [{unit}]" if unit else indicator


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4f}"


def _inputs(one: documents.Indicator) -> str:
    if one.value is None:
        return "not measured"
    return ", ".join(f"{name} {value:,.12g}" for name, value in one.inputs.items())


def _show_money(found: documents.Indicators) -> None:
    cash, currency = found.money, found.currency
    mean = "" if cash.mean_price_per_kwh is None else f", {cash.mean_price_per_kwh:.4f} {currency}/kWh"
    show(f"grid electricity {kwh(cash.grid_kwh)} kWh: {_amount(cash.cost, currency)}{mean}")
    if cash.unpriced_kwh:
        show(f"  {kwh(cash.unpriced_kwh)} kWh at times without a tariff are not in it")
    _show_charges(cash, currency)
    factor = cash.factor
    if factor is not None and cash.emissions_kg is not None:
        of = f"{factor.kg_per_kwh} kg/kWh ({factor.region} {factor.basis} {factor.year}, {factor.source})"
        show(f"emissions {cash.emissions_kg:,.1f} kgCO2e by {of}")
    if cash.hourly is not None:
        _show_hourly(cash.hourly)
    rows = (
        [s.comparable_month or s.against, f"{s.pue:.4f}", kwh(s.energy_kwh), _amount(s.cost, currency)]
        for s in found.savings
    )
    show_table(["saving potential against", ">PUE", ">kWh", ">money"], rows)


def _show_hourly(h: documents.HourlyEmissions) -> None:
    share, sources = percent(h.known_ratio), "; ".join(h.sources)
    said = "unknown" if h.emissions_kg is None else f"{h.emissions_kg:,.1f} kgCO2e"
    checked = "" if h.verified else ", not verified"
    show(f"emissions by hourly factors {said}; {share} of the energy has one ({sources}{checked})")


def _show_charges(cash: documents.Money, currency: str) -> None:
    """Maximum demand, surcharges, and all of it together; nothing where the site has neither."""
    for d in cash.demands:
        power = "unknown" if d.power_kw is None else f"{d.power_kw:,.1f} kW"
        so_far = "" if d.is_whole else ", not the whole month"
        charge = "no charge said" if d.charge is None else _amount(d.charge, currency)
        show(f"maximum demand {d.first} to {d.last}: {power}{so_far}, {charge}")
    for s in cash.surcharges:
        unverified = "" if s.verified else ", not verified"
        of = f"surcharge {s.rule}{unverified}, {s.first} to {s.last}, PUE above {s.limit_pue:g}"
        if s.amount is None or s.excess_kwh is None:
            show(f"{of}: unknown, {terms.term('en', 'surcharge_reason', s.reason)}")
        else:
            band = "" if s.low is None else f" ({s.low:,.2f} to {s.high:,.2f})"
            show(f"{of}: {_amount(s.amount, s.currency)}{band} on {kwh(s.excess_kwh)} kWh above the limit")
    if cash.total is not None:
        show(f"energy, demand and surcharge together: {_amount(cash.total, currency)}")


def _amount(money: float | None, currency: str) -> str:
    return "no price" if money is None else f"{money:,.2f} {currency}"


def _show_judged(found: documents.Indicators) -> None:
    rows = (
        [t.indicator, _number(t.value), _target(t), t.standing, t.dated or "measured", t.evidence or t.source]
        for t in found.targets
    )
    show_table(["indicator", ">value", "target", "standing", "dated", "evidence"], rows)
    points = (
        [s.indicator, _number(s.value), f"{s.none_at:g} .. {s.full_at:g}", _share(s.score_ratio), s.source]
        for s in found.scores
    )
    show_table(["scored", ">value", "none .. all points", ">points", "source"], points)


def _target(row: documents.ComplianceRow) -> str:
    ends = [("at least", row.at_least), ("at most", row.at_most)]
    return ", ".join(f"{word} {value:g}" for word, value in ends if value is not None) or "-"


def fleet(window: str, *, config_path: Path | None, as_json: bool) -> None:
    """Print the PUE of every site of every cell, and of all together by both averages.

    Raises
    ------
    SeriesError
        If the window is not understood.
    """
    environment = settings()
    with opened(config_path) as here, connect(here.engine) as connection:
        now = datetime.now(UTC)
        spans = {s.id: Wanted(window).period(s.zone, now) for s in here.stored.fleet.sites}
        profiles = deployment.limit_profiles(connection)
        own = pue.own(connection, here.stored, spans, profiles, environment.cell_id)
    answers = pue.ask(cells_of(environment), window, deadline_s=DEADLINE_S)
    others = [one for answer in answers for one in answer.said or ()]
    found = pue.together([*own, *others], [a.cell.id for a in answers if a.said is None])
    if as_json:
        show_json(fleet_out(window, found))
    else:
        _show_fleet(found, has_cells=bool(answers))
        for answer in answers:
            if answer.said is None:
                say(f"cell {answer.cell.id} is missing: {answer.problem}")


def _show_fleet(found: Together, *, has_cells: bool) -> None:
    show_table(
        ["site", *(["cell"] if has_cells else []), "PUE", ">facility kWh", ">IT kWh", ">coverage", ""],
        (_fleet_row(one, has_cells=has_cells) for one in found.sites),
    )
    figure, without = found.figure, ", ".join(found.missing)
    said = f"   (without cell {without})" if without else ""
    show(f"ratio of sums            {_number(figure.ratio_of_sums)}{said}")
    show(f"weighted by facility kWh {_number(figure.facility_weighted)}{said}")
    if figure.left_out:
        show(f"left out: {', '.join(figure.left_out)}")
    if found.twice:
        show(f"in two cells, so counted in none: {', '.join(found.twice)}")


def _fleet_row(one: SitePue, *, has_cells: bool) -> list[str]:
    said = one.document
    return [
        one.site,
        *([one.cell] if has_cells else []),
        "-" if said["pue"] is None else f"{said['label']} = {said['pue']:.4f}",
        kwh(said["facility_kwh"]),
        kwh(said["it_kwh"]),
        percent(said["coverage_ratio"]),
        said.get("reason") or "",
    ]
