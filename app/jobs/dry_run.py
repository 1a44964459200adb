"""What an import would do with files, counted as the import counts, without a database."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.domain.site import Site
from app.jobs.imports import RejectsFile
from collectors.csv.batch import ParsedBatch
from collectors.csv.mapping import Mapping
from collectors.csv.reader import Understanding, read, understand

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


class Seen:
    """The readings of the files so far: a repeated one is a duplicate, another value a conflict."""

    def __init__(self) -> None:
        self._stored: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = {}
        self._count = 0

    def count(self, batch: ParsedBatch) -> tuple[int, int, int]:
        """New readings, repetitions and contradictions of a batch, which is remembered."""
        columns = batch.columns
        accepted = duplicate = conflicting = 0
        for number in np.unique(columns.point_id).tolist():
            rows = columns.point_id == number
            new, same, other = self._of_point(batch.points[number], columns.at_us[rows], columns.value[rows])
            accepted, duplicate, conflicting = accepted + new, duplicate + same, conflicting + other
        return accepted, duplicate, conflicting

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
    found = Trialled(understand(path, site, mapping))
    for batch in read(path, found.understood):
        accepted, duplicate, conflicting = seen.count(batch)
        found.accepted += accepted
        found.duplicate += duplicate + batch.duplicates
        found.conflicting += conflicting
        found.rejected += len(batch.rejects)
        found.missing.update(batch.missing)
        if rejects is not None:
            rejects.write(str(path), batch.rejects)
    return found
