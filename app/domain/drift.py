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

Where the IT load leaves what the baseline has seen, what it expects is not a figure to state, but it still
follows the weather: the level of the plant at the new load is learned from the first days there, and the
plant is watched against that. What it uses more since before those days is not seen there.

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
Bools = npt.NDArray[np.bool_]
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
FURTHEST_LOAD_RATIO = 0.3
"""By so much the IT load may leave the range that the baseline has seen and the plant still be watched."""
SAME_LOAD_RATIO = 0.05
"""By so much it may leave the loads at which a level was learned, or the baseline's, for it to hold."""
MOST_LEVEL_ERROR_RATIO = 0.02
"""Where the level was learned at the load, the error of the baseline is not believed to be larger."""
LOAD_BEYOND = "IT load beyond what the baseline has seen"
SITE_FILE = "site file"
"""What a mark says of a change of the plant's description."""
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
    it_kw: Floats | None = None
    """IT power, shape (n,); needed where not every load was seen. [kW]"""
    seen: Bools | None = None
    """Whether the level of the baseline holds at the load, shape (n,). None: everywhere."""
    stated: Bools | None = None
    """Whether the baseline itself would state a figure, shape (n,). None: where the load was seen."""

    def __post_init__(self) -> None:
        if not self.dates.shape == self.actual_kw.shape == self.expected_kw.shape:
            raise SeriesError("dates, actual_kw and expected_kw differ in length")
        more = (self.error_ratio, self.it_kw, self.seen, self.stated)
        if any(column is not None and column.shape != self.dates.shape for column in more):
            raise SeriesError("error_ratio, it_kw, seen and stated have one value for each day")
        if self.seen is not None and self.it_kw is None:
            raise SeriesError("it_kw is needed where some loads were not seen")
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
        expected = baseline.expected(rows, load_margin=FURTHEST_LOAD_RATIO)
        usual, near = baseline.expected(rows), baseline.expected(rows, load_margin=SAME_LOAD_RATIO)
        return cls(
            rows.local_days.astype("datetime64[D]"),
            rows.overhead_kw,
            expected.expected_kw,
            _error_kw(expected) / expected.expected_kw,
            rows.it_kw,
            usual.within_range & near.within_range,
            usual.within_range,
        )

    def after(self, day: date) -> PlantDays:
        """Those after a day."""
        rows = self.dates > np.datetime64(day, "D")
        return replace(
            self,
            dates=self.dates[rows],
            actual_kw=self.actual_kw[rows],
            expected_kw=self.expected_kw[rows],
            error_ratio=None if self.error_ratio is None else self.error_ratio[rows],
            it_kw=None if self.it_kw is None else self.it_kw[rows],
            seen=None if self.seen is None else self.seen[rows],
            stated=None if self.stated is None else self.stated[rows],
        )

    @property
    def beyond(self) -> Bools:
        """Whether the load of a day is one that the baseline has not seen, shape (n,)."""
        return np.zeros(len(self.dates), np.bool_) if self.seen is None else ~self.seen

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
    def level_error_ratio(self) -> float:
        """Standard error of a level that was learned from so many days."""
        p = self.noise.persistence
        return self.noise.sd_ratio * math.sqrt((1 + p) / (1 - p) / self.learning_days)

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
    """Key of the measure, the replaced point, :data:`SITE_FILE` or :data:`LOAD_BEYOND`."""
    is_measure: bool = False
    """The level is learned anew from here; of other marks only a step beside them is."""
    step_kw: float | None = None
    """By how much the readings moved there, of a replaced meter. [kW] None: not known; then it may be all."""

    @property
    def kind(self) -> str:
        """``measure``, ``load``, ``site_file`` or ``replaced_meter``."""
        if self.is_measure:
            return "measure"
        return {LOAD_BEYOND: "load", SITE_FILE: "site_file"}.get(self.what, "replaced_meter")

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
    """The mark after which the level is still being learned, :data:`LOAD_BEYOND` among them."""
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
class _Level:
    """Level of the plant by its baseline, at loads that the baseline has seen or at others."""

    ratio: float = 1.0
    learned: list[float] | None = None
    """Ratios from which it is being learned; None: it holds."""
    since: Mark | None = None
    """Why it was learned."""
    loads_kw: list[float] = field(default_factory=list)
    """IT load of the days from which it was learned."""

    def holds_at(self, it_kw: float) -> bool:
        """Whether a load is one at which it was learned."""
        low, high = min(self.loads_kw), max(self.loads_kw)
        return low * (1 - SAME_LOAD_RATIO) <= it_kw <= high * (1 + SAME_LOAD_RATIO)

    def learn(self, ratio: float, enough: int) -> None:
        """Take in a day; the level holds once there are enough."""
        assert self.learned is not None
        self.learned.append(ratio)
        if len(self.learned) >= enough:
            self.ratio, self.learned = float(np.mean(self.learned)), None


@dataclass
class _Watch:
    """The chart while it runs over the days."""

    days: PlantDays
    chart: Chart
    marks: tuple[Mark, ...]
    home: _Level = field(default_factory=_Level)
    """At loads that the baseline has seen."""
    away: _Level | None = None
    """At the load beyond these that came last."""
    here: _Level = field(init=False)
    """That of the last known day."""
    total: float = 0.0
    """S, or its mirror while a drift goes on."""
    begun: int | None = None
    """Day on which S left zero."""
    last: tuple[int, float] | None = None
    """The last known day, and its excess."""
    level_of: list[_Level | None] = field(default_factory=list)
    """Of each day so far; None: the day is not known."""
    normal: Floats = field(init=False)
    """Use by what is expected at the level that held on each day, shape (n,)."""
    episodes: list[Episode] = field(default_factory=list)
    explained: list[tuple[date, Mark]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.here, self.normal = self.home, np.full(len(self.days.dates), np.nan)

    def run(self) -> Course:
        """All days, in order."""
        ratio, beyond = 1 + self.days.excess_ratio, self.days.beyond
        n = len(ratio)
        excess, levels, sums = np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan)
        for i in range(n):
            self._restart_at_measures(i)
            level = self._level_at(i, bool(beyond[i])) if math.isfinite(ratio[i]) else None
            self.level_of.append(level)
            if level is not None:
                self._step(i, ratio, level)
            if self.here.learned is None:
                excess[i], levels[i] = self._excess(i), self.here.ratio
                sums[i] = math.nan if level is None else self.total / self.chart.limit
        return Course(
            self.days.dates,
            excess,
            tuple(self.episodes),
            tuple(self.explained),
            self.chart,
            None if self.here.learned is None else self.here.since,
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
                self.home, self.away = _Level(learned=[], since=mark), None
                self._begin_at(self.home)

    @property
    def _is_drifting(self) -> bool:
        return bool(self.episodes) and self.episodes[-1].is_open

    def _begin_at(self, level: _Level) -> None:
        self.here, self.total, self.begun, self.last = level, 0.0, None, None

    def _level_at(self, i: int, is_beyond: bool) -> _Level | None:
        """The level for a known day; None: a new load, and a drift that must not be taken for its level.

        While a drift goes on, the level of the baseline holds as far as the baseline states figures.
        """
        if not is_beyond:
            return self.home
        assert self.days.it_kw is not None
        it_kw = float(self.days.it_kw[i])
        is_new = self.away is None or not self.away.holds_at(it_kw)
        if self._is_drifting and (is_new or (self.away is not None and self.away.learned is not None)):
            return self.home if self.days.stated is not None and self.days.stated[i] else None
        if is_new:
            mark = Mark(self._day(i), LOAD_BEYOND)
            self.away = _Level(learned=[], since=mark, loads_kw=[it_kw])
            self._begin_at(self.away)
        return self.away

    def _step(self, i: int, ratio: Floats, level: _Level) -> None:
        self.here = level
        if level.learned is not None:
            if level is self.away and self.days.it_kw is not None:
                level.loads_kw.append(float(self.days.it_kw[i]))
            level.learn(float(ratio[i]), self.chart.learning_days)
            return
        self.normal[i] = ratio[i] / level.ratio
        x = float(self.normal[i]) - 1 - self._benefit(i, level)
        gap = 1 if self.last is None else (self._day(i) - self._day(self.last[0])).days
        z = self.chart.news(x, 0.0 if self.last is None else self.last[1], gap)
        self.last = (i, x)
        if self._is_drifting:
            self._while_drifting(i, z)
        else:
            self._while_calm(i, z, ratio)

    def _benefit(self, i: int, level: _Level) -> float:
        """What may be the error of the baseline, by what it expects."""
        if self.days.error_ratio is None:
            return 0.0
        error = float(self.days.error_ratio[i])
        return BENEFIT_ERRORS * (min(error, MOST_LEVEL_ERROR_RATIO) if level is self.away else error)

    def _while_calm(self, i: int, z: float, ratio: Floats) -> None:
        self.total = max(0.0, self.total + z - self.chart.slack)
        if self.total == 0:
            self.begun = None
        elif self.begun is None:
            self.begun = i
        if self.total > self.chart.limit and self.begun is not None:
            mark = self._beside(self.begun)
            if mark is None:
                self.episodes.append(Episode(self._day(self.begun), self._day(i), 0.0))
                self.total = 0.0
            else:
                self.explained.append((self._day(self.begun), mark))
                self._learn_anew(mark, self.begun, ratio)

    def _learn_anew(self, mark: Mark, begun: int, ratio: Floats) -> None:
        """The step since a day comes from a mark: the levels of before do not hold any more."""
        here = self.here
        since = [j for j in range(begun, len(self.level_of)) if self.level_of[j] is here]
        here.learned, here.since = [float(ratio[j]) for j in since], mark
        if here is self.home:
            self.away = None
        else:
            self.home = _Level(learned=[], since=mark)
        self._begin_at(here)

    def _beside(self, begun: int) -> Mark | None:
        """The mark that may explain the excess since a day; the nearest of several."""
        normal = self.normal[begun:]
        actual_kw = self.days.actual_kw[begun:]
        excess_kw, onset = float(np.nanmean(actual_kw * (1 - 1 / normal))), self._day(begun)
        near = [mark for mark in self.marks if mark.may_explain(onset, excess_kw)]
        return min(near, key=lambda mark: abs(mark.on - onset), default=None)

    def _while_drifting(self, i: int, z: float) -> None:
        self.total = max(0.0, self.total + self.chart.slack - z)
        if self.total > self.chart.limit:
            self.episodes[-1] = replace(self.episodes[-1], over_on=self._day(i))
            self.total, self.begun = 0.0, None

    def _excess(self, i: int) -> float:
        """Mean excess since the onset of the drift that goes on; 0 where none does."""
        if not self._is_drifting:
            return 0.0
        since = self.normal[: i + 1][self.days.dates[: i + 1] >= np.datetime64(self.episodes[-1].onset, "D")]
        found = float(np.nanmean(since)) - 1
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
    x = (1 + days.excess_ratio[since]) / course.level_ratio[since] - 1
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
    whole plant, with a step at every measure and at loads that the baseline has not seen, over the days
    before the drift.

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
    steps += [days.beyond] if days.beyond.any() else []
    columns = [np.ones(len(it_kw)), it_kw, days.expected_kw, *(s.astype(np.float64) for s in steps)]
    known = np.isfinite(days.excess_ratio) & np.isfinite(it_kw)
    table = np.column_stack(columns)
    excess = dict(_excesses(table, known, days.dates >= onset, meters_kw))
    during = known & (days.dates >= onset)
    level = np.full(len(days.dates), np.nan)
    level[np.isin(days.dates, course.dates)] = course.level_ratio
    total = float(np.nansum((days.actual_kw - level * days.expected_kw)[during])) * 24
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
