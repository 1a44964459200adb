"""What a bench reports, and how it stands in ``RESULTS.md``."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure beside its peer."""

    what: str
    ours: str
    peer: str
    """Name and figure of the peer in the same run; empty where the figure stands alone."""
    ratio: float | None
    """Ours over the peer's, in the direction of `target`; None where there is no peer."""
    target: str
    """What the project asks for, e.g. ``>= 1.8``; empty where nothing is."""
    note: str = ""


def median_s(work: Callable[[], object], runs: int = 5) -> float:
    """Median wall time of `runs` calls. [s]"""
    return statistics.median(_timed(work) for _ in range(runs))


def interleaved_s(works: Sequence[Callable[[], object]], runs: int = 5) -> list[float]:
    """Median wall time of each, measured in turn so that a busy machine hits all alike. [s]"""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(runs):
        for n, work in enumerate(works):
            times[n].append(_timed(work))
    return [statistics.median(one) for one in times]


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class Paired:
    """What neighbouring runs of two sides say of their ratio."""

    ratio: float
    """Median of the ratios of neighbours: noise that comes and goes hits both alike and falls out."""
    low: float
    high: float
    """The ratio lies between these with at least 95 %, whatever the distribution of the noise (sign test)."""

    def __str__(self) -> str:
        return f"95 % sure of {self.low:.2f} to {self.high:.2f}"


def paired(ours: Sequence[float], peer: Sequence[float]) -> Paired:
    """The ratio of ours to the peer's, from interleaved runs in order of time; at least six of each."""
    ratios = sorted(one / other for one, other in zip(ours, peer, strict=True))
    count, left_out, tail = len(ratios), 0, 0.5 ** len(ratios)
    while tail <= 0.025:
        left_out += 1
        tail += math.comb(count, left_out) * 0.5**count
    if not left_out:
        raise ValueError(f"{count} runs are too few to say anything")
    return Paired(statistics.median(ratios), ratios[left_out - 1], ratios[-left_out])


def as_markdown(rows: Sequence[Row]) -> str:
    """A table of rows."""
    head = "| what | ours | peer | ratio | asked | note |\n|---|---|---|---|---|---|\n"
    return head + "".join(_line(row) for row in rows)


def _line(row: Row) -> str:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    return f"| {row.what} | {row.ours} | {row.peer} | {ratio} | {row.target} | {row.note} |\n"
