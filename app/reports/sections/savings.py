"""Verified savings of the measures, and the PUE under the conditions of the baseline."""

from __future__ import annotations

from collections.abc import Iterable

from app.charts.report import Lines, Series
from app.domain.baseline import Reason
from app.reports.document import Because, Interval, NormalisedRow, VerifiedSaving
from app.reports.layout import Block, Column, Picture, Prose, Table, Value
from app.reports.safe import line
from app.reports.words import SiteWords


def verified(w: SiteWords) -> Iterable[Block]:
    """Each statement in words, and all of them in a table."""
    statements = w.report.verified_savings
    if not statements:
        return
    for one in statements:
        yield Prose(w.t("about", subject=_named(w, one), text=_lead(w, one)))
        yield Prose(_basis(w, one), small=True)
    yield Table("verified", "", _columns(w), [_row(w, one) for one in statements])
    adjusted = [a for one in statements for a in one.adjustments]
    if adjusted:
        rows: list[list[Value]] = [
            [a.measure, a.start, a.end, a.energy_kwh, line(a.reason), a.author] for a in adjusted
        ]
        columns = [
            w.text("measure"),
            w.day("from"),
            w.day("to"),
            w.energy(),
            w.text("stated_reason", wide=True),
        ]
        yield Table("adjustments", w.t("adjustments_title"), [*columns, w.text("author")], rows)
    yield Prose(w.t("verified_about"), small=True)


def _named(w: SiteWords, one: VerifiedSaving) -> str:
    return line(w.t("plus").join(m.what for m in one.measures))


def _lead(w: SiteWords, one: VerifiedSaving) -> str:
    energy = one.energy_kwh
    if energy is None:
        reasons = w.t("semicolon").join(because(w, reason) for reason in one.reasons)
        return w.t("saving_unknown", reason=reasons)
    sign = -1 if one.result == "used_more" else 1
    low, high = sorted((sign * energy.low, sign * energy.high))
    values = {"value": _kwh(w, sign * energy.value), "low": _kwh(w, low), "high": _kwh(w, high)}
    share = "" if one.share is None else w.language.percent(sign * one.share.value)
    return w.t(f"saving_{one.result}", **values, share=share, level=w.language.percent(one.level, 0))


def _kwh(w: SiteWords, value: float) -> str:
    return w.language.number(value, 0)


def _basis(w: SiteWords, one: VerifiedSaving) -> str:
    """What a statement rests on: option, boundary, baseline, days, and the frozen baseline's hash."""
    return w.t(
        "saving_basis",
        option=one.ipmvp_option,
        where=_where(w, one.where),
        start=w.language.day(one.baseline_start),
        end=w.language.day(one.baseline_end),
        counted=one.counted_days,
        days=one.days,
        sha256=one.baseline_sha256 or w.language.none,
    )


def _where(w: SiteWords, text: str) -> str:
    scope, _, name = text.partition(":")
    if scope == "class":
        return w.term("class", name)
    return name if name else w.t("whole_facility")


def _columns(w: SiteWords) -> list[Column]:
    currency = w.language.currency(w.report.site.currency)
    return [
        w.text("measure", wide=True),
        w.text("result"),
        w.energy("saved_energy"),
        w.energy("low"),
        w.energy("high"),
        w.number("saved_money", 2, currency),
        w.number("emissions", 1, "kgCO\u2082e"),
        w.text("counted"),
    ]


def _row(w: SiteWords, one: VerifiedSaving) -> list[Value]:
    energy = one.energy_kwh
    return [
        w.t("plus").join(m.key for m in one.measures),
        w.term("saving", one.result) if one.in_total else w.t("within_another"),
        *((None, None, None) if energy is None else (energy.value, energy.low, energy.high)),
        None if one.money is None else one.money.value,
        None if one.emissions_kg is None else one.emissions_kg.value,
        f"{one.counted_days} / {one.days}",
    ]


def because(w: SiteWords, reason: Because) -> str:
    """Why there is no figure, in words."""
    return Reason(reason.code, reason.values).text(w.language.code)


def normalised(w: SiteWords) -> Iterable[Block]:
    """PUE without weather and load, beside the measured one, month by month."""
    rows = w.report.normalised_pue
    if not rows:
        return
    period, months = rows[0], rows[1:]
    yield Prose(_normalised_lead(w, period))
    if len(months) > 1:
        measured = Series(w.c("measured_pue"), [row.measured_pue for row in months])
        own = Series(w.c("normalised_pue"), [_value(row.pue) for row in months])
        chart = Lines([w.language.short_day(row.period) for row in months], [own, measured], "PUE")
        yield Picture("chart_normalised", "", chart, "normalised")
    columns = [w.day("month"), w.pue("measured_pue"), w.pue("normalised_pue"), w.pue("low"), w.pue("high")]
    table: list[list[Value]] = [
        [row.period, row.measured_pue, _value(row.pue), *_ends(row.pue), f"{row.counted_days} / {row.days}"]
        for row in months
    ]
    yield Table("normalised", "", [*columns, w.text("counted")], table)
    reference = {"start": w.language.day(period.reference_start), "end": w.language.day(period.reference_end)}
    yield Prose(w.t("normalised_about", **reference), small=True)


def _normalised_lead(w: SiteWords, row: NormalisedRow) -> str:
    measured = w.language.number(row.measured_pue, w.pue_places)
    if row.pue is None:
        reasons = w.t("semicolon").join(because(w, reason) for reason in row.reasons)
        return w.t("normalised_unknown", measured=measured, reason=reasons)
    pue, low, high = (w.language.number(v, w.pue_places) for v in (row.pue.value, row.pue.low, row.pue.high))
    level = w.language.percent(row.level, 0)
    return w.t("normalised_lead", measured=measured, pue=pue, low=low, high=high, level=level)


def _value(one: Interval | None) -> float | None:
    return None if one is None else one.value


def _ends(one: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if one is None else (one.low, one.high)
