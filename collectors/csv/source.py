"""Opening an export: gzip and zip, encodings, and blocks of whole lines in flat memory.

Nothing here looks at the table. Whatever the file is, at most a few blocks of it are held at once:
packed files are unpacked as they are read and refused when they swell like a bomb; a line without an
end is refused.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from app.errors import FileNotUnderstood
from collectors.csv.mapping import ENCODINGS, Ambiguous

BLOCK_BYTES = 4 << 20
MAX_LINE_BYTES = 1 << 20
"""A longer line is no row of readings."""

_BOMB_FROM_BYTES = 64 << 20
_BOMB_RATIO = 250
"""Beyond the first 64 MB, packed readings swell 5 to 100 fold; a bomb a thousand fold and more."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Source:
    """The unpacked bytes of one file, read forwards; ``packed_bytes`` tells how far the file was read."""

    def __init__(self, path: Path, raw: IO[bytes], stream: IO[bytes]) -> None:
        self._path, self._raw, self._stream = path, raw, stream
        self._unpacked = 0

    @property
    def packed_bytes(self) -> int:
        """Bytes of the file itself read so far, for progress."""
        return self._raw.tell()

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; empty at the end.

        Raises
        ------
        FileNotUnderstood
            If the packed file is damaged or swells like a bomb.
        """
        try:
            data = self._stream.read(size)
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
            raise FileNotUnderstood(f"damaged while unpacking: {error}", file=str(self._path)) from None
        self._unpacked += len(data)
        if self._unpacked > max(_BOMB_FROM_BYTES, _BOMB_RATIO * self._raw.tell()):
            raise FileNotUnderstood(
                f"it unpacks to more than {_BOMB_RATIO} times its size; unpack it first if that is right",
                file=str(self._path),
            )
        return data


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """The file's bytes, unpacked if it is gzip or a zip of one file.

    Raises
    ------
    FileNotUnderstood
        If it cannot be opened, or is a zip of several files or an encrypted one.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise FileNotUnderstood(f"cannot be opened: {error.strerror}", file=str(path)) from None
    with raw:
        head = raw.read(4)
        raw.seek(0)
        if head[:2] == b"\x1f\x8b":
            # a plain file object counts what was read of it; gzip's own buffer is small
            with gzip.GzipFile(fileobj=raw) as stream:
                yield Source(path, raw, _as_io(stream))
        elif head == b"PK\x03\x04":
            with _only_member(path, raw) as stream:
                yield Source(path, raw, stream)
        else:
            yield Source(path, raw, raw)


def _as_io(stream: gzip.GzipFile) -> IO[bytes]:
    return io.BufferedReader(stream)


def _only_member(path: Path, raw: IO[bytes]) -> IO[bytes]:
    try:
        packed = zipfile.ZipFile(raw)
    except zipfile.BadZipFile as error:
        raise FileNotUnderstood(f"damaged zip: {error}", file=str(path)) from None
    names = [i for i in packed.infolist() if not i.is_dir() and not i.filename.startswith("__MACOSX/")]
    if len(names) != 1:
        shown = ", ".join(i.filename for i in names[:5])
        raise FileNotUnderstood(f"a zip of {len(names)} files ({shown}); expected one", file=str(path))
    if names[0].flag_bits & 1:
        raise FileNotUnderstood("the zip is encrypted; unpack it first", file=str(path))
    try:
        return packed.open(names[0])
    except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
        raise FileNotUnderstood(f"damaged zip: {error}", file=str(path)) from None


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines as UTF-8, each ending in a line feed (the last one of the file may not)."""

    first_line: int
    data: bytes
    packed_bytes: int
    lines: npt.NDArray[np.int64] | None = None
    """Line of the file that each line of a reshaped table is from; None: they are the file's own."""


def blocks(source: Source, encoding: str, *, file: str, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The file in blocks of whole lines, as UTF-8 whatever its encoding.

    Bytes that are not of the encoding become U+FFFD (other encodings) or stay as they are (UTF-8); the
    reader of rows refuses the lines that hold them.

    Raises
    ------
    FileNotUnderstood
        If a line has no end within 1 MB.
    """
    decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)("replace")
    line, rest, is_first, bare_returns = 1, b"", True, False
    while True:
        raw = source.read(block_bytes)
        data = raw if decoder is None else decoder.decode(raw, final=not raw).encode("utf-8", "replace")
        if is_first:
            data = data.removeprefix(codecs.BOM_UTF8)
            bare_returns = b"\n" not in data and b"\r" in data
            is_first = False
        if bare_returns:
            data = data.replace(b"\r", b"\n")
        data = rest + data
        if not raw:
            if data:
                yield Block(line, data, source.packed_bytes)
            return
        cut = data.rfind(b"\n") + 1
        rest = data[cut:]
        if len(rest) > MAX_LINE_BYTES:
            raise FileNotUnderstood(
                f"no end of line within {MAX_LINE_BYTES // 1024} KB; this is no table of rows",
                file=file,
                line=line + data.count(b"\n"),
            )
        if cut:
            yield Block(line, data[:cut], source.packed_bytes)
            line += data.count(b"\n", 0, cut)


# --- encodings ------------------------------------------------------------------------------------


_DECIDING_BYTES = 1 << 20
_LOOKED_AT_BYTES = 64 << 20


def encoding_of(path: Path) -> str:
    """The encoding of a file, if only one can be meant; see :func:`find_encoding`.

    The first 64 MB are looked at, in flat memory: one odd byte far behind a plain beginning decides.

    Raises
    ------
    FileNotUnderstood
        If the file is no text, or several encodings remain (``Ambiguous``).
    """
    check = codecs.getincrementaldecoder("utf-8")("strict")
    with open_source(path) as source:
        head = piece = source.read(_DECIDING_BYTES)
        seen = 0
        while piece and seen < _LOOKED_AT_BYTES:
            seen += len(piece)
            try:
                check.decode(piece)
            except UnicodeDecodeError:
                # decided by the beginning and this piece, from its first whole line on
                sample = head if piece is head else head + piece[piece.find(b"\n") + 1 :]
                return find_encoding(path, sample, whole=len(piece) < _DECIDING_BYTES)
            piece = source.read(_DECIDING_BYTES)
    return find_encoding(path, head, whole=seen == len(head) < _DECIDING_BYTES)


def find_encoding(path: Path, sample: bytes, *, whole: bool) -> str:
    """The encoding of the sample, if only one can be meant; `whole` says the sample is all there is.

    A byte order mark or strict UTF-8 decide at once. Otherwise Chinese is assumed only where every
    character is a common one of that character set, and Western text only where the bytes look like
    single accented letters and signs.

    Raises
    ------
    Ambiguous
        If several encodings remain; it shows what each would read.
    FileNotUnderstood
        If none does: the file is no text.
    """
    for bom, name in _BOMS:
        if sample.startswith(bom) and (name != "utf-16" or len(sample) % 2 == 0 or not whole):
            return name
    wide = _utf16_without_mark(sample)
    if wide:
        return wide
    if b"\0" in sample and not _is_text_with_nul(sample):
        line = sample.count(b"\n", 0, sample.index(b"\0")) + 1
        raise FileNotUnderstood("it holds NUL bytes: a binary file, not text", file=str(path), line=line)
    if _decodes(sample, "utf-8", whole) or _is_mostly_utf8(sample):
        return "utf-8"
    return _by_script(path, sample, whole)


def _utf16_without_mark(sample: bytes) -> str | None:
    head = sample[:4096]
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if odd > len(head) // 5 and even == 0:
        return "utf-16-le"
    return "utf-16-be" if even > len(head) // 5 and odd == 0 else None


def _decodes(sample: bytes, encoding: str, whole: bool) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)("strict").decode(sample, final=whole)
    except UnicodeDecodeError:
        return False
    return True


def _is_text_with_nul(sample: bytes) -> bool:
    """Whether only a few lines hold NUL bytes: those are refused, not the file."""
    lines = sample.splitlines()
    return 5 * sum(b"\0" in x for x in lines) <= len(lines) and not _CONTROLS.search(sample)


_CONTROLS = re.compile(rb"[\x01-\x08\x0e-\x19\x1b-\x1f]")


def _is_mostly_utf8(sample: bytes) -> bool:
    """Whether a few damaged bytes stand in plain UTF-8: its characters seldom arise by chance."""
    text = sample.decode("utf-8", "replace")
    damaged = text.count("\ufffd")
    good = len(text) - len(text.encode("ascii", "ignore")) - damaged
    return good >= 2 and good >= 2 * damaged


_TELLING_LINES = 400
"""Lines with other letters than ASCII's that are looked at."""


def _by_script(path: Path, sample: bytes, whole: bool) -> str:
    some = (found[0] for found in re.finditer(rb"[^\r\n]+", sample))
    lines = list(islice((text for text in some if not text.isascii()), _TELLING_LINES + 1))
    if not whole and lines and sample.endswith(lines[-1]):
        lines = lines[:-1] or lines
    odd = b"\n".join(lines[:_TELLING_LINES])
    valid = [e for e in ("gb18030", "big5", "cp1252") if _decodes(odd, e, whole=True)]
    likely = [e for e in valid if _is_likely(odd, e)]
    found = likely if likely else [e for e in valid if e != "cp1252"] or valid
    if len(found) > 1:
        found = [e for e in found if _speaks_of_meters(odd.decode(e))] or found
    if len(found) == 1:
        return found[0]
    line = next(i for i, text in enumerate(sample.splitlines(), 1) if not text.isascii())
    if not found:
        raise FileNotUnderstood(
            f"its bytes are no text in any of {', '.join(ENCODINGS)}", file=str(path), line=line
        )
    choices = [(e, repr(lines[0].decode(e, "replace").strip()[:60])) for e in found]
    raise Ambiguous("its letters can be read in several ways", "encoding", choices, file=str(path), line=line)


def _is_likely(data: bytes, encoding: str) -> bool:
    text = data.decode(encoding)
    if encoding == "cp1252":
        return _is_western(text)
    pairs = (character.encode(encoding) for character in set(text) if not character.isascii())
    common = _is_common_gb if encoding == "gb18030" else _is_common_big5
    return all(len(pair) == 2 and common(pair[0], pair[1]) for pair in pairs)


def _is_common_gb(lead: int, trail: int) -> bool:
    """Signs (rows 1 to 9) and the 3755 everyday characters of GB 2312."""
    return trail >= 0xA1 and (0xA1 <= lead <= 0xA9 or 0xB0 <= lead <= 0xD7)


def _is_common_big5(lead: int, trail: int) -> bool:
    """Signs and the 5401 everyday characters of Big5."""
    return 0xA1 <= lead <= 0xC6 and not (lead == 0xC6 and trail > 0x7E)


_METER_WORDS = set(
    "时间日期年月日时分秒电能功率度量压流温湿总合计数据点测设备机房冷却照明配站表号名称值单位用峰谷平有无进线柜主空调"
    "時間電壓總計數據點測設備機溫濕號稱單進線櫃調開結束起止始終小均最大最小状态狀態读讀记錄录"
)


_UNIT_SIGNS = re.compile(r"°[CF]\b|(?<=m)[²³]|µ(?=[A-Z])|€")


def _speaks_of_meters(text: str) -> bool:
    """Whether it holds units only, or most of its Chinese characters are those of meters and tables."""
    text = _UNIT_SIGNS.sub("", text)
    if text.isascii():
        return True
    characters = [c for c in text if not c.isascii() and c.isalpha()]
    return bool(characters) and sum(c in _METER_WORDS for c in characters) > len(characters) / 2


_WESTERN_SIGNS = set("°²³µ€·±§–’‘“”\u00a0£")


_BETWEEN_DIGITS = re.compile(r"\d[^\W\d_a-zA-Z]{2,}\d")
"""``2024Äê01``: no word of any Western language; ``2024年01`` in Chinese."""


def _is_western(text: str) -> bool:
    if _BETWEEN_DIGITS.search(text):
        return False
    run = 0
    for character in text:
        run = 0 if character.isascii() else run + 1
        if run > 2 or not (run == 0 or character.isalpha() or character in _WESTERN_SIGNS):
            return False
    return True
