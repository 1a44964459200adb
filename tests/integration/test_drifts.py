"""Drift of a stored plant: found against its frozen baseline, attributed to a meter, judged and replayed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
import sqlalchemy as sa
from psycopg import conninfo

from app import config
from app.domain.baseline import Baseline, fit
from app.domain.drift_figure import Watched
from app.domain.measure import Boundary, Measure
from app.domain.period import Period, midnight
from app.domain.site import Site
from app.jobs import outlook
from app.jobs.alarms import judge
from app.jobs.alarms.watch import Cache
from app.reports import output
from app.reports.build import build
from app.reports.document import Report
from app.reports.language import language
from app.reports.layout import Prose
from app.reports.pages import layout_of
from app.store import alarms, audit, baselines, conditions, drifts, measures, partitions, reader
from app.store.drifts import NotWatched, SiteDrift
from app.store.engine import begin
from app.store.readings import to_us
from app.store.reports import revisions
from app.store.sites import Stored, load, sync
from app.web import router as pages
from grafana.__main__ import FOLDER
from grafana.ask import Span, panels, sql_of, variables_of
from tests.integration.api_helpers import client
from tests.integration.test_alarms_golden import replayed

SITE = """\
institutions: [{id: b, institution_class: other}]
sites:
  - id: s
    institution: b
    time_zone: Asia/Shanghai
    profiles: [cbrc_13fyp]
    meters:
      - {id: grid, stage: utility, points: [{id: grid.e, role: facility, kind: register}]}
      - {id: ups, stage: ups, fed_by: [grid], points: [{id: ups.e, role: it_ups_output, kind: register}]}
      - {id: chiller-1, fed_by: [grid], points: [{id: chiller-1.e, role: cooling, kind: register}]}
      - {id: chiller-2, fed_by: [grid], points: [{id: chiller-2.e, role: cooling, kind: register}]}
      - id: roof
        points:
          - {id: roof.t, role: outdoor_dry_bulb, kind: gauge}
          - {id: roof.rh, role: outdoor_relative_humidity, kind: gauge}
"""
FIRST = datetime(2025, 2, 28, 16, tzinfo=UTC)  # midnight of 1 March in Shanghai
LEARNED, ONSET, DAYS = 100, 130, 190
NOW = FIRST + timedelta(days=DAYS)
ONSET_ON = date(2025, 3, 1) + timedelta(days=ONSET)

_POWER = """
    SELECT at, it, cooling, CASE WHEN at >= :onset THEN 0.1 * (20 + cooling) ELSE 0 END AS excess FROM (
        SELECT at, 100 + 20 * (extract(epoch FROM at)::bigint / 86400 / 10 % 2) AS it,
            30 + greatest(10 + 8 * sin(extract(epoch FROM at) / 86400 / 9), 0)
            * (1 + 0.01 * sin(extract(epoch FROM at) / 86400 * 7.3)) AS cooling
        FROM generate_series(CAST(:start AS timestamptz), :end - interval '1 s', '15 min') AS at
    ) x
"""
_SITE_ROWS = f"""
    INSERT INTO site_15m (site_id, at, facility_kwh, it_kwh, coverage_ratio, estimated_ratio, category)
    SELECT :site, at, (it + 20 + cooling + excess) / 4, it / 4, 1, 0, 1 FROM ({_POWER}) p
"""
_POINT_ROWS = f"""
    INSERT INTO energy_15m (point_id, at, energy_kwh, coverage_ratio, estimated_ratio,
        reading_interval_s, tag)
    SELECT :point, at, (cooling / 2 + CAST(:share AS float8) * excess) / 4, 1, 0, 900, 1
    FROM ({_POWER}) p
"""
_GAUGE_ROWS = """
    INSERT INTO gauge_15m (point_id, at, mean, lowest, highest, samples)
    SELECT :point, at, v, v, v, 1 FROM (
        SELECT at, CAST(:base AS float8)
            + CAST(:swing AS float8) * sin(extract(epoch FROM at) / 86400 / 9) AS v
        FROM generate_series(CAST(:start AS timestamptz), :end - interval '1 s', '1 hour') AS at
    ) x
"""


@pytest.fixture
def plant(engine: sa.Engine) -> tuple[Stored, Site]:
    """A plant of two chillers, of which the second uses more from :data:`ONSET` on."""
    with begin(engine) as connection:
        sync(connection, config.parse(SITE).fleet)
        stored = load(connection)
        for table in ("site_15m", "gauge_15m", "energy_15m"):
            days = [to_us(FIRST + timedelta(days=n)) for n in range(DAYS)]
            partitions.ensure_figures(connection, table, np.array(days))
        span = {"start": FIRST, "end": NOW}
        power = {**span, "onset": FIRST + timedelta(days=ONSET)}
        connection.execute(sa.text(_SITE_ROWS), {**power, "site": stored.site_id["s"]})
        for point, share in (("chiller-1.e", 0.0), ("chiller-2.e", 1.0)):
            values = {**power, "point": stored.point_id[point], "share": share}
            connection.execute(sa.text(_POINT_ROWS), values)
        for point, base, swing in (("roof.t", 14, 9), ("roof.rh", 70, 0)):
            values = {**span, "point": stored.point_id[point], "base": base, "swing": swing}
            connection.execute(sa.text(_GAUGE_ROWS), values)
    return stored, stored.fleet.site["s"]


def freeze(engine: sa.Engine, stored: Stored, site: Site) -> Baseline:
    with begin(engine) as connection:
        period = Period(FIRST, FIRST + timedelta(days=LEARNED))
        rows = conditions.of_site(connection, stored, site, period)
        found = fit(rows)
        assert isinstance(found, Baseline), found
        baselines.save(connection, stored.site_id["s"], found, rows, "test")
    return found


def drift_of(engine: sa.Engine, stored: Stored, site: Site) -> SiteDrift | NotWatched:
    with engine.connect() as connection:
        return drifts.of_site(connection, stored, site, NOW)


def test_without_a_frozen_baseline_nothing_is_said(engine: sa.Engine, plant: tuple[Stored, Site]) -> None:
    assert drift_of(engine, *plant) == NotWatched(Watched.NO_BASELINE)


def test_drift_is_found_dated_and_put_down_to_its_meter(
    engine: sa.Engine, plant: tuple[Stored, Site]
) -> None:
    freeze(engine, *plant)
    found = drift_of(engine, *plant)
    assert isinstance(found, SiteDrift)
    (episode,) = found.course.episodes
    assert episode.is_open
    assert abs((episode.onset - ONSET_ON).days) <= 2
    assert episode.excess_ratio == pytest.approx(0.1, abs=0.015)
    with engine.connect() as connection:
        blame = drifts.blame(connection, plant[0], found)
    assert blame.mostly == "chiller-2"
    assert blame.excess_kwh["chiller-2"] == pytest.approx(blame.total_kwh, rel=0.15)
    assert abs(blame.excess_kwh["chiller-1"]) < 0.1 * blame.total_kwh


def test_a_registered_measure_ends_it(engine: sa.Engine, plant: tuple[Stored, Site]) -> None:
    freeze(engine, *plant)
    on = ONSET_ON + timedelta(days=25)
    measure = Measure.declared(
        key="tubes", what="tubes", where=Boundary.parse("facility"), implementation_start=on, evidence="x"
    )
    with begin(engine) as connection:
        measures.add(connection, plant[0].site_id["s"], measure, "test")
    found = drift_of(engine, *plant)
    assert isinstance(found, SiteDrift)
    (episode,) = found.course.episodes
    assert (episode.over_on, episode.over_by) == (on, "tubes")


def test_the_alarm_says_since_when_and_mostly_where(engine: sa.Engine, plant: tuple[Stored, Site]) -> None:
    freeze(engine, *plant)
    cache = Cache()
    for seconds in (5, 30):
        judge.run(engine, NOW + timedelta(seconds=seconds), cache=cache)
    with begin(engine) as connection:
        listed = alarms.listing(connection, [*load(connection).site_key], "all")
    (alarm,) = (one for one in listed if one.rule == "plant_drift")
    assert (alarm.severity, alarm.state) == ("warning", "firing")
    assert alarm.document["moved"] == "cooling"
    assert alarm.document["meters"] == ["chiller-2"]
    said = alarm.document["drift"]
    assert said["mostly"] == "chiller-2"
    assert said["excess_ratio"] == pytest.approx(0.1, abs=0.015)
    assert abs((date.fromisoformat(said["onset"]) - ONSET_ON).days) <= 2
    with client(engine, clock=lambda: NOW, extra=(pages.router,)) as http:
        english, chinese = (http.get("/sites/s/savings", params={"lang": lang}).text for lang in ("en", "zh"))
    assert "more than its own baseline since" in english
    assert "mostly chiller-2" in english
    assert "主要来自 chiller-2" in chinese


def test_a_replay_finds_it_on_the_day_on_which_it_could_be_known(
    engine: sa.Engine, plant: tuple[Stored, Site]
) -> None:
    freeze(engine, *plant)
    found = drift_of(engine, *plant)
    assert isinstance(found, SiteDrift)
    (alarm,) = (
        one
        for one in replayed(engine, "s", Period(FIRST + timedelta(days=LEARNED + 5), NOW))
        if one["rule"] == "plant_drift"
    )
    day_after = found.course.episodes[0].found_on + timedelta(days=1)
    fired = datetime.fromisoformat(alarm["fired_at"]).astimezone(plant[1].zone)
    assert fired.date() == day_after
    assert alarm["resolved_at"] is None


def test_the_report_has_a_section_on_it(engine: sa.Engine, plant: tuple[Stored, Site]) -> None:
    assert "Drift is not watched: no baseline of the plant is frozen" in section_of(report_of(engine, *plant))
    baseline = freeze(engine, *plant)
    report = report_of(engine, *plant)
    found = report.drift
    assert found is not None
    assert (found.state, found.mostly, found.baseline_sha256) == ("drifting", "chiller-2", baseline.digest)
    assert (found.known_to, found.weeks_to_limit) == ("2025-08-31", None)
    (row,) = found.rows
    assert abs((date.fromisoformat(row.onset) - ONSET_ON).days) <= 2
    assert found.excess_kwh is not None
    start, end = (midnight(day, plant[1].zone) for day in (date.fromisoformat(row.onset), date(2025, 9, 1)))
    with engine.connect() as connection:
        power = {"start": start, "end": end, "onset": FIRST + timedelta(days=ONSET)}
        true_kwh = connection.execute(
            sa.text(f"SELECT sum(excess) / 4 FROM ({_POWER}) p"), power
        ).scalar_one()
    assert (found.counted_days, found.days) == (53, 54), "on one day the weather had not been seen"
    counted_kwh = true_kwh * found.counted_days / found.days
    assert found.excess_kwh.low < counted_kwh < found.excess_kwh.high
    said = section_of(report)
    assert said.startswith("Since ")
    assert "mostly chiller-2" in said
    assert "with 90 % confidence between" in said
    assert "主要来自 chiller-2" in section_of(report, "zh")
    earlier = report_of(engine, *plant, name="2025-05")
    assert earlier.drift is not None
    assert earlier.drift.state == "no_days"


def report_of(engine: sa.Engine, stored: Stored, site: Site, name: str = "2025-08") -> Report:
    with engine.connect() as connection:
        return build(revisions.gather(connection, stored, site, name, NOW))


def section_of(report: Report, lang: str = "en") -> str:
    """Prose of the section; the whole report is typeset and written as a workbook, too."""
    (section,) = (s for s in layout_of(report, language(lang)).sections if s.id == "drift")
    for form in ("html", "xlsx", "json"):
        assert output.render(report, form, lang)
    return " ".join(block.text for block in section.blocks if isinstance(block, Prose))


def test_freezing_a_baseline_is_offered_and_never_done_silently(
    engine: sa.Engine, plant: tuple[Stored, Site]
) -> None:
    number = plant[0].site_id["s"]

    def frozen() -> list[baselines.Frozen]:
        with engine.connect() as connection:
            return baselines.listing(connection, number)

    late = FIRST + timedelta(days=LEARNED + 280)
    notice = "A year of figures is known and no baseline is frozen"
    cookies = {"wattline_form": "f" * 32, "wattline_lang": "en"}
    with client(engine, clock=lambda: late, extra=(pages.router,)) as http:
        http.cookies.update(cookies)
        assert notice in http.get("/").text
        assert notice in http.get("/sites/s").text
        page = http.get("/sites/s/savings").text
        offered = dict(re.findall(r'name="(start|end)" value="([\d-]+)"', page))
        assert "Freeze this baseline" in page
        assert frozen() == []
        assert http.post("/sites/s/baseline", data={**offered, "form_id": "f" * 32}).status_code == 303
        (one,) = frozen()
        assert one.baseline.accepted
        assert (one.baseline.first_day, one.baseline.last_day) == ("2025-03-16", "2025-09-06")
        page = http.get("/sites/s/savings").text
        assert "Freeze this baseline" not in page
        assert one.sha256 in page
        assert "Drift is watched against it" in page
        assert "&lt;" not in page
        assert notice not in http.get("/").text
        assert notice not in http.get("/sites/s").text
    with engine.connect() as connection:
        assert audit.listing(connection)[0].action == "baseline.freeze"


def test_before_a_year_nobody_is_asked(engine: sa.Engine, plant: tuple[Stored, Site]) -> None:
    with client(engine, clock=lambda: NOW, extra=(pages.router,)) as http:
        http.cookies.update({"wattline_lang": "en"})
        assert "no baseline is frozen" not in http.get("/").text
        assert "Freeze this baseline" in http.get("/sites/s/savings").text, "an accepted one exists"


def test_boards_show_it_to_the_reading_role(
    engine: sa.Engine, plant: tuple[Stored, Site], server_url: str
) -> None:
    freeze(engine, *plant)
    assert outlook.run(engine, NOW) == 1
    with reading(engine, server_url) as connection:
        (row,) = shown(connection, "Drift of the plant")
        days = shown(connection, "Drift: overhead power against the frozen baseline")
    with engine.connect() as connection:
        figure = drifts.figure(connection, plant[0], plant[1], NOW)
    assert figure.going is not None
    assert figure.excess is not None
    assert (row["state"], row["mostly"]) == ("Uses more than its baseline", "chiller-2")
    assert row["onset"] == figure.going.onset.isoformat()
    assert row["excess_ratio"] == pytest.approx(figure.going.excess_ratio)
    ends = (row["low_kwh"], row["excess_kwh"], row["high_kwh"])
    assert ends == pytest.approx((figure.excess.kwh.low, figure.excess.kwh.value, figure.excess.kwh.high))
    assert len(days) == DAYS - LEARNED, "whole local days after the baseline period"
    late = [day for day in days[-20:] if day["expected_kw"] is not None]
    assert len(late) > 10
    for day in late:
        assert day["actual_kw"] == pytest.approx(1.1 * day["expected_kw"], rel=0.02)


@contextmanager
def reading(engine: sa.Engine, server_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the role that boards read with."""
    role = f"reader_drift_{os.getpid()}"
    reader.ensure_reader(engine, "reads-only", role)
    with engine.connect() as own:
        name = own.execute(sa.text("SELECT current_database()")).scalar_one()
    parts = {**conninfo.conninfo_to_dict(server_url), "dbname": name}
    address = conninfo.make_conninfo("", **{**parts, "user": role, "password": "reads-only"})
    with psycopg.connect(address, autocommit=True) as connection:
        yield connection
    with engine.begin() as own:
        own.exec_driver_sql(f"DROP OWNED BY {role}")
        own.exec_driver_sql(f"DROP ROLE {role}")


def shown(connection: psycopg.Connection[Any], title: str) -> list[dict[str, Any]]:
    """What a panel of the compliance board gives."""
    board = json.loads((FOLDER / "en" / "compliance.json").read_text("utf-8"))
    (panel,) = (p for p in panels(board) if p["title"] == title)
    query = panel["targets"][0]["rawSql"]
    sql = sql_of(query, variables_of(board, connection, "s"), Span(FIRST, NOW))
    cursor = connection.execute(sql.encode())
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor]
