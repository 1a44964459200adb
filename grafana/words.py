"""Texts of the boards in both languages; terms come from :mod:`app.domain.terms`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from app.domain import terms
from app.domain.quantity import OVERHEAD_ROLES


class Lang(StrEnum):
    """Language of a board."""

    EN = "en"
    ZH = "zh"


class Text(NamedTuple):
    """A text in both languages."""

    en: str
    zh: str

    def in_(self, lang: Lang) -> str:
        """The text in one language."""
        return self.zh if lang is Lang.ZH else self.en


NO_DATA = Text("No data yet", "暂无数据")
GREEN, AMBER, RED, BLUE, GREY = "green", "orange", "red", "blue", "#8e8e8e"


def term(family: str, code: str) -> Text:
    """A term that pages and reports show as well, in both languages."""
    return Text(*(terms.term(lang.value, family, code) for lang in Lang))


def _coloured(family: str, colors: Mapping[str, str]) -> dict[str, tuple[Text, str]]:
    return {code: (term(family, code), color) for code, color in colors.items()}


OVERHEAD = tuple(role.value for role in OVERHEAD_ROLES)
"""Load classes of the overhead, in the order in which boards show them."""

CLASSES: Mapping[str, tuple[Text, str]] = _coloured(
    "class",
    {
        "facility": "#5794f2",
        "it": "#37872d",
        "cooling": "#3fb5c9",
        "power_distribution": "#e0b400",
        "lighting": "#b877d9",
        "other": "#8e8e8e",
        "unmetered": "#c4162a",
        "generator": "#a16a4f",
        "renewable": "#96d98d",
        "non_dc": "#c0c0c0",
        "heat_reuse": "#ff9830",
        "heat_removed": "#6ed0e0",
    },
)
"""Load classes with the names and colours that they have on every board."""

STATES: Mapping[str, tuple[Text, str]] = {
    **_coloured("verdict", {"pass": GREEN, "fail": RED, "indeterminate": AMBER}),
    **_coloured("balance", {"balanced": GREEN, "remainder": BLUE, "negative": RED, "unknown": GREY}),
    **_coloured("load_state", {"low": BLUE, "normal": GREEN, "tight": AMBER, "over": RED}),
    "heard": (term("link", "fresh"), GREEN),
    **_coloured("link", {"late": AMBER, "silent": RED}),
    **_coloured("severity", {"critical": RED, "error": RED, "warning": AMBER, "info": BLUE}),
    **_coloured("finding_state", {"open": AMBER, "cleared": GREEN}),
    **_coloured("alarm", {"firing": RED, "recovering": AMBER, "acknowledged": BLUE, "resolved": GREEN}),
    **_coloured("report_state", {"closed": GREEN, "provisional": BLUE, "not closed": GREY, "running": BLUE}),
}
"""States that a query may answer, with their names and colours."""

WORDS: Mapping[str, Text] = {
    code: term(family, code)
    for family in ("stage", "finding", "indicator", "rule", "window", "profile")
    for code in terms.LANGUAGES["en"][family]
    if code not in CLASSES
} | {"room": Text("Room", "机房"), "none": term("class", "none"), "water": term("class", "water")}
"""Other codes that a query may answer; they have no colour."""


def _case(family: str, column: str, lang: Lang) -> str:
    known = ((code, term(family, code).in_(lang)) for code in terms.LANGUAGES["en"][family])
    whens = " ".join(f"WHEN '{code}' THEN '{name.replace(chr(39), chr(39) * 2)}'" for code, name in known)
    return f"CASE {column} {whens} ELSE {column} END"


def each_class(text: str) -> str:
    """`text` with ``<<separator|template>>`` written once for every load class of the overhead.

    ``#`` stands for the class: ``<<, |sum(#_kwh) AS #>>``.
    """
    return re.sub(
        r"<<([^|<>]*)\|([^<>]+)>>",
        lambda found: found[1].join(found[2].replace("#", c) for c in OVERHEAD),
        text,
    )


def fill(text: str, lang: Lang) -> str:
    """`text` with every ``@word@`` replaced by the name of that load class or state.

    ``@family:column@`` stands for SQL that gives a column's codes as terms of that family.
    """
    names = {**CLASSES, **STATES}
    text = re.sub(r"@(\w+):(\w+)@", lambda found: _case(found[1], found[2], lang), text)
    return re.sub(r"@(\w+)@", lambda found: names[found[1]][0].in_(lang), text)
