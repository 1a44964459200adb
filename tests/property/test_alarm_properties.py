"""What holds for every course of figures through the state machine of alarms."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.domain.alarms.alarm import (
    Indicator,
    Memory,
    Observation,
    Rule,
    Severity,
    Side,
    State,
    Transition,
    step,
)
from app.domain.alarms.resting import Resting, settled_until

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


# -- what rests --------------------------------------------------------------------------------------


def lasting(memory: Memory) -> Memory:
    """A memory without the last observation."""
    return replace(memory, at=None, value=None)


@given(rules, st.lists(figures, min_size=1, max_size=20), st.lists(st.floats(0.001, 3000), max_size=4))
def test_what_is_settled_changes_nothing_when_it_is_seen_again(
    rule: Rule, seen: list[tuple[float, float | None, bool, str]], later_s: list[float]
) -> None:
    memory, at = Memory(), START
    for seconds, value, is_error, explained_by in seen:
        at += timedelta(seconds=seconds)
        last = Observation(at, value, is_error=is_error, explained_by=explained_by)
        memory, _ = step(rule, memory, last)
    for seconds in sorted(later_s):
        if at + timedelta(seconds=seconds) < settled_until(rule, memory):
            after, changes = step(rule, memory, replace(last, at=at + timedelta(seconds=seconds)))
            assert (lasting(after), changes) == (lasting(memory), ())


@given(rules, st.data())
def test_what_is_settled_for_a_time_changes_when_it_is_over(rule: Rule, data: st.DataObject) -> None:
    state = data.draw(st.sampled_from([State.PENDING, State.RECOVERING]))
    value = rule.critical if state is State.PENDING else rule.warning
    assert value is not None
    away = 100.0 if (state is State.PENDING) == (rule.side is Side.ABOVE) else -100.0
    memory = Memory(state, START, START, START, Severity.WARNING if state.is_active else None)
    until, seen = settled_until(rule, memory), value + away
    assert until - START <= timedelta(seconds=300)
    if until > START:
        _, changes = step(rule, memory, Observation(until - timedelta(milliseconds=1), seen))
        assert changes == ()
    _, changes = step(rule, memory, Observation(max(until, START + timedelta(seconds=1)), seen))
    assert [change.after for change in changes] == [
        State.FIRING if state is State.PENDING else State.RESOLVED
    ]


@given(
    rules,
    st.lists(st.tuples(st.lists(figures, max_size=6), figures.map(lambda x: x[1])), min_size=1, max_size=6),
)
def test_subjects_that_rest_are_left_as_they_are_by_a_step(
    rule: Rule, subjects: list[tuple[list[tuple[float, float | None, bool, str]], float | None]]
) -> None:
    resting, memories = Resting(rule, len(subjects)), []
    for number, (seen, _) in enumerate(subjects):
        memory, at = Memory(), START
        for seconds, value, is_error, explained_by in seen:
            at += timedelta(seconds=seconds)
            observed = Observation(at, value, is_error=is_error, explained_by=explained_by)
            memory, _ = step(rule, memory, observed)
        resting.note(number, memory)
        memories.append(memory)
    values = [math.nan if value is None else value for _, value in subjects]
    awake = set(resting.awake(np.array(values)).tolist())
    for number in set(range(len(subjects))) - awake:
        value = None if math.isnan(values[number]) else values[number]
        after, changes = step(rule, memories[number], Observation(START + timedelta(days=1), value))
        assert (lasting(after), changes) == (lasting(memories[number]), ())
    calm = {n for n, memory in enumerate(memories) if memory.state is State.INACTIVE}
    inside = {n for n in calm if math.isfinite(values[n]) and rule.reached(values[n], None) is None}
    assert not awake & inside, "whoever is calm and inside rests"
