"""Ten tasks of an operator in a real browser, each by the pointer and by keys alone, in at most four clicks.

A click is what acts: a link, a button, a fold, a choice that is sent at once, or Enter on one of these.
Fields that are filled in on the way are not counted.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from app import config
from app.api.app import create_app
from app.domain.alarms.alarm import Memory, Severity, State, Subject, Transition, fingerprint
from app.domain.evidence import Frozen
from app.domain.reading import Reading
from app.jobs import evaluate, rollup
from app.reports import build
from app.store import alarms, readings, sites
from app.store.alarms import Remembered
from app.store.reports import revisions
from app.store.reports.revisions import Shelf
from app.web import router as pages
from tests.integration.api_helpers import own_database, served

sync_api = pytest.importorskip("playwright.sync_api", reason="install the development packages: make install")

CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 120_000.0
MOST_CLICKS = 4
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is absent; install the package chromium"),
]
START, NOW = datetime(2026, 4, 30, 16, tzinfo=UTC), datetime(2026, 11, 30, 4, 2, tzinfo=UTC)
PLANT = """
institutions:
  - {id: bank, name: Bank, institution_class: joint_stock}
sites:
  - id: sh1
    name: Shanghai 1
    institution: bank
    time_zone: Asia/Shanghai
    profiles: [cbrc_13fyp]
    design: {it_capacity_kw: 400}
    tariffs: [{valid_from: 2026-01-01, price_per_kwh: 0.7}]
    meters:
      - {id: main, rated_power_kw: 900, stage: utility, points: [{id: main.kwh, role: facility, <}]}
      - {id: ups-a, name: UPS A, >, rated_power_kw: 300, points: [{id: ups-a.kwh, role: it_ups_output, <}]}
      - {id: ups-b, name: UPS B, >, rated_power_kw: 300, points: [{id: ups-b.kwh, role: it_ups_output, <}]}
      - {id: chiller-1, name: Chiller 1, fed_by: [main], points: [{id: chiller-1.kwh, role: cooling, <}]}
      - {id: chiller-2, name: Chiller 2, fed_by: [main], points: [{id: chiller-2.kwh, role: cooling, <}]}
      - {id: file-1, points: [{id: file-1.kwh, role: none, kind: register}]}
      - {id: file-2, points: [{id: file-2.kwh, role: none, kind: register}]}
"""
PLANT = PLANT.replace("<", "kind: register, interval_s: 3600")
PLANT = PLANT.replace(">", "stage: ups, redundancy: 2N, fed_by: [main]")
"""Half a year of two UPS and two chillers; July is hot."""


def powers_kw(hours: int) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Power of each register in each hour."""
    at = START.timestamp() + 3600 * np.arange(hours)
    local_hour = (at / 3600 + 8) % 24
    july = (at >= datetime(2026, 6, 30, 16, tzinfo=UTC).timestamp()) & (
        at < datetime(2026, 7, 31, 16, tzinfo=UTC).timestamp()
    )
    day = 8 * np.sin((local_hour - 9) / 24 * 2 * np.pi)
    ups = np.full(hours, 100.0)
    chiller = {"chiller-1.kwh": 30 + day / 2 + 14 * july, "chiller-2.kwh": 40 + day + 18 * july}
    main = 2 * ups + sum(chiller.values()) + 12
    return {"main.kwh": main, "ups-a.kwh": ups, "ups-b.kwh": ups, **chiller}


@pytest.fixture(scope="module")
def database(server_url: str, _template: str) -> Iterator[sa.Engine]:
    with own_database(server_url, _template) as engine:
        with engine.begin() as connection:
            sites.sync(connection, config.parse(PLANT).fleet)
        hours = int((NOW - START) / timedelta(hours=1))
        rows = [
            Reading(point, START + timedelta(hours=i), 1000.0 + value)
            for point, kw in powers_kw(hours).items()
            for i, value in enumerate(np.concatenate([[0.0], np.cumsum(kw)]).tolist())
        ]
        with engine.begin() as connection:
            stored = sites.load(connection)
            readings.ingest_readings(connection, rows, dict(stored.point_id))
        rollup.run(engine)
        evaluate.run(engine, NOW)
        _freeze_october(engine)
        _raise_alarm(engine)
        yield engine


def _freeze_october(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        stored = sites.load(connection)
        site = stored.fleet.site["sh1"]
        document = build.build(revisions.gather(connection, stored, site, "2026-10", NOW), 1)
        first = asdict(document)
        second = copy.deepcopy(first)
        second["revision"]["number"] = 2
        second["energy"]["facility_kwh"] = 1.0
        for number, one in ((1, first), (2, second)):
            Shelf.of_site(stored, "sh1").freeze(
                connection, Frozen("2026-10", number, one, f"{number}" * 64, NOW)
            )


def _raise_alarm(engine: sa.Engine) -> None:
    subject, since = Subject("sh1", "ups-a"), NOW - timedelta(hours=2)
    first = Transition(
        since, State.PENDING, State.FIRING, Severity.WARNING, None, since, 0.91, 0.9, worst=0.93
    )
    with engine.begin() as connection:
        number = sites.load(connection).site_id["sh1"]
        about = {"indicator": "feed_load_ratio", "meters": ["ups-a"]}
        _, row = alarms.record(connection, "feed_load", subject, number, first, about)
        alarms.write_transitions(connection, [row])
        now = Memory(State.FIRING, NOW, NOW, since, Severity.WARNING, value=0.92, worst=0.93)
        kept = Remembered("feed_load", number, subject.name, now)
        alarms.remember(connection, {fingerprint("feed_load", subject): kept})


@pytest.fixture(scope="module")
def base(database: sa.Engine) -> Iterator[str]:
    with served(create_app(database, clock=lambda: NOW, extra=(pages.router,))) as found:
        yield found


class Person:
    """Somebody at the first page, with the pointer or with keys alone; counts what acts."""

    def __init__(self, page: Any, *, has_pointer: bool) -> None:
        self.page, self._has_pointer, self.clicks = page, has_pointer, 0

    def begin(self, base: str) -> None:
        """Open the first page anew."""
        self.page.goto(base + "/?lang=en")
        self.clicks = 0

    def act(self, selector: str, *, leads_on: bool = True) -> None:
        """Click it, or go to it with the tabulator and press Enter."""
        self.clicks += 1
        target = self.page.locator(selector).first

        def press() -> None:
            if self._has_pointer:
                target.click()
            else:
                self._reach(target)
                self.page.keyboard.press("Enter")

        self._do(press, leads_on=leads_on)

    def choose(self, selector: str, text: str, *, is_sent: bool) -> None:
        """Choose an option; `is_sent`: the choice acts by itself, or with Enter."""
        target = self.page.locator(selector).first
        self.clicks += is_sent

        def press() -> None:
            if self._has_pointer:
                target.click()
                target.select_option(label=text)
            else:
                self._reach(target)
                self.page.keyboard.type(text)
                if is_sent:
                    self.page.keyboard.press("Enter")

        self._do(press, leads_on=is_sent)
        if not is_sent:
            shown = target.evaluate("field => field.selectedOptions[0].textContent.trim()")
            assert shown == text

    def fill(self, selector: str, text: str, keys: str | None = None) -> None:
        """Fill a field in; `keys` is what is typed where that differs, as in fields of days."""
        target = self.page.locator(selector).first
        if self._has_pointer:
            target.fill(text)
            return
        self._reach(target)
        for part in (keys or text).split("\t"):
            self.page.keyboard.type(part)
            if keys and "\t" in keys:
                self.page.keyboard.press("ArrowRight")
        assert target.input_value() == text

    def _do(self, press: Any, *, leads_on: bool) -> None:
        if leads_on:
            with self.page.expect_navigation():
                press()
        else:
            press()

    def _reach(self, target: Any) -> None:
        target.wait_for()
        for _ in range(250):
            if target.evaluate("element => element === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"{target} is not reached with the tabulator")

    def sees(self, selector: str, text: str) -> None:
        """What is on the page, and that it took few clicks."""
        sync_api.expect(self.page.locator(selector).first).to_contain_text(text)
        assert self.clicks <= MOST_CLICKS, self.clicks


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    sync_api.expect.set_options(timeout=PATIENCE_MS)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=["pointer", "keys"])
def person(request: pytest.FixtureRequest, chromium: Any, base: str) -> Iterator[Person]:
    context = chromium.new_context(locale="en-US", viewport={"width": 1360, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    page, complaints = context.new_page(), []
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("request", lambda r: None if r.url.startswith(base) else complaints.append(f"asked {r.url}"))
    found = Person(page, has_pointer=request.param == "pointer")
    found.begin(base)
    yield found
    assert not complaints
    context.close()


SITE = "h2 a:has-text('Shanghai 1')"


def test_1_within_the_limit_and_why_july_rose_against_may(person: Person) -> None:
    person.act(SITE)
    person.choose("[name=calendar]", "2026-07", is_sent=True)
    person.act("#period-compare summary", leads_on=False)
    person.choose("[name=compare] >> nth=-1", "2026-05", is_sent=True)
    assert "month=2026-07" in person.page.url
    assert "compare=2026-05-01..2026-06-01" in person.page.url
    person.sees("#figures .verdict", "Within limit")
    person.sees("#figures", "Main driver: Cooling")


def test_2_the_pue_of_3_to_9_october(person: Person) -> None:
    person.act(SITE)
    person.act("#period-days summary", leads_on=False)
    person.fill("#period-days [name=first]", "2026-10-03", "10032026")
    person.fill("#period-days [name=last]", "2026-10-09", "10092026")
    person.act("#period-days button")
    assert "start=2026-10-03&end=2026-10-10" in person.page.url
    person.sees("#period-figure", "1.4")


def test_3_the_chiller_that_used_most_last_month_and_its_daily_profile(person: Person) -> None:
    person.act(SITE)
    person.act("nav.tabs a:has-text('Meters')")
    person.choose("[name=calendar]", "2026-10", is_sent=True)
    person.act("#meters tbody a:has-text('Chiller')")
    person.sees("#meter", "Chiller 2")
    person.sees("#meter", "Daily profile")
    sync_api.expect(person.page.locator("figure[aria-label='Mean power by hour of the day']")).to_be_visible()


def test_4_whether_ups_a_carries_all(person: Person) -> None:
    person.act(SITE)
    person.act("nav.tabs a:has-text('Capacity')")
    person.choose("[name=without]", "UPS B", is_sent=False)
    person.act("#what-if button")
    person.sees("#what-if .note", "The others carry all.")


def test_5_a_meter_was_exchanged_yesterday(person: Person) -> None:
    person.act(SITE)
    person.act("nav.tabs a:has-text('Declared events')")
    person.act("#declare summary", leads_on=False)
    person.choose("#declare [name=meter]", "Chiller 1 (chiller-1)", is_sent=False)
    person.fill("#declare [name=start]", "2026-11-29T10:00", "11292026\t1000AM")
    person.fill("#declare [name=old_value]", "250000")
    person.fill("#declare [name=new_value]", "0")
    person.fill("#declare [name=note]", "exchanged by Li")
    person.act("#declare button[type=submit]")
    person.sees("main", "exchanged by Li")


def test_6_acknowledge_silence_and_find_out_later(person: Person, base: str) -> None:
    person.act("nav a:has-text('Alarms')")
    person.act("#alarms tbody a")
    if person.page.locator("form[action$='/acknowledge'] button").count():
        person.fill("form[action$='/acknowledge'] [name=comment]", "Zhang looks at it")
        person.act("form[action$='/acknowledge'] button")
    person.sees("main", "Zhang looks at it")
    person.begin(base)
    person.act("nav a:has-text('Alarms')")
    person.act("#alarms tbody a")
    person.act("details:has(form[action$='/silence']) summary", leads_on=False)
    person.fill("form[action$='/silence'] [name=comment]", "works on the feed")
    person.act("form[action$='/silence'] button")
    person.sees("main", "works on the feed")
    person.begin(base)
    person.act("footer a:has-text('Audit log')")
    person.sees("main", "alarm.acknowledge")
    person.sees("main", "silence")


def test_7_a_file_with_two_unknown_columns(person: Person, tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    rows = [f"2026-11-29 {hour:02d}:00,{100 + hour},{200 + hour}" for hour in range(24)]
    file.write_text("\n".join(["Time,Zähler X,Zähler Y", *rows]) + "\n")
    person.act("nav a:has-text('Import')")
    person.page.set_input_files("[name=file]", str(file))
    person.act("form[enctype] button")
    person.choose("[name='point.1']", "file-1.kwh", is_sent=False)
    person.choose("[name='point.2']", "file-2.kwh", is_sent=False)
    person.act("button[value=look]")
    person.act("button[value=import]")
    person.sees("#import-run", "export.csv imported")


def test_8_the_report_of_october_its_revisions_and_the_maturity_level(person: Person, base: str) -> None:
    person.act("nav a:has-text('Reports')")
    person.sees("main", "2026-10")
    person.act("a:has-text('Compare with revision 1')")
    person.sees("main", "energy.facility_kwh")
    person.begin(base)
    person.act(SITE)
    person.act("nav.tabs a:has-text('Compliance')")
    person.fill("#declared [name=value]", "3")
    person.fill("#declared [name=dated]", "2026-11-20", "11202026")
    person.fill("#declared [name=evidence]", "audit of November")
    person.act("#declared form button")
    person.sees("#declared", "audit of November")


def test_9_cost_and_carbon_of_last_month_by_class(person: Person) -> None:
    person.act(SITE)
    person.act("nav.tabs a:has-text('Cost and carbon')")
    person.choose("[name=calendar]", "2026-10", is_sent=True)
    person.sees("main tr:has-text('Cooling') td:nth-child(3)", ",")


def test_10_read_access_for_a_colleague_to_one_site(person: Person) -> None:
    person.act("footer a:has-text('Access keys')")
    person.fill("[name=name]", "Wang")
    person.choose("[name=scope]", "Shanghai 1", is_sent=False)
    person.act("form[action='/settings/keys'] button")
    person.sees("#new-key", "wl_")
    person.sees("tr:has-text('Wang')", "viewer:site/sh1")
