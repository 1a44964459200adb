"""``wattline opportunities``, ``plant-indicators``."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from app.cli.console import show, show_json, show_table
from app.cli.opening import opened
from app.cli.periods import Wanted, period_text
from app.domain import plant_text, terms
from app.domain.figure import percent
from app.domain.plant_series import PlantSeries
from app.reports import plant as documents
from app.reports.document import OpportunityRow, PlantRow
from app.store import plant
from app.store.engine import connect


def opportunities(site_id: str, wanted: Wanted, *, config_path: Path | None, as_json: bool) -> None:
    """Print what to do next, from what the meters showed over a period; the last 12 months by default.

    Raises
    ------
    SeriesError
        If the period is not understood, or has not begun.
    NotFound
        If there is no such site.
    """
    series = _series(site_id, wanted, "12mo", config_path)
    document = documents.opportunities(series)
    if as_json:
        show_json(asdict(document))
        return
    show(f"{site_id}: {period_text(series.period, series.site.zone)}; savings overlap and do not add up")
    columns = ["opportunity", "state", ">kWh a year", ">from .. to", f">{document.currency} a year", "from"]
    show_table(columns, (_cells(one) for one in document.opportunities))


def _cells(one: OpportunityRow) -> list[str]:
    name = _term("opportunity", one.kind) + (f" ({one.subject})" if one.subject else "")
    high = "?" if one.kwh_high is None else f"{one.kwh_high:,.0f}"
    span = "-" if one.kwh_low is None else f"{one.kwh_low:,.0f} .. {high}"
    return [
        name,
        one.state,
        "-" if one.kwh_per_year is None else f"{one.kwh_per_year:,.0f}",
        span,
        "-" if one.amount_per_year is None else f"{one.amount_per_year:,.0f}",
        _why(one) or ", ".join(one.meters),
    ]


def plant_indicators(site_id: str, wanted: Wanted, *, config_path: Path | None, as_json: bool) -> None:
    """Print the plant indicators of a period; the last 30 days by default.

    Raises
    ------
    SeriesError
        If the period is not understood, or has not begun.
    NotFound
        If there is no such site.
    """
    series = _series(site_id, wanted, "30d", config_path)
    document = documents.plant_indicators(series)
    if as_json:
        show_json(asdict(document))
        return
    show(f"{site_id}: {period_text(series.period, series.site.zone)}, {document.kind}")
    columns = ["indicator", ">value", "unit", "standing", ">coverage", "from"]
    show_table(columns, (_plant_cells(one) for one in document.indicators))


def _plant_cells(one: PlantRow) -> list[str]:
    name = one.name + (f" ({one.subject})" if one.subject else "")
    value = "-" if one.value is None else f"{one.value:,.4f}"
    coverage = "-" if not one.points else percent(one.coverage_ratio)
    return [name, value, one.unit, one.standing or "-", coverage, _why(one) or ", ".join(one.meters)]


def _why(one: PlantRow | OpportunityRow) -> str:
    """Why there is no figure, and what would help."""
    return plant_text.why("en", one.reason, one.missing, one.waits_for, one.poorly_covered)


def _term(family: str, code: str) -> str:
    return terms.term("en", family, code)


def _series(site_id: str, wanted: Wanted, default: str, config_path: Path | None) -> PlantSeries:
    is_open = (wanted.window, wanted.month, wanted.start, wanted.end) == (None, None, None, None)
    chosen = replace(wanted, window=default) if is_open else wanted
    with opened(config_path) as here, connect(here.engine) as connection:
        site, now = here.site(site_id), datetime.now(UTC)
        return plant.of_site(connection, here.stored, site, chosen.period(site.zone, now), now)
