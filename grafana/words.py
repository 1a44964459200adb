"""Words of the boards in both languages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Lang(StrEnum):
    """Language of a board."""

    EN = "en"
    ZH = "zh"


class Text(NamedTuple):
    """The same words in both languages."""

    en: str
    zh: str

    def in_(self, lang: Lang) -> str:
        """The words in one language."""
        return self.zh if lang is Lang.ZH else self.en


NO_DATA = Text("No data yet", "暂无数据")
GREEN, AMBER, RED, BLUE, GREY = "green", "orange", "red", "blue", "#8e8e8e"

CLASSES: Mapping[str, tuple[Text, str]] = {
    "facility": (Text("Facility", "设施总能耗"), "#5794f2"),
    "it": (Text("IT", "IT 设备"), "#37872d"),
    "cooling": (Text("Cooling", "制冷"), "#3fb5c9"),
    "power_distribution": (Text("Power distribution", "供配电损耗"), "#e0b400"),
    "lighting": (Text("Lighting", "照明"), "#b877d9"),
    "other": (Text("Other", "其他"), "#8e8e8e"),
    "unmetered": (Text("Unmetered", "未计量"), "#c4162a"),
    "generator": (Text("Generator", "柴油发电"), "#a16a4f"),
    "renewable": (Text("Renewable", "可再生"), "#96d98d"),
    "non_dc": (Text("Not data centre", "非数据中心"), "#c0c0c0"),
    "heat_reuse": (Text("Reused heat", "余热回收"), "#ff9830"),
    "heat_removed": (Text("Heat removed", "移除热量"), "#6ed0e0"),
}
"""Load classes with the names and colours that they have on every board."""

STATES: Mapping[str, tuple[Text, str]] = {
    "pass": (Text("pass", "达标"), GREEN),
    "fail": (Text("fail", "超标"), RED),
    "indeterminate": (Text("indeterminate", "无法判定"), AMBER),
    "balanced": (Text("balanced", "平衡"), GREEN),
    "remainder": (Text("losses or unmetered loads", "损耗或未计量负荷"), BLUE),
    "negative": (Text("wrong: more out than in", "错误:出大于入"), RED),
    "unknown": (Text("unknown", "未知"), GREY),
    "low": (Text("low", "偏低"), BLUE),
    "normal": (Text("normal", "正常"), GREEN),
    "tight": (Text("tight", "紧张"), AMBER),
    "over": (Text("over", "超限"), RED),
    "heard": (Text("heard", "正常"), GREEN),
    "late": (Text("late", "延迟"), AMBER),
    "silent": (Text("silent", "中断"), RED),
    "critical": (Text("critical", "严重"), RED),
    "warning": (Text("warning", "警告"), AMBER),
    "info": (Text("info", "提示"), BLUE),
    "open": (Text("open", "未处理"), AMBER),
    "cleared": (Text("cleared", "已消除"), GREEN),
    "firing": (Text("firing", "告警中"), RED),
    "recovering": (Text("recovering", "恢复中"), AMBER),
    "acknowledged": (Text("acknowledged", "已确认"), BLUE),
    "resolved": (Text("resolved", "已恢复"), GREEN),
    "closed": (Text("closed", "已结账"), GREEN),
    "provisional": (Text("provisional", "暂定"), BLUE),
    "not closed": (Text("not closed", "未结账"), GREY),
    "running": (Text("running", "进行中"), BLUE),
}
"""States that a query may answer, with their words and colours."""


WORDS: Mapping[str, Text] = {
    "utility": Text("utility", "市电"),
    "transformer": Text("transformer", "变压器"),
    "ups": Text("UPS", "UPS"),
    "pdu": Text("PDU", "PDU"),
    "rack": Text("rack", "机柜"),
    "load": Text("load", "负荷"),
    "room": Text("room", "机房"),
    "none": Text("none", "无"),
    "water": Text("Water", "用水"),
    "rollover": Text("register wrapped", "读数翻转"),
    "reset": Text("register reset", "读数重置"),
    "transient_zero": Text("zero after a reboot", "重启后瞬时归零"),
    "replaced": Text("meter replaced", "电表更换"),
    "replacement_suspected": Text("replacement suspected", "疑似换表"),
    "gap": Text("gap", "数据缺口"),
    "stuck": Text("stuck", "读数卡死"),
    "spike": Text("spike", "尖峰"),
    "bad_minutes": Text("bad minutes", "无效分钟"),
    "negative_power": Text("negative power", "负功率"),
    "cross_talk": Text("readings of another meter", "串表"),
    "conflicting_duplicate": Text("conflicting duplicate", "重复且冲突"),
    "unit_suspected": Text("unit suspected", "疑似单位错误"),
    "clock_drift": Text("clock drifts", "时钟漂移"),
    "interval_too_long": Text("read too rarely", "读取间隔过长"),
    "negative_remainder": Text("more out than in", "出大于入"),
    "maturity_level": Text("Operations maturity level", "运维成熟度等级"),
    "automation_share_percent": Text("Automated deployment, %", "自动化部署占比,%"),
    "racks_in_use": Text("Racks in use", "在用机柜数"),
    "pue_1h": Text("PUE over 1 hour", "1 小时 PUE"),
    "pue_24h": Text("PUE over 24 hours", "24 小时 PUE"),
    "pue_12mo": Text("PUE over 12 months", "12 个月 PUE"),
    "year_end_pue": Text("PUE at the year's end", "年末 PUE"),
    "overhead_budget": Text("Overhead budget", "额外能耗预算"),
    "power_ratio_jump": Text("Jump of the power ratio", "功率比突变"),
    "it_load_high": Text("IT load high", "IT 负载过高"),
    "it_load_low": Text("IT load low", "IT 负载过低"),
    "feed_load": Text("Load of a feed", "供电回路负载"),
    "temperature_high": Text("Temperature high", "温度过高"),
    "temperature_low": Text("Temperature low", "温度过低"),
    "humidity_high": Text("Humidity high", "湿度过高"),
    "humidity_low": Text("Humidity low", "湿度过低"),
    "meter_silent": Text("Meter silent", "电表无响应"),
    "coverage_low": Text("Coverage low", "覆盖率过低"),
    "findings_serious": Text("Serious findings", "严重数据问题"),
    "spool_filling": Text("Spool filling", "缓存积压"),
    "no_evaluation": Text("Nothing evaluated", "未能评估"),
    "15m": Text("15 minutes", "15 分钟"),
    "1h": Text("1 hour", "1 小时"),
    "24h": Text("24 hours", "24 小时"),
    "7d": Text("7 days", "7 天"),
    "30d": Text("30 days", "30 天"),
    "mtd": Text("this month", "本月"),
    "ytd": Text("this year", "本年"),
    "12mo": Text("12 months", "12 个月"),
}
"""Other words that a query may answer; they have no colour."""


def fill(text: str, lang: Lang) -> str:
    """`text` with every ``@word@`` replaced by the name of that load class or state."""
    names = {**CLASSES, **STATES}
    return re.sub(r"@(\w+)@", lambda found: names[found[1]][0].in_(lang), text)
