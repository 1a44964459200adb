"""The unit that a heading states: ``it_kw``, ``Energy (kWh)``, ``用电量/万度``, ``Total kVAh``.

A heading states a unit that is known, or one that is none of ours (kVAh, MMBtu, 10 kWh), or none. The second
is never passed over: whoever fills a point from such a column has to say what its numbers mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.domain.quantity import ENERGY, POWER, UNITS, canonical_unit

_BRACKETED = re.compile(r"[(\[（【<＜]\s*([^()\[\]（）【】<>＜＞]+?)\s*[)\]）】>＞]")
_GAPS = re.compile(r"[\s\u00a0·⋅∙•.*]+")
_WORDS = {
    "real energy in kilowatt-hours": "kwh",
    "kilowatt-hours": "kwh",
    "kilowatt hours": "kwh",
    "megawatt-hours": "mwh",
    "kilowatts": "kw",
    "cubic meters": "m3",
    "cubic metres": "m3",
}
_TAILS = (
    re.compile(r"(?<=[\u3400-\u9fff])([A-Za-z%°][A-Za-z0-9³·.]*)$"),
    re.compile(r"(?:^|[\s_./:：,，;；|-])([^\s_./:：,，;；|-]+)$"),
)
"""What stands behind Chinese characters, or behind the last separator: ``kWh``."""
_JOINED_TAIL = re.compile(r"((?<=[A-Za-z])[kKMG]Wh|(?<=[a-z])[kKMG]W)$")
"""Joined to the word before it: ``UtilKWh``, ``ChillerKW``."""
_CHINESE_TAIL = re.compile(r"(万千瓦时|千瓦时|兆瓦时|吉瓦时|万度|千瓦|兆瓦|立方米)$")
_SEPARATORS = re.compile(r"[\s_./:：,，;；|-]+")
_SURELY = re.compile(r"(btu|wh|therms?)$", re.IGNORECASE)
"""Ends of words that nothing but a unit has."""
_ONE_SIGN = frozenset(["度", "吨", "噸"])
"""Units of one sign: behind a separator only, since they end words as well (``温度``)."""
_SHORT = frozenset(["a", "c", "f", "k", "l", "j", "t", "w", "1", "ma", "ratio"])
"""Units that are letters of phases and outlets as well: in brackets, or behind a stroke only."""

_APPARENT = re.compile(
    r"(?:^|[^A-Za-z])([km]?va(?:r|h|rh)?)(?:$|[^A-Za-z])|(无功|視在|视在|無功)"
    r"|\b(reactive|apparent|blind|schein)(?=leistung|energie|arbeit|\b)",
    re.IGNORECASE,
)
_ELECTRIC = frozenset(["a", "ma", "ka", "v", "kv", "mv", "hz", "pf", "cosφ", "cos φ", "°", "h", "min", "s"])
_LIKE_A_UNIT = re.compile(
    r"""[x×*]?\s*\d+([.,]\d+)?\s*[x×*]?\s*[^\W\d]{1,6} | .*(wh|btu|therm|th|cal|joule|va|var|mj|gj|tj|ph|hp
    |rth|trh|rt|usrt|ton|gal|ft3|ccf|nm3|kg|lb)s? | .*[百千十万亿吨噸卡焦匹伏安赫度] | (百|千|十)?\s*kwh
    | m[jw]h? | [pnuµ][wj]h?
    | [a-z]{1,3}/[a-z]{1,3}""",
    re.IGNORECASE | re.VERBOSE,
)
_NO_UNITS = re.compile(
    r"""it|ups|pdu|dc|ac|hv|mv|lv|l[123n]*|n|total|sum|main|avg|min|max|mean|in|out|imp(ort)?|exp(ort)?|net|tou
    |[a-z]?\d+|ph(ase)?|raw|calc|est|new|old|bms|hvac|crac|crah|east|west|north|south|left|right|peak|flat|valley
    |delta|diff|abs|cum|day|month|year|hour|daily|hourly|end|start|utc|local|ok""",
    re.IGNORECASE | re.VERBOSE,
)
"""Words in brackets that tell columns apart."""


@dataclass(frozen=True, slots=True)
class Stated:
    """The unit that a heading states, in the house's spelling; or in `other` a unit that is none of ours."""

    unit: str | None = None
    other: str = ""


def stated_unit(name: str) -> Stated:
    """What a heading says about its unit."""
    brackets = _BRACKETED.findall(name)
    for text in reversed(brackets):
        unit = _known(text)
        if unit:
            return Stated(unit)
    bare = _BRACKETED.sub("", name).strip()
    tail = _tail(bare) or _within(bare)
    apparent = _APPARENT.search(name)
    if apparent:
        return Stated(other=next(g for g in apparent.groups() if g))
    if tail:
        return Stated(tail) if tail in UNITS else Stated(other=tail)
    electric = [t for t in brackets if t.lower() in _ELECTRIC]
    if electric:
        return Stated(other=electric[0])
    odd = [t for t in brackets[-1:] if _is_odd(t)]
    if not odd:
        odd = [w for w in _SEPARATORS.split(bare) if _LIKE_A_UNIT.fullmatch(w) and _SURELY.search(w)]
    return Stated(other=odd[0] if odd else "")


def _within(name: str) -> str | None:
    """The only unit of energy or power that stands among the words: ``MWh main``; mW as it stands."""
    words = _SEPARATORS.split(name)
    milli = [w for w in words if w in ("mW", "mWh", "mJ")]
    found = {u for w in words if len(w) > 1 for u in [_known(w)] if u and u not in _SHORT}
    electric = {u for u in found if UNITS[u][0] in (ENERGY, POWER)}
    return milli[0] if milli else electric.pop() if len(electric) == 1 else None


def _is_odd(text: str) -> bool:
    """Whether a text in brackets is a unit that is not known: it has the form of one, or is a short word."""
    if _NO_UNITS.fullmatch(text):
        return False
    is_word = len(text) <= 5 and text.isascii() and text.isalpha() and not text.isupper()
    return bool(_LIKE_A_UNIT.fullmatch(text)) or is_word


def _known(text: str) -> str | None:
    """The unit if it is one of ours, however it is spaced: ``万 kWh``, ``kW·h``."""
    text = _WORDS.get(text.lower(), text)
    for spelling in (text, _GAPS.sub("", text)):
        try:
            unit = canonical_unit(spelling)
        except KeyError:
            continue
        if unit != "1":
            return unit
    return None


def _tail(name: str) -> str | None:
    """The unit behind the name: after a separator, or directly behind Chinese characters."""
    found = _tail_match(name)
    return _known(found[1]) if found else None


def _tail_match(name: str) -> re.Match[str] | None:
    for pattern in (_CHINESE_TAIL, *_TAILS, _JOINED_TAIL):
        found = pattern.search(name)
        unit = _known(found[1]) if found else None
        if found and unit:
            is_short = unit in _SHORT and found[1] not in _ONE_SIGN
            by_stroke = name[: found.start(1)].endswith(("/", ":", "："))
            return None if is_short and not by_stroke else found
    return None


_PREAMBLE = re.compile(
    r"^\W*(?:计量单位|計量單位|单位|單位|units?|einheit|unité|unidad)\s*[:：=]\s*(.+?)\W*$", re.IGNORECASE
)


def unit_of_preamble(cells: list[str]) -> str:
    """The unit that a line above the table states for all of it (``单位：万kWh``); empty where none does."""
    for text, after in zip(cells, [*cells[1:], ""], strict=True):
        found = _PREAMBLE.match(text.strip())
        if found:
            return found[1].strip()
        if text.strip().rstrip(":：").lower() in ("单位", "單位", "计量单位", "unit", "units", "einheit"):
            return after.strip()
    return ""


def known_or_none(text: str) -> str | None:
    """The unit in the house's spelling, or None if it is none of ours."""
    return _known(text) if text.strip() else None


def bare_name(name: str) -> str:
    """The heading without the unit it states."""
    bare = _BRACKETED.sub("", name).strip()
    found = _tail_match(bare)
    return bare[: found.start(1)].rstrip(" _./:：,，;；|-") if found else bare
