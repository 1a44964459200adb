"""Numbers as exports write them: decimal commas, thousands marks, units and statuses behind the value.

A cell is a number, or says that nothing was measured ("No Data", "#VALUE!" ...), or is neither and is
then refused; nothing is ever taken for zero.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.domain.quantity import canonical_unit

NUMBER, MISSING, BAD = 0, 1, 2

_NOTHING = re.compile(
    r"""no.?data | data.?loss | n/?a | \#n/a.* | \#(value|ref|div/0|name|num|null)[!?] | null | none
    | nil | [-–—.*?]+ | error | err | calc.failed | bad(.input)? | i/o.timeout | no.good.data.*
    | pt.created | no.sample | shutdown | comm(unication)?.?(fail(ure|ed)?|loss|lost|error) | time-?out
    | offline | unavailable | unknown | missing | invalid | fault | not.available | no.value
    | no.reading | undefined
    | \{(?!ok)[a-z,]*\} | scan.off | \[-?\d+\].* | configure | intf.?shut
    | 无数据 | 無數據 | 無資料 | 数据丢失 | 資料遺失 | 缺失 | 缺测 | 离线 | 離線 | 通讯中断 | 通訊中斷
    | 故障 | 无效 | 無效 | 无 | 空""",
    re.IGNORECASE | re.VERBOSE,
)
"""Texts of building-management systems, historians and spreadsheets that mean: nothing was measured."""

_PLAIN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_PLAIN_NUMBER = re.compile(_PLAIN)
EXACT = r"^-?\d+\.\d+e0$"
"""A number of a spreadsheet's own, not a text: its point is the decimal mark whatever the texts have."""
GAPS = " \u00a0\u202f"
"""Blanks that group thousands, or stand between number and unit."""
_WITH_UNIT = re.compile(r"([+\-−(]*[\d.,'’ \u00a0\u202f]*\d[).,]*)\s*([^\d\s{}).,]*[²³23]?)\s*(?:\{ok\})?")


@dataclass(frozen=True, slots=True)
class NumberStyle:
    """Marks of the file's numbers, and the texts that mean nothing was measured."""

    decimal: str = "."
    thousands: str = ""
    no_value: frozenset[str] = frozenset()
    unit: str = ""
    """The only unit that may stand behind a number."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Parsed cells: values (NaN where there is none) and NUMBER, MISSING or BAD for each."""

    values: npt.NDArray[np.float64]
    state: npt.NDArray[np.int8]


def parse_numbers(cells: Any, style: NumberStyle) -> Numbers:
    """Cells (an Arrow string array) as numbers."""
    if style.decimal == "." and not style.no_value:
        whole = _cast_all(cells)
        if whole is not None:
            return Numbers(whole, np.zeros(len(whole), np.int8))
    return _cast_some(cells, style)


def _cast_all(cells: Any) -> npt.NDArray[np.float64] | None:
    """All cells at once, or None if one of them is not a plain finite number."""
    try:
        values: npt.NDArray[np.float64] = pc.cast(cells, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None
    return values if np.isfinite(values).all() else None


def _cast_some(cells: Any, style: NumberStyle) -> Numbers:
    text = pc.utf8_trim_whitespace(cells)
    given = pc.is_in(text, pa.array(sorted(style.no_value), pa.string()))
    if style.decimal == ",":
        swapped = pc.replace_substring(pc.replace_substring(text, ".", "x"), ",", ".")
        text = pc.if_else(pc.match_substring_regex(text, EXACT), text, swapped)
    plain = pc.and_(pc.match_substring_regex(text, _PLAIN), pc.invert(given))
    values = pc.cast(pc.if_else(plain, text, "0"), pa.float64()).to_numpy(zero_copy_only=False).copy()
    is_plain = plain.to_numpy(zero_copy_only=False)
    state = np.where(is_plain & np.isfinite(values), NUMBER, BAD).astype(np.int8)
    rest = np.flatnonzero(~is_plain)
    if len(rest):
        values[rest], state[rest] = _distinct(cells.take(pa.array(rest)), style)
    values[state != NUMBER] = np.nan
    return Numbers(values, state)


def _distinct(cells: Any, style: NumberStyle) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int8]]:
    coded = cells.dictionary_encode()
    parsed = [parse_number(text, style) for text in coded.dictionary.to_pylist()]
    codes = coded.indices.to_numpy(zero_copy_only=False)
    values = np.array([v for v, _ in parsed], np.float64)
    return values[codes], np.array([s for _, s in parsed], np.int8)[codes]


def parse_number(text: str, style: NumberStyle) -> tuple[float, int]:
    """(value, NUMBER), or (NaN, MISSING or BAD), of one cell."""
    text = text.strip()
    if not text or text in style.no_value or _NOTHING.fullmatch(text):
        return math.nan, MISSING
    plain = _without_marks(text, style)
    if plain is None:
        bare = _WITH_UNIT.fullmatch(text)
        is_fitting = bare is not None and (not bare[2] or known_unit(bare[2]) == style.unit)
        plain = _without_marks(bare[1].strip(), style) if bare and is_fitting else None
    if plain is None or not math.isfinite(float(plain)):
        return math.nan, BAD
    return float(plain), NUMBER


def known_unit(text: str | None) -> str | None:
    """A unit in the house's spelling, or None if the text is none that is known."""
    try:
        return canonical_unit(text) if text and text.strip() else None
    except KeyError:
        return None


_WRAPPED = re.compile(r'="([^"]*)"|\(([^()+-]*)\)|(?:−|(?=.*[-−]$))([^-−]*)[-−]?')
"""``="1234"`` of spreadsheets; (12.5), 12.5- and a typographic minus of accountants."""


def _without_marks(text: str, style: NumberStyle) -> str | None:
    """The number in Python's spelling, or None if its marks are not those of the style."""
    wrapped = _WRAPPED.fullmatch(text)
    if wrapped:
        negative = next((t for t in wrapped.groups()[1:] if t), None)
        text = wrapped[1] or f"-{(negative or '').strip()}"
    groups = f"(?:[{GAPS}'’]" + (f"|{re.escape(style.thousands)}" if style.thousands else "") + ")"
    decimal = re.escape(style.decimal)
    if re.fullmatch(rf"[+-]?[1-9]\d{{0,2}}(?:{groups}\d{{3}})+(?:{decimal}\d*)?", text):
        text = re.sub(groups, "", text)
    if style.decimal != ".":
        text = text.replace(".", "x").replace(style.decimal, ".")
    return text if _PLAIN_NUMBER.match(text) else None


def is_no_value(text: str) -> bool:
    """Whether the text is one of the usual ways of saying that nothing was measured."""
    bare = text.strip()
    return not bare or (not bare.isdecimal() and bool(_NOTHING.fullmatch(bare)))


_BARE = re.compile(
    rf"""\(?[+\-−]?(?=[\d.,])[\d.,'’{GAPS}]*\d[\d.,]*(?:[eE][+-]?\d+)?[-−]?\)?|="[+-]?[\d.,]*\d[\d.,]*\""""
)


def looks_like_number(text: str) -> bool:
    """Whether the text is a number under some choice of marks."""
    return bool(_BARE.fullmatch(text.strip()))


def looks_measured(text: str) -> bool:
    """Whether the text is a number under some choice of marks, or one with its unit behind it."""
    return _looks_measured(text) if len(text) <= _CELL_LENGTH else _looks_measured.__wrapped__(text)


_CELL_LENGTH = 100
"""Longer texts are no numbers, and their judgement is not kept."""


@lru_cache(maxsize=1 << 14)
def _looks_measured(text: str) -> bool:
    """Asked several times of every cell of a sample."""
    if looks_like_number(text):
        return True
    bare = _WITH_UNIT.fullmatch(text.strip())
    return bool(bare and (not bare[2] or known_unit(bare[2])) and looks_like_number(bare[1]))


def why_no_number(text: str, style: NumberStyle) -> str:
    """Why a cell that is no number in this style was refused; for people."""
    if not looks_measured(text):
        return "not a number"
    marks = f"decimal mark {style.decimal!r}, " + (
        f"thousands mark {style.thousands!r}" if style.thousands else "no thousands mark"
    )
    behind = "" if looks_like_number(text) or not style.unit else f", in {style.unit}"
    return f"not a number as this file writes them ({marks}{behind})"
