"""The outlook of every site, worked out again each hour for boards."""

from __future__ import annotations

from datetime import datetime

import structlog

from app.domain.site import Fleet
from app.errors import SeriesError
from app.store import deployment, outlook_cache
from app.store.engine import Engine, begin, connect
from app.store.fleet_cache import FleetCache
from app.store.sites import Stored

_log = structlog.get_logger(__name__)


def run(engine: Engine, now: datetime, fleet: FleetCache | None = None) -> int:
    """Work out the outlooks that are due; how many.

    A site whose history says nothing yet is left out and comes again. The fleet is read only where an
    outlook is due; `fleet` is the caller's, so that it is not read at every call.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with connect(engine) as connection:
        wanted = outlook_cache.due(connection, now)
        stored = (fleet or FleetCache()).current(connection) if wanted else Stored(Fleet())
    for number, known_from in wanted.items():
        with begin(engine) as connection:
            site = stored.fleet.site[stored.site_key[number]]
            profiles = deployment.limit_profiles(connection)
            try:
                document = outlook_cache.compute(connection, stored, site, profiles, now)
            except SeriesError as error:
                _log.info("outlook not available yet", site=site.id, problem=str(error))
                continue
            outlook_cache.save(connection, number, now, known_from, document)
    return len(wanted)
