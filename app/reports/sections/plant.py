"""How well the plant works, and what could be saved next."""

from __future__ import annotations

from collections.abc import Iterable

from app.domain import plant_text
from app.reports.document import OpportunityRow, PlantRow
from app.reports.layout import Block, Prose, Table, Value
from app.reports.safe import line
from app.reports.words import RATIO_PLACES, SiteWords

_MARKS = {"good": "pass", "poor": "fail"}


def indicators(w: SiteWords) -> Iterable[Block]:
    """Plant indicators with their typical values, and why some have no value."""
    found = w.report.plant
    if found is None:
        return
    known = [p for p in found.indicators if p.value is not None]
    columns = [w.text("indicator", wide=True), w.number("value", RATIO_PLACES), w.text("unit")]
    columns += [w.text("standing"), w.number("good", RATIO_PLACES), w.number("poor", RATIO_PLACES)]
    columns += [w.share("coverage"), w.text("from_inputs", wide=True)]
    marks = [_MARKS.get(p.standing or "", "") for p in known]
    if known:
        yield Table("plant", "", columns, [_indicator(w, p) for p in known], marks=marks)
        if found.kind == "interim":
            yield Prose(w.t("plant_interim"), small=True)
    lacking = [p for p in found.indicators if p.value is None]
    if lacking:
        rows: list[list[Value]] = [[_named(w, "plant", p.name, p.subject), line(_why(w, p))] for p in lacking]
        head = [w.text("indicator", wide=True), w.text("reason", wide=True)]
        yield Table("plant_lacking", w.language.title("plant_lacking"), head, rows)


def _indicator(w: SiteWords, p: PlantRow) -> list[Value]:
    standing = w.term("plant_standing", p.standing) if p.standing else ""
    inputs = line(plant_text.inputs(w.language.code, p.inputs))
    unit = "1" if p.unit == "ratio" else plant_text.UNITS[p.unit]
    name = _named(w, "plant", p.name, p.subject)
    return [name, p.value, unit, standing, p.good, p.poor, p.coverage_ratio, inputs]


def _named(w: SiteWords, family: str, code: str, subject: str) -> str:
    name = w.term(family, code)
    return line(f"{name}{w.t('brackets', text=subject)}" if subject else name)


def _why(w: SiteWords, one: PlantRow | OpportunityRow) -> str:
    return plant_text.why(w.language.code, one.reason, one.missing, one.waits_for, one.poorly_covered)


def opportunities(w: SiteWords) -> Iterable[Block]:
    """What to do next, from the 12 months that end with the period; or which meter would tell."""
    found = w.report.opportunities
    if found is None:
        return
    money = w.language.currency(found.currency)
    columns = [w.text("opportunity", wide=True), w.text("status")]
    columns += [w.number("saving", 0, "kWh"), w.text("range"), w.number("money", 0, money), w.text("range")]
    columns += [w.text("from_inputs", wide=True)]
    marks = ["pass" if o.state == "found" else "" for o in found.opportunities]
    yield Table("opportunities", "", columns, [_row(w, o) for o in found.opportunities], marks=marks)
    yield Prose(w.t("opportunities_about", first=w.language.day(found.start[:10])), small=True)


def _row(w: SiteWords, o: OpportunityRow) -> list[Value]:
    evidence = plant_text.inputs(w.language.code, o.evidence)
    why = _why(w, o) if o.reason else evidence
    state = w.term("opportunity_state", o.state)
    if o.state == "found" and not o.whole_year:
        state = f"{state}{w.t('brackets', text=w.t('of_the_period'))}"
    figures = [
        o.kwh_per_year,
        _range(w, o.kwh_low, o.kwh_high),
        o.amount_per_year,
        _range(w, o.amount_low, o.amount_high),
    ]
    return [_named(w, "opportunity", o.kind, o.subject), state, *figures, line(why)]


def _range(w: SiteWords, low: float | None, high: float | None) -> str:
    if low is None:
        return ""
    if high is None:
        return w.t("at_least", low=w.language.number(low, 0))
    return f"{w.language.number(low, 0)} – {w.language.number(high, 0)}"
