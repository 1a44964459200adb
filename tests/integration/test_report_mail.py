"""Closed reports by mail: the files arrive at a real mail server, once, to those who are to have them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.header import decode_header, make_header
from email.message import Message
from pathlib import Path

import pytest

from app import config
from app.domain.alarms.alarm import Alarms
from app.domain.alarms.notification import Channel, ChannelKind, Language, MailSecurity, Notifications
from app.domain.reading import Reading
from app.domain.report_route import ReportFormat, ReportRoute
from app.errors import ConfigError
from app.jobs import close_month
from app.jobs.notifications import report_mail, send
from app.jobs.notifications.send import Delivered
from app.reports import output
from app.reports.document import read
from app.store import alarms
from app.store.engine import Engine, begin, connect
from app.store.reports.revisions import Shelf
from tests.integration.receivers import Mailbox, Receiver, mailbox, receiver
from tests.integration.test_reports import LOAD_KW, NOW, SITE, declared, put, register

LATER = timedelta(minutes=1)
GOLDEN = Path(__file__).parents[1] / "golden" / "reports"


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as made:
        yield made


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def mail(box: Mailbox, name: str = "board", lang: Language = Language.ZH) -> Channel:
    return Channel(
        id=name,
        kind=ChannelKind.MAIL,
        lang=lang,
        host="127.0.0.1",
        port=box.port,
        security=MailSecurity.NONE,
        sender="wattline@bank.example",
        to=(f"{name}@bank.example",),
    )


def configure(engine: Engine, channels: tuple[Channel, ...], *routes: ReportRoute) -> None:
    settings = Notifications(
        channels=channels, reports=routes, allowed_networks=("127.0.0.0/8",), group_wait_s=0.0
    )
    with begin(engine) as connection:
        alarms.save_sections(connection, Alarms(), settings)


def february(engine: Engine) -> None:
    """The site with its February, but for the last day of the facility's meter."""
    stored = declared(engine)
    rows = [r for point, kw in LOAD_KW.items() for r in register(point, kw, 29)]
    put(engine, stored, [r for r in rows if r not in last_day()])


def last_day() -> list[Reading]:
    return register("main.kwh", LOAD_KW["main.kwh"], 29)[27 * 24 + 1 :]


def attachments(message: Message) -> dict[str, tuple[str, bytes]]:
    """Name, type and content of what is attached to a mail."""
    parts = [p for p in message.walk() if p.get_filename()]
    return {
        str(make_header(decode_header(p.get_filename() or ""))): (p.get_content_type(), _bytes(p))
        for p in parts
    }


def _bytes(part: Message) -> bytes:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content


def test_a_closed_month_arrives_by_mail_with_its_files_and_so_does_its_revision(
    engine: Engine, box: Mailbox
) -> None:
    formats = (ReportFormat.PDF, ReportFormat.XLSX)
    configure(engine, (mail(box),), ReportRoute(channels=("board",), sites=("sh1",), formats=formats))
    february(engine)
    close_month.run(engine, NOW)
    box.refuses = True
    assert send.run(engine, NOW) == Delivered(0, 1)
    box.refuses = False
    assert send.run(engine, NOW + LATER) == Delivered(1, 0)
    assert box.subjects == ["[Wattline] 数据中心能效月度报告：sh1 2026-02，PUE1 1.400"]
    assert "附件：sh1-2026-02-r1-zh.pdf, sh1-2026-02-r1-zh.xlsx" in box.texts[0]
    found = attachments(box.mails[0])
    assert found["sh1-2026-02-r1-zh.pdf"] == ("application/pdf", rendered(engine, "pdf"))
    assert found["sh1-2026-02-r1-zh.xlsx"][1] == rendered(engine, "xlsx")

    close_month.run(engine, NOW)
    assert send.run(engine, NOW + 2 * LATER) == Delivered()
    stored = declared(engine)
    put(engine, stored, last_day())
    close_month.run(engine, NOW)
    assert send.run(engine, NOW + 2 * LATER) == Delivered(1, 0)
    assert box.subjects[1].startswith("[Wattline] 已修订 数据中心能效月度报告：sh1 2026-02")
    assert "变更的数值个数：" in box.texts[1]
    assert set(attachments(box.mails[1])) == {"sh1-2026-02-r2-zh.pdf", "sh1-2026-02-r2-zh.xlsx"}


def rendered(engine: Engine, form: str) -> bytes:
    """The frozen February in a form, as it is downloaded."""
    with connect(engine) as connection:
        frozen = Shelf("reports", 1).newest(connection, "2026-02")
    assert frozen is not None
    return output.render(read(frozen.document), form, "zh")


def test_each_gets_what_its_routes_say_and_a_name_splits_no_header(
    engine: Engine, box: Mailbox, hook: Receiver
) -> None:
    webhook = Channel(id="archive", kind=ChannelKind.WEBHOOK, url=hook.url, lang=Language.EN)
    configure(
        engine,
        (mail(box, lang=Language.EN), webhook),
        ReportRoute(channels=("board",), institutions=("bank",), formats=(ReportFormat.CSV,)),
        ReportRoute(channels=("board",), institutions=("bank",), formats=(ReportFormat.JSON,)),
        ReportRoute(channels=("archive",)),
    )
    february(engine)
    with begin(engine) as connection:
        connection.exec_driver_sql("UPDATE institutions SET name = %s", ("Bank\r\nBcc: all@bank.example",))
    close_month.run(engine, NOW)
    assert send.run(engine, NOW) == Delivered(3, 0)
    assert box.mails[0]["Bcc"] is None
    assert "all sites: Bank Bcc: all@bank.example 2026-02" in box.subjects[0]
    assert set(attachments(box.mails[0])) == {"bank-2026-02-r1.csv", "bank-2026-02-r1.json"}
    told = [m["report"] for request in hook.requests for m in request.document["messages"]]
    assert [(t["kind"], t["of"], t["pue"]) for t in told] == [
        ("month", "sh1", 1.4),
        ("institution_month", "bank", 1.4),
    ]


def test_months_that_ended_long_ago_tell_nobody(engine: Engine, box: Mailbox) -> None:
    configure(engine, (mail(box),), ReportRoute(channels=("board",)))
    april = read(json.loads((GOLDEN / "one_meter.json").read_text(encoding="utf-8")))
    for days, count in ((400, 0), (10, 1), (10, 0)):
        now = datetime(2026, 5, 1, tzinfo=UTC) + timedelta(days=days)
        with begin(engine) as connection:
            settings = alarms.notifications(connection)
            assert report_mail.announce(connection, settings, april, now) == count


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ("{channels: [nobody]}", "unknown channel 'nobody'"),
        ("{channels: [am]}", "takes only alarms"),
        ("{channels: [m], sites: [sh9]}", "there is no site 'sh9'"),
        ("{channels: [m], institutions: [other]}", "there is no institution 'other'"),
        ("{channels: [m], formats: [doc]}", "pdf"),
        ("{channels: [m], formats: []}", "at least one"),
    ],
)
def test_a_route_that_leads_nowhere_is_refused(route: str, problem: str) -> None:
    text = f"""{SITE}
notifications:
  channels:
    - {{id: m, kind: mail, host: mail.bank.example, sender: a@bank.example, to: [b@bank.example]}}
    - {{id: am, kind: alertmanager, url: "http://am.bank.example"}}
  reports: [{route}]
"""
    with pytest.raises(ConfigError, match=problem):
        config.parse(text)
