"""Whether the plant itself uses more than it used to, weather and load apart: drift from its baseline.

A cumulative sum chart (Page 1954; ISO 7870-4) watches the residual of the frozen baseline, day by day:

    x_d = (overhead_d / expected_d) / level - 1 - 0.4 e_d     what the plant uses beyond its baseline
    z_d = (x_d - p^g x_d') / (s sqrt(1 - p^2g))               what is new on the day, g days after day d'
    S_d = max(0, S_d' + z_d - k),    found when S_d > h       z is held within +-3

with e the standard error of what is expected, s and p the standard deviation and the persistence of the
residual in the baseline period, k half of :data:`TARGET_RATIO` in units of z, and h from Siegmund's
approximation of the time to a false alarm, (exp(2kb) - 2kb - 1) / 2k^2 with b = h + 1.166, so that a plant
without drift gives one in :data:`NOMINAL_YEARS` years. One day alone proves nothing. The drift began when S
last left zero. It is over when the mirror of the chart says so, or when a measure is registered: the level of
the plant is learned anew after each measure.

A step beside the replacement of a meter that moved its readings enough to make it, or beside a change of the
plant's description, is not called drift: which of the two it is does not follow from the energy. Days with
doubtful data are not known, and change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from app.domain.baseline import Baseline, Conditions, Expected
from app.errors import SeriesError

Floats = npt.NDArray[np.float64]
Dates = npt.NDArray[np.datetime64]

TARGET_RATIO = 0.05
"""Excess that is to be found soonest; half of it is where drift begins to count."""
NOMINAL_YEARS = 12.0
"""Years to a false alarm of the chart alone; the uncertainty of the baseline shortens them."""
BENEFIT_ERRORS = 0.4
"""Standard errors of what the baseline expects by which a day must be above it to count."""
LEAST_SD_RATIO = 0.02
"""Smaller noise is not believed: the coefficients of a baseline are not known better."""
MOST_PERSISTENCE = 0.9
LEAST_NOISE_DAYS = 60
"""Days of the baseline period that the noise needs."""
LEARNING_DAYS = (28, 56)
"""Known days from which the level of the plant is learned after a measure: fewest and most."""
FRESH = timedelta(days=14)
"""What was known of drift counts so long."""
LEVEL_ERROR_RATIO = 0.007
"""Standard error of the level for which the fewest days suffice."""
BESIDE = timedelta(days=7)
"""A step so near to a mark may come from it."""
ENOUGH_RATIO = 0.5
"""Share of the excess by which the readings of a replaced meter must have moved to explain it."""
_MOST_Z = 3.0
_BOUNDARY = 1.166
"""Siegmund's correction of the limit for the overshoot."""


@dataclass(frozen=True, slots=True)
class PlantDays:
    """Overhead power of local days against what the baseline expects of them."""

    dates: Dates
    """datetime64[D], shape (n,), strictly increasing; days may be missing."""
    actual_kw: Floats
    """Mean over the covered time, shape (n,). [kW]"""
    expected_kw: Floats
    """Shape (n,). [kW] NaN: the day is doubtful, or outside of what the baseline has seen."""
    error_ratio: Floats | None = None
    """Standard error of what is expected, by it, shape (n,). None: not known, and taken as none."""

    def __post_init__(self) -> None:
        if not self.dates.shape == self.actual_kw.shape == self.expected_kw.shape:
            raise SeriesError("dates, actual_kw and expected_kw differ in length")
        if (np.diff(self.dates) <= np.timedelta64(0, "D")).any():
            raise SeriesError("dates are not strictly increasing")

    @classmethod
    def of(cls, rows: Conditions, baseline: Baseline) -> PlantDays:
        """Days against what a baseline of days expects of them.

        Raises
        ------
        SeriesError
            If the rows are not days.
        """
        expected = baseline.expected(rows)
        error = _error_kw(expected) / expected.expected_kw
        return cls(rows.local_days.astype("datetime64[D]"), rows.overhead_kw, expected.expected_kw, error)

    def after(self, day: date) -> PlantDays:
        """Those after a day."""
        rows = self.dates > np.datetime64(day, "D")
        error = None if self.error_ratio is None else self.error_ratio[rows]
        return PlantDays(self.dates[rows], self.actual_kw[rows], self.expected_kw[rows], error)

    @property
    def excess_ratio(self) -> Floats:
        """Use beyond the baseline by what was expected, shape (n,); NaN where it is not known."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.actual_kw / self.expected_kw - 1
        return np.where((self.expected_kw > 0) & np.isfinite(ratio), ratio, np.nan)


def _error_kw(expected: Expected) -> Floats:
    """Standard error of each day's expectation: of the coefficients, and of the form. [kW]"""
    gradient = expected.gradient
    coefficients = [((gradient @ covariance) * gradient).sum(axis=1) for covariance in expected.covariances]
    apart = expected.others_kw - expected.expected_kw
    form = (apart**2).sum(axis=0) / (1 + len(apart))
    return np.asarray(np.sqrt(np.maximum(np.max(coefficients, axis=0), 0.0) + form), np.float64)


@dataclass(frozen=True, slots=True)
class Noise:
    """How the residual of a plant without drift wanders."""

    sd_ratio: float
    """Standard deviation by what was expected."""
    persistence: float
    """Correlation of a day with the day before. [0..1]"""

    @classmethod
    def stated(cls, cv_rmse_ratio: float, autocorrelation: float) -> Noise:
        """That which a baseline states of days that were predicted from the others."""
        return cls(max(cv_rmse_ratio, LEAST_SD_RATIO), min(max(autocorrelation, 0.0), MOST_PERSISTENCE))

    @classmethod
    def of(cls, days: PlantDays) -> Noise | None:
        """That of the baseline period; None where fewer than :data:`LEAST_NOISE_DAYS` days are known."""
        ratio = days.excess_ratio
        known = np.isfinite(ratio)
        if known.sum() < LEAST_NOISE_DAYS:
            return None
        x = ratio[known] - ratio[known].mean()
        is_next = np.diff(days.dates[known]) == np.timedelta64(1, "D")
        squares = float((x[:-1][is_next] ** 2).sum())
        found = float((x[1:][is_next] * x[:-1][is_next]).sum()) / squares if squares else 0.0
        return cls.stated(float(x.std()), found)


@dataclass(frozen=True, slots=True)
class Chart:
    """A cumulative sum chart for a given noise."""

    noise: Noise
    slack: float
    """k, in units of the day's news."""
    limit: float
    """h, in the same units."""

    @classmethod
    def of(cls, noise: Noise) -> Chart:
        """The chart that finds :data:`TARGET_RATIO` soonest for one false alarm in :data:`NOMINAL_YEARS`."""
        p = noise.persistence
        slack = TARGET_RATIO / 2 / noise.sd_ratio * math.sqrt((1 - p) / (1 + p))
        low, high = 0.0, 1e4
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if _days_to(-slack, middle) < NOMINAL_YEARS * 365.25 else (low, middle)
        return cls(noise, slack, max(high - _BOUNDARY, 0.0))

    @property
    def learning_days(self) -> int:
        """Known days after a measure from which the level is known well enough."""
        p = self.noise.persistence
        needed = (self.noise.sd_ratio / LEVEL_ERROR_RATIO) ** 2 * (1 + p) / (1 - p)
        return int(min(max(needed, LEARNING_DAYS[0]), LEARNING_DAYS[1]))

    @property
    def days_to_find(self) -> float:
        """Days until a sudden excess of :data:`TARGET_RATIO` is found, on average."""
        return _days_to(self.slack, self.limit + _BOUNDARY)

    def news(self, x: float, before: float, gap_days: int) -> float:
        """What is new on a day, given the last known day `gap_days` before. [standard deviations]"""
        kept = self.noise.persistence**gap_days
        z = (x - kept * before) / (self.noise.sd_ratio * math.sqrt(1 - kept**2))
        return min(max(z, -_MOST_Z), _MOST_Z)


def _days_to(drift: float, boundary: float) -> float:
    """Mean days of the chart to its limit for a mean step of `drift` (Siegmund 1985). [d]"""
    a = 2 * drift * boundary
    if abs(a) < 1e-9:
        return boundary**2
    return math.inf if a < -700 else (math.exp(-a) + a - 1) / (2 * drift**2)


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that may move the level of the plant, and is no drift."""

    on: date
    what: str
    """E.g. ``measure set-point`` or ``replaced sh1-pdu-b2``."""
    is_measure: bool = False
    """The level is learned anew from here; of other marks only a step beside them is."""
    step_kw: float | None = None
    """By how much the readings moved there, of a replaced meter. [kW] None: not known; then it may be all."""

    def may_explain(self, onset: date, excess_kw: float) -> bool:
        """Whether an excess from a day on may come from it."""
        moved = self.step_kw is None or abs(self.step_kw) >= ENOUGH_RATIO * excess_kw
        return not self.is_measure and abs(self.on - onset) <= BESIDE and moved


@dataclass(frozen=True, slots=True)
class Episode:
    """A time in which the plant used more than its own baseline."""

    onset: date
    found_on: date
    excess_ratio: float
    """Mean from the onset to the end, or to now."""
    over_on: date | None = None
    over_by: str = ""
    """The measure that ended it; empty: the plant is back."""

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.over_on is None


@dataclass(frozen=True, slots=True)
class Course:
    """What was known of drift at the end of each day."""

    dates: Dates
    excess_ratio: Floats
    """Mean excess since the onset; 0 while none is found; NaN while the level is not known."""
    episodes: tuple[Episode, ...]
    explained: tuple[tuple[date, Mark], ...]
    """Steps that were put down to a mark, by their onset."""
    chart: Chart
    learning_since: Mark | None
    """The mark after which the level is still being learned."""
    level_ratio: Floats
    """Level of the plant by its baseline that holds on each day, shape (n,); NaN while it is learned."""
    sums: Floats
    """S of each day, in units of `chart.limit`, shape (n,); NaN where the day is not known."""

    @property
    def open(self) -> Episode | None:
        """The drift that goes on; None where there is none."""
        return self.episodes[-1] if self.episodes and self.episodes[-1].is_open else None

    def before(self, day: date) -> float:
        """What was known of drift as a day began; NaN where nothing newer than :data:`FRESH` is."""
        found = int(np.searchsorted(self.dates, np.datetime64(day, "D"))) - 1
        if found < 0 or np.datetime64(day, "D") - self.dates[found] > np.timedelta64(FRESH):
            return math.nan
        return float(self.excess_ratio[found])


def watch(days: PlantDays, noise: Noise, marks: Iterable[Mark] = ()) -> Course:
    """Follow a plant day by day from the end of its baseline period.

    Parameters
    ----------
    days : PlantDays
        The days after the baseline period; NaN and missing days change nothing.
    noise : Noise
        Of the baseline period.
    marks : iterable of Mark
        Measures, replaced meters, changes of the description; those before the first day count for nothing.

    Returns
    -------
    Course
        Each day's entry depends on that day and earlier ones only.
    """
    return _Watch(days, Chart.of(noise), tuple(sorted(marks, key=lambda mark: mark.on))).run()


@dataclass
class _Watch:
    """The chart while it runs over the days."""

    days: PlantDays
    chart: Chart
    marks: tuple[Mark, ...]
    level: float = 1.0
    """Of the plant, by its baseline."""
    total: float = 0.0
    """S, or its mirror while a drift goes on."""
    begun: int | None = None
    """Day on which S left zero."""
    last: tuple[int, float] | None = None
    """The last known day, and its excess."""
    learned: list[float] | None = None
    """Ratios from which the level is being learned."""
    learning_since: Mark | None = None
    episodes: list[Episode] = field(default_factory=list)
    explained: list[tuple[date, Mark]] = field(default_factory=list)

    def run(self) -> Course:
        """All days, in order."""
        ratio = 1 + self.days.excess_ratio
        n = len(ratio)
        excess, levels, sums = np.zeros(n), np.full(n, np.nan), np.full(n, np.nan)
        for i in range(n):
            self._restart_at_measures(i)
            if math.isfinite(ratio[i]):
                self._step(i, ratio)
                sums[i] = self.total / self.chart.limit if self.learned is None else np.nan
            excess[i] = math.nan if self.learned is not None else self._excess(i, ratio)
            levels[i] = math.nan if self.learned is not None else self.level
        return Course(
            self.days.dates,
            excess,
            tuple(self.episodes),
            tuple(self.explained),
            self.chart,
            self.learning_since,
            levels,
            sums,
        )

    def _day(self, i: int) -> date:
        day: date = self.days.dates[i].astype("datetime64[D]").item()
        return day

    def _restart_at_measures(self, i: int) -> None:
        since = self._day(i - 1) if i else self._day(i) - timedelta(days=1)
        for mark in self.marks:
            if mark.is_measure and since < mark.on <= self._day(i):
                if self._is_drifting:
                    self.episodes[-1] = replace(self.episodes[-1], over_on=mark.on, over_by=mark.what)
                self._learn(mark, [])

    @property
    def _is_drifting(self) -> bool:
        return bool(self.episodes) and self.episodes[-1].is_open

    def _learn(self, mark: Mark, ratios: list[float]) -> None:
        self.learned, self.learning_since = ratios, mark
        self.total, self.begun, self.last = 0.0, None, None

    def _step(self, i: int, ratio: Floats) -> None:
        if self.learned is not None:
            self.learned.append(float(ratio[i]))
            if len(self.learned) >= self.chart.learning_days:
                self.level = float(np.mean(self.learned))
                self.learned = self.learning_since = None
            return
        x = float(ratio[i]) / self.level - 1 - self._benefit(i)
        gap = 1 if self.last is None else (self._day(i) - self._day(self.last[0])).days
        z = self.chart.news(x, 0.0 if self.last is None else self.last[1], gap)
        self.last = (i, x)
        if self._is_drifting:
            self._while_drifting(i, z)
        else:
            self._while_calm(i, z, ratio)

    def _benefit(self, i: int) -> float:
        """What may be the error of the baseline, by what it expects."""
        error = self.days.error_ratio
        return 0.0 if error is None else BENEFIT_ERRORS * float(error[i])

    def _while_calm(self, i: int, z: float, ratio: Floats) -> None:
        self.total = max(0.0, self.total + z - self.chart.slack)
        if self.total == 0:
            self.begun = None
        elif self.begun is None:
            self.begun = i
        if self.total > self.chart.limit and self.begun is not None:
            mark = self._beside(self.begun, i)
            if mark is None:
                self.episodes.append(Episode(self._day(self.begun), self._day(i), 0.0))
                self.total = 0.0
            else:
                self.explained.append((self._day(self.begun), mark))
                since = ratio[self.begun : i + 1]
                self._learn(mark, [float(one) for one in since[np.isfinite(since)]])

    def _beside(self, begun: int, i: int) -> Mark | None:
        """The mark that may explain the excess since a day; the nearest of several."""
        actual, expected = self.days.actual_kw[begun : i + 1], self.days.expected_kw[begun : i + 1]
        excess_kw, onset = float(np.nanmean(actual - self.level * expected)), self._day(begun)
        near = [mark for mark in self.marks if mark.may_explain(onset, excess_kw)]
        return min(near, key=lambda mark: abs(mark.on - onset), default=None)

    def _while_drifting(self, i: int, z: float) -> None:
        self.total = max(0.0, self.total + self.chart.slack - z)
        if self.total > self.chart.limit:
            self.episodes[-1] = replace(self.episodes[-1], over_on=self._day(i))
            self.total, self.begun = 0.0, None

    def _excess(self, i: int, ratio: Floats) -> float:
        """Mean excess since the onset of the drift that goes on; 0 where none does."""
        if not self._is_drifting:
            return 0.0
        since = ratio[: i + 1][self.days.dates[: i + 1] >= np.datetime64(self.episodes[-1].onset, "D")]
        found = float(np.nanmean(since)) / self.level - 1
        self.episodes[-1] = replace(self.episodes[-1], excess_ratio=found)
        return found


# --- what goes with it -------------------------------------------------------------------------------


LEAST_SLOPE_DAYS = 14
"""Days of drift without which its speed is not said."""
FURTHEST_WEEKS = 52.0


@dataclass(frozen=True, slots=True)
class Limit:
    """A PUE and the limit it must not cross."""

    pue: float
    """Of the last weeks."""
    limit: float
    overhead_ratio: float
    """Overhead that the baseline expects, by IT energy."""


def weeks_to_limit(days: PlantDays, course: Course, against: Limit) -> float | None:
    """Weeks until the PUE crosses its limit if the drift goes on growing as it does, at the same weather.

    None without a drift that goes on, where it does not clearly grow (one-sided 95 %), or beyond a year; 0
    where the limit is crossed already.
    """
    found = course.open
    if found is None:
        return None
    if against.pue >= against.limit:
        return 0.0
    since = course.dates >= np.datetime64(found.onset, "D")
    t = (course.dates[since] - course.dates[since][0]).astype(np.float64)
    x = days.excess_ratio[since]
    slope = _growth(t[np.isfinite(x)], x[np.isfinite(x)], course.chart.noise)
    if slope is None:
        return None
    weeks = (against.limit - against.pue) / (slope * against.overhead_ratio) / 7
    return weeks if weeks <= FURTHEST_WEEKS else None


def _growth(t_days: Floats, x: Floats, noise: Noise) -> float | None:
    """Slope of the excess where it is clearly above zero. [1/d]"""
    if len(t_days) < LEAST_SLOPE_DAYS:
        return None
    centred = t_days - t_days.mean()
    slope = float(centred @ x / (centred @ centred))
    p = noise.persistence
    error = noise.sd_ratio * math.sqrt((1 + p) / (1 - p)) / math.sqrt(float(centred @ centred))
    return slope if slope > 1.645 * error else None


LEAST_METER_DAYS = 60
"""Days before the drift that the share of a meter needs."""
MOSTLY_SHARE = 0.5
"""Share of the excess from which a meter is named as where it mostly comes from."""


@dataclass(frozen=True, slots=True)
class Blame:
    """Where the excess of a drift comes from."""

    excess_kwh: Mapping[str, float]
    """By meter, the largest first; only those of which enough is known. [kWh]"""
    total_kwh: float
    """Of the plant. [kWh]"""

    @property
    def mostly(self) -> str:
        """The meter that most of it comes from; empty where no single one does."""
        name, found = next(iter(self.excess_kwh.items()), ("", 0.0))
        return name if self.total_kwh > 0 and found >= MOSTLY_SHARE * self.total_kwh else ""


def blame(
    days: PlantDays,
    course: Course,
    it_kw: Floats,
    meters_kw: Mapping[str, Floats],
    measures: Sequence[Mark] = (),
) -> Blame:
    """Divide the excess of the drift that goes on among the meters of the overhead.

    Each meter's own expectation is a least-squares line in IT load and in what the baseline expects of the
    whole plant, with a step at every measure, over the days before the drift.

    Parameters
    ----------
    days : PlantDays
        With the days of the baseline period where those of the meters are known.
    course : Course
        Of (the later part of) the same days.
    it_kw : ndarray, shape (n,)
        IT power. [kW]
    meters_kw : mapping of str to ndarray, shape (n,)
        Power of each meter of the overhead. [kW] NaN where it is not known.
    measures : sequence of Mark
        Registered measures.
    """
    found = course.open
    if found is None:
        return Blame({}, 0.0)
    onset = np.datetime64(found.onset, "D")
    steps = [days.dates >= np.datetime64(m.on, "D") for m in measures]
    columns = [np.ones(len(it_kw)), it_kw, days.expected_kw, *(s.astype(np.float64) for s in steps)]
    known = np.isfinite(days.excess_ratio) & np.isfinite(it_kw)
    table = np.column_stack(columns)
    excess = dict(_excesses(table, known, days.dates >= onset, meters_kw))
    during = known & (days.dates >= onset)
    level = np.nan_to_num(course.level_ratio[-1], nan=1.0)
    total = float((days.actual_kw - level * days.expected_kw)[during].sum()) * 24
    return Blame(dict(sorted(excess.items(), key=lambda item: -item[1])), total)


def _excesses(
    table: Floats,
    known: npt.NDArray[np.bool_],
    during: npt.NDArray[np.bool_],
    meters_kw: Mapping[str, Floats],
) -> Iterator[tuple[str, float]]:
    """Energy of each meter beyond what its own past suggests. [kWh]"""
    for name, power_kw in meters_kw.items():
        usable = known & np.isfinite(power_kw)
        before = usable & ~during
        if before.sum() < LEAST_METER_DAYS or not (usable & during).any():
            continue
        weights, *_ = np.linalg.lstsq(table[before], power_kw[before], rcond=None)
        yield name, float((power_kw - table @ weights)[usable & during].sum()) * 24
