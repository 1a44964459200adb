"""What a finding about the readings is, and what every detector needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from app.domain.energy import Series
from app.domain.register import US

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Evidence = dict[str, float | int | str]

DAY_US = 86_400 * US
GOES_ON = "goes_on"
"""Evidence of a finding that has no end yet: what is read after it is like it."""


class FindingKind(StrEnum):
    """What was found."""

    ROLLOVER = "rollover"
    RESET = "reset"
    TRANSIENT_ZERO = "transient_zero"
    REPLACED = "replaced"
    """Declared in the ledger."""
    REPLACEMENT_SUSPECTED = "replacement_suspected"
    GAP = "gap"
    STUCK = "stuck"
    SPIKE = "spike"
    BAD_MINUTES = "bad_minutes"
    """Impossible extremes inside an aggregate whose mean looks sound."""
    NEGATIVE_POWER = "negative_power"
    CROSS_TALK = "cross_talk"
    CONFLICTING_DUPLICATE = "conflicting_duplicate"
    UNIT_SUSPECTED = "unit_suspected"
    UNIT_CHANGED = "unit_changed"
    """From one reading on the point counts in another unit, or by another ratio."""
    TWO_SOURCES = "two_sources"
    """Two senders write the same register into one point."""
    EXPORTING = "exporting"
    """Power or energy below zero, again and again, where the point does not say that it flows both ways."""
    REVERSED = "reversed"
    """All flow is backwards: the transformer is the wrong way round."""
    IT_MISSING = "it_missing"
    """IT energy falls away while the facility goes on: a bypass, or a meter that stands."""
    RATIO_CHANGED = "ratio_changed"
    """The power ratio changes in one step as no load changes it: the ratio of a meter is another one."""
    IT_ABOVE_FACILITY = "it_above_facility"
    SAME_ENERGY = "same_energy"
    """Meters whose energies follow each other, as two meters of one load do."""
    CLOCK_DRIFT = "clock_drift"
    INTERVAL_TOO_LONG = "interval_too_long"
    NEGATIVE_REMAINDER = "negative_remainder"
    IMPORT_FAILED = "import_failed"
    """A file of a watched folder could not be read and was set aside."""


class Severity(StrEnum):
    """How much a finding matters."""

    INFO = "info"
    """Explained; the figures are right."""
    WARNING = "warning"
    """Some energy is estimated or unknown."""
    ERROR = "error"
    """Figures may be wrong until somebody acts."""


WITHHOLDING = (
    FindingKind.UNIT_CHANGED,
    FindingKind.REVERSED,
    FindingKind.IT_MISSING,
    FindingKind.RATIO_CHANGED,
    FindingKind.IT_ABOVE_FACILITY,
)
"""Kinds that make a PUE doubtful: none is said until a person has acknowledged them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found about one point, or about the site where `point` is empty."""

    kind: FindingKind
    point: str
    start: datetime
    end: datetime
    severity: Severity
    effect_kwh: float | None = None
    """Energy that the finding explains, or keeps from being counted. [kWh] None: not known."""
    evidence: Evidence = field(default_factory=dict)


def at(instant_us: float) -> datetime:
    """The instant of a number of microseconds since 1970, UTC."""
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(instant_us))


def finite(series: Series) -> Series:
    """The readings that are numbers."""
    good = np.isfinite(series.value)
    return series if good.all() else series.take(good)


def runs(mask: Bools) -> Iterator[tuple[int, int]]:
    """First and last index of every stretch of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    for first, after in zip(edges[::2], edges[1::2], strict=True):
        yield int(first), int(after) - 1


def outside(found: Iterable[Finding], causes: Sequence[Finding]) -> list[Finding]:
    """The findings that no cause explains: one cause, one finding."""
    return [f for f in found if not any(c.start <= f.end and f.start <= c.end for c in causes)]
