"""Texts of the pages in English and Chinese.

A sentence is its own key and needs a translation into Chinese only; the values of an enumeration have keys
such as ``class:cooling`` and need both. Terms come from :mod:`app.domain.terms`. Errors and notes of the
layers below are in English; the pages translate them by the patterns of ``messages.zh.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

from app.domain import terms

LANGUAGES = {"en": "English", "zh": "中文"}
"""Language code -> its own name."""

_CODE = re.compile(r"^[a-z_]+:(?=\S)")
_NAME = re.compile(r"\{(\w+)\}")
_LOCALE = Path(__file__).parent / "locale"


@cache
def texts(language: str) -> Mapping[str, str]:
    """Key -> text of the language."""
    found: dict[str, str] = yaml.safe_load((_LOCALE / f"{language}.yaml").read_text(encoding="utf-8"))
    families = terms.LANGUAGES[language].items()
    return {f"{family}:{code}": text for family, known in families for code, text in known.items()} | found


class Words:
    """Translates into one language; texts without a translation stay English, codes stay codes."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = texts(language)

    def __call__(self, english: str, **values: object) -> str:
        """The text in this language, with `values` put in."""
        text = self.text(english)
        return text.format(**values) if values else text

    def text(self, english: str) -> str:
        """The text in this language, with its {names}; a text without a translation stays English."""
        found = self._texts.get(english)
        return _CODE.sub("", english) if found is None else found

    def message(self, sentence: str) -> str:
        """The translation of a message of the layers below; the message itself where no pattern fits.

        Its subject may precede it, as in ``file.csv:3: not a number``.
        """
        for pattern, text in patterns(self.language):
            match = pattern.fullmatch(sentence)
            if match:
                return text.format(**{name: self.message(value) for name, value in match.groupdict().items()})
        about, _, rest = sentence.partition(": ")
        translated = self.message(rest) if rest else rest
        return sentence if translated == rest else f"{about}{self(': ')}{translated}"


@cache
def patterns(language: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Messages of the layers below as patterns, each with its text in the language."""
    file = _LOCALE / f"messages.{language}.yaml"
    known: dict[str, str] = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else {}
    return tuple((_pattern(english), text) for english, text in known.items())


def _pattern(english: str) -> re.Pattern[str]:
    """The pattern of a message, with a group for each of its {names}."""
    parts = _NAME.split(english)
    names = [f"(?P<{part}>.+?)" if i % 2 else re.escape(part) for i, part in enumerate(parts)]
    return re.compile("".join(names), re.DOTALL)


def chosen(asked: str | None, kept: str | None, accepted: str) -> str:
    """The language of a page: from the address, the cookie, or the preference of the browser."""
    for wish in (asked, kept):
        if wish in LANGUAGES:
            return wish
    first = accepted.split(",")[0].strip().lower()
    return "zh" if first.startswith("zh") else "en"
