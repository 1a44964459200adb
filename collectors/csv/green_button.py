"""Green Button files (NAESB ESPI): an Atom feed with interval blocks.

A reading type says unit, power of ten and whether values are per interval, cumulative or
instantaneous; meter readings link it to the interval blocks. Times are seconds since 1970 in UTC. The
file is parsed as it streams by; document type declarations, and with them entities, are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.parsers import expat

from app.domain.quantity import ReadingKind
from app.domain.site import Site
from app.errors import FileNotUnderstood
from collectors.csv.batch import Batcher, ParsedBatch
from collectors.csv.mapping import Mapping
from collectors.csv.number import NUMBER, NumberStyle, parse_number
from collectors.csv.plan import Understanding
from collectors.csv.rows import Reject
from collectors.csv.source import open_source
from collectors.csv.streams import Rows, Stream, understand_streams
from collectors.csv.time import SECOND_US

_CHUNK_BYTES = 256 << 10
_MAX_TEXT = 2000
_MAX_DEPTH = 60
_MAX_PIECE_BYTES = 1 << 20
_MAX_STREAMS = 10_000

_UNITS = {"72": "wh", "38": "w", "42": "m3", "134": "l", "31": "j"}
"""ESPI unit of measure -> unit; others (volt-ampere, volt ...) are no energy."""

_INTERVAL = (ReadingKind.INTERVAL_ENERGY,)
_KINDS = {
    "4": _INTERVAL,
    "9": _INTERVAL,
    "2": (ReadingKind.REGISTER,),
    "1": (ReadingKind.REGISTER,),
    "3": (ReadingKind.REGISTER,),
    "12": (ReadingKind.POWER, ReadingKind.GAUGE),
    "6": (ReadingKind.POWER, ReadingKind.GAUGE),
}
"""Accumulation behaviour -> kinds of point."""

_ANY = (
    *_INTERVAL,
    ReadingKind.REGISTER,
    ReadingKind.POWER,
    ReadingKind.INTERVAL_MEAN_POWER,
    ReadingKind.GAUGE,
)


def is_espi(head: bytes) -> bool:
    """Whether the file begins like XML."""
    start = head[:512].removeprefix(b"\xef\xbb\xbf").lstrip()
    return start.startswith((b"<?xml", b"<feed", b"<entry", b"<!DOCTYPE"))


@dataclass
class _Entry:
    """What is kept of one Atom entry."""

    self_link: str = ""
    up_link: str = ""
    related: list[str] = field(default_factory=list)
    title: str = ""
    kind: str = ""
    values: dict[str, str] = field(default_factory=dict)


class _Feed:
    """Walks through the XML; calls back at the end of every interval reading and entry."""

    def __init__(self, file: str, on_reading: Callable[[int, str, dict[str, str]], None]) -> None:
        self._file, self._on_reading = file, on_reading
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.EntityDeclHandler = self._refuse
        self._path: list[str] = []
        self._content = ""
        self._entry = _Entry()
        self._reading: dict[str, str] = {}
        self._fed = 0
        self.entries: list[_Entry] = []
        self.is_feed = False

    def feed(self, data: bytes, *, final: bool = False) -> None:
        """More of the file."""
        self._fed += len(data)
        try:
            self._parser.Parse(data, final)
        except expat.ExpatError as error:
            raise FileNotUnderstood(
                f"damaged XML: {expat.errors.messages.get(error.code, error)}",
                file=self._file,
                line=error.lineno,
            ) from None
        if self._fed - self._parser.CurrentByteIndex > _MAX_PIECE_BYTES and not final:
            raise FileNotUnderstood(
                f"one tag longer than {_MAX_PIECE_BYTES >> 20} MB",
                file=self._file,
                line=self._parser.CurrentLineNumber,
            )

    def _refuse(self, *_: object) -> None:
        raise FileNotUnderstood(
            "a document type declaration; Green Button files have none, so it is refused",
            file=self._file,
            line=self._parser.CurrentLineNumber,
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rsplit(" ", 1)[-1]
        self._path.append(name)
        self._content = ""
        if len(self._path) > _MAX_DEPTH:
            raise FileNotUnderstood(
                "XML nested too deeply", file=self._file, line=self._parser.CurrentLineNumber
            )
        if name == "entry":
            self._entry = _Entry()
        elif name == "link" and attributes.get("rel") in ("self", "up", "related"):
            self._link(attributes["rel"], attributes.get("href", "").rstrip("/"))
        elif name in ("IntervalBlock", "ReadingType", "MeterReading", "UsagePoint", "LocalTimeParameters"):
            self._entry.kind = name
            self.is_feed = True
        elif name == "IntervalReading":
            self._reading = {}

    def _link(self, relation: str, target: str) -> None:
        if relation == "self":
            self._entry.self_link = target
        elif relation == "up":
            self._entry.up_link = target
        elif len(self._entry.related) < 20:
            self._entry.related.append(target)

    def _text(self, text: str) -> None:
        if len(self._content) < _MAX_TEXT:
            self._content += text

    def _end(self, tag: str) -> None:
        name = self._path.pop()
        text, self._content = self._content.strip(), ""
        if name == "IntervalReading":
            stream = _stream_key(self._entry.up_link or self._entry.self_link)
            self._on_reading(self._parser.CurrentLineNumber, stream, self._reading)
        elif "IntervalReading" in self._path:
            if len(self._reading) < 40:
                self._reading[name] = text
        elif name == "title" and self._path and self._path[-1] == "entry":
            self._entry.title = text
        elif self._entry.kind == "ReadingType" and len(self._entry.values) < 60:
            self._entry.values[name] = text
        if name == "entry" and self._entry.kind in ("ReadingType", "MeterReading", "LocalTimeParameters"):
            if len(self.entries) >= _MAX_STREAMS:
                raise FileNotUnderstood(f"more than {_MAX_STREAMS} meter readings", file=self._file)
            self.entries.append(self._entry)


def _stream_key(link: str) -> str:
    """The meter reading that an interval block's link belongs to."""
    return link.split("/IntervalBlock")[0]


def _walk(path: Path, feed: _Feed) -> Iterator[int]:
    with open_source(path) as source:
        while data := source.read(_CHUNK_BYTES):
            feed.feed(data)
            yield source.packed_bytes
        feed.feed(b"", final=True)
        yield source.packed_bytes


def understand_espi(path: Path, site: Site, mapping: Mapping) -> Understanding:
    """The meter readings of the feed, matched to points.

    Raises
    ------
    FileNotUnderstood
        If it is no Green Button feed, holds no readings, or does not say in which unit they are.
    """
    seen: dict[str, int] = {}

    def count(line: int, stream: str, reading: dict[str, str]) -> None:
        if stream in seen or len(seen) < _MAX_STREAMS:
            seen[stream] = seen.get(stream, 0) + 1

    feed = _Feed(str(path), count)
    for _ in _walk(path, feed):
        pass
    if not seen:
        what = (
            "a Green Button feed without interval readings"
            if feed.is_feed
            else "XML, but no Green Button feed"
        )
        raise FileNotUnderstood(f"{what}; there is nothing to import", file=str(path), line=1)
    streams = _streams(list(seen), feed.entries)
    named = {s.name for s in streams} | {a for s in streams for a in s.aliases}
    if all(s.unit is None for s in streams) and not any(
        c.unit for k, c in mapping.columns.items() if k in named
    ):
        raise FileNotUnderstood(
            "no ReadingType says in which unit its readings are; say it in a mapping, e.g. "
            f"columns: {{{streams[0].name!r}: {{point: ..., unit: wh}}}}",
            file=str(path),
            line=1,
        )
    plan = understand_streams(path, site, mapping, streams, "espi", _notes(feed.entries))
    return replace(plan, extra={"streams": {k: s.name for k, s in zip(seen, streams, strict=True)}})


def _streams(keys: list[str], entries: list[_Entry]) -> list[Stream]:
    """One stream a meter reading; titles that occur twice name nothing."""
    streams = [_stream(key, entries) for key in keys]
    names = [s.name for s in streams]
    return [
        s if names.count(s.name) == 1 else replace(s, name=_tail(key))
        for s, key in zip(streams, keys, strict=True)
    ]


def _stream(key: str, entries: list[_Entry]) -> Stream:
    reading = next((e for e in entries if e.kind == "MeterReading" and e.self_link == key), None)
    links = [_tail(link) for link in reading.related] if reading else []
    kinds = [e for e in entries if e.kind == "ReadingType"]
    kind = next((e for e in kinds if _tail(e.self_link) in links), kinds[0] if len(kinds) == 1 else None)
    title = reading.title if reading else ""
    name = title or _tail(key) or key
    if kind is None:
        return Stream(name, None, _ANY, 1.0, (key,))
    power = kind.values.get("powerOfTenMultiplier", "0") or "0"
    scale = 10.0 ** int(power) if power.lstrip("-").isdecimal() and abs(int(power)) <= 12 else 1.0
    behaviour = _KINDS.get(kind.values.get("accumulationBehaviour", ""), _ANY)
    return Stream(name, _UNITS.get(kind.values.get("uom", "")), behaviour, scale, (key, _tail(key)))


def _tail(link: str) -> str:
    return "/".join(link.split("/")[-2:])


def _notes(entries: list[_Entry]) -> list[str]:
    return [
        f"the reading type is titled {e.title!r}, but its unit is Wh: the unit counts"
        for e in entries
        if e.kind == "ReadingType"
        and "kwh" in e.title.lower()
        and e.values.get("uom") == "72"
        and e.values.get("powerOfTenMultiplier", "0") != "3"
    ]


def read_espi(path: Path, plan: Understanding, batcher: Batcher) -> Iterator[ParsedBatch]:
    """The readings of the streams that were matched."""
    names = {c.name: i for i, c in enumerate(plan.columns)}
    keys: dict[str, int | None] = {}
    rows: dict[int, Rows] = {}
    rejects: list[Reject] = []

    def take(line: int, key: str, reading: dict[str, str]) -> None:
        index = keys[key] if key in keys else keys.setdefault(key, _index_of(key, names, plan))
        if index is not None:
            _take(line, plan, index, reading, rows.setdefault(index, Rows()), rejects)

    feed = _Feed(str(path), take)
    for packed_bytes in _walk(path, feed):
        bulks = {i: r.bulk(plan.columns[i]) for i, r in rows.items()}
        yield batcher.pack(bulks, rejects, packed_bytes)
        rows.clear()
        rejects = []


def _index_of(key: str, names: dict[str, int], plan: Understanding) -> int | None:
    titles = plan.extra.get("streams", {})
    title = titles.get(key, "") if isinstance(titles, dict) else ""
    return next((names[n] for n in (title, key, _tail(key)) if n in names), None)


def _take(
    line: int, plan: Understanding, index: int, reading: dict[str, str], rows: Rows, rejects: list[Reject]
) -> None:
    column = plan.columns[index]
    value, state = parse_number(reading.get("value", ""), NumberStyle())
    start, duration = reading.get("start", ""), reading.get("duration", "")
    if state != NUMBER or not start.lstrip("-").isdecimal() or not duration.isdecimal():
        reason = "an interval reading needs value, start and duration"
        rejects.append(Reject(line, column.name, reason, str(reading)[:200]))
        return
    if len(start) > 12 or len(duration) > 9:
        rejects.append(Reject(line, column.name, "its time is out of range", str(reading)[:200]))
        return
    start_us = int(start) * SECOND_US
    rows.add(line, start_us, start_us + int(duration) * SECOND_US, value)
