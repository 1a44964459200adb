"""How the plant indicators and the opportunities are worded: units, figures, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.domain import terms
from app.domain.figure import percentage

UNITS = {"percent": "%", "K": "K", "kW/ton": "kW/ton", "ratio": ""}
"""Unit of a plant indicator as it is written; empty: none."""

_PERCENT = {"en": " %", "zh": "%"}
_BY_ENDING = (
    ("_kwh", 0, " kWh"),
    ("_kw", 1, " kW"),
    ("_c", 1, " °C"),
    ("_k", 1, " K"),
    ("_h", 0, " h"),
    ("hours", 0, " h"),
    ("_per_ton", 2, " kW/ton"),
    ("_cop", 2, ""),
    ("_factor", 4, ""),
    ("_component", 4, ""),
    ("servers", 0, ""),
    ("intakes", 0, ""),
)

_WHOLE = {
    "en": {
        "role": "{name} (role `{code}`)",
        "equipment": "{name} (equipment `{code}`)",
        "stage": "input and output of a {name} (two meters with stage `{code}`, the output fed by the input)",
        "key": "`{code}` in the site file",
        "it": "IT meters",
    },
    "zh": {
        "role": "{name}（role `{code}`）",
        "equipment": "{name}（equipment `{code}`）",
        "stage": "{name} 的输入与输出（两台 stage 为 `{code}` 的仪表，输出由输入供电）",
        "key": "配置文件中的 `{code}`",
        "it": "IT 设备仪表",
    },
}
_JOINT = {"en": (", ", ": "), "zh": ("、", "：")}
_FAMILY = {"role": "class", "equipment": "equipment", "stage": "stage"}


def figure(language: str, name: str, value: float | None) -> str:
    """A figure with its unit, by the ending of its name; a dash where it is not known."""
    if value is None:
        return "–"
    if name.endswith("_ratio"):
        shown, digits = percentage(value)
        return f"{shown:,.{digits}f}{_PERCENT[language]}"
    if name.endswith("_percent"):
        return f"{value:,.1f}{_PERCENT[language]}"
    digits, unit = next(((d, u) for ending, d, u in _BY_ENDING if name.endswith(ending)), (3, ""))
    return f"{value + 0.0:,.{digits}f}{unit}"


def inputs(language: str, values: Mapping[str, float]) -> str:
    """What a figure was computed from, in one line."""
    joint, colon = _JOINT[language]
    named = (
        f"{terms.term(language, 'plant_input', name)}{colon}{figure(language, name, value)}"
        for name, value in values.items()
    )
    return joint.join(named)


def missing(language: str, code: str) -> str:
    """What is missing, in words: ``role:rack_inlet``, ``equipment:chiller``, ``key:...``, ``it``."""
    kind, _, name = code.partition(":")
    family = _FAMILY.get(kind)
    term = terms.term(language, family, name) if family else name
    return _WHOLE[language][kind].format(name=term, code=name)


def why(
    language: str,
    reason: str | None,
    lacks: Sequence[str],
    waits_for: Sequence[str],
    poorly_covered: Sequence[str],
) -> str:
    """Why there is no figure and what would help; empty where there is one."""
    if reason is None:
        return ""
    joint, colon = _JOINT[language]
    named = [*(missing(language, code) for code in lacks), *waits_for, *poorly_covered]
    text = terms.term(language, "plant_reason", reason)
    return f"{text}{colon}{joint.join(named)}" if named else text
