"""Opening files: encodings, packed files, and attacks on memory."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from app.errors import FileNotUnderstood
from collectors.csv import source as csv_source
from collectors.csv.mapping import Ambiguous
from collectors.csv.source import blocks, encoding_of, open_source

HEADER = "时间,总有功电能(kWh)\n2024-01-01 00:00,1\n"


def _encoding(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return encoding_of(path)


@pytest.mark.parametrize(
    ("text", "encoding", "found"),
    [
        ("time,main\n", "ascii", "utf-8"),
        (HEADER, "utf-8", "utf-8"),
        (HEADER, "utf-8-sig", "utf-8"),
        (HEADER, "utf-16", "utf-16"),
        (HEADER, "utf-16-le", "utf-16-le"),
        (HEADER, "utf-16-be", "utf-16-be"),
        (HEADER, "gbk", "gb18030"),
        ("时间,电\n", "gbk", "gb18030"),
        ("温度(℃),x\n", "gbk", "gb18030"),
        ("時間,總用電量(kWh)\n", "big5", "big5"),
        ("Zeit,Kühlung,Größe °C\n", "latin-1", "cp1252"),
        ("fecha,año,energía\n", "cp1252", "cp1252"),
    ],
)
def test_encodings_that_can_only_be_one(tmp_path: Path, text: str, encoding: str, found: str) -> None:
    assert _encoding(tmp_path / "f.csv", text.encode(encoding)) == found


def test_a_text_that_two_encodings_read_is_asked_about(tmp_path: Path) -> None:
    with pytest.raises(Ambiguous) as caught:
        _encoding(tmp_path / "f.csv", b"time,main\n" + "啊阿".encode("gbk") + b",1\n")
    assert caught.value.key == "encoding"
    assert dict(caught.value.choices)["gb18030"] == "'啊阿,1'"
    assert "big5" in dict(caught.value.choices)


def test_one_damaged_line_does_not_hide_utf8(tmp_path: Path) -> None:
    text = HEADER.encode() * 10 + b"2024-01-01 00:15,\xff\n"
    assert _encoding(tmp_path / "f.csv", text) == "utf-8"


def test_a_late_chinese_text_decides(tmp_path: Path) -> None:
    plain = b"2024-01-01 00:00,1,x\n" * 100_000
    assert _encoding(tmp_path / "f.csv", plain + "2024-01-01 00:15,1,停电检修\n".encode("gbk")) == "gb18030"


def test_binary_files_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(FileNotUnderstood, match="binary file"):
        _encoding(tmp_path / "f.bin", bytes(range(256)) * 10)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16"])
def test_blocks_are_whole_lines_and_know_their_number(tmp_path: Path, ending: str, encoding: str) -> None:
    lines = [f"{i},日期{i}" for i in range(500)]
    path = tmp_path / "f.csv"
    path.write_bytes(ending.join(lines).encode(encoding))
    with open_source(path) as source:
        found = list(blocks(source, encoding, file="f", block_bytes=300))
    assert len(found) > 3
    assert b"".join(b.data for b in found).decode().split() == lines
    for block in found:
        assert block.data.decode().split()[0] == lines[block.first_line - 1]


@pytest.mark.parametrize("kind", ["gz", "zip"])
def test_packed_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"f.{kind}"
    if kind == "gz":
        path.write_bytes(gzip.compress(b"a\nb\n"))
    else:
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("__MACOSX/._f.csv", "junk")
            packed.writestr("f.csv", "a\nb\n")
    with open_source(path) as source:
        assert source.read(100) == b"a\nb\n"


def test_a_truncated_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "f.gz"
    path.write_bytes(gzip.compress(random.Random(1).randbytes(10_000))[:5000])
    with open_source(path) as source, pytest.raises(FileNotUnderstood, match="damaged while unpacking"):
        list(blocks(source, "utf-8", file="f"))


def _peak_mb(path: Path) -> float:
    tracemalloc.start()
    try:
        with pytest.raises(FileNotUnderstood), open_source(path) as source:
            for _ in blocks(source, "utf-8", file=str(path), block_bytes=1 << 20):
                pass
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def test_a_bomb_is_refused_in_flat_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_source, "_BOMB_FROM_BYTES", 4 << 20)
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb") as packed:
        for _ in range(32):
            packed.write(b"\n" * (1 << 20))
    assert _peak_mb(path) < 20


def test_a_line_without_an_end_is_refused_in_flat_memory(tmp_path: Path) -> None:
    path = tmp_path / "endless.csv"
    path.write_bytes(b"time,main\n" + b"x" * (24 << 20))
    assert _peak_mb(path) < 20


def test_unpacking_nothing_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotUnderstood, match="cannot be opened"), open_source(tmp_path / "none"):
        pass


def test_a_zip_whose_member_cannot_be_opened_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a.csv", "time,x\n")
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02") + 42  # where the central directory says that the member begins
    data[place : place + 4] = b"\xff\xff\xff\x7f"
    path.write_bytes(data)
    with pytest.raises(FileNotUnderstood, match="damaged zip"), open_source(path) as source:
        source.read(1)
