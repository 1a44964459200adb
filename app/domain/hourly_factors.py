"""Emission factors of electricity by hour, beside the yearly ones: the file, and the emissions they give."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from app.domain.emissions import check_basis
from app.errors import SeriesError

HOUR = timedelta(hours=1)
COLUMNS = ("start", "kg_per_kwh")
MOST_HOURS = 10 * 366 * 24
_HIGHEST_KG_PER_KWH = 3.0
"""No grid emits as much per kWh; more is a factor in grams, or of another unit."""


@dataclass(frozen=True, slots=True)
class HourlyFactors:
    """Factors of one source, hour after hour, with where they come from."""

    region: str
    basis: str
    source: str
    verified: bool
    first_at: datetime
    """Start of the first hour. UTC"""
    kg_per_kwh: tuple[float | None, ...]
    """One for each hour from `first_at` on; None: the source has none. [kgCO2e/kWh]"""

    def __post_init__(self) -> None:
        try:
            check_basis(self.basis)
        except ValueError as error:
            raise SeriesError(str(error)) from None
        for name in ("region", "basis", "source"):
            if not getattr(self, name).strip():
                raise SeriesError(f"{name}: is empty; say where the factors come from and what they are")

    @property
    def end(self) -> datetime:
        """End of the last hour. UTC"""
        return self.first_at + len(self.kg_per_kwh) * HOUR

    @property
    def known_hours(self) -> int:
        """Hours that have a factor."""
        return sum(kg is not None for kg in self.kg_per_kwh)


def parse(text: str, name: str) -> tuple[datetime, tuple[float | None, ...]]:
    """First hour and factors of a CSV file with the columns ``start`` and ``kg_per_kwh``, in order of time.

    Parameters
    ----------
    text : str
        Each ``start`` is the beginning of an hour, RFC 3339 with its offset; hours may be absent.
    name : str
        Of the file, for messages.

    Raises
    ------
    SeriesError
        With file and line of the first problem, and what is allowed.
    """
    rows = csv.reader(text.lstrip("\ufeff").splitlines())
    head = [cell.strip() for cell in next(rows, [])]
    if sorted(head) != sorted(COLUMNS):
        raise SeriesError(f"{name}:1: columns are {', '.join(head) or 'none'}; allowed are start,kg_per_kwh")
    known: dict[datetime, float] = {}
    latest: datetime | None = None
    for line, cells in enumerate(rows, 2):
        if any(cell.strip() for cell in cells):
            latest = _add(known, latest, dict(zip(head, cells, strict=False)), f"{name}:{line}")
    if latest is None:
        raise SeriesError(f"{name}: has no hours; give one line for each hour below start,kg_per_kwh")
    first = next(iter(known))
    hours = (latest - first) // HOUR + 1
    if hours > MOST_HOURS:
        raise SeriesError(f"{name}: spans {hours} hours; allowed are {MOST_HOURS}, import it in parts")
    return first, tuple(known.get(first + n * HOUR) for n in range(hours))


def _add(known: dict[datetime, float], latest: datetime | None, row: dict[str, str], at: str) -> datetime:
    start = _start(row.get("start", "").strip(), at)
    if latest is not None and start - latest < HOUR:
        raise SeriesError(f"{at}: start: {row['start']} is not an hour after the line before; sort the hours")
    if known and (start - next(iter(known))) % HOUR:
        raise SeriesError(f"{at}: start: {row['start']} is no whole number of hours after the first line")
    known[start] = _factor(row.get("kg_per_kwh", "").strip(), at)
    return start


def _start(text: str, at: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise SeriesError(f"{at}: start: {text!r} is no time; write 2026-01-01T00:00:00+08:00") from None
    if found.tzinfo is None:
        raise SeriesError(f"{at}: start: {text} has no offset; write {text}+08:00, or Z for UTC")
    if found.minute % 15 or found.second or found.microsecond:
        raise SeriesError(f"{at}: start: {text} is not the beginning of an hour, here or in another zone")
    return found.astimezone(UTC)


def _factor(text: str, at: str) -> float:
    try:
        found = float(text)
    except ValueError:
        raise SeriesError(f"{at}: kg_per_kwh: {text!r} is no number; leave the line out instead") from None
    if not 0 <= found <= _HIGHEST_KG_PER_KWH:
        allowed = f"0 to {_HIGHEST_KG_PER_KWH:g} kg per kWh; divide grams by 1000"
        raise SeriesError(f"{at}: kg_per_kwh: {text}; allowed are {allowed}")
    return found


def series(sets: Sequence[HourlyFactors]) -> pd.Series[float]:
    """Factors by the start of their hour, in order of time; of several for one hour, the last set counts."""
    known: dict[datetime, float] = {}
    for one in sets:
        hours = ((one.first_at + n * HOUR, kg) for n, kg in enumerate(one.kg_per_kwh))
        known |= {at: kg for at, kg in hours if kg is not None}
    index = pd.DatetimeIndex(pd.to_datetime(list(known), utc=True))
    return pd.Series(list(known.values()), index, dtype=float).sort_index()


@dataclass(frozen=True, slots=True)
class HourlyEmissions:
    """Emissions of an energy by hourly factors."""

    kg: float
    """Of the energy that has a factor. [kgCO2e]"""
    known_kwh: float
    unknown_kwh: float
    """Energy of hours without a factor; it is not in `kg`. [kWh]"""

    @property
    def known_ratio(self) -> float:
        """Share of the energy that has a factor. [0..1]"""
        total = self.known_kwh + self.unknown_kwh
        return self.known_kwh / total if total > 0 else 0.0


def hourly_emissions(energy_kwh: pd.Series[float], factors: pd.Series[float]) -> HourlyEmissions:
    """Emissions of an energy: the sum over its intervals of energy x factor of the hour.

    Parameters
    ----------
    energy_kwh : Series of float64, shape (n,)
        Energy bought per 15-minute interval, indexed by its start in UTC. [kWh]
    factors : Series of float64, shape (m,)
        As :func:`series` gives them. [kgCO2e/kWh]
    """
    energy = np.maximum(np.nan_to_num(energy_kwh.to_numpy(dtype=float)), 0.0)
    if not len(factors) or not len(energy):
        return HourlyEmissions(0.0, 0.0, float(energy.sum()))
    at = pd.DatetimeIndex(energy_kwh.index)
    hours = pd.DatetimeIndex(factors.index)
    position = np.asarray(hours.searchsorted(at, side="right")) - 1
    started = np.maximum(position, 0)
    is_known = (position >= 0) & (np.asarray(at - hours[started]) < np.timedelta64(1, "h"))
    kg = float((energy * factors.to_numpy()[started])[is_known].sum())
    return HourlyEmissions(kg, float(energy[is_known].sum()), float(energy[~is_known].sum()))


def sources(sets: Iterable[HourlyFactors]) -> tuple[str, ...]:
    """Where some factors come from, each once."""
    return tuple(dict.fromkeys(one.source for one in sets))
