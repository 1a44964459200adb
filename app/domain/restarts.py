"""When counters that restart from zero by the calendar do so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from app.domain.likely import Ints
from app.domain.period import midnight
from app.domain.register import NO_RESTARTS, US, Restarts
from app.domain.site import Falls, Point, RestartsEvery


def restarts(at_us: Ints, point: Point) -> Restarts:
    """Restarts of a counter between its first and its last reading, both included.

    Of a point whose `restarts` is not declared but that may fall to zero, every midnight of its clock may be
    one; the readings must show it.

    Parameters
    ----------
    at_us : int64, shape (n,)
        Instants of its readings, at least one. [us]
    point : Point
        With `falls`, `restarts` and `clock`.
    """
    if point.falls is not Falls.RESET_TO_ZERO or not point.clock:
        return NO_RESTARTS
    zone = ZoneInfo(point.clock)
    day = datetime.fromtimestamp(at_us[0] / US, UTC).astimezone(zone).date()
    last = datetime.fromtimestamp(at_us[-1] / US, UTC).astimezone(zone).date()
    instants = []
    while day <= last:
        if point.restarts is not RestartsEvery.MONTH or day.day == 1:
            instants.append(round(midnight(day, zone).timestamp()) * US)
        day += timedelta(days=1)
    found = np.array([i for i in instants if at_us[0] <= i <= at_us[-1]], np.int64)
    return Restarts(found, is_declared=point.restarts is not None)
