"""Alarms are judged where something changed: the same comes of it as if all were judged each time.

Two equal databases go through the same random course: readings, figures, gauges, findings, edges, other rules
and definitions, acknowledgements, and moves of the clock. One process judges what is new, the other forgets
what it knew before each evaluation. ``WATTLINE_ALARM_COURSES`` says how many courses there are.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from app import config
from app.domain.alarms.alarm import Alarms, Indicator, Rule, Side
from app.domain.alarms.notification import Channel, ChannelKind, Notifications, Silence
from app.domain.data.alarm_rules import ALARM_RULES
from app.domain.period import QUARTER_HOUR, WINDOWS, floor, window
from app.domain.reading import ReadingColumns
from app.jobs.alarms import judge
from app.jobs.alarms.watch import Cache
from app.store import alarms, computed_hours, evaluations, partitions, readings, sites
from app.store.alarm_inputs import Signs
from app.store.engine import Connection, Engine, begin, make_engine
from app.store.readings import to_us

START = datetime(2026, 2, 10, 3, 0, 7, tzinfo=UTC)
COURSES = int(os.environ.get("WATTLINE_ALARM_COURSES", "2"))
STEPS = 50

FLEET = """\
institutions: [{id: b, institution_class: joint_stock}]
sites:
"""
SITE = """\
  - id: SITE
    institution: b
    time_zone: Asia/Kathmandu
    design: {it_capacity_kw: 100}
    meters:
      - {id: SITE-grid, rated_power_kw: RATED, points: [{id: SITE-grid.e, role: facility, kind: register}]}
      - id: SITE-a
        fed_by: [SITE-grid]
        rated_power_kw: 20
        collector: {kind: modbus, host: gw1.SITE, device_id: 1, profile: schneider_pm5xxx, interval_s: 60}
        points: [{id: SITE-a.e, role: it_pdu_output, kind: register}]
      - id: SITE-b
        fed_by: [SITE-grid]
        rated_power_kw: 20
        redundancy: 2N
        collector: {kind: modbus, host: gw1.SITE, device_id: 2, profile: schneider_pm5xxx, interval_s: 120}
        points: [{id: SITE-b.e, role: it_pdu_output, kind: register}]
      - id: SITE-c
        collector: {kind: modbus, host: gw2.SITE, device_id: 1, profile: schneider_pm5xxx}
        points:
          - {id: SITE-c.e, role: lighting, kind: register}
          - {id: SITE-c.f, role: none, kind: power}
      - id: SITE-t
        room: hall
        points:
          - {id: SITE-t.t, role: temperature, kind: gauge}
          - {id: SITE-t.i, role: rack_inlet, kind: gauge}
          - {id: SITE-t.h, role: humidity, kind: gauge}
"""
LEAVES = """\
      - id: SITE-d
        valid_to: "2026-02-10T09:20:00+05:45"
        fed_by: [SITE-grid]
        rated_power_kw: 5
        points: [{id: SITE-d.e, role: it_pdu_output, kind: register}]
"""
RULES = (
    Rule(
        id="pue_day",
        indicator=Indicator.PUE,
        window="24h",
        warning=1.46,
        critical=1.6,
        hysteresis=0.02,
        for_s=25,
        keep_firing_for_s=45,
    ),
    Rule(id="low", indicator=Indicator.TEMPERATURE_C, side=Side.BELOW, warning=20.0, for_s=0),
    Rule(id="fresh", indicator=Indicator.METER_SILENT_INTERVALS, side=Side.BELOW, warning=0.5, for_s=40),
    Rule(
        id="feeds",
        indicator=Indicator.FEED_LOAD_RATIO,
        warning=0.5,
        for_s=0,
        keep_firing_for_s=30,
        quiet_while=("pue_1h", "gateway_silent"),
    ),
    Rule(id="young", indicator=Indicator.EVALUATION_AGE_S, warning=200.0, for_s=0, keep_firing_for_s=0),
    Rule(
        id="quiet", indicator=Indicator.SERIOUS_FINDINGS, warning=0.0, quiet_while=("meter_silent",), for_s=20
    ),
)


def text(rated: int, *names: str) -> str:
    dated = (SITE + LEAVES).replace("SITE", "d") if "d" in names else ""
    plain = "".join(SITE.replace("SITE", name) for name in names if name != "d")
    return (FLEET + plain + dated).replace("RATED", str(rated))


_KEY = (
    "INSERT INTO api_keys (public_id, name, secret_sha256, grants, created_by) VALUES ('k', '', '', '{}', '')"
)
_EDGE = """
INSERT INTO edges (name, key_id, sites, last_seen_at)
VALUES ('box', 'k', '{a}', clock_timestamp() - make_interval(secs => :silent_s))
ON CONFLICT (name) DO UPDATE SET last_seen_at = excluded.last_seen_at
"""


BUSY = ("fresh", "young")
"""Rules under which hardly anything ever rests."""


class Course:
    """What happens to a database; the same for the same seed. Every other course is calm, with long rests."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine, self.random, self.now = engine, random.Random(seed), START
        self.spool: float | None = None
        self.mute = ""
        """A meter that does not answer."""
        self.names, self.is_calm = ["a", "d"], seed % 2 == 0
        with begin(engine) as connection:
            for table in ("energy_15m", "site_15m", "gauge_15m"):
                partitions.ensure_figures(connection, table, np.array([to_us(START)]))
            connection.execute(sa.text(_KEY))
        self.define(100)
        self.told(Alarms(rules=self._rules(len(RULES))))

    def define(self, rated: int) -> None:
        with begin(self.engine) as connection:
            sites.sync(connection, config.parse(text(rated, *self.names)).fleet)
            self.stored = sites.load(connection)

    def told(self, own: Alarms, repeat_s: float = 300.0) -> None:
        channel = Channel(id="hook", kind=ChannelKind.WEBHOOK, url="https://x.example/", repeat_s=repeat_s)
        channels = (channel,) if self.random.random() < (0.2 if self.is_calm else 0.6) else ()
        with begin(self.engine) as connection:
            alarms.save_sections(connection, own, Notifications(channels=channels))

    def _rules(self, count: int) -> tuple[Rule, ...]:
        chosen = self.random.sample(RULES, count)
        return tuple(rule for rule in chosen if not self.is_calm or rule.id not in BUSY)

    def go_on(self) -> list[str]:
        """What happens between two evaluations."""
        if not self.is_calm:
            return [self.happen() for _ in range(self.random.choice([0, 0, 1, 1, 2]))]
        self.mute = self.random.choice(["", "", "", "a.e", "b.e"])
        if self.random.random() < 0.5:
            with begin(self.engine) as connection:
                for site in self.names:
                    self.evaluate(connection, site)
        return [self.happen() for _ in range(self.random.choice([0, 0, 1]))]

    def happen(self) -> str:
        """One random thing; its name."""
        within: dict[Callable[[Connection], None], int] = {
            self.read: 6,
            self.measure: 3,
            self.warm: 3,
            self.evaluate: 4,
            self.find: 2,
            self.clear: 2,
            self.begin_earlier: 1,
            self.acknowledge: 1,
            self.silence: 1,
            self.lose: 1,
            self.hear: 2,
            self.revoke: 1,
        }
        alone: dict[Callable[[], None], int] = {self.redefine: 1, self.rule: 1, self.fill: 2}
        weights = [*within.values(), *alone.values()]
        (place,) = self.random.choices(range(len(weights)), weights)
        if place < len(within):
            chosen = list(within)[place]
            with begin(self.engine) as connection:
                chosen(connection)
            return chosen.__name__
        done = list(alone)[place - len(within)]
        done()
        return done.__name__

    def wait(self) -> None:
        """Time goes on, or the clock is set."""
        draw = self.random.random()
        if draw < 0.75:
            self.now += timedelta(seconds=self.random.choice([5, 10, 10, 10, 31, 60]))
        elif draw < 0.88:
            self.now += timedelta(seconds=self.random.randrange(60, 1300))
        elif draw < 0.92:
            self.now = floor(self.now) + QUARTER_HOUR
        elif draw < 0.95:
            self.now += timedelta(minutes=self.random.randrange(20, 200))
        else:
            self.now -= timedelta(seconds=self.random.choice([1, 30, 299, 301, 3000]))

    def _site(self) -> str:
        return self.random.choice(self.names)

    def _computed(self, connection: Connection, site: str, at: datetime) -> None:
        number = self.stored.site_id[site]
        computed_hours.note(
            connection, {number: np.array([to_us(at)])}, [(number, date(at.year, at.month, 1))]
        )

    def hear_all(self) -> None:
        """All meters but one answer."""
        with begin(self.engine) as connection:
            for name in {"a.e", "b.e", "c.e", "c.f"} - {self.mute}:
                self._take(connection, name, 0)

    def read(self, connection: Connection) -> None:
        """Readings of some meters, now, late, or by a clock that is ahead."""
        for name in self.random.sample(["a.e", "b.e", "c.e", "c.f"], self.random.choice([0, 1, 2, 4, 4])):
            self._take(connection, name, self.random.choice([0, 0, 0, 0, -120, -400, 90, -86_400 * 3]))

    def _take(self, connection: Connection, name: str, ahead_s: int) -> None:
        for site in self.names:
            at_us = (to_us(self.now) // 1_000_000 + ahead_s) * 1_000_000
            number, zero = self.stored.point_id[f"{site}-{name}"], np.zeros(1, np.int32)
            one = ReadingColumns(np.array([number], np.int32), np.array([at_us]), np.array([1.0]), zero, zero)
            readings.ingest(connection, one)

    def measure(self, connection: Connection) -> None:
        """Energies of feeds, near what they may carry."""
        site, at = self._site(), floor(self.now) - QUARTER_HOUR * self.random.choice([1, 1, 1, 2])
        for name in ("grid", "a", "b"):
            kw = self.random.choice([1, 5, 9.5, 12, 19, 21, 96, 101])
            query = sa.text(
                "INSERT INTO energy_15m (point_id, at, energy_kwh, coverage_ratio, estimated_ratio,"
                " reading_interval_s, tag) VALUES (:p, :at, :e, :c, 0, 60, 0)"
                " ON CONFLICT (point_id, at) DO UPDATE SET energy_kwh = excluded.energy_kwh"
            )
            covered = self.random.choice([1, 1, 0.6, 0.3])
            point = self.stored.point_id[f"{site}-{name}.e"]
            connection.execute(query, {"p": point, "at": at, "e": kw / 4 * covered, "c": covered})

    def warm(self, connection: Connection) -> None:
        """Means of gauges."""
        site, at = self._site(), floor(self.now) - QUARTER_HOUR * self.random.choice([-1, 0, 0, 1, 4, 8])
        for name in self.random.sample(["t", "i", "h"], 2):
            query = sa.text(
                "INSERT INTO gauge_15m (point_id, at, mean, lowest, highest, samples)"
                " VALUES (:p, :at, :m, 1, 1, 1) ON CONFLICT (point_id, at) DO UPDATE SET mean = excluded.mean"
            )
            mean = self.random.choice([14.0, 19.5, 22.0, 25.0, 29.8, 31.0, 33.0, 71.0])
            connection.execute(query, {"p": self.stored.point_id[f"{site}-t.{name}"], "at": at, "m": mean})
        self._computed(connection, site, at)

    def evaluate(self, connection: Connection, site: str = "") -> None:
        """New figures of all windows of a site."""
        site = site or self._site()
        zone = self.stored.fleet.site[site].zone
        documents = {}
        for name in WINDOWS:
            span = window(name, self.now, zone)
            documents[name] = {
                "start": span.start.isoformat(),
                "end": span.end.isoformat(),
                "pue": self.random.choice([1.2, 1.45, 1.468, 1.475, 1.51, 1.9, None]),
                "reason": "",
                "facility_kwh": 10.0,
                "it_kwh": span.duration_s / 3600 * self.random.choice([20, 50, 81, 95]),
                "coverage_ratio": self.random.choice([1.0, 0.99, 0.85, 0.4]),
                "estimated_ratio": self.random.choice([0.0, 0.0, 0.5]),
            }
        evaluations.save(connection, self.now, {self.stored.site_id[site]: documents})

    def find(self, connection: Connection) -> None:
        """Something is found, now or long ago."""
        site = self._site()
        start = self.now + timedelta(hours=self.random.choice([-1, -3, 0.01, 0.2, -24 * 7 + 0.02, -24 * 20]))
        end = start + timedelta(hours=self.random.choice([0.5, 3, 100]))
        connection.execute(
            sa.text(
                "INSERT INTO findings (site_id, point_id, kind, start_at, end_at, severity, state)"
                " VALUES (:s, :p, :k, :start, :end, :sev, 'open') ON CONFLICT DO NOTHING"
            ),
            {
                "s": self.stored.site_id[site],
                "p": self.stored.point_id[f"{site}-{self.random.choice(['grid', 'a', 'c'])}.e"],
                "k": self.random.choice(["gap", "spike", "drift"]),
                "start": start,
                "end": max(end, self.now - timedelta(days=31) + timedelta(minutes=10)),
                "sev": self.random.choice(["error", "error", "warning"]),
            },
        )

    def clear(self, connection: Connection) -> None:
        """A finding is acknowledged, or found no longer."""
        state = self.random.choice(["acknowledged", "cleared"])
        first = "SELECT min(id) FROM findings WHERE state = 'open'"
        connection.execute(sa.text(f"UPDATE findings SET state = :s WHERE id = ({first})"), {"s": state})

    def begin_earlier(self, connection: Connection) -> None:
        """The history of a site begins earlier than was known."""
        site, at = self._site(), floor(self.now) - timedelta(hours=self.random.choice([2, 30, 24 * 40]))
        query = sa.text(
            "INSERT INTO site_15m (site_id, room, at, facility_kwh, it_kwh, coverage_ratio, estimated_ratio,"
            " category) VALUES (:s, '', :at, 3, 2, 1, 0, 2) ON CONFLICT DO NOTHING"
        )
        partitions.ensure_figures(connection, "site_15m", np.array([to_us(at)]))
        connection.execute(query, {"s": self.stored.site_id[site], "at": at})
        self._computed(connection, site, at)

    def acknowledge(self, connection: Connection) -> None:
        """Somebody is on the first alarm that goes on."""
        going = alarms.listing(connection, [*self.stored.site_key, alarms.DEPLOYMENT])
        for one in going[:1]:
            alarms.acknowledge(connection, one.id, "li", self.now)

    def silence(self, connection: Connection) -> None:
        """Somebody does not want to hear of a site for a while."""
        until = self.now + timedelta(minutes=self.random.choice([2, 20]))
        alarms.add_silence(connection, Silence(self.now, until, "a"), self.stored.site_id["a"], "li")

    def hear(self, connection: Connection) -> None:
        """The edge of a site was heard of."""
        connection.execute(
            sa.text(_EDGE), {"silent_s": self.random.choice([0, 0, 0 if self.is_calm else 1000])}
        )

    def _silent_s(self) -> int:
        return self.random.choice([0, 0, 1000])

    def revoke(self, connection: Connection) -> None:
        """The edge's key opens nothing for a while."""
        revoked = self.random.choice(["NULL", "now()"])
        connection.execute(sa.text(f"UPDATE api_keys SET revoked_at = {revoked}"))

    def lose(self, connection: Connection) -> None:
        """Another process forgets where a rule stood that does not fire."""
        known = alarms.memories(connection)
        keys = sorted(key for key, one in known.items() if not one.memory.state.is_active)
        if keys:
            alarms.forget(connection, [self.random.choice(keys)])

    def redefine(self) -> None:
        """Other definitions: a rating, or a site more."""
        self.names = self.random.choice([["a", "d"], ["a", "d"], ["a", "d", "e"]])
        self.define(self.random.choice([100, 120, 10]))

    def rule(self) -> None:
        """Other rules."""
        own = self._rules(self.random.randrange(len(RULES)))
        moved = replace(
            self.random.choice(ALARM_RULES[6:19]), for_s=10, sites=self.random.choice([(), ("a",)])
        )
        own += (moved,) if self.random.random() < 0.5 else ()
        off = tuple(self.random.sample([r.id for r in ALARM_RULES], self.random.choice([0, 0, 1])))
        self.told(Alarms(rules=own, disabled=off), self.random.choice([60.0, 300.0]))

    def fill(self) -> None:
        """The spool fills, or the process has none."""
        self.spool = self.random.choice([None, 0.1, 0.2] if self.is_calm else [None, 0.1, 0.55, 0.95])


SHOWN = (
    "SELECT rule, subject, site_id, at, before, after, severity, value, threshold, reason"
    " FROM alarm_transitions ORDER BY id",
    "SELECT rule, subject, value, state, severity, started_at, fired_at, resolved_at, worst_value, worst_at,"
    " document - 'value' FROM alarms ORDER BY id",
    "SELECT rule, subject, memory ->> 'value', fingerprint, memory - 'value' FROM alarm_memory"
    " ORDER BY fingerprint",
    "SELECT '', '', '', channel, what, dedup_key, not_before FROM outbox ORDER BY dedup_key",
)
_BY_THE_CLOCK = "edge_silent"
"""Its values follow the clock of the database."""


def said(engine: Engine) -> list[list[Any]]:
    """All that was concluded, told and is remembered."""
    with begin(engine) as connection:
        found = [[list(row) for row in connection.execute(sa.text(query))] for query in SHOWN]
    for row in (row for rows in found for row in rows if row[0] == _BY_THE_CLOCK):
        row[:] = [one for one in row if not isinstance(one, float | dict)][:2]
    return found


class Resting(Cache):
    """Counts the evaluations in which nothing had to be judged."""

    rests_taken = 0

    def rests(self, now: datetime, signs: Signs, spool_fill_ratio: float | None) -> bool:
        found = super().rests(now, signs, spool_fill_ratio)
        self.rests_taken += found
        return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(COURSES))
def test_what_is_judged_where_something_changed_is_as_if_all_were_judged(
    database_url: str, other_database_url: str, seed: int
) -> None:
    engines = [make_engine(url) for url in (database_url, other_database_url)]
    some, every = (Course(engine, seed) for engine in engines)
    kept, forgetful, happened = Resting(), Cache(), ["nothing"]
    for _ in range(STEPS):
        happened += some.go_on()
        every.go_on()
        rounds = [course.random.choice([1, 1, 1, 25, 25]) for course in (some, every)]
        for course, cache in ((some, kept), (every, forgetful)):
            course.wait()
            for number in range(rounds[0]):
                if course.is_calm and number % 5 == 0:
                    course.hear_all()
                if cache is forgetful:
                    cache.forget()
                judge.run(course.engine, course.now, cache=cache, spool_fill_ratio=course.spool)
                course.now += timedelta(seconds=course.random.choice([9, 10, 11]))
        differing = [
            row
            for ours, theirs in zip(said(some.engine), said(every.engine), strict=True)
            for row in [
                *(("resting", x) for x in ours if x not in theirs),
                *(x for x in theirs if x not in ours),
            ]
        ]
        assert not differing, (some.now, happened[-8:])
    assert said(some.engine)[1], "a course without alarms shows nothing"
    assert kept.rests_taken > 60 or seed, "a course without rests shows nothing"
    for engine in engines:
        engine.dispose()


def test_a_finding_that_leaves_the_week_is_seen_though_nothing_is_new(database_url: str) -> None:
    """Within a quarter-hour, in which no figure moves."""
    engine, cache = make_engine(database_url), Resting()
    course = Course(engine, 0)
    serious = next(rule for rule in RULES if rule.id == "quiet")
    course.told(Alarms(rules=(replace(serious, for_s=0, keep_firing_for_s=0, quiet_while=()),)))
    start = START - timedelta(days=7) + timedelta(seconds=200)
    with begin(engine) as connection:
        connection.execute(
            sa.text(
                "INSERT INTO findings (site_id, point_id, kind, start_at, end_at, severity, state)"
                " VALUES (:site, :point, 'gap', :start, :end, 'error', 'open')"
            ),
            {
                "site": course.stored.site_id["a"],
                "point": course.stored.point_id["a-a.e"],
                "start": start,
                "end": START,
            },
        )
    firing = {}
    with begin(engine) as connection:
        for site in course.names:
            course.evaluate(connection, site)
    for seconds in range(0, 400, 10):
        course.now = START + timedelta(seconds=seconds)
        if seconds % 50 == 0:
            course.hear_all()
        judge.run(engine, course.now, cache=cache)
        with begin(engine) as connection:
            query = sa.text("SELECT count(*) FROM alarms WHERE rule = 'quiet' AND resolved_at IS NULL")
            firing[seconds] = connection.execute(query).scalar_one()
    assert cache.rests_taken > 10
    assert firing == {s: int(s <= 200) for s in firing}
    engine.dispose()
