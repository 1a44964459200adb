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

from app.domain.likely import (
    HISTORY,
    HOUR_US,
    JUMP_RATIO,
    Bools,
    Floats,
    Ints,
    count,
    scale_changes,
    unlikely_rises,
    usual_rates,
)
from app.domain.site import Falls, Point

US = 1_000_000

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
STANDSTILL = 4
"""So many steps of nothing, before a rise that fits the usual load over all of them, were a standstill."""
LONGEST_STANDSTILL_US = 8 * 24 * HOUR_US
"""A standstill longer than this is not made up for by the rise that ends it."""
CATCH_UP_RATIO, CATCH_UP_RANGE = 2.0, (0.5, 1.5)
"""A catch-up is so many times as steep as usual, and over the whole standstill within this range of it."""
TANGLE, TANGLE_SHARE = 3, 0.5
"""So many readings that were not believed, at most :data:`app.domain.likely.HISTORY` apart, tangle those
between them if the register fell by this share of what it rose."""
DAY_LONG_US = 20 * HOUR_US
"""Steps longer than this do not tell the usual load of a register that restarts every day."""
CALM = HISTORY
"""Readings on each side that must be in order for no tangle to reach over a reading."""
REACH = 2 * HISTORY + CALM
"""Readings on each side of a change whose meaning it can change."""


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
    """Its instant lies within the step of a clock set back, or a standstill: the energy is in that step."""
    DITHER = 11
    """Dropped: one count lower, after which the register was back."""
    CAUGHT_UP = 12
    """The rise at the end of a standstill, which fits the usual load over all of it: spread over it."""
    TANGLED = 13
    """Between several readings that were not believed: energy unknown."""


DROPPED = (StepKind.TRANSIENT, StepKind.SPIKE, StepKind.MERGED, StepKind.DITHER)
_ORDERLY = (StepKind.NORMAL, StepKind.TRANSIENT, StepKind.SPIKE)


class Walk(NamedTuple):
    """A register followed from reading to reading; arrays of length n."""

    kind: npt.NDArray[np.int8]
    """:class:`StepKind` of each reading."""
    previous: npt.NDArray[np.intp]
    """Index of the reading kept before it, -1 for the first."""
    energy: Floats
    """Energy since then, in register units. NaN: unknowable, or the reading was dropped."""
    since_us: Ints
    """Instant from which that energy is counted: of the reading kept before it, or of a restart. [us]"""


class Restarts(NamedTuple):
    """When a register restarts from zero by the calendar."""

    at_us: Ints
    """Instants at which it does, or may. [us]"""
    is_declared: bool
    """Whether it does at each of them; else the readings must show it."""


NO_RESTARTS = Restarts(np.empty(0, np.int64), is_declared=False)
_NEVER = np.empty(0, np.int64)


def walk(
    at_us: Ints,
    register: Floats,
    *,
    max_power: float = math.inf,
    ceiling: float = math.inf,
    modulus: float = math.inf,
    falls: Falls = Falls.SUSPECT,
    restarts: Restarts = NO_RESTARTS,
    confirmed_us: Ints = _NEVER,
) -> Walk:
    """Follow one cumulative register and say what each reading is.

    A fall is, in this order: a declared restart from zero; a transient reading, if within
    :data:`LOOK_AHEAD` readings (or :data:`ZERO_RUN_US` of zeros) the register is back on its old
    track; the end of a spike; one wrap of the declared modulus; else a new baseline, energy unknown.
    A rise beyond `max_power` x time is a spike if the register returns; a clock set back, if it is what
    the load of the last readings takes in up to an hour and the circuit can carry since one of them; else
    a new baseline. Without a rating, what the neighbouring steps make unlikely takes its place (see
    :func:`app.domain.likely.unlikely_rises`). A rise that makes up for a standstill is spread over it.

    Parameters
    ----------
    at_us : int64, shape (n,)
        Instants, strictly increasing. [us]
    register : float64, shape (n,)
        Cumulative readings, finite. [kWh or any other unit]
    max_power : float
        Most the circuit can carry. [register unit per hour]
    ceiling : float
        Without that, the most that what feeds it can; it bounds what the neighbours make likely.
    modulus : float
        Value at which the register wraps to zero. [register unit]
    falls : Falls
        Whether a fall is a declared restart from zero.
    restarts : Restarts
        When it restarts by the calendar: the energy before such an instant is not known.
    confirmed_us : int64
        Instants whose steps a person confirmed, however large. [us]

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
    odd = odd_steps(at_us, register, max_power, modulus, restarts, ceiling)
    rules = _Rules(at_us, register, (max_power, ceiling), modulus, falls, restarts, confirmed_us)
    steps = Walk(kind, previous, energy, at_us[previous])
    j = _next_odd(odd, 0)
    while j < n:
        j = _next_odd(odd, rules.settle(steps, j))
    if falls is Falls.SUSPECT and len(odd) >= TANGLE - 1:
        _untangle(steps, register, is_rated=math.isfinite(max_power))
    return steps


def odd_steps(
    at_us: Ints,
    register: Floats,
    max_power: float = math.inf,
    modulus: float = math.inf,
    restarts: Restarts = NO_RESTARTS,
    ceiling: float = math.inf,
) -> Ints:
    """Rows of the readings that need a rule; the energy before all others is their rise.

    Parameters
    ----------
    at_us, register, max_power, modulus, restarts, ceiling
        As for :func:`walk`.

    Returns
    -------
    int64, shape (m,)
        In order, from 1.
    """
    if len(register) < 2:
        return np.empty(0, np.int64)
    rise = np.diff(register)
    limits = np.full(len(rise), max_power), np.full(len(rise), modulus)
    odd = is_odd(np.diff(at_us), register[:-1], register[1:], *limits)
    odd[_ends_standstill(register, rise) - 1] = True
    odd[scale_changes(at_us, register)[0] - 1] = True
    if not math.isfinite(max_power):
        odd[unlikely_rises(at_us, register) - 1] = True
        odd |= rise > ceiling * np.diff(at_us) / HOUR_US
        if math.isfinite(modulus):
            odd[_long_steps(at_us)] = True
    if len(restarts.at_us):
        odd |= np.searchsorted(restarts.at_us, at_us[:-1]) < np.searchsorted(
            restarts.at_us, at_us[1:], "right"
        )
    return (np.flatnonzero(odd) + 1).astype(np.int64)


def _ends_standstill(register: Floats, rise: Floats) -> npt.NDArray[np.intp]:
    """Rows that rise by more than two counts after at least :data:`STANDSTILL` steps of zero."""
    if len(rise) <= STANDSTILL:
        return np.empty(0, np.intp)
    flat = np.concatenate([[0], np.cumsum(rise == 0)])
    rows = np.arange(STANDSTILL, len(rise))
    rows = rows[(flat[rows] - flat[rows - STANDSTILL] == STANDSTILL) & (rise[rows] > 0)] + 1
    many: npt.NDArray[np.intp] = rows[rise[rows - 1] > 2 * count(register[rows - 1], register[rows])]
    return many


def _long_steps(at_us: Ints) -> npt.NDArray[np.intp]:
    """Steps at least twice as long as the one before them, in which a whole wrap may hide."""
    length = np.diff(at_us)
    return np.flatnonzero(length >= 2 * np.append(length[0], length[:-1]))


def _untangle(steps: Walk, register: Floats, *, is_rated: bool) -> None:
    """Take back the energy between readings that were not believed, where they stand close together.

    Readings that a rated register returns from are no doubt: its rating keeps foreign ones out.
    """
    returned = () if is_rated else (StepKind.TRANSIENT, StepKind.SPIKE)
    kinds = (StepKind.FALL, StepKind.JUMP, *returned)
    bad = np.flatnonzero(np.isin(steps.kind, kinds) & (register != 0))
    for rows in np.split(bad, np.flatnonzero(np.diff(bad) > HISTORY) + 1):
        if len(rows) == TANGLE - 1 and not is_rated:
            rows = _with_rises_at_the_end(steps, register, rows)
        if len(rows) >= TANGLE and _is_tangle(register[max(rows[0] - 1, 0) : rows[-1] + 2]):
            part = _whole_tangle(register, int(rows[0]), int(rows[-1]))
            kept = ~np.isin(steps.kind[part], DROPPED)
            steps.energy[part] = math.nan
            steps.kind[part] = np.where(kept, StepKind.TANGLED, steps.kind[part])


def _with_rises_at_the_end(steps: Walk, register: Floats, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """With the believed rises that are as large as the falls, where the data end too soon to show more."""
    fall = -np.diff(register[max(rows[0] - 1, 0) : rows[-1] + 1]).min()
    if fall <= 0 or rows[-1] + HISTORY < len(register):
        return rows
    start = max(int(rows[0]) - HISTORY, 1)
    return np.union1d(rows, start + np.flatnonzero(steps.energy[start:] >= TANGLE_SHARE * fall))


def _whole_tangle(register: Floats, first: int, last: int) -> slice:
    """The readings of a tangle, with the rises near it that are as large as its falls: they led into it."""
    near = slice(max(first - HISTORY, 1), min(last + 2 + HISTORY, len(register)))
    rise = np.diff(register[near.start - 1 : near.stop])
    inside = rise[max(first, 1) - near.start : last + 2 - near.start]
    large = near.start + np.flatnonzero(rise >= TANGLE_SHARE * -inside.min())
    return slice(min(first, int(large.min(initial=first))) or 1, max(last + 1, int(large.max(initial=0))) + 1)


def _is_tangle(register: Floats) -> bool:
    rise = np.diff(register)
    return bool(-rise[rise < 0].sum() > TANGLE_SHARE * rise[rise > 0].sum())


def is_odd(spacing_us: Ints, before: Floats, after: Floats, max_power: Floats, modulus: Floats) -> Bools:
    """Steps that need a second look: falls, rises beyond the rating, and gaps that can hide a wrap; (m,)."""
    rise = after - before
    most = max_power * spacing_us / HOUR_US
    odd: Bools = (rise < 0) | (np.isfinite(max_power) & (most >= modulus))
    large = np.flatnonzero(rise > most)
    odd[large] |= rise[large] > most[large] + count(before[large], after[large])
    return odd


def _next_odd(odd: Ints, at_least: int) -> int:
    place = int(np.searchsorted(odd, at_least))
    return int(odd[place]) if place < len(odd) else np.iinfo(np.int64).max


class _Rules:
    """The rules for readings that do not simply follow their predecessor."""

    def __init__(
        self,
        at_us: Ints,
        value: Floats,
        limits: tuple[float, float],
        modulus: float,
        falls: Falls,
        restarts: Restarts,
        confirmed_us: Ints,
    ) -> None:
        self.at_us, self.value = at_us, value
        (self.max_power, self.ceiling), self.modulus, self.falls = limits, modulus, falls
        self.restarts, self.confirmed_us = restarts, confirmed_us
        self.rescaled = frozenset(scale_changes(at_us, value)[0].tolist())

    def settle(self, steps: Walk, j: int) -> int:
        """Decide reading `j` against the one kept before it; the index from which to go on."""
        p = int(steps.previous[j])
        rise = float(self.value[j] - self.value[p])
        restart_us = self._restarted_us(steps, p, j)
        if restart_us is not None:
            return self._keep(steps, j, p, StepKind.RESET, float(self.value[j]), restart_us)
        if rise >= 0 and self._hides_wrap(p, j):
            return self._keep(steps, j, p, StepKind.HIDDEN_WRAP, math.nan)
        begin = self._stood_still_since(steps, p, j)
        if begin >= 0:
            return self._merge(steps, begin, j, StepKind.CAUGHT_UP)
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
            return self._merge(steps, begin, j, StepKind.CLOCK)
        return self._keep(steps, j, p, StepKind.JUMP, math.nan)

    def _usual(self, j: int) -> float:
        """Usual rate around the step that ends at `j`. [register unit per hour]"""
        return float(usual_rates(self.at_us, self.value, np.array([j]))[0])

    def _count(self, p: int, j: int) -> float:
        return float(count(self.value[p : p + 1], self.value[j : j + 1])[0])

    def _stood_still_since(self, steps: Walk, p: int, j: int) -> int:
        """First reading of the standstill that the rise to `j` makes up for; -1: there was none."""
        first = p
        while first and self.value[first - 1] == self.value[p]:
            first -= 1
        rise, span_us = float(self.value[j] - self.value[p]), int(self.at_us[j] - self.at_us[first])
        if p != j - 1 or p - first < STANDSTILL or span_us > LONGEST_STANDSTILL_US:
            return -1
        if not (np.isin(steps.kind[first + 1 : j], (StepKind.NORMAL, StepKind.MERGED))).all():
            return -1
        usual = [u for u in (self._usual(j), self._usual(first) if first else 0.0) if math.isfinite(u)]
        steep = rise * HOUR_US / float(self.at_us[j] - self.at_us[p]) / CATCH_UP_RATIO
        over_all = rise * HOUR_US / span_us
        low, high = CATCH_UP_RANGE
        fits = [u for u in usual if 0 < u < steep and low * u <= over_all <= high * u]
        return first if fits and rise > 2 * self._count(p, j) else -1

    def _restarted_us(self, steps: Walk, p: int, j: int) -> int | None:
        """Instant of the calendar at which the register restarted between two readings; None: it did not.

        A fall shows it. After a rise it is believed if the load since then is nearer to the usual one than
        the load of a register that went on; if that cannot be said, where the restart is declared.
        """
        inside = self.restarts.at_us[
            np.searchsorted(self.restarts.at_us, self.at_us[p]) : np.searchsorted(
                self.restarts.at_us, self.at_us[j], "right"
            )
        ]
        fell, value = bool(self.value[j] < self.value[p]), float(self.value[j])
        fresh = steps.kind[p] == StepKind.RESET and steps.since_us[p] == self.at_us[p]
        if len(inside) and (inside[0] == self.at_us[p] and fresh):
            inside = inside[1:]
        if len(inside) and inside[-1] == self.at_us[j] and (not fell or len(inside) > 1):
            inside = inside[:-1]
        if not len(inside) or value < 0 or self.falls is not Falls.RESET_TO_ZERO:
            return None
        restart_us = int(inside[-1])
        if fell:
            return restart_us
        begins = restart_us == self.at_us[p] and self.at_us[j] - restart_us > DAY_LONG_US
        since, on = (
            self._rate(value, restart_us, j),
            self._rate(value - self.value[p], int(self.at_us[p]), j),
        )
        usual = self._usual(j)
        if begins or not 0 < usual < math.inf or since <= 0 or on <= 0:
            return restart_us if self.restarts.is_declared else None
        return restart_us if abs(math.log(since / usual)) < abs(math.log(on / usual)) else None

    def _rate(self, energy: float, since_us: int, j: int) -> float:
        return energy * HOUR_US / max(float(self.at_us[j] - since_us), 1.0)

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

    def _merge(self, steps: Walk, begin: int, j: int, kind: StepKind) -> int:
        """One step from `begin` to `j` in place of those between them."""
        between = slice(begin + 1, j)
        steps.kind[between][steps.kind[between] == StepKind.NORMAL] = StepKind.MERGED
        steps.energy[between] = math.nan
        return self._keep(steps, j, begin, kind, float(self.value[j] - self.value[begin]))

    def _settle_fall(self, steps: Walk, j: int, p: int) -> int:
        value = float(self.value[j])
        if self.falls is Falls.RESET_TO_ZERO and 0 <= value <= self._most(p, j):
            return self._keep(steps, j, p, StepKind.RESET, value)
        back = self._return(p, j, high=False)
        dithers = value > 0 and self.value[p] - value <= 1.001 * self._count(p, j)
        if back:
            kind = StepKind.DITHER if dithers else StepKind.TRANSIENT
            return self._drop(steps, range(j, back), back, p, kind)
        if dithers:
            return self._keep(steps, j, p, StepKind.NORMAL, value - float(self.value[p]))
        before = int(steps.previous[p])
        if before >= 0 and steps.kind[p] == StepKind.NORMAL and self._stands_out(before, p, j):
            return self._drop(steps, range(p, p + 1), j, before, StepKind.SPIKE)
        wrapped = value + self.modulus - float(self.value[p])
        if self._wraps(p, j, wrapped):
            return self._keep(steps, j, p, StepKind.ROLLOVER, wrapped)
        return self._keep(steps, j, p, StepKind.FALL, math.nan)

    def _keep(
        self, steps: Walk, j: int, p: int, kind: StepKind, energy: float, since_us: int | None = None
    ) -> int:
        steps.kind[j], steps.previous[j], steps.energy[j] = kind, p, energy
        steps.since_us[j] = self.at_us[p] if since_us is None else since_us
        return j + 1

    def _drop(self, steps: Walk, rows: range, back: int, p: int, kind: StepKind) -> int:
        for row in rows:
            steps.kind[row], steps.energy[row] = kind, math.nan
            steps.previous[row] = p
        steps.previous[back] = p
        steps.since_us[back] = self.at_us[p]
        return self.settle(steps, back)

    def _most(self, p: int, j: int) -> float:
        """Most that the circuit can have carried, or that its own steps make likely."""
        if self._is_confirmed(p, j):
            return math.inf
        if j in self.rescaled and self.falls is Falls.SUSPECT:
            return -math.inf
        hours = float(self.at_us[j] - self.at_us[p]) / HOUR_US
        if math.isfinite(self.max_power):
            return self.max_power * hours + self._count(p, j)
        likely = JUMP_RATIO * (self._usual(j) * hours + self._count(p, j))
        return min(likely, self.ceiling * hours + self._count(p, j))

    def _is_confirmed(self, p: int, j: int) -> bool:
        first, last = np.searchsorted(self.confirmed_us, [self.at_us[p], self.at_us[j]], "right")
        return bool(last > first)

    def _hides_wrap(self, p: int, j: int) -> bool:
        if not math.isfinite(self.modulus):
            return False
        if math.isfinite(self.max_power):
            return self._most(p, j) >= self.modulus
        usual = LOAD_MARGIN * self._usual(j) * float(self.at_us[j] - self.at_us[p]) / HOUR_US
        return self.modulus <= usual < math.inf

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
        limit = UNRATED_WRAP_SHARE * self.modulus
        return wrapped <= (self._most(p, j) if math.isfinite(self.max_power) else limit)


def anchors(at_us: Ints, value: Floats, point: Point) -> Bools:
    """Readings that every walk keeps, wherever it started; shape (n,).

    Those in order with :data:`CALM` neighbours on each side (:data:`QUIET` where the register restarts from
    zero), not zero (a zero may turn out transient, unless it has stood for long), none that the step of a
    clock set back may reach over, and none within a standstill but its first. A walk from one of them sees
    what a walk over the whole history sees from :data:`app.domain.likely.HISTORY` readings after it on.
    """
    n = len(value)
    orderly = np.ones(n + 1, np.bool_)
    orderly[1:n] = np.diff(value) >= 0
    most, ceiling = point.max_power_kw / point.multiplier, point.ceiling_kw / point.multiplier
    odd = odd_steps(at_us, value, most, point.modulus_kwh, ceiling=ceiling)
    orderly[odd] = False
    disorder = np.concatenate([[0], np.cumsum(~orderly)])
    rows, calm = np.arange(n), CALM if point.falls is Falls.SUSPECT else QUIET
    lo, hi = np.maximum(rows - calm + 1, 0), np.minimum(rows + calm + 1, n)
    edge = calm + HISTORY
    quiet: Bools = (disorder[hi] == disorder[lo]) & (rows >= edge) & (rows < n - edge)
    quiet &= (value > 0) | is_long_zero(at_us, value, 0)
    quiet &= ~_in_standstill(at_us, value)
    for row in odd[value[odd] > value[odd - 1]].tolist():
        quiet[np.searchsorted(at_us, at_us[row] - LOOK_BACK_US) : row] = False
    return quiet


def _in_standstill(at_us: Ints, value: Floats) -> Bools:
    """Readings of a standstill that has ended, but its first: its end may spread energy over all of it."""
    inside = np.zeros(len(value), np.bool_)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(value)) + 1])
    for run in np.flatnonzero(np.diff(edges) > STANDSTILL):
        first, end = int(edges[run]), int(edges[run + 1])
        near = int(np.searchsorted(at_us, at_us[end] - LONGEST_STANDSTILL_US))
        inside[max(first + 1, near) : end] = True
    return inside


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
