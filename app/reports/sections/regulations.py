"""What applies to the site, and when it changes."""

from __future__ import annotations

from collections.abc import Iterable

from app.reports.document import ConditionRow, RegulationRow, TurnRow
from app.reports.language import Language
from app.reports.layout import Block, Kind, Prose, Table, Value, needed
from app.reports.safe import line
from app.reports.words import RATIO_PLACES, SiteWords


def regulations(w: SiteWords) -> Iterable[Block]:
    """Regulations with status, and the conditions that the site's figures are held against."""
    told = w.report.regulations
    if told is None or not told.rows:
        return
    found = told.rows
    columns = [w.text("regulation"), w.text("status"), w.text("verified"), w.number("limit", 2)]
    columns += [w.text("asks", wide=True), w.text("turns", wide=True)]
    marks = ["" if r.verified else "indeterminate" for r in found]
    yield Table("regulations", "", columns, [_row(w, r) for r in found], marks=marks)
    yield from _conditions(w, found)
    if not told.jurisdiction:
        yield Prose(w.t("regulations_nowhere"))
    place = told.jurisdiction or w.language.none
    yield Prose(w.t("regulations_about", day=w.language.day(told.on), place=place), small=True)


def _row(w: SiteWords, r: RegulationRow) -> list[Value]:
    status = w.term("regulation_status", r.status)
    if r.missing:
        status = w.t("unclear", keys=w.t("comma").join(r.missing))
    asks = said(w.language, r.says, r.says_zh)
    if r.is_judged is False and r.limit_pue is not None and not r.missing:
        note = w.t("not_judged", profile=w.term("profile", r.profile))
        asks = w.t("join").join([asks, note])
    turns = w.t("semicolon").join(turn(w.language, t) for t in r.turns)
    checked = w.t("yes_word") if r.verified else w.t("unverified_word")
    return [line(said(w.language, r.name, r.name_zh)), status, checked, r.limit_pue, line(asks), line(turns)]


def said(language: Language, english: str, chinese: str) -> str:
    """The text of a row in the language."""
    return chinese if language.code == "zh" else english


def turn(language: Language, t: TurnRow) -> str:
    """A date to come, with what changes."""
    what = language.term("turn", t.cause)
    if t.pue is not None:
        what = f"{what} {language.number(t.pue, 2)}"
    elif t.says:
        what = said(language, t.says, t.says_zh)
    return f"{t.on}{language.text('colon')}{what}"


def _conditions(w: SiteWords, found: list[RegulationRow]) -> Iterable[Block]:
    rows: list[list[Value]] = []
    marks = []
    for r in found:
        for c in r.conditions:
            name = line(said(w.language, r.name, r.name_zh))
            rows.append([name, w.term("indicator", c.indicator), _goal(w, c), c.value, _standing(w, c)])
            marks.append(c.standing)
    columns = [w.text("regulation", wide=True), w.text("condition", wide=True), w.text("goal")]
    columns += [w.number("value", RATIO_PLACES, kind=Kind.PLAIN), w.text("standing")]
    if rows:
        yield Table("conditions", w.language.title("conditions"), columns, rows, marks=marks)


def _standing(w: SiteWords, c: ConditionRow) -> str:
    return w.term("standing", c.standing)


def _goal(w: SiteWords, c: ConditionRow) -> str:
    ends = [("≥", c.at_least), ("≤", c.at_most)]
    return " ".join(
        f"{sign} {w.language.number(value, needed(value, 2))}" for sign, value in ends if value is not None
    )
