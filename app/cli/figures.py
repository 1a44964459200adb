"""``wattline pue`` and ``wattline energy``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from app.cli.console import kwh, say, show, show_json, show_table
from app.cli.opening import Opened, opened
from app.cli.periods import Wanted, local, period_text
from app.domain import figure, terms
from app.domain.figure import percent
from app.domain.period import Period, Step
from app.domain.pue import PueDocument, redefined
from app.domain.site import Site
from app.store import breakdown, deployment
from app.store import energy as energies
from app.store import pue as documents
from app.store.breakdown import By, EnergyRow
from app.store.engine import connect


def pue(site_id: str, wanted: Wanted, *, room: str, config_path: Path | None, as_json: bool) -> None:
    """Print the PUE of a site or room over a period.

    Raises
    ------
    SeriesError
        If the period is not understood.
    NotFound
        If there is no such site or room.
    """
    with opened(config_path) as here:
        site = here.site(site_id)
        period = wanted.period(site.zone, datetime.now(UTC))
        document = _document(here, site, period, room)
        if as_json:
            show_json(document.as_dict())
        else:
            _show_document(document, period, site.zone)
        if document.coverage_ratio == 0:
            _hint(here, site)


def _document(here: Opened, site: Site, period: Period, room: str) -> PueDocument:
    with connect(here.engine) as connection:
        profiles = deployment.limit_profiles(connection)
        return documents.document(connection, here.stored, site.id, period, profiles, room)


def _show_document(document: PueDocument, period: Period, zone: ZoneInfo) -> None:
    show(f"{document.site}{' ' + document.room if document.room else ''}: {period_text(period, zone)}")
    show(_headline(document))
    if document.coverage_ratio > 0:
        show_table(["Load class", ">kWh", ">Share of IT"], _energy_rows(document))
    estimated = percent(document.estimated_ratio)
    show(f"Coverage {percent(document.coverage_ratio)}, {estimated} estimated")
    for v in document.verdicts:
        verdict, plain = (terms.term("en", "verdict", o.value).lower() for o in (v.verdict, v.plain))
        direct = "" if plain == verdict else f" (ignoring uncertainty: {plain})"
        show(f"Limit {v.limit:.2f}, {_profile(v.profile)}: {verdict}{direct}")
    for g in document.grades:
        reached = f"grade {g.grade}" if g.grade else "no grade reached"
        certain = "" if g.is_certain else " (inconclusive within the uncertainty)"
        show(f"{_profile(g.profile)}: {reached}{certain}")
    for d in document.reporting_duties:
        duty = {True: "applies", False: "does not apply", None: "unknown; declare design: it_capacity_kw"}
        from_kw = f"duty to report from {d.from_it_kw:g} kW installed IT power"
        show(f"{_profile(d.profile)}: {from_kw} {duty[d.applies]}")


def _profile(code: str) -> str:
    return terms.term("en", "profile", code)


def _headline(document: PueDocument) -> str:
    if document.pue is None:
        return f"PUE unavailable: {document.reason}"
    places = figure.decimals(document.uncertainty)
    band = "" if document.uncertainty is None else f" ± {document.uncertainty:.{places}f}"
    return f"{document.label} = {document.pue:.{places}f}{band} ({terms.term('en', 'kind', document.kind)})"


def _energy_rows(document: PueDocument) -> list[list[str]]:
    parts = {
        "facility": document.facility_kwh,
        "it": document.it_kwh,
        **document.overhead_kwh,
        "unmetered": document.unmetered_kwh,
    }
    return [
        [
            terms.term("en", "class", name),
            kwh(value),
            "-" if document.pue is None else f"{value / document.it_kwh:.4f}",
        ]
        for name, value in parts.items()
    ]


def _hint(here: Opened, site: Site) -> None:
    """Where nothing is known of a period, say of which something is."""
    numbers = [here.stored.point_id[p.id] for p in site.points()]
    with connect(here.engine) as connection:
        known = energies.known_span(connection, numbers)
    if known is None:
        say(f"site {site.id} has no energy yet; import a file or start `wattline serve`")
    else:
        since = period_text(known, site.zone)
        say(f"energy of site {site.id} is known from {since}; choose it with --start and --end")


def energy(
    site_id: str, wanted: Wanted, *, by: str, step: str | None, config_path: Path | None, as_json: bool
) -> None:
    """Print the energy of a site by load class, point or room.

    Raises
    ------
    SeriesError
        If the period is not understood.
    NotFound
        If there is no such site.
    """
    with opened(config_path) as here:
        site = here.site(site_id)
        period = wanted.period(site.zone, datetime.now(UTC))
        with connect(here.engine) as connection:
            chosen = None if step is None else Step(step)
            rows = breakdown.rows(connection, here.stored, site, period, By(by), chosen)
            pending = len(documents.redefined(connection, here.stored, site, period))
        if pending:
            say(redefined(pending))
        if as_json:
            notice = {"pending": pending, "reason": redefined(pending)} if pending else {}
            show_json({**energy_document(site, period, by, step, rows), **notice})
        else:
            _show_rows(site, period, rows, with_time=step is not None)
        if all(row.coverage_ratio == 0 for row in rows):
            _hint(here, site)


def energy_document(
    site: Site, period: Period, by: str, step: str | None, rows: list[EnergyRow]
) -> dict[str, object]:
    """The energy of a site as JSON-ready data."""
    return {
        "site": site.id,
        "start": breakdown.text_of(period.start),
        "end": breakdown.text_of(period.end),
        "by": by,
        "step": step,
        "rows": [row.as_dict() for row in rows],
    }


def _show_rows(site: Site, period: Period, rows: list[EnergyRow], *, with_time: bool) -> None:
    show(f"{site.id}: {period_text(period, site.zone)}")
    columns = [*(["from"] if with_time else []), "name", ">kWh", ">coverage", ">estimated"]
    show_table(columns, (_cells(site, row, with_time=with_time) for row in rows))


def _cells(site: Site, row: EnergyRow, *, with_time: bool) -> list[str]:
    figures = [kwh(row.energy_kwh), percent(row.coverage_ratio), percent(row.estimated_ratio)]
    return [*([local(row.start, site.zone)] if with_time else []), row.name or "(no room)", *figures]
