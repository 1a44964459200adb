"""What holds for every course of figures through the state machine of alarms."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from app.domain.alarms.alarm import Indicator, Memory, Observation, Rule, Side, State, Transition, step

START = datetime(2026, 3, 1, tzinfo=UTC)
NEXT = {
    State.INACTIVE: {State.PENDING, State.NO_DATA, State.ERROR},
    State.PENDING: {State.FIRING, State.INACTIVE, State.NO_DATA, State.ERROR, State.PENDING},
    State.FIRING: {State.RECOVERING, State.FIRING},
    State.RECOVERING: {State.FIRING, State.RESOLVED},
    State.RESOLVED: {State.INACTIVE, State.PENDING, State.NO_DATA, State.ERROR},
    State.NO_DATA: {State.INACTIVE, State.PENDING, State.ERROR},
    State.ERROR: {State.INACTIVE, State.PENDING, State.NO_DATA},
}

rules = st.builds(
    lambda side, gap, **times: Rule(
        id="r",
        indicator=Indicator.TEMPERATURE_C,
        side=side,
        warning=5.0,
        critical=5.0 + gap if side is Side.ABOVE else 5.0 - gap,
        **times,
    ),
    side=st.sampled_from(Side),
    gap=st.floats(0, 3),
    hysteresis=st.floats(0, 2),
    for_s=st.sampled_from([0.0, 20.0, 100.0]),
    keep_firing_for_s=st.sampled_from([0.0, 60.0, 300.0]),
)
figures = st.tuples(
    st.floats(1, 5000),
    st.one_of(st.none(), st.floats(0, 10), st.just(float("nan")), st.just(float("inf"))),
    st.booleans(),
    st.sampled_from(["", "", "", "gap of x"]),
)


def walked(rule: Rule, seen: list[tuple[float, float | None, bool, str]]) -> list[tuple[Memory, Transition]]:
    memory, at, out = Memory(), START, []
    for seconds, value, is_error, explained_by in seen:
        at += timedelta(seconds=seconds)
        memory, changes = step(
            rule, memory, Observation(at, value, is_error=is_error, explained_by=explained_by)
        )
        out += [(memory, change) for change in changes]
    return out


@given(rules, st.lists(figures, max_size=40))
def test_only_the_drawn_arrows_are_walked(
    rule: Rule, seen: list[tuple[float, float | None, bool, str]]
) -> None:
    state = State.INACTIVE
    for _, change in walked(rule, seen):
        assert change.before is state
        assert change.after in NEXT[state]
        state = change.after


@given(rules, st.lists(figures, max_size=40))
def test_alarms_begin_and_end_in_turn(rule: Rule, seen: list[tuple[float, float | None, bool, str]]) -> None:
    turns = [c.fires for _, c in walked(rule, seen) if c.fires or c.resolves]
    assert turns == [n % 2 == 0 for n in range(len(turns))]


@given(rules, st.lists(figures, max_size=40))
def test_unknown_or_doubtful_figures_start_and_end_nothing(
    rule: Rule, seen: list[tuple[float, float | None, bool, str]]
) -> None:
    doubtful = [(s, v, e, "gap of x") for s, v, e, _ in seen]
    assert not [c for _, c in walked(rule, doubtful) if c.fires]
    for _, change in walked(rule, seen):
        if change.fires or change.resolves or change.escalates:
            assert change.value is not None


@given(rules, st.lists(figures, max_size=30), st.integers(0, 29))
def test_a_restart_or_a_repeated_evaluation_changes_nothing(
    rule: Rule, seen: list[tuple[float, float | None, bool, str]], again: int
) -> None:
    memory, at = Memory(), START
    for n, (seconds, value, is_error, explained_by) in enumerate(seen):
        at += timedelta(seconds=seconds)
        observation = Observation(at, value, is_error=is_error, explained_by=explained_by)
        memory, _ = step(rule, memory, observation)
        if n == again:
            assert step(rule, replace(memory), observation) == (memory, ())


@given(rules, st.lists(figures, max_size=40))
def test_nothing_fires_before_its_time(rule: Rule, seen: list[tuple[float, float | None, bool, str]]) -> None:
    for _, change in walked(rule, seen):
        if change.fires:
            assert change.started is not None
            assert (change.at - change.started).total_seconds() >= rule.for_s


@given(rules, st.lists(figures, max_size=40))
def test_a_relapse_is_a_value_beyond_the_threshold_and_the_worst_is_the_furthest(
    rule: Rule, seen: list[tuple[float, float | None, bool, str]]
) -> None:
    memory, at = Memory(), START
    for seconds, value, is_error, explained_by in seen:
        at += timedelta(seconds=seconds)
        before = memory
        observed = Observation(at, value, is_error=is_error, explained_by=explained_by)
        memory, changes = step(rule, before, observed)
        for change in changes:
            if change.before is State.RECOVERING and change.after is State.FIRING:
                assert change.value is not None
                assert rule.reached(change.value, None) is not None
        if memory.state.is_active and before.worst is not None:
            assert memory.worst is not None
            assert not rule.is_beyond(before.worst, memory.worst)
        if memory.state is State.INACTIVE:
            assert memory.worst is None
