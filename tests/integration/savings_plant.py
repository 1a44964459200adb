"""A site with a year and a half of figures of which the truth is known, and two measures."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import sqlalchemy as sa

from app import config
from app.domain.baseline import Conditions
from app.domain.measure import Boundary, Measure
from app.store import measures, partitions, sites
from app.store.sites import Stored
from tests.unit.plants import Plant, lowered

SITE = """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: sh1
    institution: bank
    name: Pudong
    time_zone: UTC
    currency: CNY
    tariffs: [{valid_from: 2020-01-01, price_per_kwh: 0.8}]
    meters:
      - {id: main, points: [{id: main.kwh, role: facility, kind: register}]}
      - {id: ups, points: [{id: ups.kwh, role: it_ups_output, kind: register}]}
      - {id: chiller, points: [{id: chiller.kwh, role: cooling, kind: register}]}
      - {id: roof, points: [{id: roof.c, role: outdoor_wet_bulb, kind: gauge, unit: C}]}
"""
PLANT = Plant()
FIRST, DAYS = date(2025, 1, 1), 640
SPRING, AUTUMN = date(2026, 4, 1), date(2026, 8, 15)
UNTIL = FIRST + timedelta(days=DAYS)
NOW = datetime(UNTIL.year, UNTIL.month, UNTIL.day, 8, tzinfo=UTC)
SPRING_SHARE, AUTUMN_KW = 0.08, 6.0


def truth_kw(rows: Conditions) -> np.ndarray:
    """What the measures save on each day. [kW]"""
    after = rows.local_days >= np.datetime64(SPRING)
    share = np.where(after, SPRING_SHARE * PLANT.expected_kw(rows.it_kw, rows.wet_bulb_c), 0.0)
    return share + np.where(rows.local_days >= np.datetime64(AUTUMN), AUTUMN_KW, 0.0)


def rows() -> Conditions:
    """The days of the plant."""
    found = PLANT.days(DAYS, 7, FIRST.isoformat())
    return lowered(found, truth_kw(found))


def fill(engine: sa.Engine) -> Stored:
    """The site with its figures in the store."""
    with engine.begin() as connection:
        sites.sync(connection, config.parse(SITE).fleet)
        stored = sites.load(connection)
        days = rows()
        given = {
            "days": [d.item() for d in days.local_days.astype("datetime64[D]")],
            "it": days.it_kw.tolist(),
            "overhead": days.overhead_kw.tolist(),
            "wet": days.wet_bulb_c.tolist(),
            "site": stored.site_id["sh1"],
            "roof": stored.point_id["roof.c"],
            "chiller": stored.point_id["chiller.kwh"],
        }
        at_us = days.starts.astype("datetime64[us]").astype(np.int64)
        for table in ("site_15m", "energy_15m", "gauge_15m"):
            partitions.ensure_figures(connection, table, at_us)
        quarters = (
            "unnest(CAST(:days AS date[]), CAST(:it AS float8[]), CAST(:overhead AS float8[]),"
            " CAST(:wet AS float8[])) AS d (day, it, overhead, wet)"
            " CROSS JOIN LATERAL generate_series(d.day::timestamp AT TIME ZONE 'UTC',"
            " (d.day + 1)::timestamp AT TIME ZONE 'UTC' - interval '15 min', interval '15 min') AS at"
        )
        for statement in (
            "INSERT INTO site_15m (site_id, at, facility_kwh, it_kwh, cooling_kwh, coverage_ratio,"
            " estimated_ratio, category) SELECT :site, at, (d.it + d.overhead) / 4, d.it / 4,"
            f" (d.overhead - 20) / 4, 1, 0, 2 FROM {quarters}",
            "INSERT INTO energy_15m (point_id, at, energy_kwh, coverage_ratio,"
            " estimated_ratio, reading_interval_s, tag)"
            f" SELECT :chiller, at, (d.overhead - 20) / 4, 1, 0, 900, 1 FROM {quarters}",
            "INSERT INTO gauge_15m (point_id, at, mean, lowest, highest, samples)"
            f" SELECT :roof, at, d.wet, d.wet, d.wet, 15 FROM {quarters}",
        ):
            connection.execute(sa.text(statement), given)
    return stored


def declare(engine: sa.Engine, stored: Stored, *, where: str = "facility") -> None:
    """The two measures, in the ledger."""
    for key, what, start, done in (
        ("setpoint", "Supply air set point 20 to 24 °C", SPRING, SPRING),
        ("fans", "Fans of hall 1 exchanged for EC fans", AUTUMN - timedelta(days=5), AUTUMN),
    ):
        one = Measure.declared(
            key=key,
            what=what,
            where=Boundary.parse(where),
            implementation_start=start,
            implementation_end=done,
            cost=180_000.0,
            expected_kwh_per_year=95_000.0,
            evidence="order 7",
        )
        one.check()
        with engine.begin() as connection:
            measures.add(connection, stored.site_id["sh1"], one, "li")
