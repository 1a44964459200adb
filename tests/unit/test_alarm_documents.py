"""Every rule has its entry in the runbook, and the site file refuses what it cannot mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import config
from app.domain.alarms.notification import Notifications
from app.domain.data.alarm_rules import ALARM_RULES
from app.errors import ConfigError

ROOT = Path(__file__).parents[2]


def test_every_rule_has_its_entry_in_the_runbook() -> None:
    text = (ROOT / Notifications().runbook_url).read_text(encoding="utf-8")
    heads = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert heads == [rule.id for rule in ALARM_RULES]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alarms: {disabled: [loud]}", "1: alarms.disabled: there is no rule 'loud'"),
        ("alarms: {rules: [{id: x, indicator: pue, window: 2h, warning: 1}]}", "window '2h'; allowed: 15m"),
        ("notifications: {routes: [{channels: [x]}]}", "unknown channel 'x'; known are none"),
        ("notifications: {channels: [{id: m, kind: mail, host: x}]}", "needs sender"),
        ("notifications: {allowed_networks: [here]}", "write it like 10.20.0.0/16"),
        ("notifications: {channels: [{id: m, kind: pigeon}]}", "pigeon"),
        ("notifications: {channels: [{id: m, kind: webhook, url: 'http://x', password: y}]}", "unknown key"),
    ],
)
def test_what_the_site_file_cannot_mean_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.parse(text)
    assert said in str(refused.value)


def test_the_example_of_the_how_to_is_understood() -> None:
    page = (ROOT / "docs" / "how-to" / "alarms.md").read_text(encoding="utf-8")
    example = page.split("```yaml\n")[1].split("```")[0].replace(", sites: [sh1]", "")
    file = config.parse(example)
    assert [c.id for c in file.notifications.channels] == ["duty", "robot", "tickets", "am"]
