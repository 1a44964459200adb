"""The state machine of alarms, step by step."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.alarms.alarm import (
    Alarms,
    Indicator,
    Memory,
    Observation,
    Rule,
    Severity,
    Side,
    State,
    Transition,
    step,
    withdrawn,
)
from app.domain.alarms.notification import (
    Channel,
    ChannelKind,
    Notifications,
    QuietHours,
    Route,
    What,
    earliest,
    refusal,
    what_of,
)
from app.domain.data.alarm_rules import ALARM_RULES
from app.domain.report_route import ReportRoute

START = datetime(2026, 3, 1, tzinfo=UTC)
RULE = Rule(
    id="pue_1h",
    indicator=Indicator.PUE,
    window="1h",
    from_limit=True,
    warning=-0.03,
    critical=0.0,
    hysteresis=0.01,
    for_s=20,
    keep_firing_for_s=120,
)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def course(rule: Rule, *seen: tuple[float, float | None]) -> tuple[Memory, list[tuple[str, str, str]]]:
    """States passed through by figures at seconds."""
    memory, passed = Memory(), []
    for seconds, value in seen:
        observation = Observation(at(seconds), value, reason="" if value else "no reading", limit=1.5)
        memory, changes = step(rule, memory, observation)
        passed += [(c.before.value, c.after.value, c.severity or "") for c in changes]
    return memory, passed


HALF_A_DAY_S = 43_200.0


def test_a_clock_set_back_makes_no_rule_deaf() -> None:
    _, passed = course(RULE, (HALF_A_DAY_S, 1.4), (0, 1.52), (30, 1.52))
    assert passed == [("inactive", "pending", "critical"), ("pending", "firing", "critical")]


def test_an_alarm_of_before_the_clock_was_set_back_ends() -> None:
    ahead = [(HALF_A_DAY_S + s, 1.52) for s in (0, 30)]
    memory, passed = course(RULE, *ahead, (60, 1.52), (70, 1.3), (200, 1.3))
    assert [after for _, after, _ in passed] == ["pending", "firing", "recovering", "resolved"]
    assert memory.at == at(200)


def test_an_evaluation_that_comes_late_changes_nothing() -> None:
    assert course(RULE, (299, 1.4), (0, 1.52), (298, 1.52)) == course(RULE, (299, 1.4))


def test_a_breach_warns_gets_worse_and_is_over_once() -> None:
    _, passed = course(
        RULE,
        (0, 1.4),
        (10, 1.48),
        (30, 1.48),
        (40, 1.52),
        (60, 1.52),
        (70, 1.3),
        (100, 1.3),
        (200, 1.3),
        (210, 1.3),
    )
    assert passed == [
        ("inactive", "pending", "warning"),
        ("pending", "firing", "warning"),
        ("firing", "firing", "critical"),
        ("firing", "recovering", "critical"),
        ("recovering", "resolved", "critical"),
        ("resolved", "inactive", ""),
    ]


def test_an_alarm_has_begun_where_its_breach_was_first_seen() -> None:
    memory, begun = Memory(), []
    for seconds, value in ((0, 1.4), (10, 1.52), (40, 1.52), (50, 1.3), (200, 1.3), (300, 1.52)):
        memory, changes = step(RULE, memory, Observation(at(seconds), value, limit=1.5))
        begun += [(c.after, c.started) for c in changes]
    assert begun == [
        (State.PENDING, at(10)),
        (State.FIRING, at(10)),
        (State.RECOVERING, at(10)),
        (State.RESOLVED, at(10)),
        (State.PENDING, at(300)),
    ]
    assert memory.started == at(300)


def test_the_limit_itself_is_kept() -> None:
    memory, _ = course(RULE, (0, 1.5), (30, 1.5))
    assert (memory.state, memory.severity) == (State.FIRING, Severity.WARNING)


def test_a_short_excursion_tells_nobody() -> None:
    _, passed = course(RULE, (0, 1.6), (10, 1.4), (20, 1.6), (30, 1.4))
    assert {after for _, after, _ in passed} == {"pending", "inactive"}


def test_a_figure_that_hovers_at_the_threshold_does_not_flap() -> None:
    values = [1.471, 1.469] * 40
    _, passed = course(RULE, *((10.0 * n, value) for n, value in enumerate([1.471] * 4 + values)))
    assert [p for p in passed if p[1] == "firing"] == [("pending", "firing", "warning")]
    assert not any(after == "resolved" for _, after, _ in passed)


def test_no_data_neither_starts_nor_ends_an_alarm() -> None:
    memory, passed = course(RULE, (0, None), (30, None))
    assert memory.state is State.NO_DATA
    assert passed == [("inactive", "no_data", "")]
    memory, passed = course(RULE, (0, 1.6), (20, 1.6), (40, None), (4000, None))
    assert memory.state is State.FIRING
    assert passed[-1][1] == "firing"


def test_a_recovery_that_was_not_seen_to_its_end_starts_anew() -> None:
    memory, passed = course(RULE, (0, 1.6), (20, 1.6), (40, 1.3), (60, None), (500, 1.3), (560, 1.3))
    assert memory.state is State.RECOVERING
    assert memory.since == at(500)
    assert passed[-1] == ("firing", "recovering", "critical")


def test_a_figure_about_the_threshold_of_recovery_does_not_go_to_and_fro() -> None:
    """The load of a feed that hovered where its alarm begins to recover changed state 119 times."""
    rule = replace(RULE, warning=0.9, critical=None, from_limit=False, hysteresis=0.05, for_s=0)
    rule = replace(rule, keep_firing_for_s=86_400.0)
    hovering = [(3600.0 * i, 0.85 + 0.02 * math.sin(i)) for i in range(2, 20)]
    memory, passed = course(rule, (0, 0.91), (3600, 0.93), *hovering)
    assert [after for _, after, _ in passed] == ["pending", "firing", "recovering"]
    assert (memory.worst, memory.worst_at) == (0.93, at(3600))
    _, passed = course(rule, (0, 0.91), (3600, 0.93), *((3600.0 * i, 0.86) for i in range(2, 60)))
    assert [after for _, after, _ in passed] == ["pending", "firing"]
    below = [(3600.0 * i, 0.84) for i in range(20, 45)]
    _, passed = course(rule, (0, 0.91), (3600, 0.93), *hovering, *below)
    assert [after for _, after, _ in passed] == ["pending", "firing", "recovering", "resolved"]
    memory, passed = course(rule, (0, 0.91), (3600, 0.93), *hovering, (72_000, 0.91), (75_600, 0.95))
    assert [after for _, after, _ in passed] == ["pending", "firing", "recovering", "firing"]
    assert (memory.value, memory.worst) == (0.95, 0.95)


def test_what_the_data_explain_is_not_the_worst_value() -> None:
    memory = Memory()
    for seconds, value, why in ((0, 1.6, ""), (30, 1.7, ""), (60, 9.0, "spike of main.kwh"), (90, 1.65, "")):
        memory, _ = step(RULE, memory, Observation(at(seconds), value, explained_by=why, limit=1.5))
    assert (memory.state, memory.worst, memory.worst_at) == (State.FIRING, 1.7, at(30))


def test_an_error_is_a_state_of_its_own() -> None:
    memory, _ = step(RULE, Memory(), Observation(START, is_error=True, reason="division by zero"))
    assert memory.state is State.ERROR


def test_a_finding_holds_back_the_breach_it_explains() -> None:
    memory = Memory()
    for seconds in (0, 30, 60):
        seen = Observation(at(seconds), 3.0, explained_by="spike of main.kwh", limit=1.5)
        memory, changes = step(RULE, memory, seen)
        assert changes == ()
    memory, _ = step(RULE, memory, Observation(at(90), 3.0, limit=1.5))
    assert memory.state is State.PENDING


def test_an_evaluation_that_comes_twice_changes_nothing() -> None:
    memory, _ = course(RULE, (0, 1.6), (20, 1.6))
    assert step(RULE, memory, Observation(at(20), 1.0, limit=1.5)) == (memory, ())
    assert step(RULE, memory, Observation(at(5), 1.0, limit=1.5)) == (memory, ())


def test_after_a_long_silence_a_breach_is_a_new_one() -> None:
    memory, _ = course(RULE, (0, 1.6), (7200, 1.6))
    assert memory.state is State.PENDING


def test_below_is_the_mirror_of_above() -> None:
    low = Rule(
        id="low",
        indicator=Indicator.COVERAGE_RATIO,
        window="24h",
        side=Side.BELOW,
        warning=0.9,
        critical=0.5,
        for_s=0,
    )
    memory, passed = course(low, (0, 0.95), (10, 0.89), (20, 0.4))
    assert passed == [
        ("inactive", "pending", "warning"),
        ("pending", "firing", "warning"),
        ("firing", "firing", "critical"),
    ]
    assert memory.severity is Severity.CRITICAL


def test_an_alarm_eases_after_a_while() -> None:
    memory, passed = course(RULE, (0, 1.6), (20, 1.6), (40, 1.48), (170, 1.48))
    assert passed[-1] == ("firing", "firing", "warning")
    assert memory.severity is Severity.WARNING


def test_what_is_no_longer_watched_ends() -> None:
    memory, _ = course(RULE, (0, 1.6), (20, 1.6))
    _, changes = withdrawn(memory, RULE, Observation(at(30)), "rule removed")
    assert [what_of(c) for c in changes] == [What.RESOLVE]
    assert withdrawn(Memory(), RULE, Observation(at(30)), "rule removed")[1] == ()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"window": "2h"}, "window"),
        ({"indicator": Indicator.IT_LOAD_RATIO}, "from_limit"),
        ({"warning": None, "critical": None}, "needs a warning"),
        ({"warning": 0.1}, "beyond"),
        ({"for_s": -1}, "for_s"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(wrong: dict[str, object], said: str) -> None:
    good = {
        "id": "x",
        "indicator": Indicator.PUE,
        "window": "1h",
        "from_limit": True,
        "warning": -0.1,
        "critical": 0.0,
    }
    with pytest.raises(ValueError, match=said):
        Rule(**{**good, **wrong})  # type: ignore[arg-type]


def test_own_rules_take_the_place_of_built_in_ones() -> None:
    own = Rule(id="pue_1h", indicator=Indicator.PUE, window="1h", warning=1.3)
    merged = Alarms(rules=(own,), disabled=("pue_24h",)).merged(ALARM_RULES)
    by_id = {rule.id: rule for rule in merged}
    assert by_id["pue_1h"] == own
    assert "pue_24h" not in by_id
    assert len(merged) == len(ALARM_RULES) - 1


# -- notification ------------------------------------------------------------------------------------


def test_quiet_hours_reach_over_midnight() -> None:
    quiet = QuietHours(start="22:00", end="07:00", time_zone="Asia/Shanghai")
    assert quiet.until(datetime(2026, 3, 1, 13, 59, tzinfo=UTC)) is None
    assert quiet.until(datetime(2026, 3, 1, 14, 0, tzinfo=UTC)) == datetime(2026, 3, 1, 23, 0, tzinfo=UTC)
    assert quiet.until(datetime(2026, 3, 1, 22, 59, tzinfo=UTC)) == datetime(2026, 3, 1, 23, 0, tzinfo=UTC)
    assert quiet.until(datetime(2026, 3, 1, 23, 0, tzinfo=UTC)) is None


def test_routes_choose_by_site_and_severity() -> None:
    hooks = tuple(
        Channel(id=x, kind=ChannelKind.WEBHOOK, url="https://example.org") for x in ("day", "night")
    )
    routes = (
        Route(channels=("day",)),
        Route(channels=("night",), severities=(Severity.CRITICAL,), sites=("sh1",)),
    )
    settings = Notifications(channels=hooks, routes=routes)
    assert [c.id for c in settings.receivers("sh1", Severity.CRITICAL, "x")] == ["day", "night"]
    assert [c.id for c in settings.receivers("sh1", Severity.WARNING, "x")] == ["day"]
    assert [c.id for c in settings.receivers("bj1", Severity.CRITICAL, "x")] == ["day"]


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "192.168.0.9", "172.16.0.1", "169.254.169.254"),
        *("100.100.100.200", "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0"),
        *("fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::"),
    ],
)
def test_what_is_not_public_is_refused(address: str) -> None:
    assert refusal(address, ()) is not None


def test_public_and_allowed_addresses_are_let_pass() -> None:
    assert refusal("1.1.1.1", ()) is None
    assert refusal("2606:4700:4700::1111", ()) is None
    assert refusal("10.1.2.3", ("10.0.0.0/8",)) is None
    assert refusal("::ffff:10.1.2.3", ("10.0.0.0/8",)) is None
    assert refusal("10.1.2.3", ("10.2.0.0/16",)) is not None


@pytest.mark.parametrize(
    ("before", "now", "escalates", "eases"),
    [
        (Severity.WARNING, Severity.CRITICAL, True, False),
        (Severity.CRITICAL, Severity.WARNING, False, True),
        (Severity.CRITICAL, Severity.CRITICAL, False, False),
        (None, Severity.CRITICAL, False, False),
        (Severity.WARNING, None, False, False),
    ],
)
def test_a_change_of_severity_escalates_or_eases(
    before: Severity | None, now: Severity | None, escalates: bool, eases: bool
) -> None:
    change = Transition(START, State.FIRING, State.FIRING, now, before, START, 1.5, 1.4)
    assert (change.escalates, change.eases) == (escalates, eases)


@pytest.mark.parametrize(
    "bounds", [{"group_wait_s": 0.0}, {"group_wait_s": 3600.0}, {"dedup_s": 1.0}, {"dedup_s": 86_400.0}]
)
def test_the_bounds_of_waiting_are_allowed_and_what_lies_beyond_is_not(bounds: dict[str, float]) -> None:
    Notifications(**bounds)  # type: ignore[arg-type]
    ((name, value),) = bounds.items()
    beyond = value - 0.5 if value < 2 else value + 1
    with pytest.raises(ValueError, match="group_wait_s is 0 to 3600, dedup_s 1 to 86400"):
        Notifications(**{name: beyond})  # type: ignore[arg-type]


def test_the_port_of_a_mail_server_is_one_that_exists() -> None:
    mail = {"id": "m", "kind": ChannelKind.MAIL, "host": "h", "sender": "a@b.example", "to": ("c@b.example",)}
    assert Channel(**mail, port=65_535).port == 65_535  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="port is 0 to 65535"):
        Channel(**mail, port=65_536)  # type: ignore[arg-type]


def test_quiet_hours_hold_everything_but_what_is_critical() -> None:
    quiet = QuietHours(start="22:00", end="07:00", time_zone="Asia/Shanghai")
    channel = Channel(id="duty", kind=ChannelKind.SLACK, url_file="f", quiet=quiet)
    night, morning = datetime(2026, 3, 1, 15, tzinfo=UTC), datetime(2026, 3, 1, 23, tzinfo=UTC)
    assert earliest(channel, Severity.CRITICAL, night) == night
    assert earliest(channel, Severity.WARNING, night) == morning
    assert earliest(channel, None, night) == morning
    assert earliest(channel, Severity.WARNING, morning) == morning


@pytest.mark.parametrize(
    ("kind", "refused"), [(ChannelKind.ALERTMANAGER, True), (ChannelKind.WEBHOOK, False)]
)
def test_reports_go_only_to_channels_that_do_not_keep_a_state(kind: ChannelKind, refused: bool) -> None:
    channels = (Channel(id="x", kind=kind, url="https://example.org"),)
    routes = (ReportRoute(channels=("x",)),)
    if refused:
        with pytest.raises(
            ValueError, match="reports: channel 'x' takes only alarms; use one of another kind"
        ):
            Notifications(channels=channels, reports=routes)
    else:
        assert Notifications(channels=channels, reports=routes).channel("x") == channels[0]
    with pytest.raises(ValueError, match="unknown channel 'y'; known are x"):
        Notifications(channels=channels, reports=(ReportRoute(channels=("y",)),))
    assert Notifications(channels=channels, routes=(Route(channels=("x",)),)).channel("y") is None
