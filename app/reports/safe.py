"""Names that come from outside, made harmless for a cell or a line."""

from __future__ import annotations

import re

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]|[\ud800-\udfff]")
_DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f]")


def line(text: str) -> str:
    """`text` on one line, without control characters or marks that turn the writing direction."""
    return _DIRECTION.sub("", _CONTROL.sub(" ", text.replace("\n", " ").replace("\t", " "))).strip()


def cell(text: str) -> str:
    """`text` for a spreadsheet: one that would be taken for a formula is quoted."""
    return f"'{text}" if text.startswith(_FORMULA) else text
