"""A plant with known truth, with some months of hourly readings in the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import sqlalchemy as sa

from app.domain.quantity import Role
from app.domain.reading import Reading
from app.domain.site import Fleet, Institution, InstitutionClass
from app.jobs import rollup
from app.store import readings, sites
from app.store.sites import Stored
from tests import plants

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 120
NOW = START + timedelta(days=DAYS, minutes=3)


def fleet() -> Fleet:
    """The plant as a fleet, with a facility meter and sensors that are read hourly."""
    meters = (
        plants.energy("main", Role.FACILITY, name="Main incomer"),
        *(plants.hourly(m) for m in plants.METERS),
    )
    bank = Institution(id="b", institution_class=InstitutionClass.JOINT_STOCK)
    return Fleet(institutions=(bank,), sites=(plants.site(*meters),))


def fill(engine: sa.Engine, days: int = DAYS) -> Stored:
    """The plant with hourly readings: registers of energy, and sensors."""
    with engine.begin() as connection:
        sites.sync(connection, fleet())
        stored = sites.load(connection)
    index = pd.date_range(START, periods=days * 24, freq="1h")
    known = plants.truth(index)
    known["main"] = (known["ups-a-in"] + known["ups-b-in"]) * 1.05 + known["chiller"] + 90.0
    rows: list[Reading] = []
    for name, values in known.items():
        if f"{name}.kwh" in stored.point_id:
            counts = 1000 + np.concatenate([[0.0], np.cumsum(values)])
            times = [START + timedelta(hours=i) for i in range(len(counts))]
            rows += [Reading(f"{name}.kwh", at, float(v)) for at, v in zip(times, counts, strict=True)]
        else:
            rows += [Reading(name, at.to_pydatetime(), float(v)) for at, v in zip(index, values, strict=True)]
    with engine.begin() as connection:
        readings.ingest_readings(connection, rows, dict(stored.point_id))
    rollup.run(engine)
    return stored
