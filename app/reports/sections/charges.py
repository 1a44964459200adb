"""Charges beside the price of energy: maximum demand, surcharges by PUE, and what is expected of the year."""

from __future__ import annotations

from collections.abc import Iterable

from app.reports.document import DemandRow, SurchargeForecastRow, SurchargeRow
from app.reports.layout import Block, Column, Prose, Table, Value
from app.reports.words import SiteWords


def demands(w: SiteWords) -> Iterable[Block]:
    """Maximum demand by month, where a tariff has a price for it."""
    currency = w.language.currency(w.report.site.currency)
    rows = [_demand(w, d) for d in w.report.money.demands]
    columns = [w.day("from"), w.day("to"), w.number("demand_power", 2, "kW"), w.instant("peak_at")]
    columns += [w.share("coverage"), w.number("demand_price", 2, f"{currency}/kW")]
    if rows:
        yield Table("demands", w.language.title("demands"), [*columns, w.number("charge", 2, currency)], rows)
        yield Prose(w.t("demand_about"), small=True)


def _demand(w: SiteWords, d: DemandRow) -> list[Value]:
    return [d.first, d.last, d.power_kw, d.at, d.coverage_ratio, d.price_per_kw_month, d.charge]


def surcharges(w: SiteWords) -> Iterable[Block]:
    """Surcharges of the period and of the year to date."""
    rows = [_surcharge(w, s) for s in w.report.money.surcharges]
    if not rows:
        return
    currency = w.language.currency(w.report.money.surcharges[0].currency)
    columns = [w.text("rule_name", wide=True), w.text("window"), w.day("from"), w.day("to")]
    columns += [w.number("limit", 2), w.pue(), w.energy("excess"), w.number("surcharge", 2, currency)]
    yield Table("surcharges", w.language.title("surcharges"), [*columns, *_band(w, currency)], rows)
    for reason in dict.fromkeys((s.rule, s.reason) for s in w.report.money.surcharges if s.reason):
        said = w.term("surcharge_reason", reason[1])
        yield Prose(w.t("surcharge_none_known", rule=w.term("surcharge", reason[0]), reason=said))
    is_marginal = {s.marginal for s in w.report.money.surcharges}
    kinds = [w.t(f"surcharge_{'marginal' if m else 'whole'}") for m in sorted(is_marginal)]
    yield Prose(w.t("join").join([w.t("surcharge_about"), *kinds]), small=True)
    money = w.report.money
    if money.total is not None:
        total = w.language.number(money.total, 2)
        yield Prose(w.t("charges_total", total=total, currency=w.language.currency(w.report.site.currency)))


def _surcharge(w: SiteWords, s: SurchargeRow) -> list[Value]:
    name = _named(w, s.rule, verified=s.verified)
    values = [s.limit_pue, s.pue, s.excess_kwh, s.amount]
    return [name, w.term("window", s.window), s.first, s.last, *values, s.low, s.high]


def _named(w: SiteWords, rule: str, *, verified: bool) -> str:
    mark = "" if verified else w.t("brackets", text=w.t("unverified_word"))
    return f"{w.term('surcharge', rule)}{mark}"


def _band(w: SiteWords, currency: str) -> list[Column]:
    return [w.number(key, 2, currency) for key in ("lowest", "top")]


def forecast(w: SiteWords) -> Iterable[Block]:
    """Surcharge expected for the calendar year."""
    found = w.report.year_end.surcharges
    if not found:
        return
    currency = w.language.currency(found[0].currency)
    columns = [w.text("rule_name", wide=True), w.day("from"), w.day("to"), w.pue(), w.energy("excess")]
    columns += [w.number("surcharge", 2, currency), *_band(w, currency), w.share("chance")]
    rows = [_forecast(w, s) for s in found]
    yield Table("surcharge_forecast", w.language.title("surcharge_forecast"), columns, rows)
    yield Prose(w.t("forecast_about"), small=True)


def _forecast(w: SiteWords, s: SurchargeForecastRow) -> list[Value]:
    name = _named(w, s.rule, verified=s.verified)
    return [name, s.first, s.last, s.pue, s.excess_kwh, s.amount, s.low, s.high, s.chance]
