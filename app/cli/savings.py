"""``wattline savings``: what the measures of a site saved, and the PUE without weather and load."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from app.cli.console import show, show_json, show_table
from app.cli.opening import opened
from app.domain.baseline import Reason
from app.reports.document import Because, Interval, NormalisedRow, Savings, VerifiedSaving
from app.reports.savings import build
from app.store import measures
from app.store import savings as store
from app.store.engine import connect

_SAID = {
    "saved": "saved",
    "used_more": "used more",
    "not_distinguishable": "not distinguishable from zero",
    "unknown": "no figure",
}


def show_savings(site_id: str, measure: str | None, *, config_path: Path | None, as_json: bool) -> None:
    """Print the verified savings of a site.

    Raises
    ------
    NotFound
        If there is no such site or measure.
    """
    with opened(config_path) as here, connect(here.engine) as connection:
        site = here.site(site_id)
        if measure is not None:
            measures.named(connection, here.stored.site_id[site.id], measure)
        until = datetime.now(UTC).astimezone(site.zone).date()
        found = store.gather(connection, here.stored, site, until)
    document = _only(build(site.id, site.currency, found), measure)
    if as_json:
        show_json(asdict(document))
        return
    _show(document)


def _only(document: Savings, measure: str | None) -> Savings:
    if measure is None:
        return document
    kept = [one for one in document.statements if measure in {m.key for m in one.measures}]
    return replace(document, statements=kept, total_kwh=None)


def _show(document: Savings) -> None:
    show(
        f"{document.site}: verified savings up to {document.until}, intervals at {document.level * 100:.0f} %"
    )
    columns = [
        ">measure",
        "result",
        ">saving kWh",
        ">interval",
        f">{document.currency}",
        ">days",
        "IPMVP",
        "",
    ]
    show_table(columns, (_cells(one) for one in document.statements))
    for one in document.statements:
        for reason in one.reasons:
            show(f"{_keys(one)}: {because(reason)}")
    if document.total_kwh is not None:
        show(f"together {_range(document.total_kwh)} kWh; each kilowatt-hour is counted once")
    columns = ["month", ">PUE measured", ">PUE normalised", ">interval", ">days"]
    show_table(columns, (_normalised(one) for one in document.normalised_pue))
    for reason in document.baseline_reasons:
        show(f"no normalised PUE: {because(reason)}")


def _keys(one: VerifiedSaving) -> str:
    return " + ".join(m.key for m in one.measures)


def _cells(one: VerifiedSaving) -> list[str]:
    saved, money = one.energy_kwh, one.money
    return [
        _keys(one),
        _SAID[one.result],
        "-" if saved is None else f"{saved.value:,.0f}",
        "-" if saved is None else f"{saved.low:,.0f} .. {saved.high:,.0f}",
        "-" if money is None else f"{money.value:,.0f}",
        f"{one.counted_days} of {one.days}",
        f"option {one.ipmvp_option}, {one.where}",
        "" if one.in_total else "within another statement",
    ]


def _range(one: Interval) -> str:
    return f"{one.value:,.0f} ({one.low:,.0f} .. {one.high:,.0f})"


def _normalised(one: NormalisedRow) -> list[str]:
    pue = one.pue
    return [
        one.period,
        "-" if one.measured_pue is None else f"{one.measured_pue:.3f}",
        "-" if pue is None else f"{pue.value:.3f}",
        "-" if pue is None else f"{pue.low:.3f} .. {pue.high:.3f}",
        f"{one.counted_days} of {one.days}",
    ]


def because(one: Because) -> str:
    """A reason in words."""
    return Reason(one.code, one.values).text("en")
