"""What an edge and its cell say to each other: a batch of readings with the edge's state, and the answer.

The same whether it travels over HTTP or through a hub: :func:`encode` gives bytes, :func:`decode` takes them
from somebody who may be anybody. A batch may come any number of times; the cell stores a reading once.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from app.domain.reading import Reading
from app.errors import SeriesError

MOST_READINGS = 20_000
"""Readings of one batch."""
MOST_BYTES = 16 << 20
"""Longest batch once it is unpacked. [B]"""
MOST_NAMED = 1000
"""Drops and files of one batch."""
LEASE_S = 30.0
"""An edge that was not heard of for so long may be replaced by another one with its key. [s]"""
BEAT_S = 10.0
"""An edge with nothing to send says at least so often that it is there. [s]"""
CLOCK_OFF_S = 5.0
"""A clock that is off by more is flagged. [s]"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NAME = re.compile(r"[0-9A-Za-z._-]{1,64}", re.ASCII)
_LONGEST_TEXT = 500


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many readings of a point an edge dropped for a reason, since its spool was made."""

    point: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class SetAside:
    """A file that the cell could not read, and that still lies in the edge's folder."""

    site: str
    file: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """Which process speaks for an edge."""

    process: str
    """Made anew at each start; a second process with the same key has another one."""
    epoch: int = 0
    """Given by the cell when the process began; what comes with an earlier one is refused."""


@dataclass(frozen=True, slots=True)
class State:
    """What an edge says of itself."""

    spool: str
    """Lasting name of its spool, under which the cell counts what the edge dropped."""
    sent_at: datetime
    """By the edge's clock."""
    version: str = ""
    revision: int = 0
    """Of the definitions that it works with; 0: it has none."""
    problem: str = ""
    """Why it does not work with newer ones; empty where it does."""
    clock_offset_s: float | None = None
    """How far its clock is ahead of the cell's, as it measured; None: not yet. [s]"""
    waiting: int = 0
    """Readings that wait at the edge, those of this batch included."""
    oldest_at: datetime | None = None
    """When the oldest of them arrived in the spool, by the edge's clock."""
    dropped: tuple[Dropped, ...] = ()
    set_aside: tuple[SetAside, ...] | None = None
    """None: as said last."""


@dataclass(frozen=True, slots=True)
class Message:
    """A batch; without readings it says that the edge is there."""

    claim: Claim
    state: State
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the cell says once it has committed a batch."""

    cell_at: datetime
    """By the cell's clock."""
    revision: int = 0
    """Of the definitions that hold."""
    backlog_per_s: float = 1000.0
    """How many readings a second the edge may send of those that waited. [1/s]"""
    stored: int = 0
    duplicate: int = 0
    conflicting: int = 0
    """Readings for which another value was stored first; kept aside."""
    unknown: int = 0
    """Readings of points that the cell does not know; they wait there."""
    refused: int = 0
    """Readings in the drop ledger."""


def encode(message: Message) -> bytes:
    """A message as it travels."""
    places: dict[str, int] = {}
    rows = [
        [places.setdefault(r.point, len(places)), _to_us(r.at), r.value, r.interval_s, r.valid_s]
        for r in message.readings
    ]
    state = message.state
    document = {
        "process": message.claim.process,
        "epoch": message.claim.epoch,
        "spool": state.spool,
        "sent_at_us": _to_us(state.sent_at),
        "version": state.version,
        "revision": state.revision,
        "problem": state.problem[:_LONGEST_TEXT],
        "clock_offset_s": state.clock_offset_s,
        "waiting": state.waiting,
        "oldest_at_us": None if state.oldest_at is None else _to_us(state.oldest_at),
        "dropped": [[d.point, d.reason, d.count] for d in state.dropped],
        "set_aside": None if state.set_aside is None else [_out(file) for file in state.set_aside],
        "points": list(places),
        "rows": rows,
    }
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 1)


def _out(file: SetAside) -> list[object]:
    return [file.site, file.file, file.reason[:_LONGEST_TEXT], _to_us(file.at)]


def decode(packed: bytes) -> Message:
    """A message from what was received.

    Raises
    ------
    SeriesError
        If it is none.
    """
    try:
        document = json.loads(_unpacked(packed))
        return _message(document)
    except SeriesError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise SeriesError(f"not a message of an edge: {type(error).__name__}: {str(error)[:200]}") from None


def _unpacked(packed: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    try:
        text = unpacking.decompress(packed, MOST_BYTES)
    except zlib.error as error:
        raise SeriesError(f"not a message of an edge: {error}") from None
    if unpacking.unconsumed_tail:
        raise SeriesError(f"a message has at most {MOST_BYTES} bytes unpacked")
    if not unpacking.eof:
        raise SeriesError("a message was cut off")
    return text


def _message(document: Mapping[str, Any]) -> Message:
    claim = Claim(_name(document["process"]), _count(document["epoch"]))
    points, rows = [_text(point) for point in document["points"]], document["rows"]
    if len(rows) > MOST_READINGS:
        raise SeriesError(f"a batch has at most {MOST_READINGS} readings")
    return Message(claim, _state(document), tuple(_reading(points, row) for row in rows))


def _state(document: Mapping[str, Any]) -> State:
    aside, offset_s, oldest_us = document["set_aside"], document["clock_offset_s"], document["oldest_at_us"]
    dropped = tuple(Dropped(_text(p), _name(r), _count(n)) for p, r, n in document["dropped"])
    if len(dropped) > MOST_NAMED or (aside and len(aside) > MOST_NAMED):
        raise SeriesError(f"a batch names at most {MOST_NAMED} drops and files")
    return State(
        spool=_name(document["spool"]),
        sent_at=_at(document["sent_at_us"]),
        version=_text(document["version"]),
        revision=_count(document["revision"]),
        problem=_text(document["problem"]),
        clock_offset_s=None if offset_s is None else _finite(offset_s),
        waiting=_count(document["waiting"]),
        oldest_at=None if oldest_us is None else _at(oldest_us),
        dropped=dropped,
        set_aside=None
        if aside is None
        else tuple(SetAside(_text(s), _text(f), _text(why), _at(us)) for s, f, why, us in aside),
    )


def _reading(points: Sequence[str], row: Sequence[Any]) -> Reading:
    place, at_us, value, interval_s, valid_s = row
    if type(value) not in (float, int):
        raise SeriesError("not a message of an edge: a value is a number")
    return Reading(points[_count(place)], _at(at_us), float(value), _short(interval_s), _short(valid_s))


def _at(us: Any) -> datetime:
    if type(us) is not int:
        raise SeriesError("not a message of an edge: a time is a whole number of microseconds")
    return _EPOCH + us * _MICROSECOND


def _to_us(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise SeriesError("not a message of an edge: a name has at most 64 letters, digits, '.', '_' or '-'")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or "\0" in value:
        raise SeriesError(f"not a message of an edge: a text has at most {_LONGEST_TEXT} characters")
    value.encode()  # no lone surrogates: the database takes none
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise SeriesError("not a message of an edge: a count is a whole number from 0 on")
    return value


def _short(value: Any) -> int:
    if _count(value) >= 1 << 31:
        raise SeriesError("not a message of an edge: an interval is too long")
    return int(value)


def _finite(value: Any) -> float:
    if type(value) not in (float, int) or not math.isfinite(value):
        raise SeriesError("not a message of an edge: an offset is a finite number")
    return float(value)


def encode_answer(answer: Answer) -> dict[str, object]:
    """An answer as JSON."""
    return {
        "cell_at": answer.cell_at.isoformat(),
        "revision": answer.revision,
        "backlog_per_s": answer.backlog_per_s,
        "stored": answer.stored,
        "duplicate": answer.duplicate,
        "conflicting": answer.conflicting,
        "unknown": answer.unknown,
        "refused": answer.refused,
    }


def decode_answer(document: Mapping[str, Any]) -> Answer:
    """An answer from its JSON.

    Raises
    ------
    SeriesError
        If it is none.
    """
    try:
        counts = {name: int(document[name]) for name in ("stored", "duplicate", "conflicting", "unknown")}
        return Answer(
            cell_at=datetime.fromisoformat(document["cell_at"]),
            revision=int(document["revision"]),
            backlog_per_s=float(document["backlog_per_s"]),
            refused=int(document["refused"]),
            **counts,
        )
    except (ValueError, TypeError, KeyError) as error:
        raise SeriesError(f"not an answer of a cell: {error}") from None
