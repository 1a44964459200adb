"""What the alarm rules see of stored figures: a value, or the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from app.domain.alarms.alarm import Indicator, Observation, Rule, Severity, Subject
from app.domain.alarms.observation import (
    EXPLAINING,
    ExplainingFinding,
    RuleInput,
    WindowFigures,
    explaining_findings,
    gauge_points,
    of_windows,
    overlap_s,
    serious,
    uninformed,
)
from app.domain.alarms.resting import Subjects
from app.domain.alarms.silence import NEVER_US, PolledMeters
from app.domain.capacity import RatedFeeds
from app.domain.gateways import is_polled
from app.domain.limits import Limit
from app.domain.period import Period
from app.domain.quality.finding import Finding, FindingKind
from app.domain.quality.finding import Severity as Seriousness
from app.domain.quantity import ReadingKind, Role
from app.domain.site import Design, Meter, Point, Site
from app.jobs.alarms.watch import Columns
from app.store.readings import to_us

END = datetime(2026, 3, 2, tzinfo=UTC)
LIMIT = Limit("cbrc_13fyp", 1.5, None, None, "", verified=True)


def hours_ago(hours: float) -> datetime:
    return END - timedelta(hours=hours)


def meter(name: str, role: Role, kind: ReadingKind = ReadingKind.REGISTER, **more: Any) -> Meter:
    return Meter(id=name, points=(Point(id=f"{name}.x", role=role, kind=kind),), **more)


SITE = Site(
    id="sh1",
    institution="b",
    time_zone="UTC",
    design=Design(it_capacity_kw=200),
    meters=(
        meter("main", Role.FACILITY, collector={"kind": "modbus", "interval_s": 300}),
        meter("pdu", Role.IT_PDU_OUTPUT, collector={"kind": "snmp"}),
        meter("filed", Role.COOLING, collector={"kind": "csv_folder"}),
        meter("typed", Role.NONE),
        meter("inside", Role.TEMPERATURE, ReadingKind.GAUGE, room="hall 1"),
        meter("damp", Role.HUMIDITY, ReadingKind.GAUGE, room="hall 1"),
        meter("outside", Role.TEMPERATURE, ReadingKind.GAUGE),
    ),
)


def window(hours: float = 1, **known: Any) -> WindowFigures:
    document = {
        "start": hours_ago(hours).isoformat(),
        "end": END.isoformat(),
        "pue": 1.4,
        "facility_kwh": 140.0,
        "it_kwh": 100.0,
        "coverage_ratio": 1.0,
        "estimated_ratio": 0.0,
    }
    return WindowFigures.of({**document, **known})


def rule(indicator: Indicator, **more: Any) -> Rule:
    named = {"window": "1h"} if indicator in (Indicator.PUE, Indicator.IT_LOAD_RATIO) else {}
    if indicator is Indicator.COVERAGE_RATIO:
        named = {"window": "24h"}
    return Rule(**{"id": "r", "indicator": indicator, "warning": 0.5, **named, **more})


def seen(of: Rule, **known: Any) -> Observation:
    """What a rule sees of the site; `known` changes the facts."""
    facts = RuleInput(SITE, END, {"1h": window()}, LIMIT, hours_ago(48))
    ((found, subject, observation),) = of_windows([of], replace(facts, **known))
    assert (found, subject, observation.at) == (of, Subject("sh1"), END)
    return observation


def finding(start_h: float, end_h: float, kind: str = "gap") -> ExplainingFinding:
    return ExplainingFinding(kind, "main.x", hours_ago(start_h), hours_ago(end_h))


# -- windows -----------------------------------------------------------------------------------------


def test_the_pue_of_a_window_with_the_limit_that_governs() -> None:
    found = seen(rule(Indicator.PUE))
    assert (found.value, found.limit, found.reason, found.explained_by) == (1.4, 1.5, "", "")
    assert seen(rule(Indicator.PUE), limit=None).limit is None


def test_a_rule_from_the_limit_has_no_value_where_no_limit_applies() -> None:
    found = seen(rule(Indicator.PUE, from_limit=True), limit=None)
    assert found.value is None
    assert found.reason == "no limit applies to the site; specify a profile or a limit"
    assert seen(rule(Indicator.PUE, from_limit=True)).value == 1.4


def test_a_window_without_a_pue_says_its_own_reason() -> None:
    assert seen(rule(Indicator.PUE), windows={}).reason == "not evaluated yet"
    found = seen(rule(Indicator.PUE), windows={"1h": window(pue=None, reason="coverage is 10 %")})
    assert (found.value, found.reason) == (None, "coverage is 10 %")


def test_a_jump_is_the_newest_quarter_hour_less_the_day() -> None:
    jump = rule(Indicator.POWER_RATIO_JUMP)
    windows = {"15m": window(0.25, pue=1.75), "24h": window(24, pue=1.5)}
    assert seen(jump, windows=windows).value == 0.25
    unknown = seen(jump, windows={**windows, "24h": window(24, pue=None)})
    assert (unknown.value, unknown.reason) == (None, "PUE of the last 24 h is not known")


@pytest.mark.parametrize(("ratio", "said"), [(0.2, ""), (0.21, "estimates")])
def test_a_figure_from_more_than_a_fifth_of_estimates_is_explained_by_them(ratio: float, said: str) -> None:
    windows = {"1h": window(estimated_ratio=ratio)}
    assert seen(rule(Indicator.PUE), windows=windows).explained_by == said


def test_a_finding_explains_before_estimates_do() -> None:
    windows = {"1h": window(estimated_ratio=0.5)}
    assert seen(rule(Indicator.PUE), windows=windows, explaining=[finding(0.5, 0.4)]).explained_by == (
        "gap of main.x"
    )


@pytest.mark.parametrize(
    ("start_h", "end_h", "explains"), [(26, 24, True), (26, 24.01, False), (1, -1, True), (0, -1, False)]
)
def test_in_a_short_window_any_overlap_explains(start_h: float, end_h: float, explains: bool) -> None:
    facts = RuleInput(SITE, END, {}, LIMIT, None, [finding(start_h, end_h)])
    assert bool(facts.explanation(Period(hours_ago(24), END))) is explains


def test_the_first_finding_is_named() -> None:
    listed = [finding(30, 25), finding(2, 1, "stuck"), finding(3, 2)]
    facts = RuleInput(SITE, END, {}, LIMIT, None, listed)
    assert facts.explanation(Period(hours_ago(24), END)) == "stuck of main.x"


@pytest.mark.parametrize(("hours", "explains"), [(2.5, True), (2.49, False)])
def test_a_window_longer_than_a_day_is_explained_by_a_tenth_of_it(hours: float, explains: bool) -> None:
    facts = RuleInput(SITE, END, {}, LIMIT, None, [finding(10, 10 - hours / 2), finding(5, 5 - hours / 2)])
    assert bool(facts.explanation(Period(hours_ago(25), END))) is explains


def test_the_overlap_is_what_both_share_and_at_least_a_moment_where_they_touch() -> None:
    day = Period(hours_ago(24), END)
    assert overlap_s(finding(30, 23), day) == 3600
    assert overlap_s(finding(1, -5), day) == 3600
    assert overlap_s(finding(2, 2), day) == 1
    assert overlap_s(finding(30, 24), day) == 1
    assert overlap_s(finding(30, 24.001), day) == 0
    assert overlap_s(finding(0, -1), day) == 0


def test_only_findings_about_points_in_the_ratio_explain_it() -> None:
    def found(kind: FindingKind, point: str) -> Finding:
        return Finding(kind, point, hours_ago(2), hours_ago(1), Seriousness.WARNING)

    others = [found(FindingKind.ROLLOVER, "main.x"), found(FindingKind.GAP, "inside.x")]
    kept = explaining_findings(SITE, [*others, found(FindingKind.GAP, "main.x")])
    assert kept == (ExplainingFinding("gap", "main.x", hours_ago(2), hours_ago(1)),)
    every = explaining_findings(SITE, [found(kind, "main.x") for kind in FindingKind])
    assert {f.kind for f in every} == {kind.value for kind in EXPLAINING}


def test_the_it_load_is_the_mean_over_the_covered_part_by_design() -> None:
    load = rule(Indicator.IT_LOAD_RATIO)
    minimum = SITE.minimum_coverage_ratio
    covered = {"1h": window(2, it_kwh=100.0 * minimum, coverage_ratio=minimum)}
    assert seen(load, windows=covered).value == pytest.approx(50 / 200)
    assert seen(load, windows=covered, explaining=[finding(0.5, 0.4)]).explained_by == "gap of main.x"
    for windows in ({"1h": window(coverage_ratio=minimum - 0.01)}, {"1h": window(coverage_ratio=0.0)}, {}):
        found = seen(load, windows=windows)
        assert (found.value, found.reason) == (None, "too little of the window is covered")


def test_without_a_design_capacity_there_is_no_it_load_to_watch() -> None:
    site = replace(SITE, design=Design())
    assert list(of_windows([rule(Indicator.IT_LOAD_RATIO)], RuleInput(site, END, {}, LIMIT, None))) == []


def test_coverage_is_watched_once_the_history_fills_the_window() -> None:
    coverage = rule(Indicator.COVERAGE_RATIO)
    windows = {"24h": window(24, coverage_ratio=0.75)}
    assert seen(coverage, windows=windows, known_from=hours_ago(24)).value == 0.75
    for known_from in (None, hours_ago(23.9)):
        found = seen(coverage, windows=windows, known_from=known_from)
        assert (found.value, found.reason) == (None, "the recorded history is shorter than the window")
    assert seen(coverage, windows={}).reason == "not evaluated yet"


def test_rules_of_other_sites_and_other_indicators_see_no_window() -> None:
    facts = RuleInput(SITE, END, {"1h": window()}, LIMIT, None)
    assert list(of_windows([rule(Indicator.PUE, sites=("bj1",)), rule(Indicator.TEMPERATURE_C)], facts)) == []
    assert len(list(of_windows([rule(Indicator.PUE, sites=("bj1", "sh1"))], facts))) == 1


# -- feeds, gauges, silence --------------------------------------------------------------------------


def observed(subjects: Subjects, indicator: Indicator, values: list[float]) -> dict[str, Observation]:
    """What a rule sees of all subjects, by name."""
    seen = subjects.observed(rule(indicator), END, np.array(values), range(len(values)))
    return {subject.name: observation for _, subject, observation in seen}


def test_every_rated_feed_is_watched_by_its_meters() -> None:
    meters = (
        meter("a", Role.IT_UPS_OUTPUT, rated_power_kw=50, fed_by=("top",)),
        meter("b", Role.IT_UPS_OUTPUT, rated_power_kw=50, fed_by=("top",)),
        meter("top", Role.FACILITY),
        meter("d", Role.IT_PDU_OUTPUT, rated_power_kw=50, fed_by=("a", "b")),
        meter("none", Role.TEMPERATURE, ReadingKind.GAUGE, rated_power_kw=50),
    )
    feeds = RatedFeeds(replace(SITE, meters=meters))
    assert (feeds.names, feeds.points) == (("a+b", "d"), ("a.x", "b.x", "d.x"))
    unknown = math.nan
    energy_kwh = [[10, 10, unknown], [20, 3.75, unknown], [30, unknown, unknown], [1, 1, unknown]]
    ratios = feeds.peak_ratios(np.array(energy_kwh))
    seen = observed(
        Subjects("sh1", feeds.names, "load is not known"), Indicator.FEED_LOAD_RATIO, list(ratios)
    )
    assert {name: (o.value, o.reason) for name, o in seen.items()} == {
        "a+b": (0.95, ""),
        "d": (None, "load is not known"),
    }


def test_gauges_in_rooms_are_watched_and_those_outdoors_are_not() -> None:
    assert [p.id for p in gauge_points(SITE, Indicator.TEMPERATURE_C)] == ["inside.x"]
    assert [p.id for p in gauge_points(SITE, Indicator.HUMIDITY_PERCENT)] == ["damp.x"]
    columns = Columns(SITE)
    watched = columns.subjects(Indicator.TEMPERATURE_C)
    assert watched is not None
    assert observed(watched, Indicator.TEMPERATURE_C, [0.0])["inside.x"].value == 0.0
    unknown = observed(watched, Indicator.TEMPERATURE_C, [math.nan])["inside.x"]
    assert (unknown.value, unknown.reason) == (None, "no reading in the last 2 h")


def test_meters_that_are_polled_are_those_with_a_collector_that_asks() -> None:
    assert [m.id for m in SITE.meters if is_polled(m)] == ["main", "pdu"]


def silence(site: Site, last: dict[str, datetime], indicator: Indicator) -> dict[str, Observation]:
    """What a rule about silence sees, by name."""
    polled = PolledMeters(site)
    newest_us = np.array([to_us(last[p]) if p in last else NEVER_US for p in polled.points], np.int64)
    values = polled.intervals(indicator, to_us(END), newest_us)
    return observed(polled.subjects(indicator), indicator, values.tolist())


def test_silence_counts_in_the_meters_own_interval() -> None:
    silent = Indicator.METER_SILENT_INTERVALS
    found = silence(SITE, {"main.x": hours_ago(1), "pdu.x": END + timedelta(seconds=5)}, silent)
    assert {name: o.value for name, o in found.items()} == {"main": 12.0, "pdu": 0.0}
    both = Meter(
        id="two",
        points=(SITE.meters[0].points[0], SITE.meters[1].points[0]),
        collector={"kind": "modbus", "interval_s": 60},
    )
    site = replace(SITE, meters=(both,))
    newest = silence(site, {"main.x": hours_ago(1), "pdu.x": hours_ago(0.5)}, silent)["two"]
    assert newest.value == 30, "the newest reading of any of its points counts"
    never = silence(SITE, {}, silent)
    assert {(o.value, o.reason) for o in never.values()} == {(None, "never reported")}
    empty = replace(SITE, meters=(replace(both, points=()),))
    assert silence(empty, {}, silent)["two"].value is None


def test_a_meter_polled_every_few_seconds_is_silent_by_the_minute() -> None:
    fast = meter("fast", Role.FACILITY, collector={"kind": "modbus", "interval_s": 5})
    found = silence(
        replace(SITE, meters=(fast,)), {"fast.x": hours_ago(0.05)}, Indicator.METER_SILENT_INTERVALS
    )
    assert found["fast"].value == 3


def test_an_address_is_silent_as_long_as_the_least_silent_meter_behind_it() -> None:
    meters = tuple(
        meter(name, Role.LIGHTING, collector={"kind": "modbus", "host": "gw", "port": port, "interval_s": 60})
        for name, port in (("a", 1), ("b", 1), ("c", 2))
    )
    site, gateways = replace(SITE, meters=meters), Indicator.GATEWAY_SILENT_INTERVALS
    last = {"a.x": hours_ago(1), "b.x": hours_ago(2), "c.x": hours_ago(0.5)}
    found = silence(site, last, gateways)
    assert {name: (o.value, o.within) for name, o in found.items()} == {
        "gw": (30.0, ()),
        "gw:1": (60.0, ("gw",)),
    }
    del last["a.x"], last["c.x"]
    assert {name: o.value for name, o in silence(site, last, gateways).items()} == {
        "gw": 120.0,
        "gw:1": 120.0,
    }
    within = {name: o.within for name, o in silence(site, last, Indicator.METER_SILENT_INTERVALS).items()}
    assert within == {"a": ("gw", "gw:1"), "b": ("gw", "gw:1"), "c": ("gw",)}


def test_when_a_silence_crosses_a_threshold_is_known_beforehand() -> None:
    polled = PolledMeters(SITE)
    newest_us = np.array([to_us(hours_ago(1)), NEVER_US], np.int64)
    crossed_us = polled.crossed_us(Indicator.METER_SILENT_INTERVALS, newest_us, 5.0)
    assert crossed_us[0] == to_us(hours_ago(1)) + 5 * 300 * 1_000_000
    assert math.isnan(crossed_us[1])


def test_open_errors_of_the_last_week_are_serious() -> None:
    class Stored:
        def __init__(self, severity: str, state: str, start: datetime) -> None:
            self.severity, self.state, self.start = severity, state, start

    week = hours_ago(7 * 24)
    counted = [Stored("error", "open", week), Stored("error", "open", hours_ago(1))]
    others = [
        Stored("error", "open", week - timedelta(seconds=1)),
        Stored("warning", "open", hours_ago(1)),
        Stored("error", "acknowledged", hours_ago(1)),
    ]
    assert serious([*counted, *others], END) == [week, hours_ago(1)]


def test_a_fault_of_the_computation_reaches_every_known_subject() -> None:
    pue = rule(Indicator.PUE, critical=0.9)
    assert pue.reached(1.0, None) is Severity.CRITICAL
    found = list(uninformed(pue, ["a", "b"], "sh1", END, "division by zero"))
    assert [s for _, s, _ in found] == [Subject("sh1", "a"), Subject("sh1", "b")]
    assert {(o.reason, o.is_error, o.value) for _, _, o in found} == {("division by zero", True, None)}
    assert [s for _, s, _ in uninformed(pue, [], "sh1", END, "x")] == [Subject("sh1")]
