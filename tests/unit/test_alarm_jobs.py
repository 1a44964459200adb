"""What the jobs of alarms decide without the database: steps of rules, replays, names, comparisons."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from app.domain.alarms.alarm import (
    Indicator,
    Memory,
    Observation,
    Rule,
    Severity,
    State,
    Subject,
    Transition,
    fingerprint,
)
from app.domain.alarms.observation import ExplainingFinding, RuleObservation
from app.domain.alarms.resting import Subjects
from app.domain.alarms.silence import PolledMeters
from app.domain.data.alarm_rules import ALARM_RULES
from app.domain.forecast import Budget, Projection
from app.domain.limits import Limit
from app.domain.period import Period
from app.domain.quantity import ReadingKind, Role
from app.domain.site import Meter, Point, Site
from app.jobs.alarms import announce, judge, replay, watch
from app.store.alarms import Remembered
from app.store.outlook import YearOutlook
from app.store.readings import to_us

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
LOUD = Rule(id="loud", indicator=Indicator.PUE, window="1h", warning=1.5)
QUIET = Rule(id="quiet", indicator=Indicator.PUE, window="24h", warning=1.5, quiet_while=("loud",))
SITE = Site(
    id="s",
    institution="b",
    time_zone="Europe/Berlin",
    meters=(Meter(id="a", points=()), Meter(id="b", points=()), Meter(id="c", points=())),
)


def stepped(memories: dict[str, Memory], *seen: tuple[Rule, str, float]) -> tuple[list[State], list[str]]:
    observed = [(rule, Subject(site), Observation(NOW, value)) for rule, site, value in seen]
    after, changes = judge.step_rules(observed, memories, NOW)
    return [memory.state for memory in after], [
        f"{subject.site} {rule.id} {change.after.value} {change.reason}"
        for rule, subject, _, change in changes
    ]


PENDING = Memory(State.PENDING, NOW - DAY, NOW - MINUTE, NOW - DAY)
FIRING = replace(PENDING, state=State.FIRING, severity=Severity.WARNING)


def test_a_rule_is_quiet_while_another_fires_on_the_same_site_only() -> None:
    pending = {fingerprint(rule.id, Subject(site)): PENDING for rule in (LOUD, QUIET) for site in "xy"}
    states, changes = stepped(pending, (LOUD, "x", 1.6), (QUIET, "x", 1.6), (QUIET, "y", 1.6))
    assert states == [State.FIRING, State.INACTIVE, State.FIRING]
    assert [" ".join(change.split()[:3]) for change in changes] == [
        "x loud firing",
        "x quiet inactive",
        "y quiet firing",
    ]
    assert changes[1].endswith("alarm loud")


def test_an_alarm_of_a_quiet_rule_goes_on_as_the_one_that_fires() -> None:
    quiet, loud = (fingerprint(name, Subject("x")) for name in ("quiet", "loud"))
    memories = {quiet: FIRING, loud: FIRING}
    states, changes = stepped(memories, (LOUD, "x", 1.6), (QUIET, "x", 1.6))
    assert (states[0], states[1].is_active) == (State.FIRING, False)
    assert [change.split()[1] for change in changes] == ["quiet"] * len(changes)
    assert changes[0].endswith("continues as alarm loud")
    states, changes = stepped({quiet: FIRING}, (LOUD, "x", 1.4), (QUIET, "x", 1.6))
    assert (states, changes) == ([State.INACTIVE, State.FIRING], [])


def test_of_several_rules_that_fire_the_first_by_name_is_told() -> None:
    also = replace(LOUD, id="also")
    both = replace(QUIET, quiet_while=("loud", "also"))
    memories = {fingerprint(name, Subject("x")): FIRING for name in ("quiet", "loud", "also")}
    _, changes = stepped(memories, (LOUD, "x", 1.6), (also, "x", 1.6), (both, "x", 1.6))
    assert changes[-1].endswith("continues as alarm also")
    memories[fingerprint("quiet", Subject("x"))] = PENDING
    _, changes = stepped(memories, (LOUD, "x", 1.6), (also, "x", 1.6), (both, "x", 1.6))
    assert changes[-1].endswith("alarm also")


def test_an_alarm_that_goes_on_as_another_is_handed_over() -> None:
    memories = {fingerprint(name, Subject("x")): FIRING for name in ("quiet", "loud")}
    seen = [(rule, Subject("x"), Observation(NOW, 1.6)) for rule in (LOUD, QUIET)]
    _, changes = judge.step_rules(seen, memories, NOW)
    assert [change.is_handed_over for _, _, _, change in changes if change.resolves] == [True]


def test_a_replay_looks_at_what_is_not_calm() -> None:
    assert replay._is_calm(None)
    calm = {state for state in State if replay._is_calm(Memory(state))}
    assert calm == {State.INACTIVE, State.NO_DATA, State.ERROR}


@pytest.mark.parametrize(
    ("changed", "is_written"),
    [
        ({}, False),
        ({"at": NOW + timedelta(seconds=59)}, False),
        ({"at": NOW + MINUTE}, True),
        ({"value": 9.0}, False),
        ({"reason": "other"}, True),
        ({"state": State.RECOVERING}, True),
        ({"severity": Severity.CRITICAL}, True),
        ({"at": None}, False),
    ],
)
@pytest.mark.parametrize("state", [State.PENDING, State.FIRING, State.INACTIVE, State.NO_DATA])
def test_a_memory_is_written_where_it_changed_and_now_and_then_while_something_waits(
    state: State, changed: dict[str, object], is_written: bool
) -> None:
    old = Memory(state, NOW - DAY, NOW, NOW - DAY, Severity.WARNING, None, 1.6)
    before, after = (Remembered("r", 1, "", m) for m in (old, replace(old, **changed)))  # type: ignore[arg-type]
    waits = state in (State.PENDING, State.FIRING) or set(changed) - {"at", "value"}
    assert judge._must_be_written(before, after) == (is_written and bool(waits))
    assert judge._must_be_written(None, after)


def test_the_budget_used_and_what_of_a_year_the_rules_look_at() -> None:
    budget = Budget(1.5, 30.0, 10.0, 120.0, 90.0, None)
    assert watch.used_ratio(budget) == 0.25
    for unknown in (None, replace(budget, allowed_kwh=None), replace(budget, allowed_kwh=0.0)):
        assert watch.used_ratio(unknown) is None
    limits = [Limit(name, 1.5, None, None, "s", True) for name in ("one", "two")]
    budgets = ((limits[0], replace(budget, used_kwh=60.0)), (limits[1], budget))
    year = YearOutlook(Projection(2026, 100, 265, 1.4), budgets)
    assert watch.YearFigures.of(year, limits[1], NOW) == watch.YearFigures(NOW, 1.4, "", 0.25)
    assert watch.YearFigures.of(year, limits[0], NOW).used_ratio == 0.5
    assert watch.YearFigures.of(year, None, NOW).used_ratio is None


@pytest.mark.parametrize(
    ("hours", "back"),
    [
        (0.25, DAY),
        (1, DAY),
        (1.25, 7 * DAY),
        (24, 7 * DAY),
        (24.25, 30 * DAY),
        (30 * 24, 30 * DAY),
        (60 * 24 - 0.25, 30 * DAY),
    ],
)
def test_a_window_is_compared_with_the_time_before_it(hours: float, back: timedelta) -> None:
    period = Period(NOW - timedelta(hours=hours), NOW)
    assert announce.before(period, SITE) == Period(period.start - back, period.start)


def test_a_year_is_compared_with_the_one_before_it() -> None:
    for days in (60, 365):
        start = datetime(2026, 4, 30, 22, tzinfo=UTC)
        before = announce.before(Period(start, start + days * DAY), SITE)
        assert before == Period(datetime(2025, 4, 30, 22, tzinfo=UTC), start)


def test_the_meters_that_a_subject_names() -> None:
    assert list(announce._meters(SITE, LOUD, Subject("s", "a+c"))) == ["a", "c"]
    assert list(announce._meters(SITE, LOUD, Subject("s", "a+unknown"))) == ["a"]
    assert list(announce._meters(SITE, LOUD, Subject("s"))) == []
    assert list(announce._meters(None, LOUD, Subject("s", "a"))) == []


@pytest.mark.parametrize(
    ("start_h", "end_h", "is_near"),
    [
        (-2, -1, True),
        (-30, -24, True),
        (-30, -24.01, False),
        (0, 1, False),
        (-0.01, 1, True),
        (-60, -36, False),
        (-60, -35.99, True),
        (5, 30, True),
    ],
)
def test_which_findings_can_explain_what_is_seen(start_h: float, end_h: float, is_near: bool) -> None:
    start, end = (NOW + timedelta(hours=h) for h in (start_h, end_h))
    assert replay._is_near(ExplainingFinding("gap", "p", start, end), NOW) == is_near


def test_transitions_of_a_replay_become_alarms() -> None:
    def change(minutes: int, before: State, after: State, now: Severity, was: Severity | None) -> Transition:
        value = 1.5 + minutes / 1000
        return Transition(NOW + minutes * MINUTE, before, after, now, was, NOW, value, 1.4)

    warning, critical = Severity.WARNING, Severity.CRITICAL
    course = [
        (LOUD, change(0, State.INACTIVE, State.PENDING, warning, None)),
        (LOUD, change(1, State.PENDING, State.FIRING, warning, None)),
        (QUIET, change(2, State.PENDING, State.FIRING, critical, None)),
        (LOUD, change(3, State.FIRING, State.FIRING, critical, warning)),
        (LOUD, change(4, State.FIRING, State.FIRING, warning, critical)),
        (LOUD, change(5, State.RECOVERING, State.RESOLVED, warning, warning)),
        (LOUD, change(6, State.RECOVERING, State.RESOLVED, warning, warning)),
        (LOUD, change(7, State.PENDING, State.FIRING, warning, None)),
    ]
    found = replay._alarms([(rule, Subject("x"), Observation(NOW), moved) for rule, moved in course])
    at = [NOW + minutes * MINUTE for minutes in range(8)]
    assert [(a.rule, a.severity, a.started_at, a.fired_at, a.resolved_at, a.value) for a in found] == [
        ("loud", "critical", NOW, at[1], at[5], 1.503),
        ("quiet", "critical", NOW, at[2], None, 1.502),
        ("loud", "warning", NOW, at[7], None, 1.507),
    ]
    assert {alarm.threshold for alarm in found} == {1.4}
    assert found[0].as_dict()["resolved_at"] == at[5].isoformat()
    assert date.fromisoformat(found[0].as_dict()["fired_at"][:10]) == at[1].date()


# -- gateways ----------------------------------------------------------------------------------------

GATEWAY = next(r for r in ALARM_RULES if r.id == "gateway_silent")
EDGE = next(r for r in ALARM_RULES if r.id == "edge_silent")
METER = next(r for r in ALARM_RULES if r.id == "meter_silent")


def polled(name: str, host: str, interval_s: int = 60, **more: Any) -> Meter:
    point = Point(id=f"{name}.kwh", role=Role.NONE, kind=ReadingKind.REGISTER)
    return Meter(id=name, points=(point,), collector={"host": host, "interval_s": interval_s, **more})


class Plant:
    """A site whose meters are judged every 15 s."""

    def __init__(self, *meters: Meter) -> None:
        self.site = Site(id="s", institution="b", time_zone="UTC", meters=meters)
        self.polled = PolledMeters(self.site)
        self.heard = {f"{m.id}.kwh": NOW for m in meters}
        self.memories: dict[str, Memory] = {}
        self.now = NOW
        self.told: list[tuple[str, str, str]] = []
        self.edge_heard: datetime | None = None

    def wait(self, minutes: float, *answering: str) -> list[tuple[str, str, str]]:
        """What is told while some meters answer: rule, subject, what."""
        self.told = []
        for _ in range(round(minutes * 4)):
            self.now += timedelta(seconds=15)
            self.heard |= {f"{name}.kwh": self.now for name in answering}
            self._judge()
        return self.told

    def _judge(self) -> None:
        heard = self.edge_heard
        seen: list[RuleObservation] = []
        if heard is not None:
            silent_s = np.array([(self.now - heard).total_seconds()])
            seen += Subjects("s", ("box",), "").observed(EDGE, self.now, silent_s, [0])
        newest_us = np.array([to_us(self.heard[point]) for point in self.polled.points])
        for rule in (GATEWAY, METER):
            silent = self.polled.intervals(rule.indicator, to_us(self.now), newest_us)
            seen += self.polled.subjects(rule.indicator).observed(rule, self.now, silent, range(len(silent)))
        after, changes = judge.step_rules(seen, self.memories, self.now)
        for (rule, subject, _), memory in zip(seen, after, strict=True):
            self.memories[fingerprint(rule.id, subject)] = memory
        for rule, subject, _, change in changes:
            what = "merged" if change.is_handed_over else "fires" if change.fires else "over"
            if change.fires or change.resolves:
                self.told.append((rule.id, subject.name, what))


def test_one_alarm_names_the_gateway_when_all_behind_it_are_silent() -> None:
    plant = Plant(*(polled(f"m{n}", "10.0.4.17") for n in range(5)), polled("other", "10.0.4.18"))
    assert plant.wait(10, "other") == [("gateway_silent", "10.0.4.17", "fires")]
    assert plant.wait(10, "m0", "other") == [
        ("gateway_silent", "10.0.4.17", "over"),
        *(("meter_silent", f"m{n}", "fires") for n in range(1, 5)),
    ]


def test_meters_that_fall_silent_one_after_the_other_are_merged() -> None:
    plant = Plant(polled("fast", "gw"), polled("slow", "gw", 300))
    assert plant.wait(10, "slow") == [("meter_silent", "fast", "fires")]
    assert plant.wait(30) == [("gateway_silent", "gw", "fires"), ("meter_silent", "fast", "merged")]


def test_a_silent_meter_behind_a_gateway_that_answers_is_its_own_alarm() -> None:
    plant = Plant(polled("a", "gw"), polled("b", "gw"), polled("c", "GW"), polled("alone", "gw2"))
    assert plant.wait(10, "b", "c") == [("meter_silent", "a", "fires"), ("meter_silent", "alone", "fires")]


def test_the_alarm_of_one_gateway_hides_no_meter_of_another() -> None:
    plant = Plant(*(polled(f"{host}{n}", host) for host in ("x", "y") for n in (1, 2)))
    found = plant.wait(10, "y2")
    assert sorted(found) == [("gateway_silent", "x", "fires"), ("meter_silent", "y1", "fires")]


def test_one_alarm_names_the_edge_and_its_meters_follow_when_it_returns_without_them() -> None:
    plant = Plant(*(polled(f"m{n}", "10.0.4.17") for n in range(3)), polled("other", "10.0.4.18"))
    plant.edge_heard = NOW
    assert plant.wait(30) == [("edge_silent", "box", "fires")]
    told = []
    for _ in range(40):
        plant.edge_heard = plant.now
        told += plant.wait(0.25, "other", "m0")
    assert told == [("edge_silent", "box", "over")] + [
        ("meter_silent", name, "fires") for name in ("m1", "m2")
    ]


def test_a_meter_that_failed_before_its_edge_is_merged_into_the_alarm_of_the_edge() -> None:
    plant = Plant(polled("a", "x"), polled("b", "y"))
    told = []
    for _ in range(40):
        plant.edge_heard = plant.now
        told += plant.wait(0.25, "b")
    assert told == [("meter_silent", "a", "fires")]
    assert plant.wait(10) == [("edge_silent", "box", "fires"), ("meter_silent", "a", "merged")]


def test_a_port_of_a_serial_server_is_named_and_the_host_where_all_are_silent() -> None:
    lines = [polled(f"l{port}{n}", "srv", port=port) for port in (4001, 4002) for n in (1, 2)]
    plant = Plant(*lines)
    assert plant.wait(10, "l40021") == [
        ("gateway_silent", "srv:4001", "fires"),
        ("meter_silent", "l40022", "fires"),
    ]
    assert sorted(plant.wait(10)) == [
        ("gateway_silent", "srv", "fires"),
        ("gateway_silent", "srv:4001", "merged"),
        ("meter_silent", "l40022", "merged"),
    ]


def test_serial_ports_and_brokers_are_addresses_too() -> None:
    meters = [
        Meter(id=f"{key}{n}", points=(), collector={key: value})
        for key, value in (("serial_port", "/dev/ttyUSB0"), ("url", "mqtts://Broker.example:8883/x"))
        for n in (1, 2)
    ]
    filed = [Meter(id=f"f{n}", points=(), collector={"kind": "csv_folder", "folder": "/x"}) for n in (1, 2)]
    site = Site(id="s", institution="b", time_zone="UTC", meters=(*meters, *filed))
    assert {a: [m.id for m in behind] for a, behind in site.gateways.items()} == {
        "/dev/ttyUSB0": ["serial_port1", "serial_port2"],
        "broker.example": ["url1", "url2"],
    }
