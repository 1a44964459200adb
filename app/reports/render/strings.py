"""The layout as strings: what a template on paper or on a screen shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from app.charts import report as charts
from app.reports.language import Language
from app.reports.layout import Block, Column, Facts, Layout, Picture, Prose, Table, Value, shown

Cell = Callable[[Language, Column, Value], str]
"""Writes the value of a cell."""

_CHART_WIDTH = 620


def of(layout: Layout, cell: Cell = shown) -> dict[str, Any]:
    """Everything on the pages as strings, for a template."""
    cover, language = layout.cover, layout.language
    return {
        "lang": str(language.words["tag"]),
        "title": cover.title,
        "author": cover.subject,
        "keywords": list(layout.keywords),
        "footer": layout.footer,
        "provisional": layout.provisional,
        "stamp": language.text("provisional"),
        "page": language.text("page", page="{page}", pages="{pages}"),
        "hash_short": f"SHA-256 {cover.sha256[:16]}…",
        "contents": language.text("contents"),
        "subject": cover.subject,
        "period": cover.period,
        "status": cover.status,
        "headline": cover.headline,
        "headline_note": cover.headline_note,
        "badges": [{"code": b.code, "text": b.text, "detail": b.detail} for b in cover.badges],
        "facts": _block(cover.facts, language, cell),
        "hash_about": cover.hash_about,
        "sha256": cover.sha256,
        "sections": [
            {"title": s.title, "id": s.id, "blocks": [_block(b, language, cell) for b in s.blocks]}
            for s in layout.sections
        ],
    }


def _block(block: Block, language: Language, cell: Cell) -> dict[str, Any]:
    if isinstance(block, Prose):
        return {"type": "prose", "text": block.text, "small": block.small}
    if isinstance(block, Facts):
        rows = [[c.head, shown(language, c, v)] for c, v in block.rows]
        return {"type": "facts", "rows": rows}
    if isinstance(block, Table):
        return _table(block, language, cell)
    if isinstance(block, Picture):
        drawn = charts.svg(block.chart, width=_CHART_WIDTH)
        return {"type": "picture", "title": block.title, "svg": drawn}
    return {"type": "signatures", "roles": list(block.roles), "line": block.line}


def _table(table: Table, language: Language, cell: Cell) -> dict[str, Any]:
    rows = table.rows if table.most_rows is None else table.rows[: table.most_rows]
    left_out = len(table.rows) - len(rows)
    texts = [[cell(language, c, v) for c, v in zip(table.columns, row, strict=True)] for row in rows]
    return {
        "type": "table",
        "title": table.title,
        "widths": _widths(table.columns, texts),
        "columns": [{"head": c.head, "number": c.is_number, "wide": c.wide} for c in table.columns],
        "rows": texts,
        "collapsed": table.collapsed,
        "together": _fits_together(texts),
        "marks": [*table.marks, *[""] * (len(rows) - len(table.marks))][: len(rows)],
        "total": table.total,
        "more": table.more.format(count=left_out) if left_out else "",
    }


def _fits_together(rows: Sequence[Sequence[str]]) -> bool:
    """Whether a table is so small that it need not break over two pages."""
    lengths = [_length(text) for row in rows for text in row]
    return len(rows) <= _MOST_TOGETHER and max(lengths, default=0) <= 100 and sum(lengths) <= 1600


_MOST_TOGETHER = 16
_LINE = ((10, 150), (7, 132), (0, 116))
"""Characters of a page's width, by the least number of columns; a Chinese one counts as two."""
_LONGEST = {True: 44, False: 22}
"""Most characters of a column of words before it wraps, by whether it is a wide one."""


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[float]:
    """Relative widths of the columns of a table that fills the page; none where it need not.

    Every column gets room for its longest word (a number is one); what is left goes to long texts.
    """
    texts = [[c.head, *(row[i] for row in rows)] for i, c in enumerate(columns)]
    room = next(room for count, room in _LINE if len(columns) >= count)
    least = [_least(c, own) for c, own in zip(columns, texts, strict=True)]
    wanted = [max(w, _wanted(c, own)) for w, c, own in zip(least, columns, texts, strict=True)]
    if sum(wanted) <= room * 0.7 and not any(c.wide for c in columns):
        return []
    more = sum(wanted) - sum(least)
    share = min(1.0, max(room - sum(least), 0.0) / more) if more > 0 else 0.0
    return [low + (want - low) * share for low, want in zip(least, wanted, strict=True)]


def _least(column: Column, texts: Sequence[str]) -> float:
    if column.is_number:
        words = [*column.head.split(" "), *texts[1:]]
    else:
        words = [part for text in texts for word in text.split(" ") for part in word.split("\u200b")]
    return min(max(map(_word_length, words), default=0), 24) * 1.06 + 2.5


def _word_length(word: str) -> int:
    """Length of what does not break: a Chinese word breaks anywhere."""
    return min(_length(word), 6) if any(ord(c) > 0x2E7F for c in word) else _length(word)


def _wanted(column: Column, texts: Sequence[str]) -> float:
    return min(max(map(_length, texts)), _LONGEST[column.wide]) + 2.5


def _length(text: str) -> int:
    """Width in characters."""
    return sum(2 if ord(c) > 0x2E7F else 0 if c == "\u200b" else 1 for c in text)
