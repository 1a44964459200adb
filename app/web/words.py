"""Texts of the pages in English and Chinese.

A sentence is its own key and needs a translation into Chinese only; the values of an enumeration have keys
such as ``class:cooling`` and need both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

LANGUAGES = {"en": "English", "zh": "中文"}
"""Language code -> its own name."""

_CODE = re.compile(r"^[a-z]+:(?=\S)")
_LOCALE = Path(__file__).parent / "locale"


@cache
def texts(language: str) -> Mapping[str, str]:
    """Key -> text of the language."""
    found: dict[str, str] = yaml.safe_load((_LOCALE / f"{language}.yaml").read_text(encoding="utf-8"))
    return found


class Words:
    """Translates into one language; texts without a translation stay English, codes stay codes."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = texts(language)

    def __call__(self, english: str, **values: object) -> str:
        """The text in this language, with `values` put in."""
        text = self._texts.get(english) or _CODE.sub("", english)
        return text.format(**values) if values else text


def chosen(asked: str | None, kept: str | None, accepted: str) -> str:
    """The language of a page: as the address asks, as chosen before, or as the browser prefers."""
    for wish in (asked, kept):
        if wish in LANGUAGES:
            return wish
    first = accepted.split(",")[0].strip().lower()
    return "zh" if first.startswith("zh") else "en"
