"""Months that are hard to report on: made sites and readings, one function each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.domain.reading import Reading

HOSTILE = (
    "=HYPERLINK(1)\r\n+x",
    "@SUM(A1)",
    "-1+2 שלום مرحبا",
    "名" * 200,
    "<script>alert(1)</script> #let x = 1 ]*$_`\\",
)
"""Names that try to be a formula, a second line, another direction, too long, or markup."""


@dataclass(frozen=True)
class Case:
    """A site, its readings, and the month to report."""

    site: str
    period: str
    now: datetime
    readings: Callable[[], Iterator[Reading]]
    replaced_at: datetime | None = None
    """When the meter ``ups`` was declared replaced (old 1 000 + what it counted, new 0)."""


def _site(zone: str, meters: str, extra: str = "") -> str:
    return f"""
institutions: [{{id: bank, name: Bank, institution_class: other}}]
sites:
  - id: s1
    institution: bank
    time_zone: {zone}
    currency: EUR
    {extra}
    meters:
{meters}
"""


def _meter(name: str, role: str, kind: str = "register", title: str = "") -> str:
    label = title.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r").replace("\n", "\\n")
    every_s = 3600 if kind == "register" else 900
    point = f"{{id: {name}.p, role: {role}, kind: {kind}, interval_s: {every_s}}}"
    return f'      - {{id: {name}, name: "{label}", rated_power_kw: 100, points: [{point}]}}\n'


_TWO = _meter("main", "facility") + _meter("ups", "it_ups_output")


def _register(
    point: str, power_kw: float, start: datetime, hours: int, first: float = 1000.0
) -> Iterator[Reading]:
    for h in range(hours + 1):
        yield Reading(point, start + timedelta(hours=h), first + power_kw * h)


def _both(start: datetime, hours: int) -> Iterator[Reading]:
    yield from _register("main.p", 30, start, hours)
    yield from _register("ups.p", 20, start, hours)


def _power(point: str, power_kw: float, start: datetime, days: int) -> Iterator[Reading]:
    """Samples every 15 minutes for the first 60 % of every day."""
    for day in range(days):
        for quarter in range(58):
            yield Reading(point, start + timedelta(days=day, minutes=15 * quarter), power_kw)


def _gaps() -> Iterator[Reading]:
    start = datetime(2026, 4, 1, tzinfo=UTC)
    yield from _power("main.p", 30, start, 30)
    yield from _power("ups.p", 20, start, 30)


def _swap() -> Iterator[Reading]:
    start, half = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 4, 16, tzinfo=UTC)
    yield from _register("main.p", 30, start, 24 * 30)
    yield from _register("ups.p", 20, start, 24 * 15 - 1)
    yield from _register("ups.p", 20, half + timedelta(hours=1), 24 * 15 - 1, first=20.0)


def _more_cooling() -> Iterator[Reading]:
    """A March, and an April with more of everything, most of all of cooling."""
    first, second = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    for point, before_kw, after_kw in (("main.p", 30.0, 33.37), ("ups.p", 20.0, 20.7), ("fan.p", 7.0, 9.13)):
        yield from _register(point, before_kw, first, 24 * 31)
        start = 1000.0 + before_kw * 24 * 31
        yield from (r for r in _register(point, after_kw, second, 24 * 30, start) if r.at > second)


def _in_beijing() -> str:
    """A site that pays by PUE and by demand: the rule, and the tariff, change within the month."""
    extra = """jurisdiction: CN-BJ
    design: {it_capacity_kw: 30, racks_total: 10}
    declared: [{indicator: racks_in_use, value: 6, date: 2026-04-02, evidence: Inventory}]
    tariffs:
      - {valid_from: 2026-01-01, price_per_kwh: 0.7, demand_price_per_kw_month: 40, source: Contract A}
      - {valid_from: 2026-04-21, price_per_kwh: 0.8, demand_price_per_kw_month: 30, source: Contract B}"""
    rules = """
surcharges:
  - id: own_2026
    jurisdictions: [CN-BJ]
    limit_pue: 1.3
    tiers: [{above_pue: 1.3, price_per_kwh: 0.3}, {above_pue: 1.45, price_per_kwh: 0.6}]
    marginal: true
    valid_from: 2026-04-16
    source: Invented rule of 2026
"""
    return _site("Asia/Shanghai", _TWO, extra).replace("currency: EUR", "currency: CNY") + rules


_MAY = datetime(2026, 5, 10, tzinfo=UTC)

CASES: dict[str, Case] = {
    "spring_of_743_hours": Case(
        _site("Europe/Berlin", _TWO),
        "2026-03",
        datetime(2026, 4, 10, tzinfo=UTC),
        lambda: _both(datetime(2026, 2, 28, 23, tzinfo=UTC), 743),
    ),
    "forty_percent_missing": Case(
        _site("UTC", _meter("main", "facility", "power") + _meter("ups", "it_ups_output", "power")),
        "2026-04",
        _MAY,
        _gaps,
    ),
    "meter_replaced": Case(
        _site("UTC", _TWO), "2026-04", _MAY, _swap, replaced_at=datetime(2026, 4, 16, tzinfo=UTC)
    ),
    "more_cooling": Case(_site("UTC", _TWO + _meter("fan", "cooling")), "2026-04", _MAY, _more_cooling),
    "nothing_at_all": Case(_site("UTC", _TWO), "2026-04", _MAY, lambda: iter(())),
    "one_meter": Case(
        _site("UTC", _meter("ups", "it_ups_output")),
        "2026-04",
        _MAY,
        lambda: _register("ups.p", 20, datetime(2026, 4, 1, tzinfo=UTC), 24 * 30),
    ),
    "pays_by_pue": Case(
        _in_beijing(), "2026-04", _MAY, lambda: _both(datetime(2026, 3, 31, 16, tzinfo=UTC), 720)
    ),
    "hostile_names": Case(
        _site(
            "Asia/Shanghai",
            _meter("main", "facility", title=HOSTILE[0])
            + _meter("ups", "it_ups_output", title=HOSTILE[3])
            + _meter("light", "lighting", title=HOSTILE[4])
            + _meter("fan", "cooling", title=HOSTILE[2]),
            extra=f'name: "{HOSTILE[1]}"',
        ),
        "2026-04",
        _MAY,
        lambda: _both(datetime(2026, 3, 31, 16, tzinfo=UTC), 720),
    ),
}
