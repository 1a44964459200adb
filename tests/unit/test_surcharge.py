"""Surcharges by PUE, maximum demand, and where a site lies in law."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from app.domain.data.surcharges import SURCHARGES
from app.domain.demand import demands
from app.domain.jurisdiction import check_jurisdiction, lies_in
from app.domain.period import Period, midnight
from app.domain.surcharge import Surcharge, forecast_year, surcharges
from app.domain.surcharge_rule import SurchargeRule, SurchargeTier, rules_between
from app.domain.tariff import Tariff
from tests.unit.test_forecast import course

BEIJING = ZoneInfo("Asia/Shanghai")
RULES = {rule.id: rule for rule in SURCHARGES}
NEW = RULES["cn_bj_2026"]


def days(first: str, last: str, facility_kwh: float, it_kwh: float, coverage: float = 1.0) -> pd.DataFrame:
    index = pd.date_range(first, last)
    row = {"facility_kwh": facility_kwh, "it_kwh": it_kwh, "covered_h": 24 * coverage}
    return pd.DataFrame(row, index=index)


def reckoned(table: pd.DataFrame, place: str = "CN-BJ", **values: object) -> tuple[Surcharge, ...]:
    first, last = table.index[0].date(), table.index[-1].date()
    return over(table, first, last, place, **values)


def over(
    table: pd.DataFrame, first: date, last: date, place: str = "CN-BJ", **values: object
) -> tuple[Surcharge, ...]:
    spans = rules_between(SURCHARGES, place, first, last)
    known = Period(midnight(first, BEIJING), midnight(last + timedelta(days=1), BEIJING))
    least = {"minimum_coverage_ratio": 0.9}
    return surcharges(table, spans, known, BEIJING, **least, **values)  # type: ignore[arg-type]


def test_the_worked_example_of_the_method() -> None:
    # 1,000,000 kWh of IT at PUE 1.50: 150,000 kWh above 1.35, at 0.2
    assert NEW.amount(1_500_000, 1_000_000) == pytest.approx(30_000)
    # at 2.80 the site is more than 100 % over the limit: all of the excess part at 0.5
    assert NEW.amount(2_800_000, 1_000_000) == pytest.approx(1_450_000 * 0.5)


@pytest.mark.parametrize(("pue", "price"), [(1.0, 0), (1.35, 0), (1.3500001, 0.2), (2.7, 0.2), (2.71, 0.5)])
def test_a_limit_that_is_met_exactly_belongs_to_the_tier_below(pue: float, price: float) -> None:
    it_kwh = 1000.0
    assert NEW.amount(pue * it_kwh, it_kwh) == pytest.approx((pue - 1.35) * it_kwh * price)


def test_a_sum_that_rounding_left_above_the_limit_meets_it() -> None:
    it_kwh = sum([0.1] * 1000)
    facility_kwh = sum([0.135] * 1000)
    assert NEW.amount(facility_kwh * (1 + 1e-12), it_kwh) == 0


def test_marginal_tiers_price_each_part_by_itself() -> None:
    tiers = NEW.tiers
    rule = SurchargeRule(
        id="m",
        jurisdictions=("CN",),
        limit_pue=1.35,
        tiers=tiers,
        marginal=True,
        valid_from=date(2026, 1, 1),
        source="x",
    )
    assert rule.amount(2800, 1000) == pytest.approx(1350 * 0.2 + 100 * 0.5)
    assert rule.amount(1500, 1000) == NEW.amount(1500, 1000)


def test_tiers_must_begin_at_the_limit_and_rise() -> None:
    for starts in ((1.5,), (1.35, 1.35), (1.35, 1.2)):
        with pytest.raises(ValueError, match="begin at limit_pue and rise"):
            SurchargeRule(
                id="m",
                jurisdictions=("CN",),
                limit_pue=1.35,
                tiers=tuple(SurchargeTier(above_pue=s, price_per_kwh=0.1) for s in starts),
                valid_from=date(2026, 1, 1),
                source="x",
            )


def test_a_period_over_the_change_of_rules_is_parted_by_local_day() -> None:
    old, new = reckoned(days("2025-12-01", "2026-01-31", 145.0, 100.0))
    assert (old.rule.id, old.first, old.last) == ("cn_bj_2021", date(2025, 12, 1), date(2025, 12, 31))
    assert old.excess_kwh == pytest.approx(31 * 5.0)
    assert (old.amount, old.reason) == (None, "unknown_price")
    assert (new.rule.id, new.first, new.last) == ("cn_bj_2026", date(2026, 1, 1), date(2026, 1, 31))
    assert new.amount == pytest.approx(31 * 10.0 * 0.2)


def test_days_below_the_limit_make_up_for_days_above_it() -> None:
    table = pd.concat(
        [days("2026-01-01", "2026-01-10", 140, 100), days("2026-01-11", "2026-01-20", 130, 100)]
    )
    (found,) = reckoned(table)
    assert (found.pue, found.amount) == (pytest.approx(1.35), 0.0)


def test_what_is_known_too_badly_or_withheld_has_no_amount() -> None:
    (low,) = reckoned(days("2026-01-01", "2026-01-31", 145, 100, 0.5))
    assert (low.amount, low.pue, low.reason, low.coverage_ratio) == (None, None, "low_coverage", 0.5)
    (held,) = reckoned(days("2026-01-01", "2026-01-31", 145, 100), is_withheld=True)
    assert (held.amount, held.pue, held.reason) == (None, None, "withheld")
    (idle,) = reckoned(days("2026-01-01", "2026-01-31", 145, 0))
    assert idle.reason == "no_it_energy"


def test_days_without_a_row_are_not_covered() -> None:
    table = days("2026-01-01", "2026-01-10", 145, 100)
    (found,) = over(table, date(2026, 1, 1), date(2026, 1, 31))
    assert found.coverage_ratio == pytest.approx(10 / 31)
    assert found.amount is None


def test_a_day_that_still_runs_counts_by_what_has_passed_of_it() -> None:
    table = days("2026-01-01", "2026-01-01", 72, 50, 0.5)
    spans = rules_between(SURCHARGES, "CN-BJ", date(2026, 1, 1), date(2026, 1, 1))
    noon = datetime(2026, 1, 1, 12, tzinfo=BEIJING)
    known = Period(midnight(date(2026, 1, 1), BEIJING), noon)
    (found,) = surcharges(table, spans, known, BEIJING, minimum_coverage_ratio=0.9)
    assert (found.coverage_ratio, found.amount) == (1.0, pytest.approx((72 - 67.5) * 0.2))


def test_the_uncertainty_of_pue_gives_a_range() -> None:
    (found,) = reckoned(days("2026-01-01", "2026-01-31", 136, 100), relative_uncertainty=0.0141)
    assert found.low == 0.0  # the limit lies within the uncertainty
    assert found.amount == pytest.approx(31 * 1.0 * 0.2)
    assert found.high == pytest.approx(31 * (1.36 * 1.0141 - 1.35) * 100 * 0.2)


def test_only_sites_of_the_place_pay() -> None:
    table = days("2026-01-01", "2026-01-31", 200, 100)
    assert len(reckoned(table)) == 1
    for elsewhere in ("CN-SH", "CN", "", "DE"):
        assert reckoned(table, elsewhere) == ()


def test_a_rule_within_another_leaves_it_before_and_after() -> None:
    base = SurchargeRule(id="a", jurisdictions=(), limit_pue=1.5, valid_from=date(2026, 1, 1), source="x")
    inner = SurchargeRule(
        id="b",
        jurisdictions=(),
        limit_pue=1.4,
        valid_from=date(2026, 3, 1),
        valid_to=date(2026, 4, 1),
        source="x",
    )
    spans = rules_between((base, inner), "CN", date(2025, 12, 1), date(2026, 12, 31))
    assert [(s.rule.id, s.first, s.last) for s in spans] == [
        ("a", date(2026, 1, 1), date(2026, 2, 28)),
        ("b", date(2026, 3, 1), date(2026, 3, 31)),
        ("a", date(2026, 4, 1), date(2026, 12, 31)),
    ]


def test_the_forecast_of_a_year_holds_the_surcharge_that_the_year_ends_with() -> None:
    whole = course("2025-01-01", "2026-12-31")
    (found,) = forecast_year(whole[:"2026-08-31"], 2026, SURCHARGES, "CN-BJ")
    of_year = whole["2026-01-01":]
    true = NEW.amount(float(of_year["facility_kwh"].sum()), float(of_year["it_kwh"].sum()))
    assert None not in (true, found.amount, found.low, found.high)
    assert found.amount == pytest.approx(true, rel=0.1)
    assert (found.low or 0) < (found.amount or 0) < (found.high or 0)
    assert (found.chance or 0) > 0.99


def test_the_forecast_of_a_year_with_two_rules_reckons_each_on_its_own_days() -> None:
    whole = course("2025-01-01", "2026-12-31")
    later = SurchargeRule(
        id="later",
        jurisdictions=("CN-BJ",),
        limit_pue=1.3,
        tiers=(SurchargeTier(above_pue=1.3, price_per_kwh=0.3),),
        valid_from=date(2026, 7, 1),
        source="x",
    )
    first, second = forecast_year(whole, 2026, (*SURCHARGES, later), "CN-BJ")
    half = whole["2026-01-01":"2026-06-30"].sum()
    rest = whole["2026-07-01":"2026-12-31"].sum()
    assert first.amount == pytest.approx(NEW.amount(half["facility_kwh"], half["it_kwh"]))
    assert second.amount == pytest.approx((rest["facility_kwh"] - 1.3 * rest["it_kwh"]) * 0.3)
    assert first.low == first.amount == first.high  # nothing is projected


def test_a_short_history_gives_no_forecast_and_the_reason() -> None:
    (found,) = forecast_year(course("2026-06-01", "2026-06-10"), 2026, SURCHARGES, "CN-BJ")
    assert found.amount is None
    assert found.projection.reason


@pytest.mark.parametrize(
    ("site", "places", "answer"),
    [
        ("CN-BJ", ("CN-BJ",), True),
        ("CN-BJ", ("CN",), True),
        ("CN", ("CN-BJ",), None),
        ("", ("CN",), None),
        ("", (), True),
        ("DE", ("EU",), True),
        ("DE-BY", ("EU",), True),
        ("GB", ("EU",), False),
        ("CN-SH", ("CN-BJ",), False),
        ("DE", ("CN-BJ",), False),
    ],
)
def test_where_a_site_lies(site: str, places: tuple[str, ...], answer: bool | None) -> None:
    assert lies_in(site, places) is answer


@pytest.mark.parametrize("text", ["China", "cn", "CN_BJ", "CN-", "CN-BEIJ"])
def test_a_place_is_a_code(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 3166"):
        check_jurisdiction(text)


# -- maximum demand -------------------------------------------------------------------------------------


def quarters(first: datetime, last: datetime, kw: float) -> pd.Series[float]:
    index = pd.date_range(first, last, freq="15min", inclusive="left")
    return pd.Series(kw / 4, index)


def local(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=BEIJING).astimezone(UTC)


def priced(**values: object) -> Tariff:
    return Tariff(price_per_kwh=0.7, **values)  # type: ignore[arg-type]


def test_the_maximum_demand_of_a_month_is_its_highest_quarter_hour() -> None:
    energy = quarters(local(2026, 10, 1), local(2026, 11, 1), 400)
    energy.iloc[1000] = 500 / 4
    tariff = priced(valid_from=date(2026, 1, 1), demand_price_per_kw_month=40.0)
    period = Period(local(2026, 10, 1), local(2026, 11, 1))
    (found,) = demands(energy, energy * 0 + 1.0, [tariff], period, BEIJING, minimum_coverage_ratio=0.9)
    assert (found.power_kw, found.charge, found.is_whole) == (500, 20_000, True)
    assert found.at == energy.index[1000]


def test_a_tariff_that_changes_within_a_month_parts_its_charge_by_days() -> None:
    energy = quarters(local(2026, 9, 1), local(2026, 10, 1), 300)
    energy[energy.index >= local(2026, 9, 21)] = 600 / 4
    old = priced(valid_from=date(2026, 1, 1), demand_price_per_kw_month=30.0)
    new = priced(valid_from=date(2026, 9, 21), demand_price_per_kw_month=60.0)
    period = Period(local(2026, 9, 1), local(2026, 10, 1))
    first, second = demands(energy, energy * 0 + 1.0, [old, new], period, BEIJING, minimum_coverage_ratio=0.9)
    assert (first.last, first.charge) == (date(2026, 9, 20), pytest.approx(300 * 30 * 20 / 30))
    assert (second.first, second.charge) == (date(2026, 9, 21), pytest.approx(600 * 60 * 10 / 30))


def test_a_month_that_runs_or_begins_before_the_period_says_so() -> None:
    tariff = priced(valid_from=date(2026, 1, 1), demand_price_per_kw_month=40.0)
    energy = quarters(local(2026, 9, 15), local(2026, 10, 11), 400)
    period = Period(local(2026, 9, 15), local(2026, 10, 11))
    part, running = demands(energy, energy * 0 + 1.0, [tariff], period, BEIJING, minimum_coverage_ratio=0.9)
    assert (part.is_whole, part.power_kw, part.charge) == (False, 400, None)
    assert (running.is_whole, running.power_kw, running.charge) == (False, 400, 16_000)


def test_intervals_known_too_badly_do_not_count_and_a_month_with_too_few_has_no_charge() -> None:
    tariff = priced(valid_from=date(2026, 1, 1), demand_price_per_kw_month=40.0)
    energy = quarters(local(2026, 10, 1), local(2026, 11, 1), 400)
    coverage = energy * 0 + 1.0
    coverage.iloc[: len(coverage) // 2] = 0.1
    energy.iloc[: len(coverage) // 2] = 5000.0
    period = Period(local(2026, 10, 1), local(2026, 11, 1))
    (found,) = demands(energy, coverage, [tariff], period, BEIJING, minimum_coverage_ratio=0.9)
    assert (found.power_kw, found.charge) == (400, None)
    assert found.coverage_ratio == pytest.approx(0.5)
    nothing = pd.Series([], pd.DatetimeIndex([], tz="UTC"), dtype=float)
    (empty,) = demands(nothing, nothing, [], period, BEIJING, minimum_coverage_ratio=0.9)
    assert (empty.power_kw, empty.at, empty.tariff, empty.coverage_ratio) == (None, None, None, 0.0)


def test_half_covered_intervals_count_by_the_power_of_what_is_covered() -> None:
    energy = quarters(local(2026, 10, 1), local(2026, 11, 1), 400)
    coverage = energy * 0 + 1.0
    energy.iloc[5], coverage.iloc[5] = 450 / 4 * 0.6, 0.6
    period = Period(local(2026, 10, 1), local(2026, 11, 1))
    (found,) = demands(energy, coverage, [], period, BEIJING, minimum_coverage_ratio=0.9)
    assert found.power_kw == pytest.approx(450)
    assert np.isclose(found.coverage_ratio, 1.0)


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_the_price_of_demand_is_a_number_from_zero(price: float) -> None:
    with pytest.raises(ValueError, match="demand_price_per_kw_month"):
        priced(valid_from=date(2026, 1, 1), demand_price_per_kw_month=price)
