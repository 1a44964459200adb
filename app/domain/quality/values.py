"""What the values of one point show: gaps, stuck values, spikes, negative power, conflicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from app.domain.energy import GAP_FACTOR, Event, Series, believable, corrected
from app.domain.likely import unlikely_values
from app.domain.quality.finding import (
    Bools,
    Evidence,
    Finding,
    FindingKind,
    Floats,
    Ints,
    Severity,
    at,
    finite,
    runs,
)
from app.domain.quantity import ReadingKind
from app.domain.register import DROPPED, US, StepKind, Walk
from app.domain.site import Direction, Point, Sampling

SHORTEST_GAP_S = 900
"""A gap that loses less time than this is not listed, of a register twice as much. [s]"""
STUCK_READINGS, STUCK_S = 12, 7200
"""Fewest equal readings, and shortest time, for a value to be called stuck."""
STUCK_CHANCE = 1e-3
"""A run of equal readings is stuck if the series' own habit makes so few of that length expected."""
STUCK_TIMES = 2.0
"""A run must be so many times as long as the usual ones: their lengths need not follow chance."""
RESTLESS_SHARE = 0.01
"""A register with fewer repeated readings than this belongs to a load that never rests."""
FEW = 3
"""So many of the longest runs do not tell what is habit."""
HIDDEN_WRAP_HINT = "long enough for the register to wrap once more than it shows; its energy is not known"
EXPORT_RUNS, EXPORT_SHARE, REVERSED_SHARE = 3, 0.25, 0.9
"""So many stretches, or this share of the readings, below zero are an export; above the last all are."""
EXPORT_HINT = (
    "energy flows out here: set direction: both, or give the energy that leaves a point of role export"
)
REVERSE_HINT = "the transformer seems to be the wrong way round: turn it, or set direction: reversed"
ON_CHANGE_HINT = "if the source only writes changes, set sampling: on_change and longest_hold_s"
NOISE_RATIO = 1e-3
"""Negative power smaller than this part of the usual power is noise around zero."""


def gaps(point: Point, series: Series) -> list[Finding]:
    """Times without readings.

    Across a gap of a register the energy is known and only its course is an estimate; of the other
    kinds it is not known, and the evidence says what the neighbouring readings suggest.

    Parameters
    ----------
    point : Point
        With `interval_s`, the distance at which it is meant to be read.
    series : Series
        Its readings; those that are not finite count as missing.
    """
    series = finite(series)
    if len(series) < 2:
        return []
    spacing_s = np.diff(series.at_us) / US
    if point.sampling is Sampling.ON_CHANGE:
        return [_gap(point, series, int(row)) for row in np.flatnonzero(spacing_s > point.longest_hold_s)]
    usual_s = max(float(point.interval_s), float(np.quantile(spacing_s, 0.25, method="lower")))
    shortest_s = SHORTEST_GAP_S * (2 if point.kind is ReadingKind.REGISTER else 1)
    missing = (spacing_s > GAP_FACTOR * usual_s) & (spacing_s - usual_s >= shortest_s)
    return [_gap(point, series, int(row)) for row in np.flatnonzero(missing)]


def unknown_gaps(found: Sequence[Finding], point: Point, series: Series, steps: Walk) -> list[Finding]:
    """Gaps of a register again, without an energy where its walk found none: a wrap may hide there.

    A hidden wrap is named even where the readings stand too close for a gap.
    """
    unknown = np.flatnonzero(
        ~np.isfinite(steps.energy) & ~np.isin(steps.kind, DROPPED) & (steps.previous >= 0)
    )
    stretches = {(at(series.at_us[steps.previous[row]]), at(series.at_us[row])): int(row) for row in unknown}
    hidden = [key for key, row in stretches.items() if steps.kind[row] == StepKind.HIDDEN_WRAP]
    kept = [
        replace(
            f, severity=Severity.WARNING, effect_kwh=None, evidence={**f.evidence, **_wrap_hint(f, hidden)}
        )
        if (f.start, f.end) in stretches
        else f
        for f in found
    ]
    listed = {(f.start, f.end) for f in found}
    more = [
        Finding(FindingKind.GAP, point.id, *key, Severity.WARNING, None, {"hint": HIDDEN_WRAP_HINT})
        for key in hidden
        if key not in listed
    ]
    return kept + more


def _wrap_hint(finding: Finding, hidden: Sequence[tuple[datetime, datetime]]) -> Evidence:
    return {"hint": HIDDEN_WRAP_HINT} if (finding.start, finding.end) in hidden else {}


def _gap(point: Point, series: Series, row: int) -> Finding:
    before, after = float(series.value[row]), float(series.value[row + 1])
    start_us, end_us = int(series.at_us[row]), int(series.at_us[row + 1])
    if point.kind in (ReadingKind.INTERVAL_ENERGY, ReadingKind.INTERVAL_MEAN_POWER):
        end_us = max(end_us - int(series.interval_s[row + 1]) * US, start_us)
    if point.sampling is Sampling.ON_CHANGE:
        start_us += point.longest_hold_s * US
    hours = (end_us - start_us) / US / 3600
    evidence: Evidence = {"hours": round(hours, 4)}
    effect_kwh = None
    if point.kind is ReadingKind.REGISTER:
        effect_kwh = (after - before) * point.multiplier if after >= before else None
    elif point.kind in (ReadingKind.POWER, ReadingKind.INTERVAL_MEAN_POWER):
        evidence["suggested_kwh"] = (before + after) / 2 * hours * point.multiplier
    if point.kind is ReadingKind.POWER and point.sampling is Sampling.PERIODIC and before != after:
        evidence["hint"] = ON_CHANGE_HINT
    severity = Severity.INFO if effect_kwh is not None else Severity.WARNING
    return Finding(FindingKind.GAP, point.id, at(start_us), at(end_us), severity, effect_kwh, evidence)


def stuck(point: Point, series: Series, events: Sequence[Event] = ()) -> list[Finding]:
    """Values that stand still for longer than this series ever does by itself.

    What is usual is taken from the series: with R runs of equal readings and p the chance that such a
    run goes on, ``(R + 1) * p^(L - 2)`` runs of at least L readings are expected. A finding is a run
    that is :data:`STUCK_TIMES` as long as any usual one and of which fewer than :data:`STUCK_CHANCE`
    are expected (or that is longer again by the same factor). A series that stands still for most of
    the time has no such habit to compare with. Zero is "off", not stuck. A register at rest may be
    off as well: it is a finding where the load hardly ever rests, or where the register catches up.

    Parameters
    ----------
    point : Point
        Whose readings they are.
    series : Series
        Its readings in house units.
    """
    series = finite(corrected(series, events))
    if len(series) <= STUCK_READINGS:
        return []
    starts, lengths = equal_runs(series.value)
    long = (lengths >= STUCK_READINGS) & (rest_s(series, starts, lengths) >= STUCK_S)
    if long.any():
        long &= lengths >= _unusual_length(lengths)
        long &= _may_be_stuck(point, series, starts, lengths)
    if lengths[long].sum() > len(series) / 2:
        return []
    return [
        standing_still(point, series, int(starts[i]), int(starts[i] + lengths[i] - 1))
        for i in np.flatnonzero(long)
    ]


def rest_s(series: Series, starts: npt.NDArray[np.intp], lengths: npt.NDArray[np.intp]) -> Floats:
    """Time from the first to the last reading of each run. [s]"""
    resting_s: Floats = (series.at_us[starts + lengths - 1] - series.at_us[starts]) / US
    return resting_s


def _may_be_stuck(
    point: Point, series: Series, starts: npt.NDArray[np.intp], lengths: npt.NDArray[np.intp]
) -> Bools:
    if point.kind is not ReadingKind.REGISTER:
        on: Bools = series.value[starts] != 0
        return on
    repeats = int(np.sort(lengths - 1)[:-FEW].sum())
    if repeats < RESTLESS_SHARE * len(series):
        return np.ones(len(starts), np.bool_)
    after = np.minimum(starts + lengths, len(series) - 1)
    per_s = (series.value[-1] - series.value[0]) / max((series.at_us[-1] - series.at_us[0]) / US, 1.0)
    missed = per_s * rest_s(series, starts, lengths)
    caught_up: Bools = (series.value[after] - series.value[starts] >= missed / 2) & (missed > 0)
    return caught_up


def equal_runs(values: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Index of the first reading, and number of readings, of every run of equal values."""
    edges = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1, [len(values)]]).astype(np.intp)
    return edges[:-1], np.diff(edges)


def _unusual_length(lengths: npt.NDArray[np.intp]) -> float:
    """Length from which a run of equal readings is no habit of the series."""
    usual = np.sort(lengths[lengths >= 2])[:-FEW]
    goes_on = (float((usual - 2).sum()) + 1) / (float((usual - 1).sum()) + 2)
    by_chance = 2 + math.log(STUCK_CHANCE / (len(usual) + 1)) / math.log(goes_on)
    longest = float(usual.max(initial=0))
    return max(STUCK_TIMES * longest, min(by_chance, STUCK_TIMES**2 * max(longest, STUCK_READINGS)))


def standing_still(point: Point, series: Series, first: int, last: int) -> Finding:
    """The finding that the readings `first` to `last` are stuck."""
    hours = float(series.at_us[last] - series.at_us[first]) / US / 3600
    value = float(series.value[first])
    evidence: Evidence = {"value": value, "readings": last - first + 1, "hours": round(hours, 4)}
    effect_kwh = None
    if point.kind in (ReadingKind.POWER, ReadingKind.INTERVAL_MEAN_POWER):
        effect_kwh = value * hours * point.multiplier
    elif point.kind is ReadingKind.REGISTER and last + 1 < len(series):
        evidence["caught_up_kwh"] = float(series.value[last + 1] - value) * point.multiplier
    return Finding(
        FindingKind.STUCK,
        point.id,
        at(series.at_us[first]),
        at(series.at_us[last]),
        Severity.WARNING,
        effect_kwh,
        evidence,
    )


def power_spikes(point: Point, series: Series, events: Sequence[Event] = ()) -> list[Finding]:
    """Power, or energy of an interval, beyond what the circuit can carry; such readings do not count.

    Parameters
    ----------
    point : Point
        Of any energy kind but ``register``; without `max_power_kw` the neighbouring values tell.
    """
    series = finite(corrected(series, events))
    power_kw = np.abs(_power_kw(point, series))
    beyond = power_kw > min(point.max_power_kw, point.ceiling_kw)
    if not math.isfinite(point.max_power_kw):
        beyond |= unlikely_values(series.value)
    rows = np.flatnonzero(beyond)
    if not len(rows):
        return []
    either_way = replace(point, direction=Direction.BOTH)
    beyond[rows] = ~np.isin(series.at_us[rows], believable(series, either_way, events).at_us)
    return [_spike(point, series, power_kw, first, last) for first, last in runs(beyond)]


def _power_kw(point: Point, series: Series) -> Floats:
    if point.kind is ReadingKind.INTERVAL_ENERGY:
        length_s = np.where(series.interval_s > 0, series.interval_s, point.interval_s)
        return series.value * point.multiplier * 3600 / length_s
    return series.value * point.multiplier


def _spike(point: Point, series: Series, power_kw: Floats, first: int, last: int) -> Finding:
    highest = float(power_kw[first : last + 1].max())
    hours = _hours(point, series, first, last)
    evidence: Evidence = {"highest_kw": highest, "readings": last - first + 1}
    rating_kw = min(point.max_power_kw, point.ceiling_kw)
    if math.isfinite(rating_kw):
        evidence["rating_kw"] = rating_kw
    return Finding(
        FindingKind.SPIKE,
        point.id,
        at(series.at_us[first]),
        at(series.at_us[last]),
        Severity.WARNING,
        highest * hours,
        evidence,
    )


def negative_power(
    point: Point,
    series: Series,
    register: tuple[Point, Series] | None = None,
    *,
    is_whole: bool = True,
) -> list[Finding]:
    """Power below zero, as an offset of a transducer shows while the feed is dead.

    Such readings do not count. The register of the same meter, if there is one, tells whether energy
    flowed meanwhile: one that counts on points at a swapped current transformer instead.

    Parameters
    ----------
    point : Point
        Of kind ``power``, ``interval_mean_power`` or ``interval_energy``.
    series : Series
        Its readings. [kW or kWh]
    register : tuple of Point and Series, optional
        The register of the same meter.
    is_whole : bool
        Whether the series is the whole history: what is the rule is known only from that.

    Returns
    -------
    list of Finding
        One for each stretch; a single one where all readings are below zero (`reversed`), or so many that
        energy flows out again and again (`exporting`).
    """
    series = finite(series)
    if not len(series) or point.direction is Direction.BOTH:
        return []
    if point.direction is Direction.REVERSED:
        series = replace(series, value=-series.value)
    noise_kw = NOISE_RATIO * float(np.quantile(np.abs(series.value), 0.99))
    below = series.value < -noise_kw if noise_kw > 0 else series.value < 0
    stretches = list(runs(below))
    usual = _as_a_rule(point, series, below, register) if stretches and is_whole else []
    return usual or [_negative(point, series, register, first, last) for first, last in stretches]


def _as_a_rule(
    point: Point, series: Series, below: Bools, register: tuple[Point, Series] | None
) -> list[Finding]:
    """One finding for a point that is below zero as a rule; none where that is an exception.

    An offset of a transducer is one: the register of the same meter stands still meanwhile.
    """
    share = below.sum() / max(int((series.value != 0).sum()), 1)
    is_reversed = share >= REVERSED_SHARE and below.sum() >= STUCK_READINGS
    if not is_reversed and (_is_offset(series, below, register) or not _is_export(below, share)):
        return []
    rows = np.flatnonzero(below)
    unit = "kwh" if point.kind is ReadingKind.INTERVAL_ENERGY else "kw"
    evidence: Evidence = {
        f"mean_{unit}": float(series.value[rows].mean() * point.multiplier),
        "readings": len(rows),
        "share": round(float(share), 4),
        "hint": REVERSE_HINT if is_reversed else EXPORT_HINT,
    }
    kind = FindingKind.REVERSED if is_reversed else FindingKind.EXPORTING
    severity = Severity.ERROR if is_reversed else Severity.WARNING
    start, end = at(series.at_us[rows[0]]), at(series.at_us[rows[-1]])
    return [Finding(kind, point.id, start, end, severity, None, evidence)]


def _is_export(below: Bools, share: float) -> bool:
    return len(list(runs(below))) >= EXPORT_RUNS or share >= EXPORT_SHARE


def _is_offset(series: Series, below: Bools, register: tuple[Point, Series] | None) -> bool:
    """Whether the register of the same meter stood still while the power was below zero."""
    counted = [
        _counted_kwh(register, int(series.at_us[first]), int(series.at_us[last]))
        for first, last in runs(below)
    ]
    return register is not None and all(kwh in (0, None) for kwh in counted)


def _negative(
    point: Point, series: Series, register: tuple[Point, Series] | None, first: int, last: int
) -> Finding:
    values = series.value[first : last + 1] * point.multiplier
    evidence: Evidence = {"mean_kw": float(values.mean()), "readings": last - first + 1}
    severity = Severity.WARNING
    counted = _counted_kwh(register, int(series.at_us[first]), int(series.at_us[last]))
    if counted is not None:
        evidence["register_kwh"] = counted
        severity = Severity.INFO if counted == 0 else Severity.ERROR
    effect_kwh = float(values.mean()) * _hours(point, series, first, last)
    return Finding(
        FindingKind.NEGATIVE_POWER,
        point.id,
        at(series.at_us[first]),
        at(series.at_us[last]),
        severity,
        effect_kwh,
        evidence,
    )


def _counted_kwh(register: tuple[Point, Series] | None, start_us: int, end_us: int) -> float | None:
    """What a register counted between its readings inside a stretch; None with fewer than two."""
    if register is None:
        return None
    point, series = register
    inside = (series.at_us >= start_us) & (series.at_us <= end_us)
    values = series.value[inside]
    return float(values[-1] - values[0]) * point.multiplier if len(values) > 1 else None


def conflicting_duplicates(point: Point, at_us: Ints, stored: Floats, offered: Floats) -> list[Finding]:
    """Instants for which a second, different value arrived; the first one counts.

    Parameters
    ----------
    at_us : int64, shape (n,)
        Instants, increasing. [us]
    stored, offered : float64, shape (n,)
        The value that counts and the other one, in house units.
    """
    differ = stored != offered
    groups = _runs_in_time(at_us, differ, int(GAP_FACTOR * point.interval_s * US))
    return [_conflict(point, at_us, stored, offered, rows) for rows in groups]


def _conflict(
    point: Point, at_us: Ints, stored: Floats, offered: Floats, rows: npt.NDArray[np.intp]
) -> Finding:
    apart = offered[rows] - stored[rows]
    worst = int(np.argmax(np.abs(apart)))
    evidence: Evidence = {
        "readings": len(rows),
        "stored": float(stored[rows][worst]),
        "offered": float(offered[rows][worst]),
    }
    return Finding(
        FindingKind.CONFLICTING_DUPLICATE,
        point.id,
        at(at_us[rows[0]]),
        at(at_us[rows[-1]]),
        Severity.WARNING,
        None,
        evidence,
    )


def bad_minutes(
    point: str, at_us: Ints, lowest: Floats, highest: Floats, *, least: float, most: float
) -> list[Finding]:
    """Aggregates that hold impossible values, whatever their mean says.

    Parameters
    ----------
    point : str
        Whose aggregates they are.
    at_us : int64, shape (n,)
        Instants of the aggregates. [us]
    lowest, highest : float64, shape (n,)
        Extremes stated by the source.
    least, most : float
        Range of what is possible.
    """
    bad = (lowest < least) | (highest > most)
    return [
        Finding(
            FindingKind.BAD_MINUTES,
            point,
            at(at_us[row]),
            at(at_us[row]),
            Severity.WARNING,
            None,
            {"lowest": float(lowest[row]), "highest": float(highest[row])},
        )
        for row in np.flatnonzero(bad)
    ]


def _runs_in_time(at_us: Ints, mask: Bools, apart_us: int) -> list[npt.NDArray[np.intp]]:
    """Indices of true values, grouped where they stand no further apart than so."""
    rows = np.flatnonzero(mask)
    if not len(rows):
        return []
    return np.split(rows, np.flatnonzero(np.diff(at_us[rows]) > apart_us) + 1)


def _hours(point: Point, series: Series, first: int, last: int) -> float:
    """Time that the readings `first` to `last` stand for: from the reading before to the last one."""
    if point.kind is not ReadingKind.POWER or first == 0:
        length_s = series.interval_s[first : last + 1]
        return float(np.where(length_s > 0, length_s, point.interval_s).sum()) / 3600
    return float(series.at_us[last] - series.at_us[first - 1]) / US / 3600
