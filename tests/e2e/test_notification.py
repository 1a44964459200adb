"""From a reading to a message, through the processes that compose starts: an interface and a worker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.domain.alarms.notification import Notifications
from app.domain.data.alarm_rules import ALARM_RULES
from app.domain.period import QUARTER_HOUR, floor
from app.jobs import worker
from tests.e2e.processes import Running, running
from tests.integration.receivers import receiver
from tests.waiting import until

SITE = """
institutions: [{{id: bank, institution_class: joint_stock}}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    meters:
      - {{id: main, points: [{{id: main.kwh, role: facility, kind: register, interval_s: 900}}]}}
      - {{id: ups, points: [{{id: ups.kwh, role: it_ups_output, kind: register, interval_s: 900}}]}}
alarms:
  rules: [{{id: pue_1h, indicator: pue, window: 1h, from_limit: true, critical: 0, for_s: 0}}]
notifications:
  group_wait_s: 0
  allowed_networks: [127.0.0.0/8]
  channels: [{{id: hook, kind: webhook, lang: en, url: "{url}"}}]
  routes: [{{channels: [hook], rules: [pue_1h]}}]
"""
IT_KW, CALM_KW, FAILING_KW = 100.0, 140.0, 180.0


def registers(began: datetime, start: datetime) -> list[dict[str, Any]]:
    """Readings since `start`: from an hour before `began` on, the site needs too much."""
    now, failing, rows = floor(datetime.now(UTC)), began - timedelta(hours=1), []
    at = start
    while at <= now:
        hours = (at - began) / timedelta(hours=1) + 1000
        extra = max((at - failing) / timedelta(hours=1), 0.0) * (FAILING_KW - CALM_KW)
        for point, kwh in (("main.kwh", CALM_KW * hours + extra), ("ups.kwh", IT_KW * hours)):
            rows.append({"point": point, "at": at.isoformat(), "value": round(kwh, 3)})
        at += QUARTER_HOUR
    return rows


def post(api: Running, rows: list[dict[str, Any]]) -> None:
    answer = httpx.post(api.base + "/api/v1/readings", json={"readings": rows}, timeout=30)
    assert answer.status_code == 200, answer.text


@pytest.mark.timeout(600)
def test_a_breach_in_readings_posted_to_the_interface_is_told_by_the_worker(
    database_url: str, tmp_path: Path
) -> None:
    with receiver() as hook:
        site = tmp_path / "site.yaml"
        site.write_text(SITE.format(url=hook.url))
        shared = {"WATTLINE_CONFIG": str(site), "WATTLINE_DATABASE_URL": database_url}
        apart = [{**shared, "WATTLINE_DATA_DIR": str(tmp_path / name)} for name in ("api", "worker")]
        with (
            running(["serve", "--port", "0", "--role", "api"], apart[0], tmp_path) as api,
            running(["serve", "--port", "0"], apart[1], tmp_path) as at_work,
        ):
            api.until_status("/readyz", 200)
            began = floor(datetime.now(UTC))
            post(api, registers(began, began - timedelta(hours=26)))

            def told() -> bool:
                post(api, registers(began, began - QUARTER_HOUR))  # another quarter-hour may have closed
                return bool(hook.requests)

            until(told, 240, "a message")
            (message,) = hook.requests[0].document["messages"]
            alarm = message["alarm"]
            assert (message["what"], alarm["rule"], alarm["site"]) == ("fire", "pue_1h", "sh1")
            assert (alarm["severity"], alarm["value"]) == ("critical", pytest.approx(1.8, abs=0.001))
            (shown,) = (a for a in api.json_of("/api/v1/alarms")["alarms"] if a["rule"] == "pue_1h")
            assert (shown["id"], shown["state"]) == (alarm["alarm"], "firing")
            evaluated = 'wattline_site_pue_ratio{site="sh1",window="1h"} 1.8'
            until(lambda: evaluated in at_work.get("/metrics").text, 60, "the figure in the worker's metrics")


def test_the_intervals_of_the_worker_tell_a_breach_within_two_evaluations_and_30_s() -> None:
    """The longest way: just missed by every job, and nothing else to do on the machine."""
    rule = next(rule for rule in ALARM_RULES if rule.id == "pue_1h")
    two_evaluations_s = 2 * worker.ALARMS_EVERY_S
    assert rule.for_s < two_evaluations_s, "a little jitter must not cost a third evaluation"
    seen_s = worker.ROLLUP_EVERY_S + worker.EVALUATE_EVERY_S + worker.ALARMS_EVERY_S
    sent_s = Notifications().group_wait_s + worker.NOTIFY_EVERY_S
    assert seen_s + two_evaluations_s + sent_s <= two_evaluations_s + 30
