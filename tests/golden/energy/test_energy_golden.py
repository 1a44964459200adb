"""Each folder here is a failure that metering systems have shown: input as it arrived, and the truth.

``input.csv`` holds readings in the order of their arrival, in batches; after each one the energies and
the findings are brought up to date. ``expected.json`` says, as far as the story is about it:
``energy_kwh`` per point in all, ``at_most_kwh`` where the truth cannot be known, ``quarter_hours`` (null:
not known), ``estimated`` (first and last interval that is an estimate), ``findings`` (all of them, after
the daily look at whole histories), ``pue``, and how many readings were ``duplicate`` or ``conflicting``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from app import config
from app.domain.data.limit_profiles import LIMIT_PROFILES
from app.domain.energy import QuarterHours
from app.domain.limits import merged_profiles
from app.domain.period import Period
from app.domain.reading import Reading
from app.jobs import findings as findings_job
from app.jobs import rollup
from app.jobs.verify import verify
from app.store import energy, findings, pue, readings, sites
from app.store.readings import IngestResult, from_us
from app.store.sites import Stored

STORIES = sorted(folder for folder in Path(__file__).parent.iterdir() if (folder / "expected.json").is_file())


class Outcome:
    """What stands in the store after a story has been played."""

    def __init__(self, engine: sa.Engine, folder: Path) -> None:
        self.expected: dict[str, Any] = json.loads((folder / "expected.json").read_text("utf-8"))
        self.engine = engine
        self.ingested = IngestResult()
        with engine.begin() as connection:
            sites.sync(connection, config.load(folder / "site.yaml").fleet)
            self.stored: Stored = sites.load(connection)
        for batch in batches(folder / "input.csv"):
            self._take(batch)
        with engine.begin() as connection:
            for meter in self.stored.fleet.meter:
                findings_job.look_at(connection, self.stored, meter)

    def _take(self, batch: list[Reading]) -> None:
        with self.engine.begin() as connection:
            self.ingested += readings.ingest_readings(connection, batch, dict(self.stored.point_id))
        rollup.run(self.engine)
        findings_job.run(self.engine)

    def cells(self, point: str) -> QuarterHours:
        number = self.stored.point_id[point]
        start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
        with self.engine.connect() as connection:
            return energy.load_quarter_hours(connection, [number], start, end)[number]

    def energies(self, point: str) -> dict[str, float]:
        """Energy of each fully covered quarter-hour, by its start."""
        cells = self.cells(point)
        whole = cells.coverage_ratio > 1 - 1e-9
        return {stamp(a): e for a, e in zip(cells.at_us[whole], cells.energy_kwh[whole], strict=True)}


def batches(file: Path) -> Iterator[list[Reading]]:
    rows = pd.read_csv(file).itertuples(index=False)
    for _, batch in groupby(rows, key=lambda row: row.batch):
        yield [Reading(row.point, datetime.fromisoformat(row.at), float(row.value)) for row in batch]


def stamp(at_us: int) -> str:
    return text_of(from_us(int(at_us)))


def text_of(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture(params=STORIES, ids=lambda folder: folder.name)
def outcome(request: pytest.FixtureRequest, engine: sa.Engine) -> Outcome:
    return Outcome(engine, request.param)


def test_story(outcome: Outcome) -> None:
    check_energies(outcome)
    check_estimates(outcome)
    check_findings(outcome)
    check_pue(outcome)
    assert outcome.ingested.duplicate == outcome.expected.get("duplicate", 0)
    assert outcome.ingested.conflicting == outcome.expected.get("conflicting", 0)
    assert verify(outcome.engine).breaches == ()


def check_energies(outcome: Outcome) -> None:
    for point, total_kwh in outcome.expected["energy_kwh"].items():
        assert outcome.cells(point).energy_kwh.sum() == pytest.approx(total_kwh, rel=1e-9), point
    for point, most_kwh in outcome.expected.get("at_most_kwh", {}).items():
        assert 0 <= outcome.cells(point).energy_kwh.sum() <= most_kwh, point
    for point, quarters in outcome.expected.get("quarter_hours", {}).items():
        known = outcome.energies(point)
        for at, energy_kwh in quarters.items():
            assert known.get(at) == (None if energy_kwh is None else pytest.approx(energy_kwh)), (point, at)


def check_estimates(outcome: Outcome) -> None:
    for point, (first, end) in outcome.expected.get("estimated", {}).items():
        cells = outcome.cells(point)
        guessed = [stamp(a) for a in cells.at_us[cells.estimated_ratio > 0]]
        assert (guessed[0], guessed[-1]) == (first, end), point


def check_findings(outcome: Outcome) -> None:
    with outcome.engine.connect() as connection:
        found = findings.listing(connection, outcome.stored.site_id["site"])
    assert sorted((f.kind, f.point, text_of(f.start), text_of(f.end)) for f in found) == sorted(
        (f["kind"], f["point"], f["start"], f["end"]) for f in outcome.expected["findings"]
    )
    effects = {(f["kind"], f["point"]): f["effect_kwh"] for f in outcome.expected["findings"]}
    for f in found:
        effect = effects[f.kind, f.point]
        assert f.effect_kwh == (None if effect is None else pytest.approx(effect)), f


def check_pue(outcome: Outcome) -> None:
    if "pue" not in outcome.expected:
        return
    first, last = outcome.cells("main.kwh").at_us[[0, -1]]
    period = Period(from_us(int(first)), from_us(int(last)) + timedelta(minutes=15))
    with outcome.engine.connect() as connection:
        document = pue.document(connection, outcome.stored, "site", period, merged_profiles(LIMIT_PROFILES))
    for name, value in outcome.expected["pue"].items():
        assert getattr(document, name) == pytest.approx(value), name
