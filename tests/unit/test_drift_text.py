"""What an alarm says of drift, in words."""

from __future__ import annotations

import math
from typing import Any

import pytest

from app.domain import drift
from app.domain.alarms.notification import Language, What
from app.domain.alarms.text import body, drift_sentence, title
from app.domain.drift import Chart, Noise

ALARM: dict[str, Any] = {
    "rule": "plant_drift",
    "indicator": "plant_drift_ratio",
    "site": "sh1",
    "severity": "warning",
    "value": 0.06,
    "threshold": 0.02,
    "moved": "cooling",
    "meters": ["sh1-chiller-2"],
    "drift": {
        "onset": "2026-05-12",
        "excess_ratio": 0.06,
        "mostly": "sh1-chiller-2",
        "weeks_to_limit": 6.8,
    },
}


def test_the_sentence_says_how_much_since_when_and_mostly_where() -> None:
    assert drift_sentence(ALARM, Language.EN) == (
        "The plant uses 6.0 % more than its own baseline since 2026-05-12, mostly sh1-chiller-2; "
        "at this rate the PUE crosses its limit in about 7 weeks."
    )
    assert drift_sentence(ALARM, Language.ZH) == (
        "自 2026-05-12 起，非 IT 能耗比自身基线高 6.0%，主要来自 sh1-chiller-2"
        "；按此趋势，约 7 周后 PUE 超过限值。"
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"mostly": ""}, "since 2026-05-12; at this rate"),
        ({"weeks_to_limit": None}, "mostly sh1-chiller-2."),
        ({"weeks_to_limit": 0.2}, "about 1 week."),
    ],
)
def test_what_is_not_known_is_not_said(changed: dict[str, Any], said: str) -> None:
    assert said in drift_sentence({**ALARM, "drift": ALARM["drift"] | changed}, Language.EN)


def test_a_message_has_the_sentence_and_other_alarms_have_none() -> None:
    assert "drift: The plant uses 6.0 % more" in body(What.FIRE, ALARM, Language.EN)
    assert title(What.FIRE, ALARM, Language.EN) == (
        "[Wattline] ALARM warning: sh1 Overhead above baseline 6.0 % (cooling)"
    )
    other = {name: value for name, value in ALARM.items() if name != "drift"}
    assert drift_sentence(other, Language.EN) == ""
    assert "drift" not in body(What.FIRE, other, Language.EN)


def test_the_example_of_the_method() -> None:
    chart = Chart.of(Noise(0.02, 0.4))
    assert chart.slack == pytest.approx(0.818, abs=1e-3)
    assert chart.limit == pytest.approx(EXAMPLE_LIMIT, abs=0.01)
    b = chart.limit + 1.166
    years = (math.exp(2 * chart.slack * b) - 2 * chart.slack * b - 1) / (2 * chart.slack**2) / 365.25
    assert years == pytest.approx(drift.NOMINAL_YEARS, rel=1e-6)


EXAMPLE_LIMIT = 4.14
