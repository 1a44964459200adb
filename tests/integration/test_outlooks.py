"""The outlook of a site: what boards show of the year's end, capacities and the balance of the tree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from app import config
from app.cli.demo import SITE_FILE
from app.jobs import demo, outlook, rollup
from app.jobs.demo import Past
from app.store.engine import begin
from app.store.sites import sync
from collectors.simulated.history import Simulation

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


def rows(engine: sa.Engine, query: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def test_every_view_of_the_outlook_has_rows_and_is_renewed(engine: sa.Engine) -> None:
    file = config.load(SITE_FILE)
    with begin(engine) as connection:
        sync(connection, file.estate)
    assert outlook.run(engine, NOW) == 0, "nothing is known yet"
    past = Past.begun(engine, NOW)
    demo.load(engine, file.estate, Simulation(past.anchor), past, days=3)
    while rollup.run(engine).stretches:
        pass
    assert outlook.run(engine, NOW) == 2
    assert outlook.run(engine, NOW) == 0, "worked out just now"
    assert outlook.run(engine, NOW + timedelta(hours=2)) == 2
    for view in ("v_outlook", "v_budget", "v_capacity", "v_balance", "v_flow"):
        assert {r[0] for r in rows(engine, f"SELECT site FROM {view}")} == {"nb1", "sh1"}, view
    (reason,) = rows(engine, "SELECT reason FROM v_outlook WHERE site = 'sh1' AND pue IS NULL")
    assert reason[0], "three days are no history to project from, and it says so"
    sides = rows(engine, "SELECT in_kwh, out_kwh FROM v_balance WHERE stage = 'ups' AND in_kwh IS NOT NULL")
    assert sides
    assert all(float(str(i)) >= 0.9 * float(str(o)) for i, o in sides)
