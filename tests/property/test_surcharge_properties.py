"""The arithmetic of tiers over any energies, and of rules over any days."""

from __future__ import annotations

from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.period import Period, midnight
from app.domain.surcharge import surcharges
from app.domain.surcharge_rule import SurchargeRule, SurchargeTier, excess, rules_between

ZONE = ZoneInfo("Europe/Berlin")
_DAY = st.dates(date(2025, 1, 1), date(2027, 12, 31))
_IT = st.floats(1.0, 1e9)
_PUE = st.floats(1.0, 5.0)


@st.composite
def rules(draw: st.DrawFn, *, marginal: bool | None = None) -> SurchargeRule:
    steps = draw(st.lists(st.floats(0.01, 0.7), min_size=1, max_size=4))
    prices = draw(st.lists(st.floats(0.0, 2.0), min_size=len(steps), max_size=len(steps)))
    limit = draw(st.floats(1.0, 2.0))
    starts = [limit + sum(steps[1 : n + 1]) for n in range(len(steps))]
    first = draw(_DAY)
    until = draw(st.none() | st.integers(1, 700))
    return SurchargeRule(
        id=draw(st.sampled_from("abc")),
        jurisdictions=("CN-BJ",),
        limit_pue=limit,
        tiers=tuple(
            SurchargeTier(above_pue=a, price_per_kwh=p) for a, p in zip(starts, sorted(prices), strict=True)
        ),
        marginal=draw(st.booleans()) if marginal is None else marginal,
        valid_from=first,
        valid_to=None if until is None else first + timedelta(days=until),
        source="x",
    )


@given(rules(), _IT, _PUE)
def test_no_surcharge_up_to_the_limit_and_never_less_for_more(
    rule: SurchargeRule, it_kwh: float, pue: float
) -> None:
    assert rule.amount(rule.limit_pue * it_kwh, it_kwh) == 0
    low, high = rule.amount(pue * it_kwh, it_kwh), rule.amount((pue + 0.1) * it_kwh, it_kwh)
    assert None not in (low, high)
    assert 0 <= (low or 0) <= (high or 0) * (1 + 1e-9)


@given(rules(), _IT, _PUE)
def test_the_amount_lies_between_the_lowest_and_the_highest_price_of_the_excess(
    rule: SurchargeRule, it_kwh: float, pue: float
) -> None:
    amount = rule.amount(pue * it_kwh, it_kwh)
    over_kwh = excess(pue * it_kwh, it_kwh, rule.limit_pue)
    prices = [t.price_per_kwh for t in rule.tiers]
    assert amount is not None
    slack = 1e-6 * pue * it_kwh * max(prices)
    assert min(prices) * over_kwh - slack <= amount <= max(prices) * over_kwh + slack


@given(rules(marginal=True), _IT, _PUE)
def test_marginal_tiers_are_the_integral_of_the_price(rule: SurchargeRule, it_kwh: float, pue: float) -> None:
    ends = [*(t.above_pue for t in rule.tiers[1:]), float("inf")]
    expected = sum(
        max(min(pue, end) - t.above_pue, 0.0) * it_kwh * t.price_per_kwh
        for t, end in zip(rule.tiers, ends, strict=True)
    )
    assert rule.amount(pue * it_kwh, it_kwh) == pytest.approx(expected, rel=1e-6, abs=1e-6 * it_kwh)


@given(st.lists(rules(), max_size=4), _DAY, st.integers(0, 900))
def test_every_day_belongs_to_the_latest_rule_that_holds_on_it_and_to_no_other(
    known: list[SurchargeRule], first: date, length: int
) -> None:
    last = first + timedelta(days=length)
    spans = rules_between(known, "CN-BJ", first, last)
    of_day: dict[date, SurchargeRule] = {}
    for span in spans:
        day = span.first
        while day <= span.last:
            assert day not in of_day
            of_day[day] = span.rule
            day += timedelta(days=1)
    for n in range(0, length + 1, max(length // 40, 1)):
        day = first + timedelta(days=n)
        holding = [r for r in known if r.valid_from <= day and (r.valid_to is None or day < r.valid_to)]
        newest = max((r.valid_from for r in holding), default=None)
        assert (day in of_day) == bool(holding)
        if holding:
            assert of_day[day].valid_from == newest


@given(st.lists(rules(), max_size=3), st.integers(1, 500), _PUE)
def test_energies_of_a_period_are_counted_once_at_most(
    known: list[SurchargeRule], length: int, pue: float
) -> None:
    first = date(2026, 1, 1)
    index = pd.date_range(first, periods=length)
    days = pd.DataFrame({"facility_kwh": pue * 100, "it_kwh": 100.0, "covered_h": 24.0}, index=index)
    spans = rules_between(known, "CN-BJ", first, index[-1].date())
    known_time = Period(midnight(first, ZONE), midnight(first + timedelta(days=length), ZONE))
    found = surcharges(days, spans, known_time, ZONE, minimum_coverage_ratio=0.9)
    assert sum(f.it_kwh for f in found) <= 100.0 * length + 1e-6
    assert all(f.amount is not None for f in found)
