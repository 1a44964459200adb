"""The outlook of every site, worked out again each hour for boards."""

from __future__ import annotations

from datetime import datetime

import structlog

from app.errors import SeriesError
from app.store import deployment, outlook_cache, sites
from app.store.engine import Engine, begin, connect

_log = structlog.get_logger(__name__)


def run(engine: Engine, now: datetime) -> int:
    """Work out the outlooks that are due; how many.

    A site whose history says nothing yet is left out and comes again.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with connect(engine) as connection:
        stored, wanted = sites.load(connection), outlook_cache.due(connection, now)
    for number, known_from in wanted.items():
        with begin(engine) as connection:
            site = stored.fleet.site[stored.site_key[number]]
            profiles = deployment.limit_profiles(connection)
            try:
                document = outlook_cache.compute(connection, stored, site, profiles, now)
            except SeriesError as error:
                _log.info("no outlook yet", site=site.id, problem=str(error))
                continue
            outlook_cache.save(connection, number, now, known_from, document)
    return len(wanted)
