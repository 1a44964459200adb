"""What the steps of a register are: rollovers, resets, dropped readings, replacements, mixtures.

The detectors explain the steps of :func:`app.domain.register.walk`, the same ones that the energy follows,
so a finding and the figure cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from app.domain.energy import BREAKS, Event, EventKind, Series, corrected, followed
from app.domain.likely import count
from app.domain.quality.finding import (
    DAY_US,
    Bools,
    Evidence,
    Finding,
    FindingKind,
    Floats,
    Ints,
    Severity,
    at,
    finite,
    outside,
    runs,
)
from app.domain.quality.units import unit_changes
from app.domain.quality.values import unknown_gaps
from app.domain.register import DROPPED, StepKind, Walk
from app.domain.site import Falls, Point

_REMARKABLE = (StepKind.ROLLOVER, StepKind.FALL, StepKind.JUMP, StepKind.CLOCK)
_UNRATED = "far more than its readings before and after: set rated_power_kw or max_power_kw, or confirm it"
_SET_BACK = "more than the circuit can carry since the last reading: the clock was set back"
NEAR_ZERO_SHARE = 0.01
"""A register that fell to less than this part of its value began anew."""
CROSS_TALK_FALLS, CROSS_TALK_SWITCHES, CROSS_TALK_READINGS = 3, 4, 3
"""Falls that make a register suspect; changes of track, and readings on each, that convict it."""
FALLS_BACKWARDS, BACKWARDS_SHARE = 8, 0.8
"""So many falls, and so large a share of all steps, of a register that runs backwards."""
REVERSE_HINT = "the transformer seems to be the wrong way round: turn it, or set direction: reversed"
SOURCE_READINGS = 3
"""So many low readings beside a register are a second source of it."""
TRACK_SHARE = 0.05
"""Part of its level by which a register can grow between its own readings and stay on its track."""


def register_findings(
    point: Point, series: Series, events: Sequence[Event] = (), *, is_whole: bool = True
) -> list[Finding]:
    """Rollovers, resets, transient zeros, spikes and suspected replacements of one register.

    Parameters
    ----------
    point : Point
        Of kind ``register``.
    series : Series
        Its readings in house units, before `point.multiplier`.
    events : sequence of Event
        What people declared; a declared replacement or reset is reported as such.
    is_whole : bool
        Whether the series is the whole history: some causes are known only from that.
    """
    series = finite(corrected(series, events))
    breaks = _breaks(events)
    edges = [0, *(int(np.searchsorted(series.at_us, e.start_us)) for e in breaks), len(series)]
    found = [_declared(point, event) for event in breaks]
    for left, right in pairwise(edges):
        found += _walked(point, series.take(slice(left, right)), events, is_whole=is_whole)
    return found


def known_gaps(
    point: Point, series: Series, events: Sequence[Event], found: Sequence[Finding]
) -> list[Finding]:
    """The gaps of a register, without an energy where its walk found none."""
    series = finite(corrected(series, events))
    if not len(series) or _breaks(events):
        return list(found)
    return unknown_gaps(found, point, series, followed(series, point, events))


def _breaks(events: Sequence[Event]) -> list[Event]:
    breaks = (e for e in events if e.kind in BREAKS)
    return sorted(breaks, key=lambda e: e.start_us)


def _declared(point: Point, event: Event) -> Finding:
    kind = FindingKind.REPLACED if event.kind is EventKind.REPLACED else FindingKind.RESET
    values = {"old_value": event.old_value, "new_value": event.new_value}
    complete = None not in values.values()
    evidence: Evidence = {"declared": "yes", **{k: v for k, v in values.items() if v is not None}}
    severity = Severity.INFO if complete else Severity.WARNING
    return Finding(
        kind, point.id, at(event.start_us), at(event.end_us), severity, 0.0 if complete else None, evidence
    )


def _walked(point: Point, series: Series, events: Sequence[Event], *, is_whole: bool) -> list[Finding]:
    """The first of these that explains the readings, and what it does not explain."""
    backwards = runs_backwards(point, series) if is_whole else []
    if backwards:
        return backwards
    steps = followed(series, point, events)
    causes = [*two_sources(point, series, steps), *unit_changes(point, series)] if is_whole else []
    causes += outside(cross_talk(point, series), causes)
    rest = outside(_step_findings(point, series, steps), causes)
    return causes + outside(_tangles(point, series, steps), causes) + rest


def runs_backwards(point: Point, series: Series) -> list[Finding]:
    """A register that falls most of the time: its transformer is the wrong way round."""
    moves = np.diff(series.value)
    moves = moves[moves != 0]
    falls = int((moves < 0).sum())
    if point.falls is not Falls.SUSPECT or falls < FALLS_BACKWARDS or falls < BACKWARDS_SHARE * len(moves):
        return []
    evidence: Evidence = {"falls": falls, "steps": len(moves), "hint": REVERSE_HINT}
    return [_over(FindingKind.REVERSED, point, series, 0, len(series) - 1, Severity.ERROR, None, evidence)]


def _over(
    kind: FindingKind,
    point: Point,
    series: Series,
    first: int,
    last: int,
    severity: Severity,
    effect_kwh: float | None,
    evidence: Evidence,
) -> Finding:
    start, end = at(series.at_us[first]), at(series.at_us[last])
    return Finding(kind, point.id, start, end, severity, effect_kwh, evidence)


def two_sources(point: Point, series: Series, steps: Walk) -> list[Finding]:
    """Low readings that rise beside the register by themselves: a second sender of the same register.

    At least :data:`SOURCE_READINGS` of them, each within a day of the one before, in order, and closer to
    the register than it moves between them.
    """
    low = np.flatnonzero((steps.kind == StepKind.TRANSIENT) & (series.value != 0))
    found = []
    for rows in np.split(low, np.flatnonzero(np.diff(series.at_us[low]) > DAY_US) + 1):
        values = series.value[rows]
        behind = series.value[np.maximum(steps.previous[rows], 0)] - values
        if len(rows) < SOURCE_READINGS or (np.diff(values) < 0).any():
            continue
        if np.median(behind) > max((values[-1] - values[0]) / (len(rows) - 1), 0.0):
            continue
        evidence: Evidence = {"readings": len(rows), "behind": float(np.median(behind))}
        last = min(int(rows[-1]) + 2, len(series) - 1)  # nothing tells yet what the latest reading is
        args = (int(rows[0]), last, Severity.WARNING, 0.0, evidence)
        found.append(_over(FindingKind.TWO_SOURCES, point, series, *args))
    return found


def _tangles(point: Point, series: Series, steps: Walk) -> list[Finding]:
    """Stretches of readings that were not believed and are no clear mixture."""
    tangled = (steps.kind == StepKind.TANGLED) | np.isin(steps.kind, DROPPED)
    return [
        _over(
            FindingKind.CROSS_TALK,
            point,
            series,
            max(first - 1, 0),
            last,
            Severity.ERROR,
            None,
            {"readings": last - first + 1},
        )
        for first, last in runs(tangled)
        if (steps.kind[first : last + 1] == StepKind.TANGLED).any()
    ]


def _step_findings(point: Point, series: Series, steps: Walk) -> Iterator[Finding]:
    for first, last in runs(np.isin(steps.kind, (StepKind.TRANSIENT, StepKind.SPIKE))):
        for a, b in _same_kind(steps, first, last):
            yield _dropped(point, series, steps, a, b)
    beyond = steps.kind == StepKind.JUMP
    for row in np.flatnonzero(np.isin(steps.kind, _REMARKABLE) & ~beyond):
        yield _step(point, series, steps, int(row))
    for first, last in runs(beyond):
        finding = _step(point, series, steps, first)
        many: Evidence = {"readings": last - first + 1} if last > first else {}
        yield replace(finding, end=at(series.at_us[last]), evidence={**finding.evidence, **many})


def _same_kind(steps: Walk, first: int, last: int) -> Iterator[tuple[int, int]]:
    kinds = steps.kind[first : last + 1]
    cuts = [0, *(np.flatnonzero(np.diff(kinds)) + 1), len(kinds)]
    for a, b in pairwise(cuts):
        yield first + int(a), first + int(b) - 1


def _dropped(point: Point, series: Series, steps: Walk, first: int, last: int) -> Finding:
    """Readings rejected as implausible; the effect is the energy they would have added."""
    kept = max(int(steps.previous[first]), 0)
    values = series.value[first : last + 1]
    false_kwh = float(np.abs(values - series.value[kept]).max()) * point.multiplier
    kind = FindingKind.SPIKE if steps.kind[first] == StepKind.SPIKE else FindingKind.TRANSIENT_ZERO
    evidence: Evidence = {
        "before": float(series.value[kept]),
        "value": float(values[0]),
        "readings": last - first + 1,
    }
    return Finding(
        kind,
        point.id,
        at(series.at_us[first]),
        at(series.at_us[last]),
        Severity.INFO,
        false_kwh,
        evidence,
    )


def _step(point: Point, series: Series, steps: Walk, row: int) -> Finding:
    previous = int(steps.previous[row])
    before, value = float(series.value[previous]), float(series.value[row])
    evidence: Evidence = {"before": before, "after": value}
    start, end = at(series.at_us[previous]), at(series.at_us[row])
    if steps.kind[row] == StepKind.ROLLOVER:
        effect_kwh = float(steps.energy[row]) * point.multiplier
        evidence["modulus"] = point.modulus_kwh
        return Finding(FindingKind.ROLLOVER, point.id, start, end, Severity.INFO, effect_kwh, evidence)
    if steps.kind[row] == StepKind.CLOCK:
        last = float(series.value[row - 1])
        evidence = {"before": last, "after": value, "hint": _SET_BACK}
        effect_kwh = (value - last) * point.multiplier
        return Finding(FindingKind.CLOCK_DRIFT, point.id, start, end, Severity.WARNING, effect_kwh, evidence)
    restarted = steps.kind[row] == StepKind.FALL and 0 <= value <= NEAR_ZERO_SHARE * before
    kind = FindingKind.RESET if restarted else FindingKind.REPLACEMENT_SUSPECTED
    if steps.kind[row] == StepKind.JUMP and not math.isfinite(point.max_power_kw):
        evidence["hint"] = _UNRATED
    return Finding(kind, point.id, start, end, Severity.WARNING, None, evidence)


def cross_talk(point: Point, series: Series, others: Mapping[str, Series] | None = None) -> list[Finding]:
    """Values of several registers interleaved in one column.

    Every reading is put on the track whose last value it continues; a register that keeps changing
    between tracks, each with several readings, is a mixture.

    Parameters
    ----------
    point : Point
        Of kind ``register``.
    series : Series
        Its readings.
    others : mapping of point id to Series, optional
        Registers whose values may have slipped in; those that fit are named in the evidence.
    """
    rise = np.diff(series.value)
    falls = np.flatnonzero(rise < 0)
    falls = falls[rise[falls] < -1.001 * count(series.value[falls], series.value[falls + 1])]
    if point.falls is Falls.RESET_TO_ZERO or len(falls) < CROSS_TALK_FALLS:
        return []
    return [
        finding
        for rows in _clusters(series, falls)
        if (finding := _mixture(point, series, rows, others or {})) is not None
    ]


def _clusters(series: Series, falls: npt.NDArray[np.intp]) -> Iterator[slice]:
    """Stretches around falls that stand within a day of each other."""
    apart = np.flatnonzero(np.diff(series.at_us[falls]) > DAY_US) + 1
    for group in np.split(falls, apart):
        if len(group) >= CROSS_TALK_FALLS:
            yield slice(max(int(group[0]) - 8, 0), int(group[-1]) + 10)


def _mixture(point: Point, series: Series, rows: slice, others: Mapping[str, Series]) -> Finding | None:
    values, at_us = series.value[rows], series.at_us[rows]
    track = _tracks(values)
    sizes = np.bincount(track)
    real = np.isin(track, np.flatnonzero(sizes >= CROSS_TALK_READINGS)) & (values != 0)
    switches = int((np.diff(track[real]) != 0).sum())
    if len(np.unique(track[real])) < 2 or switches < CROSS_TALK_SWITCHES:
        return None
    home = int(np.argmax(np.bincount(track[real])))
    levels = sorted(float(np.median(values[track == t])) for t in np.unique(track[real]))
    evidence: Evidence = {
        "tracks": len(levels),
        "levels": ", ".join(f"{level:g}" for level in levels),
        "switches": switches,
    }
    donors = [name for name, other in others.items() if _fits(at_us, values, track != home, other)]
    if donors:
        evidence["donors"] = ", ".join(donors)
    moved = np.flatnonzero(np.diff(track) != 0)
    start, end = at(at_us[moved[0]]), at(at_us[moved[-1] + 1])
    return Finding(FindingKind.CROSS_TALK, point.id, start, end, Severity.ERROR, None, evidence)


def _tracks(values: Floats) -> npt.NDArray[np.intp]:
    """Number of the track that each value continues: the nearest level below, or a new one."""
    levels: list[float] = []
    numbers = np.empty(len(values), np.intp)
    for row, value in enumerate(values):
        fitting = [n for n, level in enumerate(levels) if 0 <= value - level <= TRACK_SHARE * level + 1]
        if not fitting:
            levels.append(value)
        best = max(fitting, key=lambda n: levels[n]) if fitting else len(levels) - 1
        levels[best], numbers[row] = value, best
    return numbers


def _fits(at_us: Ints, values: Floats, foreign: Bools, other: Series) -> bool:
    """Whether at least three foreign values are what another register read then."""
    if not len(other):
        return False
    expected = np.interp(at_us[foreign], other.at_us, other.value)
    near = np.abs(values[foreign] - expected) <= 0.002 * np.maximum(np.abs(expected), 1)
    return int(near.sum()) >= CROSS_TALK_READINGS
