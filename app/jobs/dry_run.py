"""What an import would do with files, counted as the import counts; nothing is stored."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.domain.reading import ReadingColumns
from app.domain.site import Site
from app.jobs.imports import RejectsFile
from app.store import events as ledger
from app.store import reading_windows, readings
from app.store.engine import Connection
from app.store.readings import from_us
from app.store.sites import Stored
from collectors.csv.batch import ParsedBatch
from collectors.csv.continues import KEPT, Beside, Ends, questions
from collectors.csv.mapping import Mapping
from collectors.csv.reader import Reject, Understanding, read, understand

MOST_REJECTS = 1000
"""Refused rows of a file that are kept to be shown."""
MOST_REMEMBERED = 20_000_000
"""Readings of one command that are remembered, to tell repetitions between its files; 320 MB of them."""


@dataclass
class Trialled:
    """A file as it is understood, and what would become of its readings."""

    understood: Understanding
    accepted: int = 0
    duplicate: int = 0
    conflicting: int = 0
    rejected: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)
    """The first refused rows and cells."""
    is_part: bool = False
    """Whether the file goes on behind what was tried."""
    questions: tuple[str, ...] = ()
    """What to look at, since the file does not go on from what is known of its points."""

    @property
    def warnings(self) -> list[str]:
        """Whatever was assumed, and what to look at."""
        return [*self.understood.warnings, *self.questions]


class Held:
    """What a database holds of points, given by their ids."""

    def __init__(self, connected: Callable[[], AbstractContextManager[Connection]], stored: Stored) -> None:
        self._connected, self._stored = connected, stored

    def within(self, point: str, first_us: int, last_us: int) -> ReadingColumns:
        """Stored readings from one instant to another [us], both included, oldest first."""
        number = self._stored.point_id.get(point)
        if number is None:
            return _NONE
        with self._connected() as connection:
            return readings.load(connection, number, from_us(first_us), from_us(last_us + 1))

    def beside(self, point: str, first_us: int, last_us: int) -> Beside:
        """What is stored next before and after, and what the ledger says."""
        number = self._stored.point_id.get(point)
        if number is None:
            return Beside(_NONE, _NONE)
        with self._connected() as connection:
            before, after = (
                reading_windows.beside(connection, [number], np.array([at_us]), KEPT, earlier=earlier)
                for at_us, earlier in ((first_us, True), (last_us + 1, False))
            )
            events = ledger.in_force(connection, [number])[number]
        return Beside(_in_order(before), _in_order(after), events)


_NONE = ReadingColumns.concat([])


def _in_order(columns: ReadingColumns) -> ReadingColumns:
    return columns.take(np.argsort(columns.at_us, kind="stable"))


class Seen:
    """The readings of the files so far: a repeated one is a duplicate, another value a conflict.

    With `held`, so are those that are stored already.
    """

    def __init__(self, held: Held | None = None) -> None:
        self._held = held
        self._stored: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = {}
        self._count = 0
        self._files: dict[str, list[Ends]] = defaultdict(list)
        """What earlier files have of each point."""

    def count(self, batch: ParsedBatch) -> tuple[int, int, int]:
        """New readings, repetitions and contradictions of a batch, which is remembered."""
        columns = batch.columns
        accepted = duplicate = conflicting = 0
        for number in np.unique(columns.point_id).tolist():
            rows = columns.point_id == number
            if self._held is not None:
                self._recall(batch.points[number], columns, np.flatnonzero(rows), self._held)
            new, same, other = self._of_point(batch.points[number], columns.at_us[rows], columns.value[rows])
            accepted, duplicate, conflicting = accepted + new, duplicate + same, conflicting + other
        return accepted, duplicate, conflicting

    def beside(self, point: str, ends: Ends) -> Beside:
        """What is known of a point beside a file: of the store and of earlier files what is nearest."""
        first_us, last_us = int(ends.first.at_us[0]), int(ends.last.at_us[-1])
        found = self._held.beside(point, first_us, last_us) if self._held else Beside(_NONE, _NONE)
        before = [f.last for f in self._files[point] if f.last.at_us[-1] < first_us]
        after = [f.first for f in self._files[point] if f.first.at_us[0] > last_us]
        self._files[point].append(ends)
        return Beside(
            max((r for r in (found.before, *before) if len(r)), key=lambda r: r.at_us[-1], default=_NONE),
            min((r for r in (found.after, *after) if len(r)), key=lambda r: r.at_us[0], default=_NONE),
            found.events,
        )

    def _recall(self, point: str, columns: ReadingColumns, rows: npt.NDArray[np.intp], held: Held) -> None:
        """Remember the stored readings of the same instants; one of another length contradicts any value."""
        at_us = columns.at_us[rows]
        stored = held.within(point, int(at_us.min()), int(at_us.max()))
        known_us, known = self._stored.get(point, (np.empty(0, np.int64), np.empty(0)))
        if not len(stored):
            return
        place = np.minimum(np.searchsorted(stored.at_us, at_us), len(stored) - 1)
        is_there = (stored.at_us[place] == at_us) & ~np.isin(at_us, known_us)
        place, rows = place[is_there], rows[is_there]
        is_other = stored.interval_s[place] != columns.interval_s[rows]
        is_other |= stored.valid_s[place] != columns.valid_s[rows]
        found_us, first = np.unique(stored.at_us[place], return_index=True)
        values = np.where(is_other, np.nan, stored.value[place])[first]
        order = np.argsort(all_us := np.concatenate([known_us, found_us]), kind="stable")
        self._stored[point] = all_us[order], np.concatenate([known, values])[order]

    def _of_point(
        self, point: str, at_us: npt.NDArray[np.int64], value: npt.NDArray[np.float64]
    ) -> tuple[int, int, int]:
        none = np.empty(0, np.int64), np.empty(0, np.float64)
        known_us, known = self._stored.get(point, none)
        first_us, first = np.unique(at_us, return_index=True)
        place = np.searchsorted(known_us, first_us)
        is_known = np.zeros(len(first_us), np.bool_)
        inside = place < len(known_us)
        is_known[inside] = known_us[place[inside]] == first_us[inside]
        fresh = first[~is_known]
        all_us = np.concatenate([known_us, at_us[fresh]])
        all_values = np.concatenate([known, value[fresh]])
        order = np.argsort(all_us, kind="stable")
        all_us, all_values = all_us[order], all_values[order]
        again = np.ones(len(at_us), np.bool_)
        again[fresh] = False
        differs = all_values[np.searchsorted(all_us, at_us[again])] != value[again]
        if self._count < MOST_REMEMBERED:
            self._stored[point] = all_us, all_values
            self._count += len(fresh)
        return len(fresh), int((~differs).sum()), int(differs.sum())


def dry_run(
    path: Path,
    site: Site,
    mapping: Mapping | None = None,
    *,
    rejects: RejectsFile | None = None,
    seen: Seen | None = None,
) -> Trialled:
    """What would become of a file; of several files with one `seen`, what they repeat is counted.

    Raises
    ------
    FileNotUnderstood
        If the file is no table of readings.
    """
    seen = seen or Seen()
    return tried(path, site, understand(path, site, mapping), seen, rejects)


def tried(
    path: Path,
    site: Site,
    understood: Understanding,
    seen: Seen,
    rejects: RejectsFile | None = None,
    *,
    may_go_on: Callable[[], bool] = lambda: True,
) -> Trialled:
    """The same of a file that is understood already; asked after each part whether there is time for another.

    Raises
    ------
    FileNotUnderstood
        If the file turns out to be damaged.
    """
    found, ends = Trialled(understood), dict[str, Ends]()
    batches = read(path, understood)
    for batch in batches:
        accepted, duplicate, conflicting = seen.count(batch)
        found.accepted += accepted
        found.duplicate += duplicate + batch.duplicates
        found.conflicting += conflicting
        found.rejected += len(batch.rejects)
        found.rejects += batch.rejects[: MOST_REJECTS - len(found.rejects)]
        found.missing.update(batch.missing)
        _note_ends(ends, batch)
        if rejects is not None:
            rejects.write(str(path), batch.rejects)
        if not may_go_on():
            found.is_part = next(batches, None) is not None
            break
    found.questions = _questions(site, understood, seen, ends)
    return found


def _note_ends(ends: dict[str, Ends], batch: ParsedBatch) -> None:
    for number in np.unique(batch.columns.point_id).tolist():
        point, own = batch.points[number], batch.columns.take(batch.columns.point_id == number)
        ends[point] = ends[point].plus(own) if point in ends else Ends.of(own)


def _questions(site: Site, understood: Understanding, seen: Seen, ends: dict[str, Ends]) -> tuple[str, ...]:
    """What to ask about the columns; not again what the understanding warns of."""
    columns = {c.point.id: c for part in understood.sheets for c in part.columns}
    asked = [
        question
        for point, own in ends.items()
        for question in questions(site, columns[point], own, seen.beside(point, own))
    ]
    return tuple(dict.fromkeys(asked))
