"""The pages of alarms: what is now, at onset and at worst; transitions put together; silence of one meter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from html import unescape

import httpx
import pytest
import sqlalchemy as sa

from app.domain.alarms.alarm import Memory, Severity, State, Subject, Transition, fingerprint
from app.jobs import evaluate
from app.store import alarms, sites
from app.store.alarms import Remembered
from app.web import router as pages
from tests.e2e.test_web import form_id
from tests.integration.api_helpers import NOW, START, a_day, client, own_database

FEED = Subject("sh1", "ups")
DOCUMENT = {"indicator": "feed_load_ratio", "meters": ["ups"]}


def change(hours: float, before: State, after: State, value: float) -> Transition:
    at = START + timedelta(hours=hours)
    level = Severity.WARNING
    return Transition(at, before, after, level, level, START, value, 0.9, worst=0.931, worst_at=START)


def to_and_fro(count: int) -> list[Transition]:
    there, back = (State.FIRING, State.RECOVERING), (State.RECOVERING, State.FIRING)
    return [change(2 + i / 10, *(back if i % 2 else there), 0.84 + i % 2 / 10) for i in range(count)]


def raise_alarm(engine: sa.Engine, rule: str, subject: Subject, severity: Severity, value: float) -> int:
    """An alarm that goes on, with what is remembered of it."""
    first = Transition(
        START + timedelta(hours=1),
        State.PENDING,
        State.FIRING,
        severity,
        None,
        START,
        value,
        0.9,
        worst=value,
    )
    with engine.begin() as connection:
        number = sites.load(connection).site_id[subject.site]
        made, row = alarms.record(connection, rule, subject, number, first, DOCUMENT)
        assert made is not None
        later = to_and_fro(119) if rule == "feed_load" else []
        rows = [alarms.record(connection, rule, subject, number, one, DOCUMENT)[1] for one in later]
        alarms.write_transitions(connection, [row, *rows])
        now = Memory(State.RECOVERING, NOW, NOW, START, severity, value=0.851, worst=0.931, worst_at=START)
        kept = Remembered(rule, number, subject.name, now)
        alarms.remember(connection, {fingerprint(rule, subject): kept})
    return made


@pytest.fixture(scope="module")
def shown(server_url: str, _template: str) -> Iterator[tuple[httpx.Client, int]]:
    """The pages with a warning about a feed, and an older critical alarm; the number of the first."""
    with own_database(server_url, _template) as engine:
        a_day(engine)
        evaluate.run(engine, NOW)
        raise_alarm(engine, "pue_1h", Subject("bj1"), Severity.CRITICAL, 1.6)
        number = raise_alarm(engine, "feed_load", FEED, Severity.WARNING, 0.910)
        with client(engine, extra=(pages.router,)) as http:
            yield http, number


def rows_of(page: str) -> list[list[str]]:
    body = page[page.index("<tbody>") : page.index("</tbody>")]
    cells = (
        re.findall(r"<td.*?</td>", row, re.DOTALL) for row in re.findall(r"<tr>.*?</tr>", body, re.DOTALL)
    )
    return [[" ".join(unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in row] for row in cells]


def test_the_list_shows_the_value_now_and_the_most_severe_first(shown: tuple[httpx.Client, int]) -> None:
    http, _ = shown
    critical, warning = rows_of(http.get("/alarms?lang=en").text)
    assert critical[0] == "✕ Critical"
    assert warning[3:8] == ["ups", "85.1 %", "91.0 %", "93.1 %", "90.0 %"]
    assert warning[8] == "2026-03-01 08:00 (UTC+8)"


@pytest.mark.parametrize(
    ("query", "count"),
    [("severity=critical", 1), ("site=sh1", 1), ("rule=feed_load&site=bj1", 0), ("state=all", 2)],
)
def test_the_list_is_filtered(shown: tuple[httpx.Client, int], query: str, count: int) -> None:
    http, _ = shown
    page = http.get(f"/alarms?{query}&lang=en").text
    assert len(rows_of(page) if count else []) == count
    assert ("No active alarms" in page) is not bool(count)


def test_a_filter_that_is_none_is_refused(shown: tuple[httpx.Client, int]) -> None:
    http, _ = shown
    for query in ("state=past", "severity=dire", "page=0"):
        assert http.get(f"/alarms?{query}").status_code == 422


def test_changes_to_and_fro_are_one_line(shown: tuple[httpx.Client, int]) -> None:
    http, number = shown
    page = unescape(http.get(f"/alarms/{number}?lang=en").text)
    assert "119 changes between Active and Recovering, values 84.0 % to 94.0 %" in page
    assert page.count("<li>") == 119
    said = [
        " ".join(re.sub(r"<[^>]+>", " ", tile).split())
        for tile in re.findall(r'<div class="tile">.*?</div>', page)
    ]
    assert [one.split("%")[0] for one in said] == [
        "Value now 85.1 ",
        "At onset 91.0 ",
        "Worst 93.1 ",
        "Threshold 90.0 ",
    ]
    document = http.get("/api/v1/alarms?site=sh1").json()["alarms"][0]
    assert (document["value_now"], document["value"], document["worst_value"]) == (0.851, 0.910, 0.931)
    assert datetime.fromisoformat(document["value_now_at"]) == NOW


def test_the_chart_shows_what_the_rule_saw(shown: tuple[httpx.Client, int]) -> None:
    http, number = shown
    page = http.get(f"/alarms/{number}/chart?lang=en").text
    assert '<path class="line s-value" d="M' in page
    assert 'class="mark m-error"' in page
    assert re.search(r'data-plot=\'[^\']*"s":\[\["Feed load high",\[[^\]]*62\.5', page)  # 500 kW of 800 kW


def test_one_meter_is_silenced_from_its_alarm(shown: tuple[httpx.Client, int]) -> None:
    http, number = shown
    with httpx.Client(base_url=http.base_url) as visitor:
        token = form_id(visitor.get(f"/alarms/{number}"))
        sent = {"form_id": token, "scope": "equipment", "hours": "12", "comment": "load test of the UPS"}
        assert visitor.post(f"/alarms/{number}/silence", data=sent).status_code == 303
        assert "load test of the UPS" in visitor.get(f"/alarms/{number}").text
    (silence,) = http.get("/api/v1/silences").json()["silences"]
    assert (silence["site"], silence["rule"], silence["subject"]) == ("sh1", "", "ups")
