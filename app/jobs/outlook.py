"""The outlook of every site, worked out again each hour for boards."""

from __future__ import annotations

import math
import time
from datetime import datetime

import structlog

from app.domain.reading import OLDEST
from app.domain.site import Fleet
from app.errors import SeriesError
from app.store import deployment, outlook_cache
from app.store.engine import Engine, begin, connect
from app.store.fleet_cache import FleetCache
from app.store.sites import Stored

_log = structlog.get_logger(__name__)


AT_ONCE_S = 5.0
"""How long the service works out outlooks before it rests in proportion. [s]"""


def run(
    engine: Engine,
    now: datetime,
    fleet: FleetCache | None = None,
    *,
    at_once_s: float = math.inf,
    left_out: dict[int, datetime] | None = None,
) -> int:
    """Work out the outlooks that are due, those that never were first, then the oldest; how many.

    A site whose history says nothing yet is left out and comes again. The fleet is read only where an
    outlook is due; `fleet` is the caller's, so that it is not read at every call. After `at_once_s` no
    further outlook is begun. `left_out` is kept by the caller: the sites that were left out, which come
    after the others.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with connect(engine) as connection:
        wanted = outlook_cache.due(connection, now)
        stored = (fleet or FleetCache()).current(connection) if wanted else Stored(Fleet())
    began_s = time.monotonic()
    tried = {} if left_out is None else left_out
    for done, number in enumerate(sorted(wanted, key=lambda n: tried.get(n, OLDEST))):
        if done and time.monotonic() - began_s > at_once_s:
            return done
        with begin(engine) as connection:
            site = stored.fleet.site[stored.site_key[number]]
            profiles = deployment.limit_profiles(connection)
            try:
                document = outlook_cache.compute(connection, stored, site, profiles, now)
            except SeriesError as error:
                _log.info("outlook not available yet", site=site.id, problem=str(error))
                tried[number] = now
                continue
            outlook_cache.save(connection, number, now, wanted[number], document)
            tried.pop(number, None)
    return len(wanted)
