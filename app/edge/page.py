"""The page of an edge: what it reads, what waits, when it last delivered."""

from __future__ import annotations

from datetime import datetime
from html import escape

from app import __version__
from app.domain.edge_message import BEAT_S, CLOCK_OFF_S
from app.edge.facts import Device, Facts
from app.edge.sender import SILENT_S

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #ddd; vertical-align: top;
  overflow-wrap: anywhere }
.bad { color: #a40000; font-weight: 600 }
@media (prefers-color-scheme: dark) {
  body { color: #eee; background: #161616 } td, th { border-color: #444 } .bad { color: #ff8a80 } }
"""

CHINESE = {
    "Edge": "边缘采集端",
    "Sites": "数据中心",
    "Centre": "中心",
    "Connection": "与中心的连接",
    "delivering": "正常上报",
    "Last answer": "中心最近应答",
    "{s} s ago": "{s} 秒前",
    "Last delivery": "最近上报时间",
    "never": "从未",
    "Readings waiting": "待上报读数",
    "oldest of {at}": "最早 {at}",
    "Spool used": "缓存占用",
    "Readings dropped": "丢弃读数",
    "Delivered since the start": "启动以来已上报",
    "{unknown} of undeclared points (waiting at the centre), {refused} rejected": (
        "其中未声明测点 {unknown} 条（在中心等待），拒收 {refused} 条"
    ),
    "Clock": "时钟偏差",
    "not measured yet": "尚未测得",
    "{s} s ahead": "快 {s} 秒",
    "{s} s behind": "慢 {s} 秒",
    "Definitions": "配置版本",
    "none yet": "尚无",
    "revision {n}": "第 {n} 版",
    "the centre has revision {n}": "中心为第 {n} 版",
    "Files set aside": "未能读取的文件",
    "Meters": "仪表",
    "Meter": "仪表",
    "State": "状态",
    "Last reading": "最近读数",
    "Problem": "问题",
    "Online": "在线",
    "Offline": "通信中断",
    "No meters yet.": "尚无仪表。",
    "as of {at}": "截至 {at}",
}


class _Words:
    """English or Chinese."""

    def __init__(self, language: str) -> None:
        self.is_chinese = language == "zh"

    def __call__(self, text: str, **values: object) -> str:
        found = CHINESE[text] if self.is_chinese else text
        return escape(found.format(**values) if values else found)


def language_of(accepted: str) -> str:
    """The language of a browser that prefers these."""
    return "zh" if accepted.strip().lower().startswith("zh") else "en"


def page(facts: Facts, now: datetime, language: str) -> str:
    """The page, as HTML."""
    words = _Words(language)
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td{" class=bad" if is_bad else ""}>{text}</td></tr>'
        for name, text, is_bad in _rows(facts, words)
    )
    title = f"{words('Edge')} {escape(facts.edge)}"
    return (
        f'<!doctype html><html lang="{"zh-CN" if words.is_chinese else "en"}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="refresh" content="10"><title>{title} · Wattline</title>'
        f"<style>{_STYLE}</style></head>"
        f"<body><h1>{title}</h1><p>{words('as of {at}', at=_moment(now))} · Wattline {__version__}</p>"
        f"<table>{rows}</table><h2>{words('Meters')}</h2>{_meters(facts.devices, words)}</body></html>"
    )


def _rows(facts: Facts, words: _Words) -> list[tuple[str, str, bool]]:
    done = facts.delivery
    delivered = words(
        "{unknown} of undeclared points (waiting at the centre), {refused} rejected",
        unknown=done.unknown,
        refused=done.refused,
    )
    oldest = f", {words('oldest of {at}', at=_moment(facts.oldest_at))}" if facts.oldest_at else ""
    dropped = ", ".join(f"{escape(reason)} {count}" for reason, count in facts.dropped.items()) or "0"
    return [
        (words("Sites"), escape(", ".join(facts.sites)) or "–", False),
        (words("Centre"), escape(facts.centre), False),
        (words("Connection"), escape(facts.problem) or words("delivering"), bool(facts.problem)),
        (words("Last answer"), *_heard(facts.heard_ago_s, words)),
        (words("Last delivery"), _moment(done.last_at) or words("never"), False),
        (words("Readings waiting"), f"{facts.waiting}{oldest}", False),
        (words("Spool used"), f"{facts.fill_ratio:.1%}", facts.fill_ratio >= 0.5),
        (words("Readings dropped"), dropped, bool(facts.dropped)),
        (words("Delivered since the start"), f"{done.delivered}; {delivered}", bool(done.refused)),
        (words("Clock"), *_clock(facts.offset_s, words)),
        (words("Definitions"), *_definitions(facts, words)),
        (words("Files set aside"), str(facts.files_set_aside), facts.files_set_aside > 0),
    ]


def _heard(ago_s: float | None, words: _Words) -> tuple[str, bool]:
    if ago_s is None:
        return words("never"), False
    return words("{s} s ago", s=f"{ago_s:.0f}"), ago_s > BEAT_S + SILENT_S


def _clock(offset_s: float | None, words: _Words) -> tuple[str, bool]:
    if offset_s is None:
        return words("not measured yet"), False
    text = "{s} s ahead" if offset_s >= 0 else "{s} s behind"
    return words(text, s=f"{abs(offset_s):.1f}"), abs(offset_s) > CLOCK_OFF_S


def _definitions(facts: Facts, words: _Words) -> tuple[str, bool]:
    own = words("revision {n}", n=facts.revision) if facts.revision else words("none yet")
    newest = facts.delivery.revision
    is_older = bool(newest) and newest != facts.revision
    if is_older:
        own += f"; {words('the centre has revision {n}', n=newest)}"
    problem = f": {escape(facts.definitions_problem)}" if facts.definitions_problem else ""
    return own + problem, is_older or bool(problem)


def _meters(devices: tuple[Device, ...], words: _Words) -> str:
    if not devices:
        return f"<p>{words('No meters yet.')}</p>"
    names = ("Meter", "State", "Last reading", "Problem")
    head = "".join(f'<th scope="col">{words(name)}</th>' for name in names)
    ordered = sorted(devices, key=lambda d: (d.is_up, d.site, d.name))
    return f"<table><tr>{head}</tr>{''.join(_meter(d, words) for d in ordered)}</table>"


def _meter(device: Device, words: _Words) -> str:
    state = words("Online") if device.is_up else f"<span class=bad>{words('Offline')}</span>"
    cells = (f"{escape(device.site)} / {escape(device.name)}", state, _moment(device.last_at))
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in (*cells, escape(device.problem))) + "</tr>"


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else ""
