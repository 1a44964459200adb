"""The outlook of a site: what boards show of the year's end, capacities and the balance of the tree."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from app import config
from app.cli.demo import SITE_FILE
from app.domain.site import SiteLimit
from app.jobs import demo, outlook, rollup
from app.jobs.demo import DemoHistory
from app.store import deployment, outlook_cache
from app.store import outlook as store_outlook
from app.store.engine import begin
from app.store.sites import load, sync
from collectors.simulated.history import Simulation

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


SITE = """\
institutions: [{id: b, institution_class: other}]
sites:
  - id: s
    institution: b
    time_zone: Asia/Shanghai
    design: {it_capacity_kw: 100}
    meters:
      - {id: grid, stage: utility, rated_power_kw: 90, points: [{id: grid.e, role: facility, kind: register}]}
      - id: ups-a
        stage: ups
        fed_by: [grid]
        rated_power_kw: 60
        points: [{id: a.e, role: it_ups_output, kind: register}]
      - id: ups-b
        stage: ups
        fed_by: [grid]
        rated_power_kw: 60
        points: [{id: b.e, role: it_ups_output, kind: register}]
      - {id: pdu, stage: pdu, fed_by: [ups-a, ups-b], points: [{id: p.e, role: none, kind: register}]}
"""


def test_peaks_are_powers_and_not_energies_of_a_quarter_hour(engine: sa.Engine) -> None:
    """A quarter-hour of 10 kWh of which half is covered has 80 kW; the highest of a day is its peak."""
    file = config.parse(SITE)
    start = datetime(2026, 11, 1, 16, 0, tzinfo=UTC)  # midnight in Shanghai
    with begin(engine) as connection:
        sync(connection, file.fleet)
        stored = load(connection)
        site = stored.fleet.site["s"]
        for n, (kwh, ratio) in enumerate([(5.0, 1.0), (10.0, 0.5), (8.0, 0.4)]):
            at = start + timedelta(minutes=15 * n)
            connection.execute(
                sa.text(
                    "INSERT INTO site_15m (site_id, at, facility_kwh, it_kwh, coverage_ratio,"
                    " estimated_ratio, category) VALUES (:s, :at, 2 * :e, :e, :c, 0, 1)"
                ),
                {"s": stored.site_id["s"], "at": at, "e": kwh, "c": ratio},
            )
            for point, share in (("grid.e", 2.0), ("a.e", 0.5), ("b.e", 0.25)):
                connection.execute(
                    sa.text(
                        "INSERT INTO energy_15m (point_id, at, energy_kwh, coverage_ratio, estimated_ratio,"
                        " reading_interval_s, tag) VALUES (:p, :at, :e, :c, 0, 60, 0)"
                    ),
                    {"p": stored.point_id[point], "at": at, "e": share * kwh, "c": ratio},
                )
        now = start + timedelta(days=1, hours=3)
        days = store_outlook.days(connection, stored, site, now)
        alone = store_outlook._daily_peaks_alone(connection, site, [stored.point_id["grid.e"]], now)
        both = [stored.point_id["a.e"], stored.point_id["b.e"]]
        together = store_outlook._daily_peaks(connection, site, both, now)
    assert days["it_peak_kw"].tolist() == [80.0], "0.4 is too little cover to be believed"
    assert days["it_kwh"].tolist() == [23.0]
    assert [list(peaks) for peaks in alone.values()] == [[160.0]]
    assert list(together) == [60.0]


def rows(engine: sa.Engine, query: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def test_every_view_of_the_outlook_has_rows_and_is_renewed(engine: sa.Engine) -> None:
    file = config.load(SITE_FILE)
    with begin(engine) as connection:
        sync(connection, file.fleet)
    assert outlook.run(engine, NOW) == 0, "nothing is known yet"
    past = DemoHistory.load_or_begin(engine, NOW)
    demo.load(engine, file.fleet, Simulation(past.anchor), past, days=3)
    while rollup.run(engine).stretches:
        pass
    assert outlook.run(engine, NOW) == 2
    assert outlook.run(engine, NOW) == 0, "worked out just now"
    assert outlook.run(engine, NOW + timedelta(hours=2)) == 2
    with engine.connect() as connection:
        stored = load(connection)
        site = stored.fleet.site["sh1"]
        kept = outlook_cache.exhaustions(connection, stored, site, NOW + timedelta(hours=3))
        now_it = store_outlook.it_exhaustion(connection, stored, site, NOW)
        now_feeds = store_outlook.feed_exhaustions(connection, stored, site, NOW)
        late = outlook_cache.exhaustions(connection, stored, site, NOW + timedelta(days=1))
        limits = deployment.limit_profiles(connection)
        year = outlook_cache.this_year(connection, stored, site, limits, NOW + timedelta(hours=3))
        now_year = store_outlook.year_outlook(connection, stored, site, NOW.year, limits, NOW)
        stricter = replace(site, limit=SiteLimit(pue=1.31))
        judged = outlook_cache.this_year(connection, stored, stricter, limits, NOW + timedelta(hours=3))
        other = replace(site, design=replace(site.design, it_capacity_kw=2000))
        fresh = outlook_cache.exhaustions(connection, stored, other, NOW + timedelta(hours=3))
    assert kept.evaluated_at == NOW + timedelta(hours=2)
    assert (late.evaluated_at, kept.it) == (NOW + timedelta(days=1), now_it)
    assert kept.feeds == now_feeds
    assert year == now_year
    assert 1.31 in [limit.pue for limit, _ in judged.budgets]
    assert fresh.evaluated_at == NOW + timedelta(hours=3)
    assert fresh.it is not None
    assert fresh.it.capacity_kw == 2000
    for view in ("v_outlook", "v_budget", "v_capacity", "v_balance", "v_flow"):
        assert {r[0] for r in rows(engine, f"SELECT site FROM {view}")} == {"nb1", "sh1"}, view
    (reason,) = rows(engine, "SELECT reason FROM v_outlook WHERE site = 'sh1' AND pue IS NULL")
    assert reason[0], "three days are no history to project from, and it says so"
    sides = rows(engine, "SELECT in_kwh, out_kwh FROM v_balance WHERE stage = 'ups' AND in_kwh IS NOT NULL")
    assert sides
    assert all(float(str(i)) >= 0.9 * float(str(o)) for i, o in sides)
    demo.declare_measures(engine, NOW)
    entered = datetime.now(UTC) + timedelta(seconds=1)
    for worked_out, due in ((entered, 0), (entered - timedelta(minutes=5), 1)):
        with begin(engine) as connection:
            connection.execute(sa.text("UPDATE outlooks SET evaluated_at = :at"), {"at": worked_out})
        assert outlook.run(engine, entered) == due, "worked out again once measures of a site were entered"
