"""A cumulative register followed from reading to reading: what each reading is, and what flowed before it.

A register that falls wrapped, was reset or replaced, or gave a transient wrong value; one that jumps was
replaced or gave one. :func:`walk` decides, by rules that look only a few readings around; therefore
:func:`anchors` can say where a computation may start and still give what the whole history gives.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.domain.site import Falls, Point

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

US = 1_000_000
HOUR_US = 3600 * US

LOOK_AHEAD = 3
"""So many readings in a row may be transient before a fall counts as a reset."""
ZERO_RUN_US = HOUR_US
"""A register that reads exactly zero for no longer than this and then returns was rebooting."""
UNRATED_WRAP_SHARE = 0.25
"""Without a rating, a wrap is accepted if it means at most this share of the modulus."""
SPIKE_RATIO = 10.0
"""Without a rating, a single reading stands out if it rises this many times more than what remains."""
CLOCK_BACK_US, LOOK_BACK_US = HOUR_US, 2 * HOUR_US
"""Largest step back of a clock that is accepted, and the time over which its step may be spread."""
LOAD_MARGIN = 1.5
"""So many times the load of the last readings may have flowed while a clock was set back."""
QUIET = 4
"""Readings on each side that must be in order for a walk to be able to start at a reading."""


class StepKind(IntEnum):
    """What a register reading was found to be, seen from the last reading that was kept."""

    FIRST = 0
    NORMAL = 1
    ROLLOVER = 2
    RESET = 3
    """Restarted from zero as declared (`Falls.RESET_TO_ZERO`): energy known."""
    TRANSIENT = 4
    """Dropped: a low reading, after which the register was back on the old track."""
    SPIKE = 5
    """Dropped: a high reading, after which the register was back on the old track."""
    FALL = 6
    """New baseline after an undeclared reset or replacement: energy unknown."""
    JUMP = 7
    """New baseline after more energy than the circuit can carry: energy unknown."""
    HIDDEN_WRAP = 8
    """A gap so long that a whole wrap could hide in it: energy unknown."""
    CLOCK = 9
    """More than the circuit can carry since the last reading, but not over a longer time at the usual load:
    the clock was set back. Energy known, over that longer time."""
    MERGED = 10
    """Its instant lies within the step of a clock set back: the energy is in that step."""


DROPPED = (StepKind.TRANSIENT, StepKind.SPIKE, StepKind.MERGED)
_ORDERLY = (StepKind.NORMAL, StepKind.TRANSIENT, StepKind.SPIKE)


class Walk(NamedTuple):
    """A register followed from reading to reading; arrays of length n."""

    kind: npt.NDArray[np.int8]
    """:class:`StepKind` of each reading."""
    previous: npt.NDArray[np.intp]
    """Index of the reading kept before it, -1 for the first."""
    energy: Floats
    """Energy since then, in register units. NaN: unknowable, or the reading was dropped."""


def walk(
    at_us: Ints,
    register: Floats,
    *,
    max_power: float = math.inf,
    modulus: float = math.inf,
    falls: Falls = Falls.SUSPECT,
) -> Walk:
    """Follow one cumulative register and say what each reading is.

    A fall is, in this order: a declared restart from zero; a transient reading, if within
    :data:`LOOK_AHEAD` readings (or :data:`ZERO_RUN_US` of zeros) the register is back on its old
    track; the end of a spike; one wrap of the declared modulus; else a new baseline, energy unknown.
    A rise beyond `max_power` x time is a spike if the register returns; a clock set back, if it is what
    the load of the last readings takes in up to an hour and the circuit can carry since one of them; else
    a new baseline.

    Parameters
    ----------
    at_us : int64, shape (n,)
        Instants, strictly increasing. [us]
    register : float64, shape (n,)
        Cumulative readings, finite. [kWh or any other unit]
    max_power : float
        Most the circuit can carry. [register unit per hour]
    modulus : float
        Value at which the register wraps to zero. [register unit]
    falls : Falls
        Whether a fall is a declared restart from zero.

    Returns
    -------
    Walk
        Arrays of shape (n,).
    """
    n = len(register)
    kind = np.full(n, StepKind.NORMAL, np.int8)
    previous = np.arange(-1, n - 1, dtype=np.intp)
    energy = np.diff(register, prepend=np.nan)
    if n:
        kind[0] = StepKind.FIRST
    odd = _odd_steps(at_us, register, max_power, modulus)
    rules = _Rules(at_us, register, max_power, modulus, falls)
    steps = Walk(kind, previous, energy)
    j = _next_odd(odd, 0)
    while j < n:
        j = _next_odd(odd, rules.settle(steps, j))
    return steps


def _odd_steps(at_us: Ints, register: Floats, max_power: float, modulus: float) -> Ints:
    limits = np.full(max(len(at_us) - 1, 0), max_power), np.full(max(len(at_us) - 1, 0), modulus)
    odd = is_odd(np.diff(at_us), register[:-1], register[1:], *limits)
    return (np.flatnonzero(odd) + 1).astype(np.int64)


def is_odd(spacing_us: Ints, before: Floats, after: Floats, max_power: Floats, modulus: Floats) -> Bools:
    """Steps that need a second look: falls, rises beyond the rating, and gaps that can hide a wrap; (m,)."""
    rise = after - before
    most = max_power * spacing_us / HOUR_US
    odd: Bools = (rise < 0) | (np.isfinite(max_power) & (most >= modulus))
    large = np.flatnonzero(rise > most)
    odd[large] |= rise[large] > most[large] + _count(before[large], after[large])
    return odd


def _next_odd(odd: Ints, at_least: int) -> int:
    place = int(np.searchsorted(odd, at_least))
    return int(odd[place]) if place < len(odd) else np.iinfo(np.int64).max


class _Rules:
    """The rules for readings that do not simply follow their predecessor."""

    def __init__(self, at_us: Ints, value: Floats, max_power: float, modulus: float, falls: Falls) -> None:
        self.at_us, self.value = at_us, value
        self.max_power, self.modulus, self.falls = max_power, modulus, falls

    def settle(self, steps: Walk, j: int) -> int:
        """Decide reading `j` against the one kept before it; the index from which to go on."""
        p = int(steps.previous[j])
        rise = float(self.value[j] - self.value[p])
        if rise >= 0 and self._hides_wrap(p, j):
            return self._keep(steps, j, p, StepKind.HIDDEN_WRAP, math.nan)
        if 0 <= rise <= self._most(p, j):
            return self._keep(steps, j, p, StepKind.NORMAL, rise)
        if rise > 0:
            return self._settle_rise(steps, j, p)
        return self._settle_fall(steps, j, p)

    def _settle_rise(self, steps: Walk, j: int, p: int) -> int:
        back = self._return(p, j, high=True)
        if back:
            return self._drop(steps, range(j, back), back, p, StepKind.SPIKE)
        begin = self._set_back(steps, p, j)
        if begin >= 0:
            return self._merge(steps, begin, j)
        return self._keep(steps, j, p, StepKind.JUMP, math.nan)

    def _set_back(self, steps: Walk, p: int, j: int) -> int:
        """Last orderly reading since which the circuit can have carried what `j` shows; -1: there is none.

        At least :data:`QUIET` steps lie between it and `p`; their load, with :data:`LOAD_MARGIN`, over the
        time since `p` and an hour more, must account for the rise.
        """
        first = int(np.searchsorted(self.at_us, self.at_us[j] - LOOK_BACK_US))
        kinds = steps.kind[first:j]
        broken = np.flatnonzero(~np.isin(kinds, _ORDERLY))
        start = int(broken[-1]) if len(broken) else 0
        rows = first + start + np.flatnonzero(~np.isin(kinds[start:], DROPPED))[:-QUIET]
        rose = self.value[p] - self.value[rows]
        usual = LOAD_MARGIN * rose / (self.at_us[p] - self.at_us[rows])
        longest_us = float(self.at_us[j] - self.at_us[p]) + CLOCK_BACK_US
        most = self.max_power * (self.at_us[j] - self.at_us[rows]) / HOUR_US
        rise = float(self.value[j] - self.value[p])
        fits = np.flatnonzero((rise <= usual * longest_us) & (rose + rise <= most))
        return int(rows[fits[-1]]) if len(fits) else -1

    def _merge(self, steps: Walk, begin: int, j: int) -> int:
        """One step from `begin` to `j` in place of those between them."""
        between = slice(begin + 1, j)
        steps.kind[between][steps.kind[between] == StepKind.NORMAL] = StepKind.MERGED
        steps.energy[between] = math.nan
        return self._keep(steps, j, begin, StepKind.CLOCK, float(self.value[j] - self.value[begin]))

    def _settle_fall(self, steps: Walk, j: int, p: int) -> int:
        value = float(self.value[j])
        if self.falls is Falls.RESET_TO_ZERO and 0 <= value <= self._most(p, j):
            return self._keep(steps, j, p, StepKind.RESET, value)
        back = self._return(p, j, high=False)
        if back:
            return self._drop(steps, range(j, back), back, p, StepKind.TRANSIENT)
        before = int(steps.previous[p])
        if before >= 0 and steps.kind[p] == StepKind.NORMAL and self._stands_out(before, p, j):
            return self._drop(steps, range(p, p + 1), j, before, StepKind.SPIKE)
        wrapped = value + self.modulus - float(self.value[p])
        if self._wraps(p, j, wrapped):
            return self._keep(steps, j, p, StepKind.ROLLOVER, wrapped)
        return self._keep(steps, j, p, StepKind.FALL, math.nan)

    def _keep(self, steps: Walk, j: int, p: int, kind: StepKind, energy: float) -> int:
        steps.kind[j], steps.previous[j], steps.energy[j] = kind, p, energy
        return j + 1

    def _drop(self, steps: Walk, rows: range, back: int, p: int, kind: StepKind) -> int:
        for row in rows:
            steps.kind[row], steps.energy[row] = kind, math.nan
            steps.previous[row] = p
        steps.previous[back] = p
        return self.settle(steps, back)

    def _most(self, p: int, j: int) -> float:
        """Most the circuit can have carried, plus one count of the register."""
        if not math.isfinite(self.max_power):
            return math.inf
        carried = self.max_power * float(self.at_us[j] - self.at_us[p]) / HOUR_US
        return carried + float(_count(self.value[p : p + 1], self.value[j : j + 1])[0])

    def _hides_wrap(self, p: int, j: int) -> bool:
        return (
            math.isfinite(self.modulus) and math.isfinite(self.max_power) and self._most(p, j) >= self.modulus
        )

    def _return(self, p: int, j: int, *, high: bool) -> int:
        """Index of the reading with which the register is back on the track of `p`; 0: it is not."""
        zeros = not high and self.value[j] == 0
        k = j + 1
        while k < len(self.value) and (k - j <= LOOK_AHEAD or (zeros and self._within_zero_run(p, k))):
            rise = float(self.value[k] - self.value[p])
            if 0 <= rise <= self._most(p, k) and (not high or self.value[k] < self.value[j]):
                return k
            zeros = zeros and self.value[k] == 0
            k += 1
        return 0

    def _within_zero_run(self, p: int, k: int) -> bool:
        return bool(self.at_us[k] - self.at_us[p] <= ZERO_RUN_US)

    def _stands_out(self, before: int, p: int, j: int) -> bool:
        remains = float(self.value[j] - self.value[before])
        rose = float(self.value[p] - self.value[before])
        return 0 <= remains <= self._most(before, j) and rose > SPIKE_RATIO * remains and rose > 0

    def _wraps(self, p: int, j: int, wrapped: float) -> bool:
        if not math.isfinite(self.modulus) or self.value[p] > self.modulus or wrapped < 0:
            return False
        if self._hides_wrap(p, j):
            return False
        limit = self._most(p, j) if math.isfinite(self.max_power) else UNRATED_WRAP_SHARE * self.modulus
        return wrapped <= limit


_COUNTS = (0.001, 0.01, 0.1, 0.125, 0.25, 0.5, 1.0)
"""Steps in which registers count, finest first."""


def _count(a: Floats, b: Floats) -> Floats:
    """Largest usual step of a register that shows `a` and `b`, at least that of a float32."""
    step = np.spacing(np.abs(b).astype(np.float32)).astype(np.float64)
    for count in _COUNTS:
        off = np.maximum(np.abs(a / count - np.rint(a / count)), np.abs(b / count - np.rint(b / count)))
        step = np.where(off < 1e-6 * np.sqrt(np.maximum(1.0, np.abs(b))), np.maximum(count, step), step)
    return step


def anchors(at_us: Ints, value: Floats, point: Point) -> Bools:
    """Readings that every walk keeps, wherever it started; shape (n,).

    Those in order with :data:`QUIET` neighbours on each side, not zero (a zero may turn out transient,
    unless it has stood for long), and none that the step of a clock set back may reach over.
    """
    n = len(value)
    orderly = np.ones(n + 1, np.bool_)
    orderly[1:n] = np.diff(value) >= 0
    odd = _odd_steps(at_us, value, point.max_power_kw / point.multiplier, point.modulus_kwh)
    orderly[odd] = False
    disorder = np.concatenate([[0], np.cumsum(~orderly)])
    rows = np.arange(n)
    lo, hi = np.maximum(rows - QUIET + 1, 0), np.minimum(rows + QUIET + 1, n)
    quiet: Bools = (disorder[hi] == disorder[lo]) & (rows >= QUIET) & (rows < n - QUIET)
    quiet &= (value > 0) | is_long_zero(at_us, value, 0)
    for row in odd[value[odd] > value[odd - 1]].tolist():
        quiet[np.searchsorted(at_us, at_us[row] - LOOK_BACK_US) : row] = False
    return quiet


def is_long_zero(at_us: Ints, value: Floats, first: int | Ints) -> Bools:
    """Zeros that have stood for so long that the register really shows zero; shape (n,).

    Parameters
    ----------
    first : int or int64, shape (n,)
        Row with which the series of each reading begins.
    """
    rows = np.arange(len(value))
    nonzero = np.where(value != 0, rows, np.asarray(first) - 1)
    last_nonzero = np.maximum.accumulate(nonzero) if len(value) else rows
    first_zero = np.minimum(last_nonzero + 1, max(len(value) - 1, 0))
    long: Bools = (value == 0) & (at_us - at_us[first_zero] > ZERO_RUN_US) & (rows - first_zero > LOOK_AHEAD)
    return long
