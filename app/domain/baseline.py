"""What a plant would use: its overhead power by IT load, wet bulb and day type, learnt from its own history.

A baseline is the yardstick of a saving, of drift and of a normalised PUE: it says what the plant of the past
would have used under the load and the weather of today. It is fitted once, frozen with a hash and never
adjusted afterwards. What it cannot know it does not say: outside of the loads and the weather that it has
seen there is no figure.

Acceptance follows ASHRAE Guideline 14, on rows that were predicted from the others: CV(RMSE) and NMBE, of
days summed up to months by its monthly limits, of the rows themselves by its hourly limits.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from app.domain import forms, regression
from app.domain.forms import Form, Inputs, Tried
from app.domain.regression import Noise
from app.domain.terms import term
from app.domain.weather import Provenance
from app.errors import SeriesError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Times = npt.NDArray[np.datetime64]

LEAST_DAYS = 60
"""Days of history without which there is no baseline."""
LEAST_COVERAGE = 0.75
"""Share of the days between the first and the last that must be known."""
LEAST_WEATHER = 0.75
"""Share of the known days that must have weather for it to be in the model."""
MONTHLY_LIMITS, HOURLY_LIMITS = (0.15, 0.05), (0.30, 0.10)
"""CV(RMSE) and absolute NMBE that ASHRAE Guideline 14 allows."""
LOAD_MARGIN = 0.10
"""By so much the IT load may leave the range that was seen (ASHRAE Guideline 14); the weather may not."""
STEADY_RATIO = 0.01
"""An IT load that varies by less of its mean says nothing about its effect."""
PERSISTENCE_DAYS = 14
"""Days over which an error is still felt (lags of the covariance)."""
WHOLE_MONTH_RATIO = 0.6
"""A calendar month of which less is known is not judged as a month."""
CONFIDENCE = 0.9


_PLAIN = (
    *("form", "residual_sd_kw", "autocorrelation", "degrees_of_freedom", "cv_rmse_ratio", "nmbe_ratio"),
    *("monthly_cv_rmse_ratio", "row_count", "coverage_ratio", "first_day", "last_day", "left_out", "tried"),
    "rows_sha256",
)
"""Fields of a baseline that stand in the JSON as they are."""


class Resolution(StrEnum):
    """What one row stands for."""

    DAY = "day"
    """A day of the site's calendar."""
    HOUR = "hour"
    """An hour."""

    @property
    def rows_per_day(self) -> int:
        """Rows of a usual day."""
        return 1 if self is Resolution.DAY else 24


@dataclass(frozen=True, slots=True)
class WeatherSource:
    """Where the wet bulb comes from."""

    provenance: Provenance
    source: str
    """Points that measured it; of imported weather its station as well."""

    def as_dict(self) -> dict[str, str]:
        """JSON-ready."""
        return {"provenance": self.provenance.value, "source": self.source}


@dataclass(frozen=True)
class Conditions:
    """Overhead power of a site and what it depends on, one value a row; unsound rows are left out."""

    resolution: Resolution
    starts: Times
    """Start of each row, UTC, strictly increasing."""
    local_days: Times
    """Day of the site's calendar in which it lies (datetime64[D])."""
    hours: Floats
    """Length of each row. [h]"""
    overhead_kw: Floats
    """Mean power of facility less IT over the covered time. [kW]"""
    it_kw: Floats
    """Mean power of IT over the covered time. [kW]"""
    wet_bulb_c: Floats
    """Mean outdoor wet bulb. [C] NaN: not known."""
    coverage_ratio: Floats
    """Share of each row that is covered."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Rows that are not here, by the reason."""
    weather: WeatherSource | None = None
    """None: no weather is known."""

    def __post_init__(self) -> None:
        columns = (self.local_days, self.hours, *self._values())
        if any(len(c) != len(self.starts) for c in columns):
            raise SeriesError("columns of conditions differ in length; give one value for each row")
        if len(self.starts) > 1 and not (np.diff(self.starts) > np.timedelta64(0)).all():
            raise SeriesError("rows of conditions must be in order of time, each once")

    def _values(self) -> tuple[Floats, ...]:
        return self.overhead_kw, self.it_kw, self.wet_bulb_c, self.coverage_ratio

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def day_off(self) -> Bools:
        """Whether a row lies on a Saturday or Sunday."""
        weekday = (self.local_days.astype("datetime64[D]").astype(np.int64) + 3) % 7
        return np.asarray(weekday >= 5, np.bool_)

    @property
    def place(self) -> Ints:
        """Whole number of each row on the line of time: its day, or its hour."""
        if self.resolution is Resolution.DAY:
            return self.local_days.astype("datetime64[D]").astype(np.int64)
        return self.starts.astype("datetime64[h]").astype(np.int64)

    @property
    def inputs(self) -> Inputs:
        """What overhead is explained by."""
        return Inputs(self.it_kw, self.wet_bulb_c, self.day_off)

    def take(self, rows: Bools | Ints) -> Conditions:
        """Some of the rows."""
        names = ("starts", "local_days", "hours", "overhead_kw", "it_kw", "wet_bulb_c", "coverage_ratio")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def between(self, start: np.datetime64, end: np.datetime64) -> Conditions:
        """Rows of a stretch of time, half-open; `left_out` stays that of the whole."""
        return self.take((self.starts >= start) & (self.starts < end))

    @classmethod
    def from_rows(
        cls, resolution: Resolution, rows: Sequence[Sequence[Any]], *, weather: WeatherSource | None = None
    ) -> Conditions:
        """Conditions again from :meth:`rows`, such as those that a frozen baseline was fitted to."""
        starts = np.array([str(row[0]).rstrip("Z") for row in rows], "datetime64[s]")
        days = np.array([row[1] for row in rows], "datetime64[D]")
        numbers = np.array([row[2:] for row in rows], np.float64).reshape(len(rows), 5)  # null becomes NaN
        hours, overhead_kw, it_kw, wet_bulb_c, coverage = numbers.T
        return cls(resolution, starts, days, hours, overhead_kw, it_kw, wet_bulb_c, coverage, weather=weather)

    def rows(self) -> list[list[Any]]:
        """JSON-ready: start, day, length, overhead, IT, wet bulb (null: not known), coverage."""
        starts = np.datetime_as_string(self.starts.astype("datetime64[s]"), timezone="UTC")
        days = np.datetime_as_string(self.local_days.astype("datetime64[D]"))
        numbers = np.column_stack([self.hours, *self._values()])
        return [
            [str(start), str(day), *(float(v) if np.isfinite(v) else None for v in values)]
            for start, day, values in zip(starts, days, numbers, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why there is no figure, or why one is not accepted: a code, and what it is about."""

    code: str
    values: Mapping[str, float | int | str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"code": self.code, **self.values}

    def text(self, language: str = "en") -> str:
        """The reason in words."""
        return term(language, "baseline_reason", self.code).format(**self.values)


@dataclass(frozen=True)
class NoBaseline:
    """There is no baseline, and why."""

    reasons: tuple[Reason, ...]
    row_count: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Expected:
    """What a plant would have used in some conditions by its baseline."""

    expected_kw: Floats
    """[kW] NaN where there is no figure."""
    within_range: Bools
    """Whether load and weather were seen; elsewhere there is no figure."""
    outside: Mapping[str, int]
    """Rows without a figure, by the reason."""
    hours: Floats
    place: Ints
    gradient: Floats
    covariances: tuple[Floats, ...]
    others_kw: Floats
    """Of the other forms that predict about as well, shape (forms, n). [kW]"""
    noise: Noise
    degrees_of_freedom: float

    def total(self, mask: Bools | None = None) -> tuple[float, float]:
        """Expected energy of some rows, and the standard error of the difference to what was measured.

        The error has three parts: that of the coefficients (the larger of both covariances), the noise of
        the rows themselves, of which neighbours follow each other, and that of the form: the mean square of
        what other forms, which predict about as well, say more or less. Rows without a figure are not in it.

        Parameters
        ----------
        mask : bool, shape (n,), optional
            Rows to sum up; all by default.

        Returns
        -------
        tuple of float
            [kWh], [kWh]; a quantile of :meth:`critical` makes it an interval.
        """
        rows = self.within_range if mask is None else self.within_range & mask
        hours = self.hours[rows]
        effect = hours @ self.gradient[rows]
        total_kwh = float(hours @ self.expected_kw[rows])
        variance = max(float(effect @ covariance @ effect) for covariance in self.covariances)
        variance += regression.sum_variance(hours, self.place[rows], self.noise)
        apart_kwh = self.others_kw[:, rows] @ hours - total_kwh
        variance += float(apart_kwh @ apart_kwh) / (1 + len(apart_kwh))
        return total_kwh, float(np.sqrt(max(variance, 0.0)))

    def critical(self, level: float = CONFIDENCE) -> float:
        """Standard errors on either side that hold the truth with a probability (Student)."""
        return regression.critical(level, self.degrees_of_freedom)


@dataclass(frozen=True)
class Baseline:
    """A fitted, frozen baseline."""

    form: str
    resolution: Resolution
    coefficients: Mapping[str, float]
    """By name, the change points last; units by :func:`app.domain.forms.unit`."""
    covariance: tuple[tuple[float, ...], ...]
    """Of the coefficients in that order, robust to unequal and autocorrelated errors (Newey and West)."""
    persistent_covariance: tuple[tuple[float, ...], ...]
    """The same under errors that decay from row to row; with few lags Newey and West say too little."""
    others: tuple[tuple[str, tuple[float, ...]], ...]
    """Other forms that predict about as well, each with its coefficients: how sure the form is."""
    residual_sd_kw: float
    """Standard deviation of the errors. [kW]"""
    autocorrelation: float
    """Of the errors of neighbouring rows."""
    degrees_of_freedom: float
    cv_rmse_ratio: float
    """Of rows that were predicted from the others."""
    nmbe_ratio: float
    """Of rows that were predicted from the others: measured less predicted."""
    monthly_cv_rmse_ratio: float
    """The same of months."""
    row_count: int
    coverage_ratio: float
    """Share of the time between the first and the last row that is known."""
    first_day: str
    last_day: str
    it_range_kw: tuple[float, float]
    wet_bulb_range_c: tuple[float, float] | None
    """None: weather is not in the model."""
    weather: WeatherSource | None
    left_out: Mapping[str, int]
    tried: Mapping[str, float]
    """CV(RMSE) of every form that was tried."""
    reasons: tuple[Reason, ...]
    """Why it is not accepted; empty: it is."""
    rows_sha256: str
    """Hash of the rows that it was fitted to."""

    @property
    def accepted(self) -> bool:
        """Whether it may carry a saving (ASHRAE Guideline 14, coverage)."""
        return not self.reasons

    @property
    def nmbe_limit(self) -> float:
        """Absolute NMBE that ASHRAE Guideline 14 allows; of days the stricter one, that of months."""
        return (MONTHLY_LIMITS if self.resolution is Resolution.DAY else HOURLY_LIMITS)[1]

    @property
    def change_points_c(self) -> tuple[float, ...]:
        """Wet bulbs at which the plant changes its way of working. [C]"""
        return tuple(self.coefficients[name] for name in forms.CHANGE_POINTS if name in self.coefficients)

    @property
    def change_point_c(self) -> float | None:
        """The first of them."""
        return next(iter(self.change_points_c), None)

    @property
    def standard_errors(self) -> dict[str, float]:
        """Of each coefficient, by the larger of both covariances."""
        variances = np.maximum(np.diag(self.covariance), np.diag(self.persistent_covariance))
        return dict(zip(self.coefficients, np.sqrt(np.maximum(variances, 0.0)).tolist(), strict=True))

    @cached_property
    def _form(self) -> Form:
        return forms.FORMS[self.form]

    def expected(self, conditions: Conditions, *, load_margin: float | None = None) -> Expected:
        """What the plant would have used.

        Parameters
        ----------
        load_margin : float, optional
            By so much of it the IT load may leave the range that was seen. Only for what learns the level at
            such loads from the plant itself (drift); a saving is stated with the usual margin.

        Raises
        ------
        SeriesError
            If the rows are not of the resolution of the baseline.
        """
        if conditions.resolution is not self.resolution:
            raise SeriesError(f"this baseline is of a {self.resolution}; give rows of a {self.resolution}")
        outside = self._outside(conditions, load_margin)
        within = ~np.any(list(outside.values()), axis=0) if len(conditions) else np.zeros(0, np.bool_)
        values = tuple(self.coefficients.values())
        inputs = conditions.inputs
        if self.wet_bulb_range_c is None:  # weather is not in the model: whatever it is
            inputs = replace(inputs, wet_bulb_c=np.zeros(len(conditions)))
        power = forms.expected(self._form, inputs, values)
        return Expected(
            np.where(within, power, np.nan),
            within,
            {name: int(rows.sum()) for name, rows in outside.items() if rows.any()},
            conditions.hours,
            conditions.place,
            forms.gradient(self._form, inputs, values),
            (np.array(self.covariance), np.array(self.persistent_covariance)),
            np.array([forms.expected(forms.FORMS[name], inputs, v) for name, v in self.others]).reshape(
                len(self.others), len(conditions)
            ),
            Noise(self.residual_sd_kw, self.autocorrelation),
            self.degrees_of_freedom,
        )

    def _outside(self, conditions: Conditions, load_margin: float | None) -> dict[str, Bools]:
        it, wet_c = conditions.it_kw, conditions.wet_bulb_c
        low, high = self.it_range_kw
        usual = LOAD_MARGIN if self._form.load else STEADY_RATIO
        margin = usual if load_margin is None else load_margin
        found = {
            "load_unknown": ~np.isfinite(it),
            "load_below_seen": it < low * (1 - margin),
            "load_above_seen": it > high * (1 + margin),
        }
        if self.wet_bulb_range_c is not None:
            coldest, warmest = self.wet_bulb_range_c
            other = conditions.weather not in (None, self.weather)
            found |= {
                "weather_other_source": np.full(len(conditions), other),
                "weather_unknown": ~np.isfinite(wet_c),
                "weather_below_seen": wet_c < coldest,
                "weather_above_seen": wet_c > warmest,
            }
        return found

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, with everything that a figure follows from."""
        errors = self.standard_errors
        return {
            "version": 1,
            "form": self.form,
            "resolution": self.resolution.value,
            "coefficients": {
                name: {"value": value, "standard_error": errors[name], "unit": forms.unit(name)}
                for name, value in self.coefficients.items()
            },
            "parameters": list(self.coefficients),
            "covariance": [list(row) for row in self.covariance],
            "persistent_covariance": [list(row) for row in self.persistent_covariance],
            "others": [
                {"form": name, "coefficients": dict(zip(forms.FORMS[name].parameters, values, strict=True))}
                for name, values in self.others
            ],
            "residual_sd_kw": self.residual_sd_kw,
            "autocorrelation": self.autocorrelation,
            "degrees_of_freedom": self.degrees_of_freedom,
            "cv_rmse_ratio": self.cv_rmse_ratio,
            "nmbe_ratio": self.nmbe_ratio,
            "monthly_cv_rmse_ratio": self.monthly_cv_rmse_ratio,
            "row_count": self.row_count,
            "coverage_ratio": self.coverage_ratio,
            "first_day": self.first_day,
            "last_day": self.last_day,
            "it_range_kw": list(self.it_range_kw),
            "wet_bulb_range_c": self.wet_bulb_range_c and list(self.wet_bulb_range_c),
            "weather": self.weather and self.weather.as_dict(),
            "left_out": dict(self.left_out),
            "tried": dict(self.tried),
            "accepted": self.accepted,
            "reasons": [reason.as_dict() for reason in self.reasons],
            "rows_sha256": self.rows_sha256,
        }

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, numbers with all their digits."""
        return canonical(self.as_dict())

    @property
    def digest(self) -> str:
        """SHA-256 of :meth:`to_json`."""
        return sha256(self.to_json())

    @classmethod
    def from_json(cls, text: str) -> Baseline:
        """A frozen baseline.

        Raises
        ------
        SeriesError
            If it is none, or of another version.
        """
        try:
            return cls._read(json.loads(text))
        except (KeyError, TypeError, ValueError) as error:
            raise SeriesError(f"this is no frozen baseline: {error}") from error

    @classmethod
    def _read(cls, document: dict[str, Any]) -> Baseline:
        if document["version"] != 1:
            raise ValueError(f"version {document['version']}; version 1 is known")
        weather, wet = document["weather"], document["wet_bulb_range_c"]
        reasons = [dict(one) for one in document["reasons"]]
        return cls(
            **{name: document[name] for name in _PLAIN},
            resolution=Resolution(document["resolution"]),
            coefficients={name: document["coefficients"][name]["value"] for name in document["parameters"]},
            covariance=_matrix(document["covariance"]),
            persistent_covariance=_matrix(document["persistent_covariance"]),
            others=tuple((o["form"], _in_order(o)) for o in document["others"]),
            it_range_kw=tuple(document["it_range_kw"]),
            wet_bulb_range_c=wet and tuple(wet),
            weather=weather and WeatherSource(Provenance(weather["provenance"]), weather["source"]),
            reasons=tuple(Reason(one.pop("code"), one) for one in reasons),
        )


def _matrix(rows: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(v) for v in row) for row in rows)


def _in_order(other: Mapping[str, Any]) -> tuple[float, ...]:
    return tuple(float(other["coefficients"][name]) for name in forms.FORMS[other["form"]].parameters)


def canonical(document: Any) -> str:
    """JSON of which every number and every key stands in one way only."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256(text: str) -> str:
    """Hash of a text, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


# -- fitting -----------------------------------------------------------------------------------------


def fit(conditions: Conditions) -> Baseline | NoBaseline:
    """The baseline of a history, or why there is none.

    Rows with a missing or impossible value are left out and counted. The weather is in the model where enough
    rows have it; then those without are left out too.
    """
    rows, left_out = _used(conditions)
    too_few = _too_few(rows)
    if too_few:
        return NoBaseline(too_few, len(rows), left_out)
    return _fitted(conditions, rows, left_out, weather=bool(np.isfinite(rows.wet_bulb_c).all()))


def used_rows(conditions: Conditions) -> Conditions:
    """The rows of a history that :func:`fit` uses; their hash stands in the baseline."""
    return _used(conditions)[0]


def _used(conditions: Conditions) -> tuple[Conditions, Counter[str]]:
    rows, left_out = _sound(conditions)
    known = np.isfinite(rows.wet_bulb_c)
    if len(rows) and not known.all() and known.mean() >= LEAST_WEATHER:
        left_out["weather_unknown"] = int((~known).sum())
        return rows.take(known), left_out
    return rows, left_out


def _sound(conditions: Conditions) -> tuple[Conditions, Counter[str]]:
    left_out = Counter(conditions.left_out)
    finite = np.isfinite(conditions.overhead_kw) & np.isfinite(conditions.it_kw)
    possible = finite & (conditions.it_kw > 0) & (conditions.overhead_kw >= 0)
    for name, rows in (("not_known", ~finite), ("impossible", finite & ~possible)):
        if rows.any():
            left_out[name] += int(rows.sum())
    return conditions.take(possible), left_out


def _too_few(rows: Conditions) -> tuple[Reason, ...]:
    days = len(rows) / rows.resolution.rows_per_day
    if days >= LEAST_DAYS:
        return ()
    return (Reason("too_little_history", {"days": int(days), "needed": LEAST_DAYS}),)


def _fitted(
    conditions: Conditions, rows: Conditions, left_out: Mapping[str, int], *, weather: bool
) -> Baseline | NoBaseline:
    inputs = rows.inputs if weather else replace(rows.inputs, wet_bulb_c=np.zeros(len(rows)))
    load = bool(np.ptp(rows.it_kw) > STEADY_RATIO * rows.it_kw.mean())
    blocks = forms.blocks_of(rows.place, rows.resolution.rows_per_day)
    best, tried = forms.choose(inputs, rows.overhead_kw, blocks, weather=weather, load=load)
    values = forms.fitted(best.form, inputs, rows.overhead_kw)
    if values is None:
        return NoBaseline((Reason("no_fit"),), len(rows), left_out)
    gradient = forms.gradient(best.form, inputs, values)
    residuals = rows.overhead_kw - forms.expected(best.form, inputs, values)
    noise = regression.noise(gradient, residuals, rows.place)
    lags = PERSISTENCE_DAYS * rows.resolution.rows_per_day
    covariance = regression.newey_west(gradient, residuals, rows.place, lags)
    mean_kw = float(rows.overhead_kw.mean())
    found = Baseline(
        form=best.form.name,
        resolution=rows.resolution,
        coefficients=dict(zip(best.form.parameters, values, strict=True)),
        covariance=_matrix(covariance.tolist()),
        persistent_covariance=_matrix(regression.persistent_covariance(gradient, rows.place, noise).tolist()),
        others=_others(best, tried, inputs, rows.overhead_kw),
        residual_sd_kw=noise.sd,
        autocorrelation=noise.autocorrelation,
        degrees_of_freedom=regression.degrees_of_freedom(len(rows), gradient.shape[1], noise),
        cv_rmse_ratio=float(np.sqrt(best.mean_square)) / mean_kw,
        nmbe_ratio=float((best.residuals_kw * rows.hours).sum() / (rows.overhead_kw * rows.hours).sum()),
        monthly_cv_rmse_ratio=_monthly(rows, best.residuals_kw),
        row_count=len(rows),
        coverage_ratio=len(rows) / (int(np.ptp(rows.place)) + 1),
        first_day=str(rows.local_days[0].astype("datetime64[D]")),
        last_day=str(rows.local_days[-1].astype("datetime64[D]")),
        it_range_kw=(float(rows.it_kw.min()), float(rows.it_kw.max())),
        wet_bulb_range_c=(float(rows.wet_bulb_c.min()), float(rows.wet_bulb_c.max())) if weather else None,
        weather=conditions.weather if weather else None,
        left_out=dict(left_out),
        tried={one.form.name: float(np.sqrt(one.mean_square)) / mean_kw for one in tried},
        reasons=(),
        rows_sha256=sha256(canonical(rows.rows())),
    )
    return replace(found, reasons=_refusals(found))


def _others(
    best: Tried, tried: Sequence[Tried], inputs: Inputs, overhead_kw: Floats
) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Forms that predict about as well as the one that is taken, fitted to all rows."""
    wanted = [one.form for one in forms.near(tried, forms.NEAR_RATIO) if one.form != best.form]
    found = ((form.name, forms.fitted(form, inputs, overhead_kw)) for form in wanted)
    return tuple((name, values) for name, values in found if values is not None)


def _monthly(rows: Conditions, residuals_kw: Floats) -> float:
    """CV(RMSE) of the energies of calendar months; NaN-free: of all days together where no month is whole."""
    months = rows.local_days.astype("datetime64[M]")
    least = WHOLE_MONTH_RATIO * 30 * rows.resolution.rows_per_day
    whole = [m for m in np.unique(months) if (months == m).sum() >= least] or [None]
    parts = [np.ones(len(rows), np.bool_) if m is None else months == m for m in whole]
    errors = np.array([(residuals_kw[part] * rows.hours[part]).sum() for part in parts])
    energies = np.array([(rows.overhead_kw[part] * rows.hours[part]).sum() for part in parts])
    return float(np.sqrt((errors**2).mean()) / energies.mean())


def _refusals(found: Baseline) -> tuple[Reason, ...]:
    """Why a baseline is not accepted."""
    row_limit, month_limit = HOURLY_LIMITS[0], MONTHLY_LIMITS[0]
    checks: tuple[tuple[str, bool, dict[str, float]], ...] = (
        ("weather_not_known", found.wet_bulb_range_c is None, {}),
        ("coverage", found.coverage_ratio < LEAST_COVERAGE, _against(found.coverage_ratio, LEAST_COVERAGE)),
        ("cv_rmse", found.cv_rmse_ratio > row_limit, _against(found.cv_rmse_ratio, row_limit)),
        (
            "monthly_cv_rmse",
            found.monthly_cv_rmse_ratio > month_limit,
            _against(found.monthly_cv_rmse_ratio, month_limit),
        ),
        ("nmbe", abs(found.nmbe_ratio) > found.nmbe_limit, _against(found.nmbe_ratio, found.nmbe_limit)),
    )
    return tuple(Reason(code, values) for code, fails, values in checks if fails)


def _against(value: float, limit: float) -> dict[str, float]:
    return {"value": value, "limit": limit}
