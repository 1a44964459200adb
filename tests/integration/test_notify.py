"""Delivery to real receivers: mail, signed webhook, robots, Alertmanager; nothing lost, nothing twice."""

from __future__ import annotations

import base64
import gc
import hashlib
import hmac
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app import config
from app.domain.access import Grant, Role
from app.domain.alarms.alarm import Alarms
from app.domain.alarms.notification import (
    Channel,
    ChannelKind,
    Language,
    MailSecurity,
    Message,
    Notifications,
    QuietHours,
    Silence,
    Watchdog,
    What,
)
from app.domain.reading import Reading
from app.errors import DeliveryFailed, NotFound
from app.jobs import evaluate
from app.jobs.alarms import judge as alarms
from app.jobs.notifications import send as notify
from app.jobs.notifications.channels import signature
from app.store import alarms as stored_alarms
from app.store import edges, identity, outbox, readings, sites
from app.store.engine import Engine, begin
from tests.integration.receivers import Mailbox, Receiver, active_alerts, alertmanager, mailbox, receiver
from tests.waiting import until

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
LOOPBACK = ("127.0.0.0/8",)
SITE = """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    meters:
"""
METER = """
      - id: m{n}
        collector: {{kind: modbus, host: 127.0.0.1, port: {port}, profile: eastron_sdm630,
                     interval_s: 60}}
        points: [{{id: m{n}.kwh, role: cooling, kind: register, channel: energy_import_kwh}}]
"""
ALARM = {
    "rule": "pue_1h",
    "indicator": "pue",
    "site": "sh1",
    "subject": "",
    "severity": "critical",
    "value": 1.62,
    "threshold": 1.5,
    "limit": 1.5,
    "profile": "cbrc_13fyp",
    "window": "1h",
    "since": "2026-03-02T07:45:00Z",
    "moved": "cooling",
    "parts": {"cooling": 0.31},
    "meters": ["chiller-1"],
    "time_zone": "Asia/Shanghai",
    "links": {"runbook": "runbook.md#pue_1h"},
}


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as made:
        yield made


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def mail_channel(box: Mailbox, **more: Any) -> Channel:
    return Channel(
        id="mail",
        kind=ChannelKind.MAIL,
        host="127.0.0.1",
        port=box.port,
        security=MailSecurity.NONE,
        sender="wattline@bank.example",
        to=("duty@bank.example",),
        **more,
    )


def hook_channel(hook: Receiver, kind: ChannelKind = ChannelKind.WEBHOOK, **more: Any) -> Channel:
    return Channel(id="hook", kind=kind, url=hook.url, **more)


def configure(engine: Engine, *channels: Channel, **more: Any) -> None:
    settings = Notifications(channels=channels, **{"allowed_networks": LOOPBACK, "group_wait_s": 0.0, **more})
    with begin(engine) as connection:
        stored_alarms.save_sections(connection, Alarms(), settings)


def leave(
    engine: Engine,
    channel: str,
    what: What = What.FIRE,
    *,
    key: str = "k1",
    at: datetime = NOW,
    **more: Any,
) -> None:
    message = Message(channel, what, key, at, None, {**ALARM, **more})
    with begin(engine) as connection:
        outbox.put(connection, [message], at)


def log(engine: Engine) -> list[tuple[str, str]]:
    with begin(engine) as connection:
        return [(d.outcome, d.detail) for d in outbox.log(connection)]


# -- channels ----------------------------------------------------------------------------------------


def test_a_mail_says_what_moved_in_both_languages(engine: Engine, box: Mailbox) -> None:
    english = mail_channel(box, lang=Language.EN)
    configure(engine, english)
    leave(engine, "mail")
    assert notify.run(engine, NOW) == notify.Delivered(1, 0)
    assert box.subjects == ["[Wattline] ALARM critical: sh1 PUE (1 hour) 1.620 (cooling)"]
    for fact in (
        "limit: 1.50 (Bank IT guideline 2016–2020)",
        "cooling +0.310",
        "2026-03-02 15:45 UTC+8",
        "chiller-1",
        "runbook.md#pue_1h",
    ):
        assert fact in box.texts[0]
    configure(engine, mail_channel(box))
    leave(engine, "mail", What.RESOLVE, key="k2")
    notify.run(engine, NOW)
    assert box.subjects[1] == "[Wattline] 已恢复 严重：sh1 PUE（1 小时）1.620（制冷）"
    assert "主要原因：制冷" in box.texts[1]


def test_a_webhook_is_signed_and_names_its_messages(engine: Engine, hook: Receiver, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    configure(engine, hook_channel(hook, secret_file=str(secret)))
    leave(engine, "hook")
    leave(engine, "hook", key="k1")
    notify.run(engine, NOW)
    (request,) = hook.requests
    stamp = request.headers["X-Wattline-Timestamp"]
    assert request.headers["X-Wattline-Signature"] == "sha256=" + signature("s3cret", stamp, request.body)
    (message,) = request.document["messages"]
    assert (message["id"], message["what"], message["alarm"]["moved"]) == ("k1", "fire", "cooling")
    notify.run(engine, NOW + timedelta(hours=1))
    assert len(hook.requests) == 1


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (ChannelKind.DINGTALK, {"errcode": 0}, {"errcode": 310000, "errmsg": "sign not match"}),
        (ChannelKind.WECOM, {"errcode": 0}, {"errcode": 93000, "errmsg": "invalid webhook url"}),
        (ChannelKind.FEISHU, {"code": 0}, {"code": 19021, "msg": "sign match fail"}),
    ],
)
def test_what_a_robot_says_in_its_body_counts(
    engine: Engine,
    hook: Receiver,
    tmp_path: Path,
    kind: ChannelKind,
    good: dict[str, int],
    bad: dict[str, Any],
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("abc")
    configure(engine, hook_channel(hook, kind, secret_file=str(secret)))
    hook.answer = bad
    leave(engine, "hook")
    assert notify.run(engine, NOW) == notify.Delivered(0, 1)
    assert str(next(iter(bad.values()))) in log(engine)[0][1]
    hook.answer = good
    assert notify.run(engine, NOW + timedelta(seconds=11)) == notify.Delivered(1, 0)
    assert "sh1" in str(hook.requests[-1].document)


def test_feishu_is_signed_as_it_wants_it(engine: Engine, hook: Receiver, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("abc")
    configure(engine, hook_channel(hook, ChannelKind.FEISHU, secret_file=str(secret)))
    hook.answer = {"code": 0}
    leave(engine, "hook")
    notify.run(engine, NOW)
    document = hook.requests[0].document
    digest = hmac.new(f"{document['timestamp']}\nabc".encode(), b"", hashlib.sha256).digest()
    assert document["sign"] == base64.b64encode(digest).decode()


def test_alertmanager_holds_what_fires_and_forgets_what_is_over(engine: Engine) -> None:
    with alertmanager() as base:
        configure(engine, Channel(id="am", kind=ChannelKind.ALERTMANAGER, url=base, lang=Language.EN))
        leave(engine, "am", severity="warning")
        notify.run(engine, NOW)
        (alert,) = active_alerts(base)
        assert alert["labels"] == {
            "alertname": "pue_1h",
            "severity": "warning",
            "site": "sh1",
            "window": "1h",
        }
        assert alert["annotations"]["moved"] == "cooling"
        leave(engine, "am", What.ESCALATE, key="k2")
        notify.run(engine, NOW)
        assert [a["labels"]["severity"] for a in active_alerts(base)] == ["critical"]
        leave(engine, "am", What.RESOLVE, key="k3", until="2026-03-02T09:00:00Z")
        notify.run(engine, NOW)
        assert active_alerts(base) == []


def test_a_channel_is_tested_by_name(engine: Engine, box: Mailbox) -> None:
    configure(engine, mail_channel(box, lang=Language.EN))
    notify.test(engine, "mail", NOW)
    assert box.subjects == ["[Wattline] TEST"]
    assert log(engine) == [("sent", "")]
    with pytest.raises(NotFound, match="known are mail"):
        notify.test(engine, "post", NOW)


# -- targets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "[64:ff9b::a9fe:a9fe]"])
def test_link_local_and_metadata_addresses_are_refused(engine: Engine, host: str) -> None:
    hook = Channel(id="hook", kind=ChannelKind.WEBHOOK, url=f"http://{host}/latest/meta-data")
    configure(engine, hook, allowed_networks=())
    with pytest.raises(DeliveryFailed, match="allowed_networks"):
        notify.test(engine, "hook", NOW)


def test_a_name_that_leads_inside_when_it_is_connected_to_is_refused(
    engine: Engine, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the name was answered before: the address of the connection itself is looked at."""
    real = socket.getaddrinfo

    def rebound(host: Any, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if host == "hook.example" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    url = hook.url.replace("127.0.0.1", "hook.example")
    configure(engine, Channel(id="hook", kind=ChannelKind.WEBHOOK, url=url), allowed_networks=())
    with pytest.raises(DeliveryFailed, match=r"127\.0\.0\.1 is not a public address"):
        notify.test(engine, "hook", NOW)
    assert hook.requests == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_a_target_inside_is_refused_when_connecting(engine: Engine, hook: Receiver, host: str) -> None:
    url = hook.url.replace("127.0.0.1", host)
    configure(engine, Channel(id="hook", kind=ChannelKind.WEBHOOK, url=url), allowed_networks=())
    with pytest.raises(DeliveryFailed, match="allowed_networks"):
        notify.test(engine, "hook", NOW)
    assert hook.requests == []
    assert "allowed_networks" in log(engine)[0][1]


def test_a_mail_server_inside_is_refused_unless_allowed(engine: Engine, box: Mailbox) -> None:
    configure(engine, mail_channel(box), allowed_networks=())
    with pytest.raises(DeliveryFailed, match="allowed_networks"):
        notify.test(engine, "mail", NOW)
    assert box.mails == []


def test_a_redirect_is_not_followed(engine: Engine, hook: Receiver) -> None:
    hook.status, hook.location = 302, hook.url.replace("hook", "inside")
    configure(engine, hook_channel(hook))
    with pytest.raises(DeliveryFailed, match="302"):
        notify.test(engine, "hook", NOW)
    assert [r.path for r in hook.requests] == ["/hook"]


def apprise_channel(tmp_path: Path, url: str, kind: ChannelKind = ChannelKind.APPRISE) -> Channel:
    file = tmp_path / "url"
    file.write_text(url)
    return Channel(id="hook", kind=kind, url_file=str(file))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_apprise_reaches_nothing_inside_unless_allowed(
    engine: Engine, hook: Receiver, tmp_path: Path, host: str
) -> None:
    channel = apprise_channel(tmp_path, hook.url.replace("http", "json").replace("127.0.0.1", host))
    configure(engine, channel, allowed_networks=())
    with pytest.raises(DeliveryFailed, match="allowed_networks"):
        notify.test(engine, "hook", NOW)
    assert hook.requests == []
    assert "allowed_networks" in log(engine)[0][1]


def test_apprise_reaches_an_allowed_network_and_follows_no_redirect(
    engine: Engine, hook: Receiver, tmp_path: Path
) -> None:
    configure(engine, apprise_channel(tmp_path, hook.url.replace("http", "json")))
    notify.test(engine, "hook", NOW)
    assert [r.path for r in hook.requests] == ["/hook"]
    hook.status, hook.location = 302, hook.url.replace("hook", "inside")
    with pytest.raises(DeliveryFailed):
        notify.test(engine, "hook", NOW)
    assert [r.path for r in hook.requests] == ["/hook", "/hook"]


class Names:
    """A name server whose answer changes: a public address first, one inside from then on."""

    def __init__(self, inside: str) -> None:
        self.asked: list[str] = []
        self._answers = iter(["93.184.216.34"])
        self._inside = inside

    def __call__(self, host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(str(host))
        address = next(self._answers, self._inside)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port or 0)))]


@pytest.mark.parametrize("inside", ["127.0.0.1", "169.254.169.254"])
@pytest.mark.parametrize(
    ("kind", "url"),
    [
        (ChannelKind.WEBHOOK, "http://hook.example/hook"),
        (ChannelKind.DINGTALK, "https://hook.example/robot"),
        (ChannelKind.SLACK, "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"),
        (ChannelKind.APPRISE, "jsons://hook.example/hook"),
    ],
)
def test_a_name_that_resolves_anew_to_an_address_inside_is_refused_when_connecting(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: ChannelKind, url: str, inside: str
) -> None:
    configure(engine, apprise_channel(tmp_path, url, kind), allowed_networks=())
    names = Names(inside)
    monkeypatch.setattr(socket, "getaddrinfo", names)
    assert socket.getaddrinfo("hook.example", 80)[0][4][0] == "93.184.216.34"
    with pytest.raises(DeliveryFailed, match=inside):
        notify.test(engine, "hook", NOW)
    assert names.asked[1:], "the name was resolved again"


# Apprise leaves its socket to the garbage collector when it may not send.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_apprise_sends_no_datagram_inside(engine: Engine, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        url = f"rsyslog://127.0.0.1:{listener.getsockname()[1]}/local0"
        configure(engine, apprise_channel(tmp_path, url), allowed_networks=())
        with pytest.raises(DeliveryFailed, match="allowed_networks"):
            notify.test(engine, "hook", NOW)
        gc.collect()
        with pytest.raises(BlockingIOError):
            listener.recv(1)
        configure(engine, apprise_channel(tmp_path, url))
        notify.test(engine, "hook", NOW)
        assert b"Wattline" in until(lambda: _datagram(listener), name="a datagram")


def _datagram(listener: socket.socket) -> bytes:
    try:
        return listener.recv(65_536)
    except BlockingIOError:
        return b""


# -- outbox ------------------------------------------------------------------------------------------


def test_a_failed_message_comes_again_later_and_in_order(engine: Engine, hook: Receiver) -> None:
    configure(engine, hook_channel(hook))
    hook.status = 503
    leave(engine, "hook", key="a")
    assert notify.run(engine, NOW).failed == 1
    leave(engine, "hook", key="b")
    assert notify.run(engine, NOW + timedelta(seconds=5)) == notify.Delivered()
    hook.status = 200
    assert notify.run(engine, NOW + timedelta(seconds=11)).sent == 2
    assert [m["id"] for m in hook.requests[-1].document["messages"]] == ["a", "b"]
    assert [outcome for outcome, _ in log(engine)] == ["sent", "failed"]


def test_a_clock_that_was_ahead_holds_no_channel_up(engine: Engine, hook: Receiver) -> None:
    configure(engine, hook_channel(hook, most_per_hour=2), group_wait_s=60.0)
    ahead = NOW + timedelta(hours=12)
    hook.status = 503
    leave(engine, "hook", key="a", at=ahead)
    assert notify.run(engine, ahead + timedelta(minutes=2)).failed == 1
    hook.status = 200
    leave(engine, "hook", key="b", at=ahead)
    leave(engine, "hook", key="c")
    assert notify.run(engine, NOW + timedelta(minutes=2)).sent == 3
    assert [m["id"] for m in hook.requests[-1].document["messages"]] == ["a", "b", "c"]
    leave(engine, "hook", key="d")
    assert notify.run(engine, NOW + timedelta(minutes=2)).sent == 1
    leave(engine, "hook", key="e")
    assert notify.run(engine, NOW + timedelta(minutes=2)).sent == 0, "two in this hour"


def test_messages_wait_for_the_end_of_quiet_hours_and_for_the_rate_limit(
    engine: Engine, hook: Receiver
) -> None:
    quiet = QuietHours(start="15:00", end="17:00", time_zone="Asia/Shanghai")
    assert quiet.until(NOW) == NOW + timedelta(hours=1)
    configure(engine, hook_channel(hook, most_per_hour=1))
    leave(engine, "hook", key="a")
    assert notify.run(engine, NOW).sent == 1
    leave(engine, "hook", key="b")
    assert notify.run(engine, NOW + timedelta(minutes=1)).sent == 0
    assert notify.run(engine, NOW + timedelta(minutes=61)).sent == 1


def test_the_watchdog_is_silent_when_evaluations_stand_still(engine: Engine, hook: Receiver) -> None:
    configure(engine, hook_channel(hook), watchdog=Watchdog(channels=("hook",), every_s=600))
    declare(engine, 1)
    assert notify.run(engine, NOW).sent == 0
    evaluate.run(engine, NOW)
    assert notify.run(engine, NOW).sent == 1
    assert notify.run(engine, NOW + timedelta(minutes=1)).sent == 0
    assert notify.run(engine, NOW + timedelta(minutes=11)).sent == 1
    assert notify.run(engine, NOW + timedelta(hours=2)).sent == 0


# -- from alarms to messages -------------------------------------------------------------------------


def declare(engine: Engine, meters: int) -> None:
    """A site whose meters all spoke once, an hour ago."""
    text = SITE + "".join(
        METER.format(n=n, port=10_000 + n).replace("127.0.0.1", f"127.{n // 250}.0.{n % 250 + 1}")
        for n in range(meters)
    )
    with begin(engine) as connection:
        sites.sync(connection, config.parse(text).fleet)
        stored = sites.load(connection)
        said = [Reading(p, NOW - timedelta(hours=1), 1.0) for p in stored.point_id]
        readings.ingest_readings(connection, said, stored.point_id)


def judge(engine: Engine, seconds: float) -> alarms.EvaluationResult:
    done = alarms.run(engine, NOW + timedelta(seconds=seconds))
    assert done is not None
    return done


def test_a_thousand_alarms_are_grouped_in_order_and_none_is_lost(
    engine: Engine, box: Mailbox, hook: Receiver
) -> None:
    configure(engine, mail_channel(box), hook_channel(hook))
    declare(engine, 1000)
    judge(engine, 0)
    assert judge(engine, 61).messages == 2000
    assert notify.run(engine, NOW + timedelta(seconds=70)).sent == 2000
    heard = [m["alarm"]["subject"] for r in hook.requests for m in r.document["messages"]]
    assert heard == [f"m{n}" for n in range(1000)]
    assert len(hook.requests) == len(box.mails) == 2
    assert sum(text.count(" m999 ") for text in box.texts) == 1


def test_one_message_names_the_edge_that_is_silent_and_none_its_meters(
    engine: Engine, hook: Receiver
) -> None:
    configure(engine, hook_channel(hook))
    text = SITE + "".join(METER.format(n=n, port=f"502, device_id: {n + 1}") for n in range(5))
    with begin(engine) as connection:
        sites.sync(connection, config.parse(text).fleet)
        stored = sites.load(connection)
        said = [Reading(p, NOW, 1.0) for p in stored.point_id]
        readings.ingest_readings(connection, said, stored.point_id)
        key = identity.create(connection, "box", [Grant(Role.EDGE, "sh1")], created_by="test")
        edges.create(connection, "box", identity.public_id_of(key), ["sh1"])
    judge(engine, 0)
    assert judge(engine, 61).messages == 0, "an edge that never came is not silent"
    with begin(engine) as connection:
        connection.execute(sa.text("UPDATE edges SET last_seen_at = clock_timestamp() - interval '1 hour'"))
    judge(engine, 3600)
    assert judge(engine, 3661).messages == 1
    assert notify.run(engine, NOW + timedelta(seconds=3670)).sent == 1
    alarm = hook.requests[0].document["messages"][0]["alarm"]
    assert (alarm["rule"], alarm["subject"]) == ("edge_silent", "box")
    assert alarm["meters"] == [f"m{n}" for n in range(5)]
    assert alarm["links"]["runbook"].endswith("#edge_silent")
    assert judge(engine, 7200).messages == 0, "nor do they later"
    with begin(engine) as connection:
        connection.execute(sa.text("UPDATE edges SET last_seen_at = clock_timestamp()"))
    judge(engine, 7215)
    assert judge(engine, 7280).messages >= 1, "it is over"


def test_one_message_names_the_gateway_when_all_behind_it_are_silent(engine: Engine, hook: Receiver) -> None:
    configure(engine, hook_channel(hook))
    text = SITE + "".join(METER.format(n=n, port=f"502, device_id: {n + 1}") for n in range(5))
    with begin(engine) as connection:
        sites.sync(connection, config.parse(text).fleet)
        stored = sites.load(connection)
        said = [Reading(p, NOW - timedelta(hours=1), 1.0) for p in stored.point_id]
        readings.ingest_readings(connection, said, stored.point_id)
    judge(engine, 0)
    assert judge(engine, 61).messages == 1
    assert notify.run(engine, NOW + timedelta(seconds=70)).sent == 1
    alarm = hook.requests[0].document["messages"][0]["alarm"]
    assert (alarm["rule"], alarm["subject"]) == ("gateway_silent", "127.0.0.1")
    assert alarm["meters"] == [f"m{n}" for n in range(5)]
    assert alarm["links"]["runbook"].endswith("#gateway_silent")
    with begin(engine) as connection:  # one of them answers again
        heard = [Reading("m0.kwh", NOW + timedelta(seconds=s), 1.0) for s in (80, 140, 200)]
        readings.ingest_readings(connection, heard, stored.point_id)
    for seconds in (81, 142, 203):
        judge(engine, seconds)
    with begin(engine) as connection:
        found = stored_alarms.listing(connection, sites.load(connection).site_key)
    active = {(a.rule, a.subject) for a in found if a.resolved_at is None}
    assert active == {("meter_silent", f"m{n}") for n in range(1, 5)}


def test_a_quiet_evaluation_asks_no_more_of_the_database_with_more_alarms(engine: Engine) -> None:
    asked: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *a: asked.append(a[2]))
    counts = []
    for meters in (3, 300):
        declare(engine, meters)
        for seconds in (0, 61, 122):
            asked.clear()
            judge(engine, seconds + 1000 * meters)
        counts.append(len(asked))
        with begin(engine) as connection:
            found = stored_alarms.listing(connection, sites.load(connection).site_key)
        assert len([a for a in found if a.rule == "meter_silent"]) == meters
    assert counts[0] == counts[1]


def test_a_message_survives_the_death_of_the_process_and_comes_once(
    engine: Engine, database_url: str, hook: Receiver
) -> None:
    configure(engine, hook_channel(hook))
    declare(engine, 1)
    killed_after(
        database_url, "alarms.run(engine, NOW); alarms.run(engine, NOW + timedelta(seconds=61)); ready()"
    )
    assert hook.requests == []
    assert notify.run(engine, NOW + timedelta(seconds=70)).sent == 1
    assert notify.run(engine, NOW + timedelta(seconds=3000)).sent == 0
    assert len(hook.requests) == 1


def test_a_delivery_in_doubt_is_not_repeated_within_the_dedup_window(
    engine: Engine, database_url: str, hook: Receiver
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        configure(engine, Channel(id="hook", kind=ChannelKind.WEBHOOK, url=url))
        leave(engine, "hook")
        killed_after(database_url, "started(); notify.run(engine, NOW)", lambda: heard(silent))
    configure(engine, hook_channel(hook))
    assert [outcome for outcome, _ in log(engine)] == ["started"]
    assert notify.run(engine, NOW + timedelta(seconds=299)).sent == 0
    assert notify.run(engine, NOW + timedelta(seconds=301)).sent == 1


CHILD = """
import sys
from datetime import UTC, datetime, timedelta
from app.jobs.alarms import judge as alarms
from app.jobs.notifications import send as notify
from app.store.engine import make_engine
engine = make_engine(sys.argv[1])
NOW = datetime.fromisoformat(sys.argv[2])
def started():
    print("started", flush=True)
def ready():
    started()
    sys.stdin.read()
"""


def heard(silent: socket.socket) -> None:
    """Wait until somebody sends something, and answer nothing."""
    connection, _ = silent.accept()
    with connection:
        connection.recv(1)


def killed_after(database_url: str, work: str, meanwhile: Any = lambda: None) -> None:
    """Do some work in a process of its own, and kill it there."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD + work, database_url, NOW.isoformat()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin, child.stdout:
        assert child.stdout.readline() == b"started\n"
        meanwhile()
        child.send_signal(signal.SIGKILL)
        child.wait()


def test_what_fires_is_said_again_until_somebody_is_on_it_and_its_end_is_said_once(
    engine: Engine, hook: Receiver
) -> None:
    configure(engine, hook_channel(hook, repeat_s=3600.0))
    declare(engine, 1)
    judge(engine, 0)
    assert [judge(engine, s).messages for s in (61, 120, 3600, 3662, 3700)] == [1, 0, 0, 1, 0]
    with begin(engine) as connection:
        (alarm,) = stored_alarms.listing(connection, [*sites.load(connection).site_key])
        stored_alarms.acknowledge(connection, alarm.id, "li", NOW, "on my way")
        assert [c.text for c in stored_alarms.comments(connection, alarm.id)] == ["on my way"]
    assert judge(engine, 9000).messages == 0
    with begin(engine) as connection:
        stored = sites.load(connection)
        fresh = [Reading("m0.kwh", NOW + timedelta(seconds=9050), 2.0)]
        readings.ingest_readings(connection, fresh, stored.point_id)
    assert [judge(engine, s).messages for s in (9060, 9121, 9200)] == [0, 1, 0]
    notify.run(engine, NOW + timedelta(seconds=9300))
    whats = [m["what"] for r in hook.requests for m in r.document["messages"]]
    assert whats == ["fire", "repeat", "resolve"]


def test_what_was_said_by_a_clock_that_was_ahead_is_said_again_once_and_ends(
    engine: Engine, hook: Receiver
) -> None:
    configure(engine, hook_channel(hook, repeat_s=3600.0))
    declare(engine, 1)
    assert [judge(engine, 43_200 + s).messages for s in (0, 61)] == [0, 1]
    assert [judge(engine, s).messages for s in (0, 10, 20, 3500, 3601, 3620)] == [1, 0, 0, 0, 1, 0]
    with begin(engine) as connection:
        fresh = [Reading("m0.kwh", NOW + timedelta(seconds=3640), 2.0)]
        readings.ingest_readings(connection, fresh, sites.load(connection).point_id)
    assert [judge(engine, s).messages for s in (3650, 3711)] == [0, 1]
    with begin(engine) as connection:
        assert stored_alarms.listing(connection, [*sites.load(connection).site_key]) == []


def test_readings_from_before_the_clock_was_set_back_hide_no_silence(engine: Engine, hook: Receiver) -> None:
    configure(engine, hook_channel(hook))
    declare(engine, 1)
    with begin(engine) as connection:
        ahead = [Reading("m0.kwh", NOW + timedelta(hours=12), 2.0)]
        readings.ingest_readings(connection, ahead, sites.load(connection).point_id)
    assert [judge(engine, s).messages for s in (0, 61)] == [0, 1]


def test_a_silenced_alarm_is_recorded_and_nobody_is_told(engine: Engine, hook: Receiver) -> None:
    configure(engine, hook_channel(hook))
    declare(engine, 1)
    with begin(engine) as connection:
        silence = Silence(NOW, NOW + timedelta(hours=1), rule="meter_silent", comment="works on the bus")
        stored_alarms.add_silence(connection, silence, 0, "li")
    judge(engine, 0)
    assert judge(engine, 61).messages == 0
    with begin(engine) as connection:
        assert len(stored_alarms.listing(connection, [*sites.load(connection).site_key])) == 1
    assert judge(engine, 3700).messages == 1


def test_the_end_of_a_rule_or_meter_ends_its_alarm(engine: Engine, hook: Receiver) -> None:
    configure(engine, hook_channel(hook))
    declare(engine, 2)
    judge(engine, 0)
    judge(engine, 61)
    with begin(engine) as connection:
        sites.sync(connection, config.parse(SITE + METER.format(n=0, port=502)).fleet)
    assert judge(engine, 70).messages == 1
    until(lambda: notify.run(engine, NOW + timedelta(seconds=80)).sent == 3)
