"""Energy that no meter measures: a formula over other points, e.g. ``main.kwh - hall1.kwh``.

Allowed are + - * / and parentheses over points and numbers. Energies may be added to energies and multiplied
or divided by numbers; an energy divided by an energy is a number. What remains must be an energy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from app.domain.energy import QuarterHours

Floats = npt.NDArray[np.float64]

_TOKEN = re.compile(r"\s*(?:([A-Za-z0-9][A-Za-z0-9._:-]*)|([-+*/()]))")
_STEP = 1e-6
"""Relative step of the derivatives behind an uncertainty."""
_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}


@dataclass(frozen=True, slots=True)
class _Number:
    value: float


@dataclass(frozen=True, slots=True)
class _Point:
    id: str


@dataclass(frozen=True, slots=True)
class _Operation:
    sign: str
    left: _Node
    right: _Node


_Node = _Number | _Point | _Operation


@dataclass(frozen=True)
class Formula:
    """A formula that was understood."""

    text: str
    root: _Node

    @cached_property
    def points(self) -> tuple[str, ...]:
        """Ids of the points that it names, in order, once."""
        return tuple(dict.fromkeys(_points(self.root)))

    def value(self, values: Mapping[str, Any]) -> Any:
        """Its value for numbers, or element by element for arrays, by point id."""
        return _value(self.root, values)


def parse(text: str) -> Formula:
    """Read a formula.

    Raises
    ------
    ValueError
        If it is not one, names no point, or does not give an energy.
    """
    parser = _Parser(text)
    root = parser.sum()
    parser.expect_end()
    formula = Formula(text, root)
    if not formula.points:
        raise ValueError(f"formula {text!r} names no point")
    if _dimension(root) != 1:
        raise ValueError(f"formula {text!r} does not give an energy: add energies, scale them by numbers")
    return formula


class _Parser:
    """Recursive descent over the tokens of a formula."""

    def __init__(self, text: str) -> None:
        self._text, self._tokens, self._at = text, list(_tokens(text)), 0

    def sum(self) -> _Node:
        node = self._product()
        while self._next() in ("+", "-"):
            node = _Operation(self._take(), node, self._product())
        return node

    def expect_end(self) -> None:
        if self._next():
            raise self._refusal(f"{self._next()!r} is not expected there")

    def _product(self) -> _Node:
        node = self._factor()
        while self._next() in ("*", "/"):
            node = _Operation(self._take(), node, self._factor())
        return node

    def _factor(self) -> _Node:
        token = self._take()
        if token == "-":
            return _Operation("*", _Number(-1.0), self._factor())
        if token == "(":
            node = self.sum()
            if self._take() != ")":
                raise self._refusal("a parenthesis is not closed")
            return node
        if not token or token in "+*/)":
            raise self._refusal("a point or a number is missing")
        return _number(token) or _Point(token)

    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token, self._at = self._next(), self._at + 1
        return token

    def _refusal(self, problem: str) -> ValueError:
        return ValueError(f"formula {self._text!r}: {problem}")


def _tokens(text: str) -> Iterator[str]:
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"formula {text!r}: {text[at:].strip()[:1]!r} is not understood")
        yield match[1] or match[2]
        at = match.end()


def _number(token: str) -> _Number | None:
    try:
        value = float(token)
    except ValueError:
        return None
    return _Number(value) if math.isfinite(value) else None


def _points(node: _Node) -> Iterator[str]:
    if isinstance(node, _Point):
        yield node.id
    elif isinstance(node, _Operation):
        yield from _points(node.left)
        yield from _points(node.right)


def _dimension(node: _Node) -> int:
    """Power of energy that a part of a formula has."""
    if not isinstance(node, _Operation):
        return int(isinstance(node, _Point))
    left, right = _dimension(node.left), _dimension(node.right)
    if node.sign in "+-" and left != right:
        raise ValueError(f"formula has an energy and a number on the two sides of {node.sign!r}")
    return left + right if node.sign == "*" else left - right if node.sign == "/" else left


def _value(node: _Node, values: Mapping[str, Any]) -> Any:
    if isinstance(node, _Number):
        return node.value
    if isinstance(node, _Point):
        return values[node.id]
    return _OPERATIONS[node.sign](_value(node.left, values), _value(node.right, values))


def compute(formula: Formula, cells: Mapping[str, QuarterHours]) -> QuarterHours:
    """Energy per 15-minute interval of a formula, over the time that all of its points cover.

    Parameters
    ----------
    formula : Formula
    cells : mapping of point id to QuarterHours
        Energies of its points; one that is absent is not known.

    Returns
    -------
    QuarterHours
        Intervals of which all points are known. Each point's energy is scaled to the least coverage among
        them, which is the interval's; the weakest tag and the longest reading interval count.
    """
    parts = [cells[p] for p in formula.points if p in cells]
    at_us = _common(parts) if len(parts) == len(formula.points) else np.empty(0, np.int64)
    rows = [np.searchsorted(part.at_us, at_us) for part in parts]
    columns = [[column[row] for column in part] for part, row in zip(parts, rows, strict=True)]
    if not len(at_us):
        none = np.empty(0, np.float64)
        return QuarterHours(at_us, none, none, none, np.empty(0, np.int8), np.empty(0, np.int32))
    coverage = np.min([c[2] for c in columns], axis=0)
    energies = {
        point: _scaled(c[1], c[2], coverage) for point, c in zip(formula.points, columns, strict=True)
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        energy = np.asarray(formula.value(energies), np.float64)
    guessed = np.max([_scaled(c[3], c[2], coverage) for c in columns], axis=0)
    known = np.isfinite(energy) & (coverage > 0)
    return QuarterHours(
        at_us[known],
        energy[known],
        coverage[known],
        np.minimum(guessed, coverage)[known],
        np.max([c[4] for c in columns], axis=0).astype(np.int8)[known],
        np.max([c[5] for c in columns], axis=0).astype(np.int32)[known],
    )


def _common(parts: list[QuarterHours]) -> npt.NDArray[np.int64]:
    at_us = parts[0].at_us
    for part in parts[1:]:
        at_us = np.intersect1d(at_us, part.at_us, assume_unique=True)
    return at_us


def _scaled(amount: Any, coverage: Any, common: Floats) -> Floats:
    """`amount` over the common share of each interval."""
    share = np.divide(common, coverage, where=coverage > 0, out=np.zeros_like(common))
    return np.asarray(amount * share, np.float64)


def class_percent(
    formula: Formula, energy_kwh: Mapping[str, float], class_percent_of: Mapping[str, float]
) -> float:
    """Accuracy class of a formula's energy, its points' errors being independent. [%]

    ``sqrt(sum (df/dE_i E_i c_i)^2) / |f|``. Example: 1000 kWh less 600 kWh, both of class 1:
    sqrt(10^2 + 6^2) / 400 = 2.9 %. Infinite where the formula gives nothing.
    """
    values = {p: energy_kwh.get(p, 0.0) for p in formula.points}
    try:
        whole = float(formula.value(values))
        parts = [_effect(formula, values, p, class_percent_of[p]) for p in formula.points]
    except ZeroDivisionError:
        return math.inf
    return math.sqrt(sum(part**2 for part in parts)) / abs(whole) if whole else math.inf


def _effect(formula: Formula, values: Mapping[str, float], point: str, percent: float) -> float:
    """What one class of a point moves in the result, to first order."""
    step = abs(values[point]) * _STEP
    if not step:
        return 0.0
    up, down = ({**values, point: values[point] + s} for s in (step, -step))
    return (float(formula.value(up)) - float(formula.value(down))) / (2 * step) * values[point] * percent
