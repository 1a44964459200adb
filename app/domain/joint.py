"""Measures that overlap: which of them a saving is stated for, jointly and never twice.

On a day a measure's saving is the energy that the plant of its baseline would have used, less what was used.
Every other measure that changed the plant since that baseline, in energy that both can reach, is in that
difference too, so the saving is stated for all of them together, against the baseline of the earliest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from app.domain.measure import Boundary, Measure, Scope
from app.domain.site import Site


@dataclass(frozen=True, slots=True)
class Statement:
    """Measures whose saving can only be said together, and the days for which it is."""

    measures: tuple[Measure, ...]
    """By the start of their implementation."""
    where: Boundary
    """The widest of their boundaries; the whole facility where none of them encloses the others."""
    spans: tuple[tuple[date, date], ...]
    """Local days, half-open, in order; days of work on one of the measures are in none."""
    in_total: bool
    """Whether it counts in the saving of the site; else a wider statement of the same days has it in it."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The measures."""
        return tuple(one.key for one in self.measures)

    @property
    def base(self) -> Measure:
        """The measure whose baseline is used: no other one had been begun before that ended."""
        return _earliest(self.measures)


def statements(measures: Iterable[Measure], site: Site, until: date) -> tuple[Statement, ...]:
    """The statements that can be made of measures, up to a day.

    Parameters
    ----------
    measures : iterable of Measure
        Those in force at the site.
    until : date
        First day of which nothing is said yet.

    Returns
    -------
    tuple of Statement
        By their first day. On each day the ones with `in_total` share no energy.
    """
    every = sorted(measures, key=lambda one: (one.implementation_start, one.key))
    spans: dict[tuple[str, ...], list[tuple[date, date]]] = {}
    total: set[tuple[tuple[str, ...], tuple[date, date]]] = set()
    for span in _parts(every, until):
        sets = {_together(one, every, site, span[0]) for one in every if _reports(one, span[0])}
        sound = [keys for keys in sets if not _under_way(keys, every, span[0])]
        for keys in sound:
            spans.setdefault(keys, []).append(span)
            if not any(set(keys) < set(other) for other in sets):
                total.add((keys, span))
    made = [
        Statement(_named(keys, every), _widest(_named(keys, every), site), _merged(kept), counts)
        for keys, parts in spans.items()
        for counts in (True, False)
        if (kept := [part for part in parts if ((keys, part) in total) is counts])
    ]
    return tuple(sorted(made, key=lambda one: (one.spans[0], one.keys)))


def _parts(measures: Sequence[Measure], until: date) -> list[tuple[date, date]]:
    """Spans in which nothing begins or ends."""
    edges = {until}
    for one in measures:
        edges |= {one.implementation_start, one.implementation_end, one.reporting_start}
        edges |= {one.reporting_end} if one.reporting_end is not None else set()
    ordered = sorted(edge for edge in edges if edge <= until)
    return list(pairwise(ordered))


def _reports(one: Measure, day: date) -> bool:
    return one.reporting_start <= day and (one.reporting_end is None or day < one.reporting_end)


def _together(one: Measure, every: Sequence[Measure], site: Site, day: date) -> tuple[str, ...]:
    """Keys of the measures that are in the difference to the baseline of one on a day, with its own."""
    found = [one]
    while True:
        where = _widest(found, site)
        since = _earliest(found).baseline_start
        more = [
            other
            for other in every
            if other not in found
            and other.implementation_start <= day
            and other.implementation_end > since
            and where.meets(other.where, site)
        ]
        if not more:
            return tuple(m.key for m in every if m in found)
        found += more


def _earliest(measures: Iterable[Measure]) -> Measure:
    """The one that was begun first; of several the one whose baseline begins last."""
    return min(measures, key=lambda m: (m.implementation_start, -m.baseline_start.toordinal(), m.key))


def _under_way(keys: Sequence[str], every: Sequence[Measure], day: date) -> bool:
    return any(m.implementation_start <= day < m.implementation_end for m in _named(keys, every))


def _named(keys: Sequence[str], every: Sequence[Measure]) -> tuple[Measure, ...]:
    return tuple(one for one in every if one.key in keys)


def _widest(measures: Sequence[Measure], site: Site) -> Boundary:
    """The boundary that encloses all of them."""
    boundaries = list(dict.fromkeys(one.where for one in measures))
    for wide in boundaries:
        if all(wide.encloses(other, site) for other in boundaries):
            return wide
    return Boundary(Scope.FACILITY)


def _merged(spans: Sequence[tuple[date, date]]) -> tuple[tuple[date, date], ...]:
    merged: list[tuple[date, date]] = []
    for start, end in spans:
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return tuple(merged)
