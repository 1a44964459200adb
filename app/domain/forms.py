"""Forms of a baseline: overhead power by IT load, wet bulb and day type, and the choice among them.

Every form is a sum of named terms. Weather enters as a line, or as a line broken at one or two change points
(a plant cools freely below one, runs its chillers above it); its slope is one for all loads, or in proportion
to the IT load. The change points are searched, everything else is least squares.

The choice is by cross-validation: blocks of two weeks are predicted from all the others. The simplest form
wins whose errors are hardly larger than the smallest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from app.domain.regression import coefficients

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CHANGE_POINTS = ("change_point_c", "second_change_point_c")
"""Names of the change points among the coefficients."""

LEAST_SIDE_RATIO = 0.08
"""Share of the rows that must lie on either side of a change point, and between two."""
FOLD_DAYS = 14
"""Days that are predicted together: longer than a day's error is felt."""
TOLERANCE_RATIO = 0.01
"""A simpler form is taken whose mean square error is larger by no more than this."""
NEAR_RATIO = 0.05
"""A form whose mean square error is larger by no more than this might as well be the right one."""
_FINE = 9


@dataclass(frozen=True, slots=True)
class Form:
    """Which terms a baseline has."""

    weather: str = "none"
    """``none``, ``line``, ``rise`` (flat up to a change point), ``bend``, ``two_bends``."""
    per_load: bool = False
    """Whether the slopes by weather are in proportion to the IT load."""
    load: bool = True
    """Whether the IT load has a term of its own."""
    day_types: bool = False
    """Whether days off have a level of their own."""

    @property
    def change_points(self) -> int:
        """How many there are."""
        return {"rise": 1, "bend": 1, "two_bends": 2}.get(self.weather, 0)

    @property
    def name(self) -> str:
        """One word for the whole form. E.g. ``load_weather_rise_per_load_day_types``."""
        parts = [
            "load" if self.load else "level",
            f"weather_{self.weather}" if self.weather != "none" else "",
            "per_load" if self.per_load else "",
            "day_types" if self.day_types else "",
        ]
        return "_".join(p for p in parts if p)

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the linear coefficients, in the order of the columns."""
        slopes = {
            "none": (),
            "line": ("per_c",),
            "rise": ("per_c_above",),
            "bend": ("per_c_below", "per_c_above"),
            "two_bends": ("per_c_below", "per_c_between", "per_c_above"),
        }[self.weather]
        ends = "_per_it_kw" if self.per_load else ""
        own = (("per_it_kw",) if self.load else ()) + (("day_off_kw",) if self.day_types else ())
        return ("base_kw", *own, *(f"{slope}{ends}" for slope in slopes))

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of all coefficients: the linear ones, then the change points."""
        return (*self.terms, *CHANGE_POINTS[: self.change_points])


SHAPES = ("none", "line", "rise", "bend", "two_bends")
"""How weather may enter, the simplest first."""

FORMS = {
    form.name: form
    for form in (
        Form(weather, per_load, load, day_types)
        for weather in SHAPES
        for per_load in (False, True)
        for load in (True, False)
        for day_types in (False, True)
        if weather != "none" or not per_load
    )
}
"""Every form by its name."""


def unit(name: str) -> str:
    """Unit of a coefficient by its name."""
    if name in CHANGE_POINTS:
        return "C"
    if name.startswith("per_c"):
        return "kW/K per kW" if name.endswith("_per_it_kw") else "kW/K"
    return "kW/kW" if name == "per_it_kw" else "kW"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What overhead is explained by, one value a row."""

    it_kw: Floats
    wet_bulb_c: Floats
    day_off: Bools

    def __len__(self) -> int:
        return len(self.it_kw)

    def take(self, rows: Ints | Bools) -> Inputs:
        """Some of the rows."""
        return Inputs(self.it_kw[rows], self.wet_bulb_c[rows], self.day_off[rows])


def columns(form: Form, inputs: Inputs, points_c: Sequence[float]) -> Floats:
    """Columns of the linear terms, shape (n, terms)."""
    found = [np.ones(len(inputs))]
    found += [inputs.it_kw] if form.load else []
    found += [inputs.day_off.astype(np.float64)] if form.day_types else []
    scale = inputs.it_kw if form.per_load else 1.0
    found += [scale * part for part in _parts(form, inputs.wet_bulb_c, points_c)]
    return np.stack(found, axis=-1)


def _parts(form: Form, wet_c: Floats, points_c: Sequence[float]) -> list[Floats]:
    """Weather as the slopes meet it: what lies below, between and above the change points. [K]"""
    if form.weather in ("none", "line"):
        return [wet_c] if form.weather == "line" else []
    first, last = points_c[0], points_c[-1]
    above = np.maximum(wet_c - last, 0.0)
    if form.weather == "rise":
        return [above]
    below = np.minimum(wet_c - first, 0.0)
    between = [np.clip(wet_c - first, 0.0, last - first)] if form.weather == "two_bends" else []
    return [below, *between, above]


def gradient(form: Form, inputs: Inputs, values: Sequence[float]) -> Floats:
    """Change of the expected power by each coefficient, shape (n, parameters).

    Parameters
    ----------
    values : sequence of float
        In the order of ``form.parameters``.
    """
    linear = len(form.terms)
    points = list(values[linear:])
    found = columns(form, inputs, points)
    slopes = values[1 + form.load + form.day_types : linear]
    scale = inputs.it_kw if form.per_load else 1.0
    moved = [scale * part for part in _moved(form, inputs.wet_bulb_c, points, slopes)]
    return np.column_stack([found, *moved])


def _moved(form: Form, wet_c: Floats, points: Sequence[float], slopes: Sequence[float]) -> list[Floats]:
    """Change of the weather terms by each change point."""
    if form.weather == "rise":
        return [np.where(wet_c > points[0], -slopes[0], 0.0)]
    if form.weather == "bend":
        return [-slopes[0] * (wet_c < points[0]) - slopes[1] * (wet_c > points[0])]
    if form.weather == "two_bends":
        first = -slopes[0] * (wet_c < points[0]) - slopes[1] * (wet_c > points[0])
        return [first, (slopes[1] - slopes[2]) * (wet_c > points[1])]
    return []


# -- search ------------------------------------------------------------------------------------------


def expected(form: Form, inputs: Inputs, values: Sequence[float]) -> Floats:
    """Expected overhead power. [kW] NaN where the weather is not known and counts."""
    linear = len(form.terms)
    found: Floats = columns(form, inputs, values[linear:]) @ np.asarray(values[:linear])
    return found


def fitted(form: Form, inputs: Inputs, overhead_kw: Floats) -> tuple[float, ...] | None:
    """Least-squares coefficients in the order of ``form.parameters``; None: no change point can be placed."""
    points = best_points(form, inputs, overhead_kw)
    if points is None:
        return None
    linear = coefficients(columns(form, inputs, points), overhead_kw)
    return (*(float(v) for v in linear), *points)


def best_points(form: Form, inputs: Inputs, overhead_kw: Floats) -> tuple[float, ...] | None:
    """Change points of least squared error: on a grid, then twice on a finer one."""
    grid = point_grid(form, inputs.wet_bulb_c)
    if not grid:
        return None
    best = _best_of(form, inputs, overhead_kw, grid)
    step = _spacing(inputs.wet_bulb_c, form)
    for _ in range(3 if form.change_points else 0):
        near = _near(best, step, inputs.wet_bulb_c)
        best = _best_of(form, inputs, overhead_kw, [best, *near])
        step /= _FINE // 2
    return best


def point_grid(form: Form, wet_c: Floats) -> list[tuple[float, ...]]:
    """Change points to try; one empty tuple for a form without any."""
    if not form.change_points:
        return [()]
    count = 31 if form.change_points == 1 else 15
    one = np.unique(np.quantile(wet_c, np.linspace(LEAST_SIDE_RATIO, 1 - LEAST_SIDE_RATIO, count)))
    if form.change_points == 1:
        return [(float(c),) for c in one if _is_apart(wet_c, (float(c),))]
    pairs = ((float(a), float(b)) for i, a in enumerate(one) for b in one[i + 1 :])
    return [pair for pair in pairs if _is_apart(wet_c, pair)]


def _is_apart(wet_c: Floats, points: Sequence[float]) -> bool:
    """Whether enough of the rows lie below, between and above."""
    edges = (-np.inf, *points, np.inf)
    least = LEAST_SIDE_RATIO * 0.95 * len(wet_c)
    return all(((wet_c > low) & (wet_c <= high)).sum() >= least for low, high in pairwise(edges))


def _spacing(wet_c: Floats, form: Form) -> float:
    return float(np.ptp(wet_c)) / (31 if form.change_points == 1 else 15)


def _near(best: Sequence[float], step: float, wet_c: Floats) -> Iterator[tuple[float, ...]]:
    moves = np.linspace(-step, step, _FINE)
    if len(best) == 1:
        tries: Iterator[tuple[float, ...]] = ((best[0] + float(m),) for m in moves)
    else:
        tries = ((best[0] + float(m), best[1] + float(n)) for m in moves for n in moves)
    return (points for points in tries if _is_apart(wet_c, points))


def _best_of(
    form: Form, inputs: Inputs, overhead_kw: Floats, grid: Sequence[tuple[float, ...]]
) -> tuple[float, ...]:
    if len(grid) == 1:
        return grid[0]
    whole = _Folds.of(form, inputs, overhead_kw, np.zeros(len(inputs), np.int64), grid)
    return grid[int(np.argmax(whole.explained()))]


# -- choice ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tried:
    """A form and how well it predicts rows that it has not seen."""

    form: Form
    residuals_kw: Floats
    """Measured less predicted power of every row, its block left out of the fit. [kW]"""

    @property
    def mean_square(self) -> float:
        """Mean of their squares. [kW2]"""
        return float((self.residuals_kw**2).mean())


@dataclass(frozen=True)
class _Folds:
    """Normal equations of every block of rows and every choice of change points."""

    columns: Floats
    """Scaled, shape (choices, n, k)."""
    values: Floats
    blocks: Ints
    gram: Floats
    """Shape (blocks, choices, k, k)."""
    cross: Floats
    """Shape (blocks, choices, k)."""

    @classmethod
    def of(
        cls, form: Form, inputs: Inputs, overhead_kw: Floats, blocks: Ints, grid: Sequence[tuple[float, ...]]
    ) -> _Folds:
        stacked = np.stack([columns(form, inputs, points) for points in grid])
        stacked[:, :, 1:] -= stacked[:, :, 1:].mean(axis=1, keepdims=True)
        size = np.sqrt((stacked**2).mean(axis=1, keepdims=True))
        stacked /= np.where(size > 0, size, 1.0)
        values, count = overhead_kw - overhead_kw.mean(), int(blocks.max()) + 1
        grams, crosses = [], []
        for block in range(count):
            rows = blocks == block
            part = stacked[:, rows]
            grams.append(np.matmul(part.transpose(0, 2, 1), part))
            crosses.append(part.transpose(0, 2, 1) @ values[rows])
        return cls(stacked, values, blocks, np.stack(grams), np.stack(crosses))

    def _solved(self, gram: Floats, cross: Floats) -> Floats:
        ridge = 1e-9 * np.trace(gram, axis1=-2, axis2=-1)[..., None, None] * np.eye(gram.shape[-1])
        return np.asarray(np.linalg.solve(gram + ridge, cross[..., None])[..., 0], np.float64)

    def explained(self) -> Floats:
        """Squares that the fit to all rows explains, by choice."""
        gram, cross = self.gram.sum(axis=0), self.cross.sum(axis=0)
        return np.asarray((self._solved(gram, cross) * cross).sum(axis=-1), np.float64)

    def held_out(self) -> Floats:
        """Errors of every row, predicted from the other blocks with the change points that these choose."""
        gram, cross = self.gram.sum(axis=0) - self.gram, self.cross.sum(axis=0) - self.cross
        solved = self._solved(gram, cross)
        chosen = np.argmax((solved * cross).sum(axis=-1), axis=1)
        errors = np.empty_like(self.values)
        for block, choice in enumerate(chosen):
            rows = self.blocks == block
            errors[rows] = self.values[rows] - self.columns[choice][rows] @ solved[block, choice]
        return errors


def blocks_of(place: Ints, rows_per_day: int) -> Ints:
    """Number of the block of each row; every block has rows, a short last one joins the one before."""
    found = np.asarray((place - place[0]) // (FOLD_DAYS * rows_per_day), np.int64)
    if (found == found[-1]).sum() < FOLD_DAYS * rows_per_day // 2 and found[-1] > 0:
        found[found == found[-1]] = found[found < found[-1]].max()
    _, numbered = np.unique(found, return_inverse=True)
    return np.asarray(numbered, np.int64)


def tried(form: Form, inputs: Inputs, overhead_kw: Floats, blocks: Ints) -> Tried | None:
    """A form with its errors of prediction; None where its change points cannot be placed."""
    grid = point_grid(form, inputs.wet_bulb_c)
    if not grid:
        return None
    return Tried(form, _Folds.of(form, inputs, overhead_kw, blocks, grid).held_out())


def choose(
    inputs: Inputs, overhead_kw: Floats, blocks: Ints, *, weather: bool, load: bool
) -> tuple[Tried, tuple[Tried, ...]]:
    """The form that is taken, and all that were tried, which are all with or all without day types.

    Parameters
    ----------
    weather, load : bool
        Whether the wet bulb, and a term of the IT load, may be in it.
    """
    shapes = SHAPES if weather else SHAPES[:1]
    simple = [Form(s, per_load, load) for s in shapes for per_load in (False, s != "none")]
    simple = list(dict.fromkeys(simple))
    found = _all_tried(simple, inputs, overhead_kw, blocks)
    best = _simplest(found)
    if not LEAST_SIDE_RATIO < inputs.day_off.mean() < 1 - LEAST_SIDE_RATIO:
        return best, found
    typed = _all_tried([replace(best.form, day_types=True)], inputs, overhead_kw, blocks)
    if _simplest([best, *typed]) is best:
        return best, found
    found = _all_tried([replace(f, day_types=True) for f in simple], inputs, overhead_kw, blocks)
    return _simplest(found), found


def _all_tried(
    wanted: Sequence[Form], inputs: Inputs, overhead_kw: Floats, blocks: Ints
) -> tuple[Tried, ...]:
    return tuple(one for form in wanted if (one := tried(form, inputs, overhead_kw, blocks)))


def _simplest(found: Sequence[Tried]) -> Tried:
    """The one with the fewest coefficients among those that predict about as well as the best."""
    return min(near(found, TOLERANCE_RATIO), key=lambda one: len(one.form.parameters))


def near(found: Sequence[Tried], tolerance_ratio: float) -> list[Tried]:
    """Those whose mean square error is larger than the smallest by no more than a share of it."""
    bound = min(one.mean_square for one in found) * (1 + tolerance_ratio)
    return [one for one in found if one.mean_square <= bound]
