"""A corrected export: what it would change, in kWh, before anything is stored; then what follows from it.

The trial goes the whole way in one transaction, energies included, and rolls it back: the difference that
is shown is the one that the import will make.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from app.domain.site import Site
from app.errors import TooBusy
from app.jobs import rollup
from app.store import imports
from app.store.corrections import Correction
from app.store.energy import by_month
from app.store.engine import Connection, Engine, connect
from app.store.imports import Imported, Source
from app.store.reports.revisions import Shelf
from app.store.sites import Stored
from collectors.csv.plan import Understanding
from collectors.csv.reader import read

_PAUSE_S = 0.2
_PATIENCE_S = 60.0
_LEAST_KWH = 1e-6
"""Smaller differences are those of adding in another order."""


@dataclass(frozen=True, slots=True)
class MonthChange:
    """Energy of one point in one local month, as it is and as it would be."""

    point: str
    month: str
    before_kwh: float
    after_kwh: float

    @property
    def difference_kwh(self) -> float:
        """What the file adds, or takes away."""
        return self.after_kwh - self.before_kwh


@dataclass(frozen=True, slots=True)
class Trial:
    """What corrected exports would do."""

    files: tuple[Imported, ...]
    changes: tuple[MonthChange, ...]
    """Months whose energy would change, by point and month."""
    frozen: tuple[str, ...]
    """Of these months, and their years, those with a closed report, which would get a revision."""

    @property
    def total_kwh(self) -> dict[str, float]:
        """Difference of each point that changes. [kWh]"""
        points = dict.fromkeys(c.point for c in self.changes)
        return {p: sum(c.difference_kwh for c in self.changes if c.point == p) for p in points}


def correction(author: str, reason: str, file_name: str) -> Correction:
    """On whose word a file corrects what is stored."""
    about = f"corrected export {file_name}"
    return Correction(author, f"{reason.strip()} ({about})" if reason.strip() else about)


def trial(engine: Engine, stored: Stored, site: Site, plans: Sequence[tuple[Path, Understanding]]) -> Trial:
    """What files would change if they were imported as corrections; nothing is stored.

    Raises
    ------
    FileNotUnderstood
        If a file turns out to be damaged.
    TooBusy
        If another process computes energies for long.
    WorkTooLarge
        If it is too much for one transaction.
    StoreUnavailable
        If the database is away.
    """
    _settled(engine)
    numbers = {stored.point_id[p]: p for _, plan in plans for p in plan.points}
    with connect(engine) as connection:
        before = by_month(connection, list(numbers))
        taken = [_take(engine, connection, stored, site, path, plan) for path, plan in plans]
        if rollup.run_within(connection).busy:
            raise TooBusy("energies are being computed; try again shortly", retry_after_s=10)
        after = by_month(connection, list(numbers))
        connection.rollback()
        frozen = {period for period, *_ in Shelf.of_site(stored, site.id).listing(connection)}
    changes = _changes(before, after, numbers)
    months = {c.month for c in changes} | {c.month[:4] for c in changes}
    return Trial(tuple(taken), changes, tuple(sorted(months & frozen)))


def _settled(engine: Engine) -> None:
    """What waits already is no work of the file: compute it first."""
    waited_s = 0.0
    while rollup.run(engine).busy:
        if waited_s >= _PATIENCE_S:
            raise TooBusy("energies are being computed; try again shortly", retry_after_s=10)
        time.sleep(_PAUSE_S)
        waited_s += _PAUSE_S


def _take(
    engine: Engine, connection: Connection, stored: Stored, site: Site, path: Path, plan: Understanding
) -> Imported:
    source = Source(site.id, path.name, "", plan.warnings)
    nobody, total = Correction("", ""), Imported(uuid4())
    return imports.take(engine, connection, stored, source, total, read(path, plan), lambda _: None, nobody)


def _changes(
    before: Mapping[tuple[int, str], float],
    after: Mapping[tuple[int, str], float],
    numbers: Mapping[int, str],
) -> tuple[MonthChange, ...]:
    cells = sorted((numbers[n], month, n) for n, month in {*before, *after})
    found = (
        MonthChange(point, month, before.get((n, month), 0.0), after.get((n, month), 0.0))
        for point, month, n in cells
    )
    return tuple(c for c in found if abs(c.difference_kwh) > _LEAST_KWH)
