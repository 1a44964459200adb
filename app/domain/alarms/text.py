"""What an alarm says to people, in Chinese and English."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from app.domain import report_route
from app.domain.alarms.notification import Language, What

Payload = Mapping[str, Any]
"""An alarm as it stands in ``alarms.document`` and in the outbox."""

_HEAD: dict[What, tuple[str, str]] = {
    What.FIRE: ("告警", "ALARM"),
    What.ESCALATE: ("告警升级", "WORSE"),
    What.EASE: ("告警缓和", "EASED"),
    What.RESOLVE: ("已恢复", "RESOLVED"),
    What.HANDOVER: ("告警合并", "HANDED OVER"),
    What.REPEAT: ("告警持续", "STILL FIRING"),
    What.WATCHDOG: ("心跳", "WATCHDOG"),
    What.TEST: ("测试", "TEST"),
}
_SEVERITY = {"warning": ("警告", "warning"), "critical": ("严重", "critical")}
_CLASS = {
    "cooling": ("制冷", "cooling"),
    "power_distribution": ("配电", "power distribution"),
    "lighting": ("照明", "lighting"),
    "other": ("其他", "other overhead"),
    "unmetered": ("未分项计量", "unmetered remainder"),
    "it": ("IT 负载", "IT load"),
}
_INDICATOR: dict[str, tuple[str, str]] = {
    "pue": ("PUE", "PUE"),
    "power_ratio_jump": ("功率比突变", "jump of the power ratio"),
    "year_end_pue": ("年终 PUE 预测", "PUE projected for the year's end"),
    "overhead_budget_used_ratio": ("非 IT 能耗预算使用率", "overhead budget used"),
    "it_load_ratio": ("IT 负载率", "IT load rate"),
    "feed_load_ratio": ("供电回路负载率", "load of the feed"),
    "temperature_c": ("温度", "temperature"),
    "humidity_percent": ("湿度", "humidity"),
    "meter_silent_intervals": ("电表无数据", "meter silent"),
    "coverage_ratio": ("数据覆盖率", "coverage of the data"),
    "serious_findings": ("严重数据质量问题", "serious findings about the data"),
    "spool_fill_ratio": ("采集缓存占用率", "spool filling"),
    "evaluation_age_s": ("指标未计算", "no evaluation"),
}
_PERCENT = frozenset(name for name in _INDICATOR if name.endswith("_ratio"))
_UNIT = {"temperature_c": " °C", "humidity_percent": " %", "evaluation_age_s": " s"}
_LABEL: dict[str, tuple[str, str]] = {
    "value": ("数值", "value"),
    "threshold": ("阈值", "threshold"),
    "limit": ("限值", "limit"),
    "window": ("窗口", "window"),
    "since": ("开始", "since"),
    "until": ("结束", "until"),
    "moved": ("变化来源", "what moved"),
    "meters": ("相关电表", "meters"),
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


def number(indicator: str, value: float | None) -> str:
    """A figure with its unit."""
    if value is None:
        return "-"
    if indicator in _PERCENT:
        return f"{value:.1%}"
    digits = 3 if "pue" in indicator or indicator == "power_ratio_jump" else 1
    return f"{value:.{digits}f}{_UNIT.get(indicator, '')}"


def title(what: What, alarm: Payload, lang: Language) -> str:
    """One line: how bad, where, what."""
    if what is What.REPORT:
        return one_line(report_route.title(alarm, zh=lang is Language.ZH))
    head = _pick(_HEAD[what], lang)
    if what in (What.WATCHDOG, What.TEST):
        return f"[Wattline] {head}"
    severity = _pick(_SEVERITY[str(alarm["severity"])], lang)
    name = _pick(_INDICATOR[str(alarm["indicator"])], lang)
    window = f" {alarm['window']}" if alarm.get("window") else ""
    value = number(str(alarm["indicator"]), alarm.get("value"))
    where = " ".join(filter(None, [str(alarm["site"]), str(alarm.get("subject", ""))]))
    moved = f" ({_class(str(alarm['moved']), lang)})" if alarm.get("moved") else ""
    return one_line(f"[Wattline] {head} {severity}: {where} {name}{window} {value}{moved}")


def _class(name: str, lang: Language) -> str:
    return _pick(_CLASS.get(name, (name, name)), lang)


def body(what: What, alarm: Payload, lang: Language) -> str:
    """The facts, one a line."""
    if what is What.REPORT:
        return "\n".join(map(one_line, report_route.facts(alarm, zh=lang is Language.ZH)))
    if what is What.WATCHDOG:
        return _pick(("Wattline 运行正常，指标计算未中断。", "Wattline runs and evaluates."), lang)
    if what is What.TEST:
        return _pick(("这是一条测试消息。", "This is a test message."), lang)
    return "\n".join(
        f"{_pick(_LABEL[key], lang)}: {one_line(text)}" for key, text in _facts(alarm, lang) if text
    )


def _facts(alarm: Payload, lang: Language) -> list[tuple[str, str]]:
    indicator = str(alarm["indicator"])
    links = alarm.get("links") or {}
    coverage = alarm.get("coverage_ratio")
    return [
        ("value", number(indicator, alarm.get("value"))),
        ("threshold", number(indicator, alarm.get("threshold"))),
        ("limit", _limit(alarm)),
        ("window", _window(alarm)),
        ("since", _local(alarm, "since")),
        ("until", _local(alarm, "until")),
        ("moved", _moved(alarm, lang)),
        ("meters", ", ".join(alarm.get("meters") or ())),
        ("coverage", "" if coverage is None else f"{coverage:.1%}"),
        ("note", str(alarm.get("reason") or "")),
        ("board", str(links.get("board", ""))),
        ("runbook", str(links.get("runbook", ""))),
    ]


def _limit(alarm: Payload) -> str:
    limit = alarm.get("limit")
    return "" if limit is None else f"{limit:g} ({alarm.get('profile')})"


def _window(alarm: Payload) -> str:
    if not alarm.get("start"):
        return str(alarm.get("window") or "")
    return f"{alarm['window']} ({_local(alarm, 'start')} .. {_local(alarm, 'end')})"


def _local(alarm: Payload, key: str) -> str:
    """An instant of the alarm on the site's own clock."""
    text = alarm.get(key)
    if not text:
        return ""
    zone = ZoneInfo(str(alarm.get("time_zone") or "UTC"))
    return datetime.fromisoformat(str(text)).astimezone(zone).strftime("%Y-%m-%d %H:%M %z")


def _moved(alarm: Payload, lang: Language) -> str:
    """The load class that moved, with its part of the change."""
    moved = alarm.get("moved")
    if not moved:
        return ""
    part = (alarm.get("parts") or {}).get(moved)
    baseline, pue = alarm.get("baseline_pue"), alarm.get("window_pue")
    change = "" if part is None else f" {part:+.3f}"
    course = "" if baseline is None or pue is None else f" (PUE {baseline:.3f} -> {pue:.3f})"
    return f"{_class(str(moved), lang)}{change}{course}"


def gathered(items: list[tuple[What, Payload]], lang: Language) -> tuple[str, str]:
    """Title and body of a message about one or several alarms, in their order."""
    if len(items) == 1:
        what, alarm = items[0]
        return title(what, alarm, lang), body(what, alarm, lang)
    titles = [title(what, alarm, lang).removeprefix("[Wattline] ") for what, alarm in items]
    count = _pick((f"{len(items)} 条告警", f"{len(items)} messages"), lang)
    where = ", ".join(sorted({str(alarm.get("site", "")) for _, alarm in items} - {""}))
    first = one_line(f"[Wattline] {count}: {where}")
    details = [f"{line}\n{body(w, a, lang)}" for line, (w, a) in zip(titles, items, strict=True)]
    return first, "\n\n".join(["\n".join(titles), *details]) if len(items) <= _DETAILED else "\n".join(titles)


_DETAILED = 20
"""Messages about more alarms than this only list them."""
