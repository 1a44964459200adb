"""Languages of the reports: complete, without left-overs, and their ways of writing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import app.reports
from app.domain import terms
from app.domain.capacity import LoadState
from app.domain.data.alarm_rules import ALARM_RULES
from app.domain.energy import EventKind
from app.domain.limits import Outcome
from app.domain.quality.finding import FindingKind, Severity
from app.domain.quantity import ReadingKind, Role
from app.domain.site import InstitutionClass, Stage
from app.domain.targets import Standing
from app.errors import NotFound
from app.reports.language import codes, language

SOURCES = "\n".join(p.read_text(encoding="utf-8") for p in Path(app.reports.__file__).parent.rglob("*.py"))
CODES: dict[str, type[StrEnum]] = {
    "institution_class": InstitutionClass,
    "finding": FindingKind,
    "event": EventKind,
    "class": Role,
    "reading": ReadingKind,
    "stage": Stage,
    "load_state": LoadState,
    "verdict": Outcome,
    "standing": Standing,
    "severity": Severity,
}


def paths(words: Any, at: str = "") -> Iterator[str]:
    if isinstance(words, dict):
        for key, value in words.items():
            yield from paths(value, f"{at}.{key}" if at else str(key))
    else:
        yield at


def places(words: Any) -> Iterator[tuple[str, frozenset[str]]]:
    for key, text in words["text"].items():
        yield key, frozenset(re.findall(r"\{(\w+)\}", text))


def test_every_language_has_the_same_words() -> None:
    assert set(codes()) >= {"en", "zh"}
    for code in codes():
        assert sorted(paths(language(code).words)) == sorted(paths(language("en").words)), code
        assert dict(places(language(code).words)) == dict(places(language("en").words)), code


@pytest.mark.parametrize("family", CODES)
def test_every_code_of_the_house_has_a_word(family: str) -> None:
    for code in codes():
        assert {one.value for one in CODES[family]} <= set(terms.LANGUAGES[code][family]), code


def test_every_built_in_rule_of_an_alarm_has_a_word() -> None:
    for code in codes():
        assert set(terms.LANGUAGES[code]["rule"]) == {rule.id for rule in ALARM_RULES}


@pytest.mark.parametrize("kind", ["text", "title", "column"])
def test_no_word_is_unused(kind: str) -> None:
    quoted = set(re.findall(r"[\"'](\w+)[\"']", SOURCES))
    made = {f"{a}_{b}" for a in ("day", "month") for b in ("pue", "energy")}
    made |= {
        "days",
        "months",
        "last_month",
        "last_year",
    }
    made |= {w for w in language("en").words[kind] if w.startswith(("method_", "signature_"))}
    assert [w for w in language("en").words[kind] if w not in quoted | made] == []


def test_no_family_of_terms_is_unused() -> None:
    used = set(re.findall(r"(?:term|known)\(\s*[\"'](\w+)[\"']", SOURCES))
    assert used - set(language("en").words["term"]) <= set(terms.LANGUAGES["en"])
    assert set(language("en").words["term"]) <= used
    assert not set(language("en").words["term"]) & set(terms.LANGUAGES["en"])


def test_numbers_and_days_are_written_as_the_language_does() -> None:
    zh, en = language("zh"), language("en")
    assert (en.number(-1234567.891, 1), en.percent(0.99873)) == ("\u22121,234,567.9", "99.87 %")
    assert (zh.day("2026-10-05"), en.day("2026-10-05")) == ("2026年10月5日", "5 Oct 2026")
    assert (zh.day("2026-10"), en.day("2026")) == ("2026年10月", "2026")
    assert en.instant("2026-10-05T07:30:00+08:00") == "5 Oct 2026 07:30"
    assert (zh.day("2026"), zh.short_day("2026-10-05"), zh.short_day("2026-10")) == (
        "2026年",
        "2026-10-05",
        "2026-10",
    )
    assert zh.instant("2026-10-05T07:30:00Z") == "2026-10-05 07:30 UTC"
    assert (en.percent(0.25, 0), zh.percent(0.25, 0)) == ("25 %", "25%")
    shanghai = ZoneInfo("Asia/Shanghai")
    assert zh.zoned("2026-11-29T19:06:11Z", shanghai) == "2026-11-30 03:06（UTC+8）"
    assert en.zoned("2026-11-29T19:06:11Z", shanghai) == "30 Nov 2026 03:06 (UTC+8)"
    assert (zh.currency("CNY"), en.currency("CNY"), zh.currency("XXX")) == ("元", "CNY", "XXX")
    assert en.number(None, 2) == "–"
    assert (en.number(-0.0004, 3), zh.percent(-0.00001, 2)) == ("0.000", "0.00%")
    assert en.term("profile", "our-own") == "our-own"


@pytest.mark.parametrize("code", codes())
def test_a_text_put_into_a_sentence_does_not_end_it_twice(code: str) -> None:
    for key in ("nothing_found", "nothing_to_compare"):
        assert not language(code).text(key).endswith((".", "。"))


def test_an_unknown_language_says_which_there_are() -> None:
    with pytest.raises(NotFound, match="there are en, zh"):
        language("xx")
