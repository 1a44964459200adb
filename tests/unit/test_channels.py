"""What a message holds before it is sent: how many items, which alerts, which reason of a failure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.domain.alarms.notification import Channel, ChannelKind, Language, Notifications, What
from app.errors import DeliveryFailed
from app.jobs.notifications import channels, send
from app.jobs.notifications.channels import Item, alerts_of, fits
from app.jobs.notifications.send import Delivered
from app.store.outbox import Waiting

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
ALARM = {
    "rule": "pue_1h",
    "indicator": "pue",
    "site": "s",
    "site_name": "Site",
    "time_zone": "UTC",
    "subject": "",
    "severity": "warning",
    "value": 1.6,
    "threshold": 1.5,
    "window": "1h",
    "since": "2026-03-02T07:00:00Z",
    "until": "2026-03-02T07:30:00Z",
    "reason": "",
    "links": {"runbook": "r#pue_1h", "board": "https://board.example"},
}


def channel(kind: ChannelKind = ChannelKind.WECOM, **changes: Any) -> Channel:
    secret = {"url_file": "/run/secrets/url"}
    if kind in (ChannelKind.WEBHOOK, ChannelKind.ALERTMANAGER):
        secret = {"url": "https://receiver.example"}
    return Channel(**{"id": "c", "kind": kind, "lang": Language.EN, **secret, **changes})


def items(n: int, what: What = What.FIRE, **changes: object) -> list[Item]:
    return [Item(what, f"key {i}", {**ALARM, **changes}) for i in range(n)]


def test_a_text_takes_as_many_items_as_it_holds() -> None:
    all_of = items(200)
    most = channels.MOST_BYTES[ChannelKind.WECOM]
    n = fits(channel(), all_of)
    assert most == 2000
    assert 1 < n < 200
    assert channels._size(channel(), all_of[:n]) <= most < channels._size(channel(), all_of[: n + 1])
    assert fits(channel(), all_of[:n]) == n
    assert fits(channel(), all_of[: n + 1]) == n
    assert fits(channel(), items(1, reason="x" * 5000)) == 1


def test_a_text_that_just_fits_is_sent_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    three = items(3)
    size = channels._size(channel(), three)
    for most, n in ((size, 3), (size - 1, 2)):
        monkeypatch.setitem(channels.MOST_BYTES, ChannelKind.WECOM, most)
        assert fits(channel(), three) == n


def test_what_is_no_text_takes_five_hundred_items() -> None:
    hook = channel(ChannelKind.WEBHOOK)
    assert [fits(hook, items(n)) for n in (1, 500, 501)] == [1, 500, 500]


def test_a_text_too_long_is_cut_between_characters() -> None:
    long = items(1, reason="上海" * 2000)
    cut = channels._clipped(channel(), long)
    assert 1997 <= len(cut.encode()) <= 2000
    assert channels._text(channel(), long).startswith(cut)
    short = items(1)
    assert channels._clipped(channel(), short) == channels._text(channel(), short)


def alerts(what: What, *, repeat_s: float = 14_400, **changes: object) -> list[tuple[Any, ...]]:
    manager = channel(ChannelKind.ALERTMANAGER, repeat_s=repeat_s)
    found = alerts_of(Item(what, "key", {**ALARM, **changes}), manager, NOW)
    return [
        (a["labels"]["severity"], *(datetime.fromisoformat(a[k]) for k in ("startsAt", "endsAt")))
        for a in found
    ]


def test_alertmanager_hears_of_an_alarm_by_its_severity() -> None:
    since, until, hour = NOW - timedelta(hours=1), NOW - timedelta(minutes=30), timedelta(hours=1)
    fires = [("warning", since, NOW + 8 * hour)]
    assert alerts(What.FIRE) == alerts(What.REPEAT) == fires
    assert alerts(What.FIRE, repeat_s=0) == [("warning", since, NOW + timedelta(days=365))]
    assert alerts(What.FIRE, repeat_s=60) == [("warning", since, NOW + timedelta(minutes=10))]
    assert alerts(What.FIRE, repeat_s=360) == [("warning", since, NOW + timedelta(minutes=12))]
    worse = [("warning", since, NOW), ("critical", since, NOW + 8 * hour)]
    assert alerts(What.ESCALATE, severity="critical", until=None) == worse
    assert alerts(What.EASE, until=None) == [("critical", since, NOW), *fires]
    for what in (What.RESOLVE, What.HANDOVER):
        assert alerts(what) == [("critical", since, until), ("warning", since, until)]
    assert alerts(What.FIRE, since=None) == [("warning", NOW, NOW + 8 * hour)]
    assert alerts(What.RESOLVE, since="2026-03-02T07:45:00Z")[1] == ("warning", until, until)


def test_alertmanager_hears_a_test_and_a_heartbeat() -> None:
    for what, name in ((What.TEST, "WattlineTest"), (What.WATCHDOG, "WattlineWatchdog")):
        (alert,) = alerts_of(Item(what, "k", {"at": NOW.isoformat()}), channel(ChannelKind.ALERTMANAGER), NOW)
        assert alert["labels"] == {"alertname": name, "severity": "none"}
        assert alert["endsAt"] == (NOW + timedelta(minutes=10)).isoformat()


def test_the_labels_and_links_of_an_alert() -> None:
    manager = channel(ChannelKind.ALERTMANAGER)
    (alert,) = alerts_of(items(1, moved="cooling")[0], manager, NOW)
    assert alert["labels"] == {"alertname": "pue_1h", "site": "s", "window": "1h", "severity": "warning"}
    assert alert["annotations"].keys() == {"summary", "description", "moved", "runbook_url"}
    assert alert["generatorURL"] == "https://board.example"
    (bare,) = alerts_of(items(1, links=None)[0], manager, NOW)
    assert (bare["generatorURL"], bare["annotations"].keys()) == ("", {"summary", "description"})


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DeliveryFailed("the robot answered 5"), "the robot answered 5"),
        (httpx.ReadTimeout("secret"), "no answer in time"),
        (httpx.ConnectError("secret"), "ConnectError: the receiver cannot be reached"),
        (
            FileNotFoundError(2, "No such file", "/run/x"),
            "/run/x: No such file; check the _file keys of the channel",
        ),
        (OSError(101, "Network is unreachable"), "Network is unreachable"),
        (OSError("secret"), "OSError"),
        (ValueError("secret"), "ValueError"),
    ],
)
def test_the_reason_of_a_failure_tells_no_address(error: Exception, reason: str) -> None:
    assert channels._reason(error) == reason


def waits(site: int, what: What = What.FIRE, *, age_s: float = 60) -> Waiting:
    return Waiting(site, "c", site, what, "key", ALARM, NOW - timedelta(seconds=age_s), 0)


def test_messages_about_one_site_go_together_and_a_report_by_itself() -> None:
    settings = Notifications(group_wait_s=30)

    def grouped(*waiting: Waiting) -> list[Waiting]:
        return send._group(channel(ChannelKind.WEBHOOK), waiting, settings, NOW)

    first, other, report = waits(1), waits(2), waits(1, What.REPORT)
    assert grouped() == []
    assert grouped(first, other, report, waits(1, What.RESOLVE)) == [first, waits(1, What.RESOLVE)]
    assert grouped(report, first) == [report]
    for age_s, is_due in ((0, False), (29.9, False), (30, True), (-0.1, True)):
        assert grouped(waits(1, age_s=age_s)) == [waits(1, age_s=age_s)] * is_due, age_s


def test_what_was_delivered_is_summed() -> None:
    assert Delivered(1, 2) + Delivered(3, 5) == Delivered(4, 7)
    assert Delivered() == Delivered(0, 0)
