"""Conditions of a site from its stored figures, and the baselines that are frozen from them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from app import config
from app.domain.baseline import Baseline, Conditions, Resolution, WeatherSource, fit
from app.domain.period import Period
from app.domain.site import Site
from app.domain.weather import Provenance, wet_bulb_c
from app.errors import NotFound, SeriesError
from app.store import baselines, conditions, partitions
from app.store.engine import begin
from app.store.readings import to_us
from app.store.sites import Stored, load, sync

SITE = """\
institutions: [{id: b, institution_class: other}]
sites:
  - id: s
    institution: b
    time_zone: Asia/Shanghai
    meters:
      - {id: grid, stage: utility, points: [{id: grid.e, role: facility, kind: register}]}
      - {id: ups, stage: ups, fed_by: [grid], points: [{id: ups.e, role: it_ups_output, kind: register}]}
      - id: roof
        points:
          - {id: roof.t, role: outdoor_dry_bulb, kind: gauge}
          - {id: roof.rh, role: outdoor_relative_humidity, kind: gauge}
      - id: file
        imported_from: Hongqiao (ZSSS)
        points: [{id: file.wb, role: outdoor_wet_bulb, kind: gauge}]
"""
FIRST = datetime(2025, 10, 31, 16, tzinfo=UTC)  # midnight of 1 November in Shanghai
DAYS = 80
WEATHER = (("roof.t", 14, 9), ("roof.rh", 70, 0), ("file.wb", 10, 8))
"""Point, mean and swing."""
ALL = Period(FIRST, FIRST + timedelta(days=DAYS))


def stored_site(engine: sa.Engine) -> tuple[Stored, Site]:
    with begin(engine) as connection:
        sync(connection, config.parse(SITE).fleet)
        stored = load(connection)
    return stored, stored.fleet.site["s"]


def fill(engine: sa.Engine, stored: Stored, *, until: datetime = ALL.end, gauges: bool = True) -> None:
    """15-minute energies: IT 100 or 120 kW, overhead 20 kW + 2 kW/K above 10 C; the weather has a course."""
    energies = """
        INSERT INTO site_15m (site_id, at, facility_kwh, it_kwh, coverage_ratio, estimated_ratio, category)
        SELECT :site, at, (it + 20 + 2 * greatest(t - 10, 0)) / 4, it / 4, 1, 0, 1 FROM (
            SELECT at, 100 + 20 * (extract(epoch FROM at)::bigint / 86400 / 10 % 2) AS it,
                   10 + 8 * sin(extract(epoch FROM at) / 86400 / 9) AS t
            FROM generate_series(CAST(:start AS timestamptz), :until - interval '1 s', '15 min') AS at
        ) x
    """
    means = """
        INSERT INTO gauge_15m (point_id, at, mean, lowest, highest, samples)
        SELECT :point, at, v, v, v, 1 FROM (
            SELECT at, CAST(:base AS float8)
                + CAST(:swing AS float8) * sin(extract(epoch FROM at) / 86400 / 9) AS v
            FROM generate_series(CAST(:start AS timestamptz), :until - interval '1 s', '1 hour') AS at
        ) x
    """
    span = {"start": FIRST, "until": until}
    with begin(engine) as connection:
        for table in ("site_15m", "gauge_15m"):
            starts = [to_us(FIRST), to_us(ALL.end - timedelta(seconds=1))]
            partitions.ensure_figures(connection, table, np.array(starts))
        connection.execute(sa.text(energies), {**span, "site": stored.site_id["s"]})
        for point, base, swing in WEATHER if gauges else ():
            values = {**span, "point": stored.point_id[point], "base": base, "swing": swing}
            connection.execute(sa.text(means), values)


def of_site(
    engine: sa.Engine, stored: Stored, site: Site, period: Period = ALL, **more: object
) -> Conditions:
    with engine.connect() as connection:
        return conditions.of_site(connection, stored, site, period, **more)  # type: ignore[arg-type]


def change(engine: sa.Engine, query: str, **values: object) -> None:
    with begin(engine) as connection:
        assert connection.execute(sa.text(query), values).rowcount


def test_days_are_those_of_the_site_with_the_weather_of_its_own_sensors(engine: sa.Engine) -> None:
    stored, site = stored_site(engine)
    fill(engine, stored)
    found = of_site(engine, stored, site)
    assert len(found) == DAYS
    assert found.starts[0] == np.datetime64("2025-10-31T16:00:00")
    assert str(found.local_days[0].astype("datetime64[D]")) == "2025-11-01"
    assert found.day_off[:3].tolist() == [True, True, False]
    assert set(found.hours.tolist()) == {24.0}
    assert set(np.round(found.it_kw, 3)) <= {100.0, 120.0, *np.round(found.it_kw, 3)}
    assert found.it_kw.min() == pytest.approx(100)
    assert found.it_kw.max() == pytest.approx(120)
    assert found.weather == WeatherSource(Provenance.MEASURED, "roof.t, roof.rh")
    hours = np.datetime64("2025-10-31T16:00:00").astype(np.int64) + 3600 * np.arange(24)
    by_hand = wet_bulb_c(14 + 9 * np.sin(hours / 86400 / 9), 70.0).mean()
    assert found.wet_bulb_c[0] == pytest.approx(by_hand, abs=1e-9)
    assert found.left_out == {}


def test_only_whole_days_of_a_period_count(engine: sa.Engine) -> None:
    stored, site = stored_site(engine)
    fill(engine, stored)
    part = Period(FIRST + timedelta(hours=3), FIRST + timedelta(days=4, hours=5))
    assert len(of_site(engine, stored, site, part)) == 3
    assert len(of_site(engine, stored, site, Period(FIRST, FIRST + timedelta(hours=5)))) == 0


def test_hours(engine: sa.Engine) -> None:
    stored, site = stored_site(engine)
    fill(engine, stored)
    found = of_site(engine, stored, site, resolution=Resolution.HOUR)
    assert len(found) == DAYS * 24
    assert set(found.hours.tolist()) == {1.0}
    assert np.isfinite(found.wet_bulb_c).all()
    day = of_site(engine, stored, site)
    assert found.overhead_kw[:24].mean() == pytest.approx(day.overhead_kw[0])


def test_rows_that_are_not_sound_are_left_out_and_counted(engine: sa.Engine) -> None:
    stored, site = stored_site(engine)
    fill(engine, stored)
    day = timedelta(days=1)
    quarter = "UPDATE site_15m SET {} WHERE at >= :start AND at < :end"
    change(engine, quarter.format("coverage_ratio = 0.4"), start=FIRST, end=FIRST + day)
    change(engine, quarter.format("estimated_ratio = 0.5"), start=FIRST + day, end=FIRST + 2 * day)
    change(
        engine,
        "INSERT INTO findings (site_id, point_id, kind, start_at, end_at, severity, state)"
        " VALUES (:site, :point, 'it_missing', :start, :end, 'error', 'open')",
        site=stored.site_id["s"],
        point=stored.point_id["ups.e"],
        start=FIRST + 3 * day + timedelta(hours=2),
        end=FIRST + 5 * day - timedelta(hours=2),
    )
    change(
        engine,
        "INSERT INTO events (site_id, meter_id, kind, start_at, end_at, author, note)"
        " SELECT :site, id, 'test', :start, :end, 'me', 'load bank' FROM meters WHERE key = 'ups'",
        site=stored.site_id["s"],
        start=FIRST + 8 * day,
        end=FIRST + 8 * day + timedelta(hours=2),
    )
    found = of_site(engine, stored, site)
    assert found.left_out == {"low_coverage": 1, "estimated": 1, "open_finding": 2, "declared_event": 1}
    assert len(found) == DAYS - 5
    change(engine, "UPDATE findings SET state = 'acknowledged'")
    change(engine, "UPDATE events SET withdrawn_at = now(), withdrawn_by = 'me'")
    assert of_site(engine, stored, site).left_out == {"low_coverage": 1, "estimated": 1}


def test_a_day_without_its_afternoons_weather_has_none(engine: sa.Engine) -> None:
    stored, site = stored_site(engine)
    fill(engine, stored)
    point = stored.point_id["roof.rh"]
    change(
        engine,
        "DELETE FROM gauge_15m WHERE point_id = :p AND at >= :start AND at < :end",
        p=point,
        start=FIRST + timedelta(hours=10),
        end=FIRST + timedelta(hours=16),
    )
    late = FIRST + timedelta(days=75)
    change(engine, "UPDATE gauge_15m SET mean = 999 WHERE point_id = :p AND at >= :s", p=point, s=late)
    found = of_site(engine, stored, site)
    assert np.flatnonzero(np.isnan(found.wet_bulb_c)).tolist() == [0, 75, 76, 77, 78, 79]
    assert found.weather is not None
    assert found.weather.provenance is Provenance.MEASURED


def test_imported_weather_stands_in_where_the_sensors_know_little_and_says_so(engine: sa.Engine) -> None:
    stored, site = stored_site(engine)
    fill(engine, stored)
    gone = "DELETE FROM gauge_15m WHERE point_id = :p AND at >= :start"
    change(engine, gone, p=stored.point_id["roof.rh"], start=FIRST + timedelta(days=40))
    found = of_site(engine, stored, site)
    assert found.weather == WeatherSource(Provenance.IMPORTED, "Hongqiao (ZSSS) (file.wb)")
    base = fit(found)
    assert isinstance(base, Baseline)
    assert base.as_dict()["weather"] == {"provenance": "imported", "source": "Hongqiao (ZSSS) (file.wb)"}
    early = Period(FIRST, FIRST + timedelta(days=30))
    other = of_site(engine, stored, site, early)
    assert base.expected(other).outside["weather_other_source"] == 30, "sensors are not compared with a file"
    same = of_site(engine, stored, site, early, weather=base.weather)
    assert base.expected(same).outside == {}


def test_nothing_known_at_all(engine: sa.Engine) -> None:
    stored, site = stored_site(engine)
    found = of_site(engine, stored, site)
    assert len(found) == 0
    assert found.weather is None


def test_a_frozen_baseline_is_kept_as_it_was(engine: sa.Engine) -> None:
    stored, site = stored_site(engine)
    fill(engine, stored)
    rows = of_site(engine, stored, site)
    noisy = replace(rows, overhead_kw=rows.overhead_kw + np.random.default_rng(1).normal(size=len(rows)))
    base = fit(noisy)
    assert isinstance(base, Baseline)
    number = stored.site_id["s"]
    with begin(engine) as connection:
        assert baselines.save(connection, number, base, noisy, "ann") == 1
        assert baselines.save(connection, number, base, noisy, "bob") == 1, "it is frozen already"
        later = fit(noisy.take(np.arange(70)))
        assert isinstance(later, Baseline)
        assert baselines.save(connection, number, later, noisy.take(np.arange(70)), "bob") == 2
    with engine.connect() as connection:
        assert baselines.load(connection, number).baseline == later
        first = baselines.load(connection, number, 1)
        assert [f.version for f in baselines.listing(connection, number)] == [2, 1]
        with pytest.raises(NotFound, match="no frozen baseline 3"):
            baselines.load(connection, number, 3)
    assert (first.baseline, first.sha256, first.author) == (base, base.digest, "ann")
    assert fit(Conditions.from_rows(first.baseline.resolution, first.rows, weather=rows.weather)) == base
    for query in ("UPDATE baselines SET author = 'eve'", "DELETE FROM baselines"):
        with pytest.raises(sa.exc.DBAPIError, match="never changed"), begin(engine) as connection:
            connection.execute(sa.text(query))
    with begin(engine) as connection:
        connection.execute(sa.text("ALTER TABLE baselines DISABLE TRIGGER baselines_kept"))
        connection.execute(sa.text("UPDATE baselines SET rows = '[]' WHERE version = 1"))
        connection.execute(sa.text("ALTER TABLE baselines ENABLE TRIGGER baselines_kept"))
        with pytest.raises(SeriesError, match="not what its hash says"):
            baselines.load(connection, number, 1)
