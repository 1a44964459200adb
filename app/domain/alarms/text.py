"""Texts of alarm notifications, in Chinese and English."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from app.domain import report_route, terms
from app.domain.alarms.notification import Language, What
from app.domain.figure import percentage, utc_offset

Payload = Mapping[str, Any]
"""An alarm as it stands in ``alarms.document`` and in the outbox."""

_HEAD: dict[What, tuple[str, str]] = {
    What.FIRE: ("告警", "ALARM"),
    What.ESCALATE: ("告警升级", "ESCALATED"),
    What.EASE: ("告警降级", "DOWNGRADED"),
    What.RESOLVE: ("已恢复", "RESOLVED"),
    What.HANDOVER: ("告警合并", "MERGED"),
    What.REPEAT: ("告警未恢复", "STILL ACTIVE"),
    What.WATCHDOG: ("心跳", "HEARTBEAT"),
    What.TEST: ("测试", "TEST"),
}
_UNIT = {"temperature_c": " °C", "evaluation_age_s": " s", "edge_silent_s": " s"}
_LABEL: dict[str, tuple[str, str]] = {
    "value": ("数值", "value"),
    "threshold": ("阈值", "threshold"),
    "limit": ("限值", "limit"),
    "window": ("统计时段", "window"),
    "since": ("开始时间", "since"),
    "until": ("恢复时间", "until"),
    "drift": ("能效劣化", "drift"),
    "moved": ("主要原因", "main driver"),
    "meters": ("相关仪表", "meters"),
    "coverage": ("覆盖率", "coverage"),
    "board": ("看板", "board"),
    "runbook": ("处置手册", "runbook"),
    "note": ("说明", "note"),
}


def _pick(pair: tuple[str, str], lang: Language) -> str:
    return pair[0] if lang is Language.ZH else pair[1]


def one_line(text: str) -> str:
    """Text without line breaks and other control characters: nothing in a name splits a line or header."""
    return "".join(c if c.isprintable() else " " for c in text)


def number(indicator: str, value: float | None, lang: Language) -> str:
    """A figure with its unit."""
    if value is None:
        return "-"
    if indicator.endswith("_ratio"):
        return _percent(value, lang)
    if indicator.endswith("_percent"):
        return _percent(value / 100, lang)
    digits = 3 if "pue" in indicator or indicator == "power_ratio_jump" else 1
    return f"{value:.{digits}f}{_UNIT.get(indicator, '')}"


def _percent(ratio: float, lang: Language) -> str:
    value, digits = percentage(ratio)
    return f"{value:.{digits}f}{_pick(('%', ' %'), lang)}"


def _term(family: str, code: str, lang: Language) -> str:
    """A term within a line: lower case in English, unless it is an abbreviation."""
    found = terms.term(lang.value, family, code)
    return found if found[:2].isupper() else found[:1].lower() + found[1:]


def _brackets(text: str, lang: Language) -> str:
    return _pick((f"（{text}）", f" ({text})"), lang)


def title(what: What, alarm: Payload, lang: Language) -> str:
    """One line: event, severity, site, equipment, figure."""
    if what is What.REPORT:
        return one_line(report_route.title(alarm, zh=lang is Language.ZH))
    head = _pick(_HEAD[what], lang)
    if what in (What.WATCHDOG, What.TEST):
        return f"[Wattline] {head}"
    severity = _term("severity", str(alarm["severity"]), lang)
    name = terms.term(lang.value, "measure", str(alarm["indicator"]))
    window = _brackets(_term("window", str(alarm["window"]), lang), lang) if alarm.get("window") else ""
    value = number(str(alarm["indicator"]), alarm.get("value"), lang)
    gap = "" if window.endswith("）") else " "
    where = " ".join(filter(None, [str(alarm["site"]), str(alarm.get("subject", ""))]))
    moved = _brackets(_term("class", str(alarm["moved"]), lang), lang) if alarm.get("moved") else ""
    return one_line(f"[Wattline] {head} {severity}{_colon(lang)}{where} {name}{window}{gap}{value}{moved}")


def _colon(lang: Language) -> str:
    return _pick(("：", ": "), lang)


def body(what: What, alarm: Payload, lang: Language) -> str:
    """The facts, one per line."""
    if what is What.REPORT:
        return "\n".join(map(one_line, report_route.facts(alarm, zh=lang is Language.ZH)))
    if what is What.WATCHDOG:
        return _pick(("Wattline 运行正常，指标计算未中断。", "Wattline is running and evaluating."), lang)
    if what is What.TEST:
        return _pick(("这是一条测试消息。", "This is a test message."), lang)
    return "\n".join(
        f"{_pick(_LABEL[key], lang)}{_colon(lang)}{one_line(text)}"
        for key, text in _facts(alarm, lang)
        if text
    )


def _facts(alarm: Payload, lang: Language) -> list[tuple[str, str]]:
    indicator = str(alarm["indicator"])
    links = alarm.get("links") or {}
    coverage = alarm.get("coverage_ratio")
    return [
        ("value", number(indicator, alarm.get("value"), lang)),
        ("threshold", number(indicator, alarm.get("threshold"), lang)),
        ("limit", _limit(alarm, lang)),
        ("window", _window(alarm, lang)),
        ("since", _local(alarm, "since")),
        ("until", _local(alarm, "until")),
        ("drift", drift_sentence(alarm, lang)),
        ("moved", _moved(alarm, lang)),
        ("meters", _pick(("、", ", "), lang).join(alarm.get("meters") or ())),
        ("coverage", "" if coverage is None else _percent(coverage, lang)),
        ("note", str(alarm.get("reason") or "")),
        ("board", str(links.get("board", ""))),
        ("runbook", str(links.get("runbook", ""))),
    ]


def _limit(alarm: Payload, lang: Language) -> str:
    limit = alarm.get("limit")
    profile = terms.term(lang.value, "profile", str(alarm.get("profile")))
    return "" if limit is None else f"{limit:.2f}{_brackets(profile, lang)}"


def _window(alarm: Payload, lang: Language) -> str:
    window = _term("window", str(alarm.get("window") or ""), lang)
    if not alarm.get("start"):
        return window
    to = _pick((" 至 ", " to "), lang)
    return window + _brackets(f"{_local(alarm, 'start')}{to}{_local(alarm, 'end')}", lang)


def _local(alarm: Payload, key: str) -> str:
    """An instant of the alarm in the site's time zone."""
    text = alarm.get(key)
    if not text:
        return ""
    zone = ZoneInfo(str(alarm.get("time_zone") or "UTC"))
    at = datetime.fromisoformat(str(text)).astimezone(zone)
    return f"{at:%Y-%m-%d %H:%M} {utc_offset(at)}"


def _moved(alarm: Payload, lang: Language) -> str:
    """The load class that drives the change, with its contribution."""
    moved = alarm.get("moved")
    if not moved:
        return ""
    part = (alarm.get("parts") or {}).get(moved)
    baseline, pue = alarm.get("baseline_pue"), alarm.get("window_pue")
    change = "" if part is None else f" {part:+.3f}"
    known = baseline is not None and pue is not None
    course = _brackets(f"PUE {baseline:.3f} → {pue:.3f}", lang) if known else ""
    return f"{_term('class', str(moved), lang)}{change}{course}"


def drift_sentence(alarm: Payload, lang: Language) -> str:
    """How the plant stands against its own baseline, in words; empty for alarms of another kind."""
    drift = alarm.get("drift")
    if not drift:
        return ""
    excess = _percent(drift["excess_ratio"], lang)
    named = drift.get("mostly") or ""
    mostly = _pick((f"，主要来自 {named}", f", mostly {named}"), lang) if named else ""
    said = _pick(
        (
            f"自 {drift['onset']} 起，非 IT 能耗比自身基线高 {excess}{mostly}",
            f"The plant uses {excess} more than its own baseline since {drift['onset']}{mostly}",
        ),
        lang,
    )
    return f"{said}{_weeks(drift.get('weeks_to_limit'), lang)}{_pick(('。', '.'), lang)}"


def _weeks(weeks: float | None, lang: Language) -> str:
    """When the PUE crosses its limit if the drift grows as it does."""
    if not weeks:
        return ""
    whole = max(round(weeks), 1)
    plural = "" if whole == 1 else "s"
    return _pick(
        (
            f"；按此趋势，约 {whole} 周后 PUE 超过限值",
            f"; at this rate the PUE crosses its limit in about {whole} week{plural}",
        ),
        lang,
    )


def gathered(items: list[tuple[What, Payload]], lang: Language) -> tuple[str, str]:
    """Title and body of a message about one or several alarms, in their order."""
    if len(items) == 1:
        what, alarm = items[0]
        return title(what, alarm, lang), body(what, alarm, lang)
    titles = [title(what, alarm, lang).removeprefix("[Wattline] ") for what, alarm in items]
    count = _pick((f"{len(items)} 条消息", f"{len(items)} messages"), lang)
    where = _pick(("、", ", "), lang).join(sorted({str(alarm.get("site", "")) for _, alarm in items} - {""}))
    first = one_line(f"[Wattline] {count}{_colon(lang)}{where}")
    details = [f"{line}\n{body(w, a, lang)}" for line, (w, a) in zip(titles, items, strict=True)]
    return first, "\n\n".join(["\n".join(titles), *details]) if len(items) <= _DETAILED else "\n".join(titles)


_DETAILED = 20
"""Messages about more alarms than this only list them."""
