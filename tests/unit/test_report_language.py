"""Languages of the reports: complete, without left-overs, and their ways of writing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import app.reports
from app.domain import terms
from app.domain.capacity import LoadState
from app.domain.data.alarm_rules import ALARM_RULES
from app.domain.drift_figure import Watched
from app.domain.energy import EventKind
from app.domain.limits import Outcome
from app.domain.quality.finding import FindingKind, Severity
from app.domain.quantity import ReadingKind, Role
from app.domain.savings import Result
from app.domain.site import InstitutionClass, Stage
from app.domain.targets import Standing
from app.errors import NotFound
from app.reports.canonical import changes
from app.reports.document import Alarm, Report, as_data, read
from app.reports.language import codes, language
from app.reports.layout import Table, shown
from app.reports.pages import layout_of
from app.web.format import share

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
    "drift_state": Watched,
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
    made |= {f"saving_{result}" for result in Result} | {"surcharge_whole", "surcharge_marginal"}
    made |= {f"drift_{state}" for state in Watched}
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
    assert (en.number(-1234567.891, 1), en.percent(0.99873)) == ("\u22121,234,567.9", "99.9 %")
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


def _with_alarms() -> Report:
    golden = Path(__file__).parent.parent / "golden/reports/more_cooling.json"
    report = read(json.loads(golden.read_text()))
    assert isinstance(report, Report)
    seen = (
        ("feed_load", 0.902, "feed_load_ratio"),
        ("pue_1h", 1.5034, "pue"),
        ("room_temperature", 27.26, "temperature_c"),
        ("room_humidity", 81.0, "humidity_percent"),
        ("earlier", 0.902, ""),
    )
    since = "2026-10-05T08:00:00+08:00"
    alarms = [
        Alarm(
            rule=rule,
            severity="warning",
            started_at=since,
            resolved_at=None,
            value=value,
            limit=None,
            cause="",
            watched=watched,
        )
        for rule, value, watched in seen
    ]
    return replace(report, alarms=alarms)


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("en", ["90.2 %", "1.503", "27.3 °C", "81.0 %", "0.90"]),
        ("zh", ["90.2%", "1.503", "27.3 °C", "81.0%", "0.90"]),
    ],
)
def test_the_figure_of_an_alarm_is_written_in_the_unit_of_its_indicator(
    code: str, written: list[str]
) -> None:
    tables = [
        block
        for section in layout_of(_with_alarms(), language(code)).sections
        for block in section.blocks
        if isinstance(block, Table) and block.id == "alarms"
    ]
    (table,) = tables
    assert [shown(language(code), table.columns[5], row[5]) for row in table.rows] == written


@pytest.mark.parametrize(
    ("ratio", "en", "zh"),
    [
        (1.0, "100 %", "100%"),
        (1 - 1e-12, "100 %", "100%"),
        (0.99999, "99.9 %", "99.9%"),
        (0.9, "90.0 %", "90.0%"),
        (1.234, "123.4 %", "123.4%"),
        (0.0, "0.0 %", "0.0%"),
        (-0.00001, "0.0 %", "0.0%"),
    ],
)
def test_a_share_has_one_decimal_a_hundred_none_and_less_is_never_all(ratio: float, en: str, zh: str) -> None:
    assert (language("en").percent(ratio), language("zh").percent(ratio)) == (en, zh)
    assert share(max(ratio, 0.0)) == en


def test_the_indicator_that_older_reports_do_not_name_is_no_change_of_a_figure() -> None:
    report = _with_alarms()
    older = as_data(replace(report, alarms=[replace(a, watched="") for a in report.alarms]))
    assert changes(older, as_data(report)) == []
    assert len(changes(older, as_data(replace(report, alarms=report.alarms[:-1])))) > 0
