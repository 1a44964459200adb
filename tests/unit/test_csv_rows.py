"""Cutting lines into cells: which blocks go the fast way, and what happens to odd lines."""

from __future__ import annotations

import pytest

from collectors.csv.rows import RowParser, is_regular, records
from collectors.csv.source import Block


def _parser(width: int = 2, full_width: int = 2) -> RowParser:
    return RowParser(",", width, full_width, (0, 1))


@pytest.mark.parametrize(
    ("data", "full_width"),
    [
        (b"1,2\n3,4\n", 2),
        (b"1,2\r\n3,4\r\n", 2),
        (b"1,2\n3,4", 2),
        (b'"1","2"\n"3","4"\n', 2),
        (b'"1","2"\r\n3,"4"', 2),
        (b"1,2,\n3,4,\n", 3),
        (b'"a,b",2\n3,4\n', 2),
    ],
)
def test_regular_blocks_go_the_fast_way(
    monkeypatch: pytest.MonkeyPatch, data: bytes, full_width: int
) -> None:
    careful, _, _ = RowParser(",", 2, full_width, (0, 1), careful_only=True).parse(Block(5, data, 0))

    def never(*_: object) -> None:
        raise AssertionError("the careful way was taken")

    monkeypatch.setattr(RowParser, "_careful", never)
    cells, odd, rejects = _parser(2, full_width).parse(Block(5, data, 0))
    assert (odd, rejects) == ([], [])
    assert cells.line.tolist() == careful.line.tolist() == [5, 6]
    assert [c.to_pylist() for c in cells.columns.values()] == [
        c.to_pylist() for c in careful.columns.values()
    ]


@pytest.mark.parametrize(
    "data",
    [
        b'a"b,2\n',
        b'"a""b",2\n',
        b'"a\nb",2\n',
        b'"a,2\n',
        b"a\0,2\n",
        b"a\rb,2\n",
        b'"a" ,2\n',
        "\ufffd,2\n".encode(),
        b"\xef\xbb\xbf1,2\n",
    ],
)
def test_odd_blocks_do_not(data: bytes) -> None:
    assert not is_regular(data, ",")


def test_odd_lines_keep_their_numbers() -> None:
    data = b'1,2\n\n3\n4,"5\n6"\n"7,8\n9,10,11\n12,13,\n14,15\n'
    cells, odd, rejects = _parser().parse(Block(1, data, 0))
    late, _, more = _parser().finish()
    assert cells.line.tolist() == [1, 4]
    assert cells.columns[1].to_pylist() == ["2", "5\n6"]
    assert [line for line, _ in odd] == [3]
    assert (rejects, len(late), more) == ([], 0, [])


def test_a_stray_quote_costs_its_own_line_only() -> None:
    parser = _parser()
    parser.parse(Block(1, b'1,2\n"7,8\n9,10\n', 0))
    cells, _, rejects = parser.finish()
    assert [(r.line, r.text) for r in rejects] == [(2, '"7,8')]
    assert cells.line.tolist() == [3]


def test_a_stray_quote_far_from_the_end() -> None:
    lines = b'1,2\n"7,8\n' + b"9,10\n" * 60
    cells, _, rejects = _parser().parse(Block(1, lines, 0))
    assert [r.line for r in rejects] == [2]
    assert len(cells) == 61


def test_a_quoted_cell_over_two_blocks() -> None:
    parser = _parser()
    first, _, _ = parser.parse(Block(1, b'1,2\n3,"4\n', 0))
    second, _, _ = parser.parse(Block(3, b'5"\n6,7\n', 0))
    assert first.line.tolist() == [1]
    assert second.line.tolist() == [2, 4]
    assert second.columns[1].to_pylist() == ["4\n5", "7"]


def test_records_of_a_text() -> None:
    assert records(b'a;b\n\n"c;d";e', ";") == [(1, ["a", "b"]), (2, [""]), (3, ["c;d", "e"])]
