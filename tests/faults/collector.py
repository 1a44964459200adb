"""``wattline`` with a journal: ``python -m tests.faults.collector FOLDER serve --role worker``.

Whatever is offered to the spool is written down before, and that it was kept after; a process that is killed
in between leaves readings that were offered and may or may not be stored.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from app.cli import main
from collectors.base import Poll
from collectors.spool import Spool

_KEPT = "kept\n"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Said(NamedTuple):
    """What somebody said about a point: the unit of the reckoning."""

    point: str
    at_us: int
    """Microseconds since 1970-01-01T00:00Z."""
    value: float


def said(point: str, at: datetime, value: float) -> Said:
    """The same, from an instant."""
    return Said(point, (at - _EPOCH) // timedelta(microseconds=1), value)


def keep_journal(folder: Path) -> None:
    """From now on every spool of this process writes down what it is given, and when that is on its disk."""
    handle = os.open(folder / f"{os.getpid()}.txt", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    append = Spool.append_polls

    def noted(spool: Spool, polls: Iterable[Poll]) -> None:
        polls = list(polls)
        rows = [reading for poll in polls for reading in poll.readings]
        lines = (f"{one.point} {one.at_us} {one.value!r}\n" for one in (said(*r[:3]) for r in rows))
        os.write(handle, "".join(lines).encode())
        append(spool, polls)
        if not spool.disk_full:  # else they wait in memory, and are kept with the next round that fits
            os.write(handle, _KEPT.encode())

    Spool.append_polls = noted  # type: ignore[method-assign]


def read_journals(folder: Path) -> tuple[set[Said], set[Said]]:
    """What all collectors were offered, and what of it their spools had kept."""
    offered: set[Said] = set()
    kept: set[Said] = set()
    for file in folder.glob("*.txt"):
        for block, is_kept in _blocks(file):
            offered |= block
            kept |= block if is_kept else set()
    return offered, kept


def read_twice(folder: Path) -> set[Said]:
    """What more than one collector was offered."""
    seen: set[Said] = set()
    twice: set[Said] = set()
    for file in folder.glob("*.txt"):
        own = blocks_of(folder, int(file.stem))
        twice |= seen & own
        seen |= own
    return twice


def blocks_of(folder: Path, pid: int) -> set[Said]:
    """What one process was offered."""
    file = folder / f"{pid}.txt"
    return set().union(*(block for block, _ in _blocks(file))) if file.exists() else set()


def _blocks(file: Path) -> Iterator[tuple[set[Said], bool]]:
    """Readings of a journal, between one ``kept`` and the next."""
    block: set[Said] = set()
    for line in file.read_text().splitlines(keepends=True):
        if line == _KEPT:
            yield block, True
            block = set()
        elif line.endswith("\n"):  # the last line of a killed process may be cut off
            point, at_us, value = line.split()
            block.add(Said(point, int(at_us), float(value)))
    yield block, False


if __name__ == "__main__":
    keep_journal(Path(sys.argv.pop(1)))
    main()
