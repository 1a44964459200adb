"""How the plant indicators and the opportunities are worded: units, figures, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain import terms

UNITS = {"percent": "%", "K": "K", "kW/ton": "kW/ton", "ratio": ""}
"""Unit of a plant indicator as it is written; empty: none."""

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
_FAMILY = {"role": "class", "equipment": "equipment", "stage": "stage"}


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
    joint, colon = {"zh": ("、", "：")}.get(language, (", ", ": "))
    named = [*(missing(language, code) for code in lacks), *waits_for, *poorly_covered]
    text = terms.term(language, "plant_reason", reason)
    return f"{text}{colon}{joint.join(named)}" if named else text
