"""Green Button files (NAESB ESPI): an Atom feed with interval blocks.

A reading type says unit, power of ten, the direction of flow and whether values are per interval,
cumulative or instantaneous; meter readings link it to the interval blocks. Times are seconds since 1970
in UTC. Namespaces may have any prefix, and the text any encoding that is declared or marked. The file is
parsed as it streams by; document type declarations, and with them entities, are refused.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.parsers import expat

from app.domain.quantity import ReadingKind
from app.domain.site import Site
from app.errors import FileNotUnderstood
from collectors.csv.batch import Batcher, ParsedBatch
from collectors.csv.mapping import ENCODINGS, ColumnMapping, Mapping, MappingNeeded, mapping_yaml
from collectors.csv.number import NUMBER, NumberStyle, parse_number
from collectors.csv.plan import Understanding
from collectors.csv.rows import Reject
from collectors.csv.source import open_source
from collectors.csv.streams import DELIVERED, RECEIVED, Rows, Stream, understand_streams
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


_FLOWS = {"1": DELIVERED, "19": RECEIVED, "4": "net", "20": "total"}
"""ESPI direction of flow -> its name."""

_MARKUP = re.compile(r"\s*<(\?xml|!--|!DOCTYPE|[A-Za-z_][\w.:-]*[\s/>])")
_DECLARED = re.compile(r"""\s*<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z][\w.-]*)["']""")


def is_espi(head: bytes) -> bool:
    """Whether the file begins like XML, in whatever encoding and with whatever prefix."""
    encoding = _marked_encoding(head) or "utf-8"
    return bool(_MARKUP.match(head[:2048].decode(encoding, "replace").lstrip("\ufeff")))


def _marked_encoding(head: bytes) -> str | None:
    """The encoding by the first bytes: a mark, or how wide ``<`` is."""
    marks = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"\xef\xbb\xbf", "utf-8"))
    wide = ((b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))
    return next((name for start, name in (*marks, *wide) if head.startswith(start)), None)


def _encoding(head: bytes, mapping: Mapping, file: str) -> str:
    """The encoding of the text: marked, else given, else declared, else UTF-8.

    Raises
    ------
    FileNotUnderstood
        If the declaration names an encoding that is none.
    """
    marked = _marked_encoding(head)
    if marked or mapping.encoding:
        return marked or str(mapping.encoding)
    declared = _DECLARED.match(head[:1024].decode("latin-1"))
    name = declared[1].lower() if declared else "utf-8"
    if name.startswith(("utf-16", "utf16", "ucs-2", "unicode")):
        return "utf-8"  # one byte a character, whatever the program that wrote it says
    try:
        is_text = getattr(codecs.lookup(name), "_is_text_encoding", True)
    except (LookupError, ValueError):
        is_text = False
    if not is_text or name in _NO_ENCODINGS:
        raise FileNotUnderstood(
            f"its declaration names the encoding {name!r}, which is not known; say encoding in a mapping, "
            f"allowed are {', '.join(ENCODINGS)}",
            file=file,
            line=1,
        )
    return name


_NO_ENCODINGS = frozenset({"idna", "punycode", "undefined", "raw_unicode_escape", "unicode_escape"})


@dataclass
class _Entry:
    """What is kept of one Atom entry."""

    self_link: str = ""
    up_link: str = ""
    related: list[str] = field(default_factory=list)
    title: str = ""
    kind: str = ""
    values: dict[str, str] = field(default_factory=dict)


_OTHER_ROOTS = {"html": "a web page", "workbook": "a spreadsheet as XML (Excel 2003)", "table": "a web page"}
"""Other markup that systems export under the name of a table."""


class _Feed:
    """Walks through the XML; calls back at the end of every interval reading and entry."""

    def __init__(self, file: str, on_reading: Callable[[int, str, dict[str, str]], None]) -> None:
        self._file, self._on_reading = file, on_reading
        self._parser = expat.ParserCreate("utf-8", namespace_separator=" ")
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

    def _refuse(self, name: str = "", *_: object) -> None:
        if str(name).lower() == "html":
            self._refuse_other("html")
        raise FileNotUnderstood(
            "a document type declaration; Green Button files have none, so it is refused",
            file=self._file,
            line=self._parser.CurrentLineNumber,
        )

    def _refuse_other(self, root: str) -> None:
        raise FileNotUnderstood(
            f"{_OTHER_ROOTS[root]}, no Green Button feed; export CSV or an Excel workbook (.xlsx) instead",
            file=self._file,
            line=self._parser.CurrentLineNumber,
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rsplit(" ", 1)[-1]
        if not self._path and name.lower() in _OTHER_ROOTS:
            self._refuse_other(name.lower())
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


def _walk(path: Path, mapping: Mapping, feed: _Feed) -> Iterator[int]:
    with open_source(path) as source:
        data = source.read(_CHUNK_BYTES)
        decoder = codecs.getincrementaldecoder(_encoding(data, mapping, str(path)))("strict")
        is_first = True
        while data:
            text = _decoded(decoder, data, path)
            feed.feed((text.lstrip("\ufeff \t\r\n") if is_first else text).encode())
            is_first = False
            yield source.packed_bytes
            data = source.read(_CHUNK_BYTES)
        feed.feed(_decoded(decoder, b"", path).encode(), final=True)
        yield source.packed_bytes


def _decoded(decoder: codecs.IncrementalDecoder, data: bytes, path: Path) -> str:
    try:
        return decoder.decode(data, final=not data)
    except UnicodeError as error:
        reason = getattr(error, "reason", error)
        raise FileNotUnderstood(
            f"bytes that are not of the encoding ({reason}); say encoding in a mapping", file=str(path)
        ) from None


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
    for _ in _walk(path, mapping, feed):
        pass
    if not seen:
        what = (
            "a Green Button feed without interval readings"
            if feed.is_feed
            else "XML, but no Green Button feed"
        )
        raise FileNotUnderstood(f"{what}; there is nothing to import", file=str(path), line=1)
    streams = _streams(list(seen), feed.entries)
    _ask_units(streams, site, mapping, str(path))
    plan = understand_streams(path, site, mapping, streams, "espi", _notes(feed.entries))
    return replace(plan, extra={"streams": {k: s.name for k, s in zip(seen, streams, strict=True)}})


def _ask_units(streams: list[Stream], site: Site, mapping: Mapping, file: str) -> None:
    """Refuses streams without a unit that nothing says: what they count is not to be guessed."""
    mapped = mapping.columns
    told = {key for key, column in mapped.items() if column.unit}
    silent = [s for s in streams if s.unit is None and not told & {s.name, *s.aliases}]
    open_ = [s for s in silent if not mapped or {s.name, *s.aliases} & set(mapped)]
    if not open_ or (not mapped and len(open_) < len(streams)):
        return
    raise MappingNeeded(
        "no ReadingType says in which unit its readings are; say it in a mapping (wh, kwh, mwh ...)",
        _unit_template(open_, site, mapped),
        file=file,
        line=1,
    )


def _unit_template(streams: list[Stream], site: Site, mapped: dict[str, ColumnMapping]) -> str:
    points = [p.id for p in site.points()]
    only = points[0] if len(points) == len(streams) == 1 else "?"
    columns = {}
    for stream in streams[:50]:
        key = next((n for n in (stream.name, *stream.aliases) if n in mapped), stream.name)
        columns[key] = mapped.get(key, ColumnMapping(point=only)).model_copy(update={"unit": "wh"})
    return "# unit: what the utility says its readings are in\n" + mapping_yaml(Mapping(columns=columns))


def _streams(keys: list[str], entries: list[_Entry]) -> list[Stream]:
    """One stream a meter reading; titles that occur twice are told apart by flow, or name nothing."""
    streams = [_stream(key, entries) for key in keys]
    titles = [s.name for s in streams]
    named = [_with_flow(s, titles.count(s.name) == 1) for s in streams]
    names = [s.name for s in named]
    return [
        s if names.count(s.name) == 1 else replace(s, name=_tail(key))
        for s, key in zip(named, keys, strict=True)
    ]


def _with_flow(stream: Stream, is_alone: bool) -> Stream:
    """The stream with its direction in the name, unless it is the only one and the usual one."""
    if not stream.flow or (stream.flow == DELIVERED and is_alone):
        return stream
    aliases = (stream.name, *stream.aliases) if is_alone else stream.aliases
    return replace(stream, name=f"{stream.name}, {stream.flow}", aliases=aliases)


def _stream(key: str, entries: list[_Entry]) -> Stream:
    reading = next((e for e in entries if e.kind == "MeterReading" and e.self_link == key), None)
    links = [_tail(link) for link in reading.related] if reading else []
    kinds = [e for e in entries if e.kind == "ReadingType"]
    kind = next((e for e in kinds if _tail(e.self_link) in links), kinds[0] if len(kinds) == 1 else None)
    title = reading.title if reading else ""
    name = title or _tail(key) or key or _UNNAMED
    if kind is None:
        return Stream(name, None, _ANY, 1.0, (key,))
    power = kind.values.get("powerOfTenMultiplier", "0") or "0"
    scale = 10.0 ** int(power) if _is_power_of_ten(power) else 1.0
    behaviour = _KINDS.get(kind.values.get("accumulationBehaviour", ""), _ANY)
    flow = _FLOWS.get(kind.values.get("flowDirection", ""), "")
    unit = _UNITS.get(kind.values.get("uom", ""))
    return Stream(name, unit, behaviour, scale, (key, _tail(key)), flow)


_UNNAMED = "readings"
"""What a stream is called that has no title and no link."""


def _is_power_of_ten(text: str) -> bool:
    return text.lstrip("-").isdecimal() and text.count("-") <= 1 and len(text) < 4 and abs(int(text)) <= 12


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
    for packed_bytes in _walk(path, plan.mapping, feed):
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
