"""The demo's hour of failing cooling: one warning, one critical, one resolved, where people see them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

import collectors.simulated
from app import config
from app.domain.alarms.alarm import Alarms, Severity, State, Subject, Transition
from app.domain.alarms.notification import Channel, ChannelKind, Language, MailSecurity, Notifications, Route
from app.jobs import demo, evaluate, imports
from app.jobs.alarms import judge
from app.jobs.alarms.watch import Cache
from app.jobs.demo import DemoHistory
from app.jobs.notifications import send
from app.store import alarms as stored_alarms
from app.store import sites
from app.store.engine import Engine, begin
from collectors.simulated import defects
from collectors.simulated.history import Simulation
from tests.integration.receivers import Mailbox, active_alerts, alertmanager, mailbox

NOW = datetime(2026, 2, 10, 4, 20, tzinfo=UTC)
_SITE = Path(collectors.simulated.__file__).parent / "demo_site.yaml"
RULES = ("pue_1h", "power_ratio_jump")


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as made:
        yield made


@pytest.fixture
def base() -> Iterator[str]:
    with alertmanager() as address:
        yield address


def declare(engine: Engine, box: Mailbox, base: str) -> None:
    """The demo, told over mail and Alertmanager of what its PUE does."""
    mail = Channel(
        id="mail",
        kind=ChannelKind.MAIL,
        lang=Language.EN,
        host="127.0.0.1",
        port=box.port,
        security=MailSecurity.NONE,
        sender="wattline@bank.example",
        to=("duty@bank.example",),
    )
    am = Channel(id="am", kind=ChannelKind.ALERTMANAGER, lang=Language.EN, url=base)
    settings = Notifications(
        channels=(mail, am),
        routes=(Route(channels=("mail", "am"), rules=RULES),),
        allowed_networks=("127.0.0.0/8",),
        group_wait_s=0.0,
    )
    fleet = config.load(_SITE).fleet
    with begin(engine) as connection:
        sites.sync(connection, fleet)
        stored_alarms.save_sections(connection, Alarms(), settings)


def labels(base: str) -> list[tuple[str, str]]:
    return [(a["labels"]["alertname"], a["labels"]["severity"]) for a in active_alerts(base)]


@pytest.mark.timeout(600)
def test_failing_cooling_is_told_early_once_and_by_its_name(engine: Engine, box: Mailbox, base: str) -> None:
    declare(engine, box, base)
    failing = defects.cooling_failure(NOW)
    days = (NOW - failing.start).days + 3
    demo.load(
        engine, config.load(_SITE).fleet, Simulation(NOW), DemoHistory.load_or_begin(engine, NOW), days=days
    )
    imports.settle(engine)
    cache = Cache()
    seen: list[list[tuple[str, str]]] = []
    at = failing.start.replace(minute=0)
    while at < failing.end + timedelta(hours=1, minutes=30):
        evaluate.run(engine, at + timedelta(seconds=5))
        for seconds in (5, 30):
            judge.run(engine, at + timedelta(seconds=seconds), cache=cache)
        send.run(engine, at + timedelta(seconds=40))
        if labels(base) not in seen[-1:]:
            seen.append(labels(base))
        at += timedelta(minutes=15)
    heads = [subject.split(":")[0].removeprefix("[Wattline] ") for subject in box.subjects]
    assert heads == ["ALARM warning", "ALARM critical", "RESOLVED critical"]
    assert all("(cooling)" in subject for subject in box.subjects)
    assert all("chiller" in text and "limit: 1.5" in text for text in box.texts[1:])
    assert seen == [[], [("power_ratio_jump", "warning")], [("pue_1h", "critical")], []]
    with begin(engine) as connection:
        found = stored_alarms.listing(connection, [*sites.load(connection).site_key], "all")
        (breach,) = [a for a in found if a.rule == "pue_1h"]
        steps = [step.after for step in stored_alarms.history(connection, breach.id)]
    assert (breach.site, breach.severity, breach.document["moved"]) == ("sh1", "critical", "cooling")
    assert steps == ["firing", "recovering", "resolved"]


def test_an_alarm_never_ends_before_it_began(engine: Engine) -> None:
    """It began under a clock that was ahead, and ended when that was right again."""
    subject, ahead = Subject("", "clock"), NOW + timedelta(days=700)
    fired = Transition(ahead, State.PENDING, State.FIRING, Severity.WARNING, None, ahead, 1.0, 0.5)
    over = Transition(NOW, State.FIRING, State.RESOLVED, None, Severity.WARNING, ahead, 0.1, 0.5)
    with begin(engine) as connection:
        number, _ = stored_alarms.record(connection, "r", subject, 0, fired, {})
        assert stored_alarms.record(connection, "r", subject, 0, over, {})[0] == number
        query = sa.text("SELECT started_at, fired_at, resolved_at FROM alarms WHERE id = :id")
        row = connection.execute(query, {"id": number}).one()
    assert row.started_at <= row.fired_at <= row.resolved_at
    past = stored_alarms.PastAlarm("r", subject, (fired, over))
    assert past.resolved_at is not None
    assert past.started_at <= past.resolved_at
