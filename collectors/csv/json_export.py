"""JSON feeds as tables: an array of flat objects, or one object a line, become rows of cells.

The keys of the first records are the column names; from there on a feed is read like any other table
(the names stand on line 1, the first record counts as line 2).
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from app.errors import FileNotUnderstood
from collectors.csv.layouts import shape_of
from collectors.csv.reshape import reshaped_blocks
from collectors.csv.source import BLOCK_BYTES, Block, Source, blocks, open_source

_MAX_RECORD = 256 << 10
_HEADER_RECORDS = 200
_READ_BYTES = 256 << 10


def is_json(head: bytes) -> bool:
    """Whether the file begins like an array of objects, or an object a line."""
    start = head[:512].removeprefix(b"\xef\xbb\xbf").lstrip()
    return start.startswith(b"{") or (start.startswith(b"[") and start[1:].lstrip()[:1] in (b"{", b"]"))


def table_blocks(path: Path, encoding: str, layout: str, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The file's table in blocks of whole lines, whether it is text or JSON; the last block may be empty.

    Raises
    ------
    FileNotUnderstood
        If the file is damaged.
    """
    shape = shape_of(layout)
    with open_source(path) as source:
        if shape is not None:
            yield from reshaped_blocks(source, encoding, shape, file=str(path), block_bytes=block_bytes)
            return
        make = _json_blocks if layout == "json" else blocks
        yield from make(source, encoding, file=str(path), block_bytes=block_bytes)


def _json_blocks(source: Source, encoding: str, *, file: str, block_bytes: int) -> Iterator[Block]:
    records = _records(source, file)
    first = list(islice(records, _HEADER_RECORDS))
    if not first:
        raise FileNotUnderstood("an empty JSON feed", file=file, line=1)
    names = list(dict.fromkeys(key for record in first for key in record))
    out, line, start = io.StringIO(), 1, 1
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for record in chain(first, records):
        line += 1
        writer.writerow([_cell(record.get(name)) for name in names])
        if out.tell() >= block_bytes:
            yield Block(start, out.getvalue().encode("utf-8", "replace"), source.packed_bytes)
            out.seek(0)
            out.truncate()
            start = line + 1
    yield Block(start, out.getvalue().encode("utf-8", "replace"), source.packed_bytes)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = (
        value
        if isinstance(value, str)
        else json.dumps(value)
        if isinstance(value, dict | list)
        else str(value)
    )
    return " ".join(text.replace("\0", " ").split())


_BETWEEN = re.compile(r"[\[\],\s\ufeff]*")


def _records(source: Source, file: str) -> Iterator[dict[str, Any]]:
    """The objects of the feed one by one; numbers stay texts."""
    decode = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str).raw_decode
    reader = codecs.getincrementaldecoder("utf-8")("strict")
    text, count, final = "", 0, False
    while not final:
        text, final = _more(source, reader, text, file)
        at = 0
        while (begin := _between(text, at)) < len(text):
            at = begin
            if text[at] != "{":
                found = repr(text[at : at + 20])
                raise FileNotUnderstood(f"expected an object, found {found}", file=file, line=count + 2)
            try:
                record, at = decode(text, at)
            except json.JSONDecodeError as error:
                if not final and len(text) - at <= _MAX_RECORD:
                    break
                raise FileNotUnderstood(
                    f"record {count + 1} is no JSON object: {error.msg}", file=file, line=count + 2
                ) from None
            except RecursionError:
                raise FileNotUnderstood("JSON nested too deeply", file=file, line=count + 2) from None
            count += 1
            yield record
        text = text[at:]


def _between(text: str, at: int) -> int:
    """Where the next object begins: behind brackets, commas and blanks."""
    match = _BETWEEN.match(text, at)
    return match.end() if match else at


def _more(source: Source, reader: Any, text: str, file: str) -> tuple[str, bool]:
    data = source.read(_READ_BYTES)
    try:
        return text + reader.decode(data, final=not data), not data
    except UnicodeDecodeError as error:
        raise FileNotUnderstood(f"not UTF-8: {error.reason}", file=file) from None
