"""Breaches and alarms, the outlook on the year, the compliance matrix, the fields of the EU."""

from __future__ import annotations

from collections.abc import Iterable

from app.domain.alarms import text
from app.domain.alarms.notification import Language
from app.reports.document import Alarm
from app.reports.layout import Block, Prose, Table, Value
from app.reports.sections import charges
from app.reports.words import SiteWords, compliance_table

MOST_ALARMS = 200


def breaches(w: SiteWords) -> Iterable[Block]:
    """Days above the limit, and alarms."""
    r = w.report
    rows: list[list[Value]] = [
        [
            b.first_day,
            b.last_day,
            b.days,
            b.limit,
            b.pue,
            b.highest_pue,
            b.excess_kwh,
            w.term("class", b.moved),
        ]
        for b in r.breaches
    ]
    columns = [w.day("first"), w.day("last"), w.number("days", 0), w.number("limit", 2)]
    columns += [w.pue(), w.pue("highest"), w.energy("excess"), w.text("cause")]
    title = w.language.title("breach_days")
    about = w.t("breaches_about")
    yield Prose(about if rows else w.t("breaches_none", about=about), small=True)
    if rows:
        yield Table("breach_days", title, columns, rows)
    if r.alarms:
        yield _alarms(w)


def _alarms(w: SiteWords) -> Table:
    rows: list[list[Value]] = [
        [
            w.term("rule", a.rule),
            a.subject,
            w.term("severity", a.severity),
            a.started_at,
            a.resolved_at,
            _alarm_value(w, a),
            a.limit,
            w.term("class", a.cause),
        ]
        for a in w.report.alarms
    ]
    columns = [w.text("rule"), w.text("subject", wide=True), w.text("severity"), w.instant("from")]
    columns += [w.instant("resolved"), w.pue("value"), w.pue("limit"), w.text("cause")]
    more = w.t("rows_more", count="{count}")
    title = w.language.title("alarms")
    return Table("alarms", title, columns, rows, most_rows=MOST_ALARMS, more=more)


def _alarm_value(w: SiteWords, alarm: Alarm) -> Value:
    """In the unit of its indicator; a plain number in reports that do not name it."""
    if alarm.value is None or not alarm.watched:
        return alarm.value
    language = Language.ZH if w.language.code == "zh" else Language.EN
    return text.number(alarm.watched, alarm.value, language).replace("-", "\u2212")


def year_end(w: SiteWords) -> Iterable[Block]:
    """Projection of the year, and what the limits still allow."""
    y = w.report.year_end
    if y.pue is None:
        yield Prose(w.t("no_projection", year=y.year))
    else:
        pue, low, high = (w.language.number(v, w.pue_places) for v in (y.pue, y.low, y.high))
        level = w.language.percent(y.level, 0)
        days = {"measured": y.measured_days, "projected": y.projected_days}
        yield Prose(w.t("projection", year=y.year, pue=pue, low=low, high=high, level=level, **days))
    rows: list[list[Value]] = [
        [
            w.term("profile", b.profile),
            b.limit,
            b.used_kwh,
            b.margin_kwh,
            b.allowed_kwh,
            b.left_kwh,
            b.crossed_in,
        ]
        for b in y.budgets
    ]
    columns = [w.text("profile"), w.number("limit", 2)]
    columns += [w.energy(k) for k in ("used", "margin", "allowed", "left")]
    if rows:
        columns.append(w.day("crossed"))
        yield Table("budgets", w.language.title("budgets"), columns, rows)
    yield from charges.forecast(w)


def compliance(w: SiteWords) -> Iterable[Block]:
    """The compliance matrix."""
    yield compliance_table(w, w.report.compliance)
    for duty in w.report.reporting_duties:
        says = {True: "duty_yes", False: "duty_no", None: "duty_unknown"}[duty.applies]
        limit = w.language.number(duty.from_it_kw, 0)
        yield Prose(w.t(says, profile=w.term("profile", duty.profile), kw=limit))
    yield Prose(w.t("compliance_about"), small=True)


def eu(w: SiteWords) -> Iterable[Block]:
    """Fields of Annex II, of yearly reports."""
    fields = w.report.eu_annex_ii
    if fields:
        rows: list[list[Value]] = [
            [f.field, f.value, f.unit, w.t("eu_partial") if f.partial and f.value is not None else ""]
            for f in fields
        ]
        columns = [
            w.text("field"),
            w.number("value", 3),
            w.text("unit"),
            w.text("remark", wide=True),
        ]
        yield Table("eu", "", columns, rows)
        yield Prose(w.t("eu_about"), small=True)
