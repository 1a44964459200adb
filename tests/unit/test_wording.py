"""Wording: no phrase that was found stiff or wrong comes back, and nothing on a Chinese page is English."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.domain import figure, terms

ROOT = Path(__file__).parents[2]
ROOMS = ("app", "collectors", "grafana")
LOCALES = sorted(ROOT.glob("app/*/locale/*.yaml"))

ENGLISH = (
    r"believed\b|\bdear\b|hush|untruth|what moved|moved by|moved it|\bplain comparison|bare comparison|"
    r"cannot be decided|"
    r"no PUE can be said|not data centre|ask it\b|look at it|look again|not taken over|known before|"
    r"load of a feed|jump of the power|the year's end|nothing evaluated|within reach|reported beside|"
    r"known by\b|statement of method|load class that rose|crossed in|chance to end|is away\b|did not work|"
    r"report of the month|everything here|holds for this site|\bhand(ed)? out\b|quarter-hour"
)
"""Phrases of pages, reports and boards that have a better one (case does not count)."""
DOCSTRINGS = r"\bdear\b|\bhush(ed|es)?\b|\buntruths?\b|\bhand(s|ed)? out\b|\btold\b|\bwhom\b|\bbelieved?\b"
"""Literary words that public docstrings do without."""
DOCUMENTS = (
    r"\bdear\b|hush|untruth|\btold\b|\bbeliev(e|es|ed)\b|\bwhom\b|\bmend(s|ed|ing)?\b|\bwhoever\b|"
    r"\banybody\b|take[sn]? over|works? off|worked off|\banew\b|for good\b|comes? along|"
    r"\b(is|are|was) away\b|quarter-hour|quarter of an hour|PUE is said|can(not)? be said|what moved|"
    r"class that moved|plain comparison|\bin earnest\b|way of the data|set aside|"
    r"comes? again|went away|given up"
)
"""What documents and log messages say in plainer words (case does not count)."""
CHINESE = (
    "绿色数据中心[月年]|站点|块电表|接入电表|额外能耗|辅助能耗|设施总|总用电|IT 电量|(?<!非 )IT 能耗|"
    "阶段 PUE|期间值|余热利用|余热回用|表底|归零值|模拟量|"
    "尖峰|卡死|串扰|来电|出大于入|负余量|异常分钟|无响应|从未读到|漂移|处于活动|触发中|告警中|静默|经过|待定|重新查看|关账|结账|冻结|"
    "获知|插值|数据发现|另行列示|当地小时|直接比较|闲置容量|搁浅|突破月份|刻钟|剩余混合|"
    "自身最佳|单元号|等级 [123]|无法给出 PUE：no"
)
"""Words that the vocabulary has replaced."""
HALF_WIDTH = re.compile(r"[\u4e00-\u9fff](?:[,;:()]|\d* %)|[,;()][\u4e00-\u9fff]")
"""Half-width punctuation, or a space before per cent, in Chinese."""
UNITS = re.compile(r"kgCO2|m3/MWh|\bm3\b")


def leaves(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, at)
    else:
        yield at, str(value)


def texts(language: str) -> Iterator[tuple[str, str]]:
    """Every text of a language: terms, locale files, and the boards' own."""
    yield from leaves(terms.LANGUAGES[language], "terms")
    for file in LOCALES:
        if file.stem.split(".")[-1] == language:
            for key, text in leaves(yaml.safe_load(file.read_text(encoding="utf-8"))):
                yield f"{file.parent.parent.name}:{key}", text
    for file in sorted(ROOT.glob("grafana/boards/*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Text":
                constants = [a.value for a in node.args if isinstance(a, ast.Constant)]
                yield f"{file.name}:{node.lineno}", str(constants[language == "zh"])


def templates() -> Iterator[tuple[str, str]]:
    for file in sorted(ROOT.glob("app/web/templates/*.html")):
        for text in re.findall(r"\b_\(\s*[\"']([^\"']*)", file.read_text(encoding="utf-8")):
            yield file.name, text


def test_no_phrase_that_has_a_better_one_comes_back() -> None:
    found = re.compile(ENGLISH, re.IGNORECASE)
    assert [(at, text) for at, text in (*texts("en"), *templates()) if found.search(text)] == []


def test_no_replaced_word_comes_back_in_chinese() -> None:
    found = re.compile(CHINESE)
    assert [(at, text) for at, text in texts("zh") if found.search(text)] == []


def test_chinese_has_full_width_punctuation_and_per_cent_without_a_space() -> None:
    assert [(at, text) for at, text in texts("zh") if HALF_WIDTH.search(text)] == []


@pytest.mark.parametrize("language", sorted(terms.LANGUAGES))
def test_units_are_written_with_their_signs(language: str) -> None:
    assert [(at, text) for at, text in texts(language) if UNITS.search(text)] == []


def test_no_sentence_is_left_in_english_in_chinese() -> None:
    """A text of two words of lower-case letters is a sentence, not a name such as GB 40879 or SHA-256."""
    sentence = re.compile(r"(?:^|[^\w{}./:-])[a-z]{2,} [a-z]{2,}")
    assert [
        (at, t) for at, t in texts("zh") if t.isascii() and sentence.search(re.sub(r"{\w+}", "", t))
    ] == []


def test_every_term_has_every_language() -> None:
    english = {family: set(known) for family, known in terms.LANGUAGES["en"].items()}
    for language, families in terms.LANGUAGES.items():
        assert {family: set(known) for family, known in families.items()} == english, language
        assert not [at for at, text in leaves(families) if not text.strip()], language


def test_no_two_codes_of_a_family_have_the_same_name() -> None:
    for language, families in terms.LANGUAGES.items():
        for family, known in families.items():
            repeated = {n for n in known.values() if list(known.values()).count(n) > 1}
            assert repeated <= {terms.term(language, "window", "ytd")}, (language, family)


def public_docstrings() -> Iterator[tuple[str, str]]:
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
                if isinstance(node, kinds) and not getattr(node, "name", "").startswith("_"):
                    yield (
                        f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}",
                        ast.get_docstring(node) or "",
                    )


def test_public_docstrings_are_plain() -> None:
    found = re.compile(DOCSTRINGS)
    assert [(at, m[0]) for at, text in public_docstrings() if (m := found.search(text))] == []


def documents() -> Iterator[tuple[str, str]]:
    """Lines of the documents that people read first; names of tests and of files are no text."""
    names = ("*.md", "collectors/*.md", "grafana/*.md", "docs/*.md", "docs/how-to/*.md")
    for file in sorted(file for name in names for file in ROOT.glob(name) if file.name != "CHANGELOG.md"):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            yield f"{file.relative_to(ROOT)}:{number}", re.sub(r"`[^`]*`|\]\([^)]*\)", "", line)


def logged() -> Iterator[tuple[str, str]]:
    """Messages that are logged."""
    levels = {"debug", "info", "warning", "error", "exception", "critical"}
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                if node.func.attr in levels and node.args:
                    for text in ast.walk(node.args[0]):
                        if isinstance(text, ast.Constant) and isinstance(text.value, str):
                            yield f"{file.relative_to(ROOT)}:{node.lineno}", text.value


@pytest.mark.parametrize("source", [documents, logged])
def test_documents_and_log_messages_are_plain(source: Callable[[], Iterator[tuple[str, str]]]) -> None:
    found, texts = re.compile(DOCUMENTS, re.IGNORECASE), list(source())
    assert len(texts) > 40
    assert [(at, m[0]) for at, text in texts if (m := found.search(text))] == []


@pytest.mark.parametrize(
    ("uncertainty", "decimals"),
    [(0.00644, 3), (0.021, 2), (0.012, 3), (0.0003, 4), (1e-9, 4), (0.3, 2), (0.0, 3), (None, 3)],
)
def test_digits_end_where_the_uncertainty_begins(uncertainty: float | None, decimals: int) -> None:
    assert figure.decimals(uncertainty) == decimals
