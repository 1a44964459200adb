"""Watched folders: complete files are imported, and moved to ``done`` only after the commit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import structlog

from app.domain.site import Fleet, Meter, Site
from app.errors import CollectError, DataError, StoreUnavailable
from app.jobs import imports
from app.jobs.poll import FILES
from app.store import sites
from app.store.audit import Actor
from app.store.engine import Engine, connect
from app.store.sites import Stored
from collectors import registry
from collectors.base import Binding
from collectors.csv.folder import CsvFolder, Delivery

_log = structlog.get_logger(__name__)


class Folders:
    """The watched folders of an fleet; several meters may share one."""

    def __init__(self) -> None:
        self._fleet = Fleet()
        self._folders: dict[tuple[str, str], tuple[str, CsvFolder]] = {}
        self._problems: dict[str, str] = {}

    def follow(self, fleet: Fleet) -> None:
        """Watch the folders of `fleet` from now on.

        Raises
        ------
        ConfigError
            If a ``collector:`` section is not understood.
        """
        if list(_watched(fleet)) != list(_watched(self._fleet)):
            self._folders = dict(_built(fleet))
        self._fleet = fleet

    def run(self, engine: Engine, now: datetime) -> int:
        """Import the files that are complete; how many.

        Raises
        ------
        StoreUnavailable
            If the database is away; the files stay where they are.
        """
        taken = 0
        for site_id, folder in self._folders.values():
            deliveries = self._deliveries(folder, now)
            if deliveries:
                with connect(engine) as connection:
                    stored = sites.load(connection)
                taken += sum(_take(engine, stored, site_id, delivery) for delivery in deliveries)
        return taken

    def _deliveries(self, folder: CsvFolder, now: datetime) -> list[Delivery]:
        """Complete files; a folder that cannot be read is named once."""
        try:
            found, problem = folder.deliveries(now), ""
        except CollectError as error:
            found, problem = [], str(error)
        if problem and self._problems.get(folder.device) != problem:
            _log.warning("watched folder cannot be read", problem=problem)
        self._problems[folder.device] = problem
        return found


def _watched(fleet: Fleet) -> Iterator[tuple[Site, Meter]]:
    for site in fleet.sites:
        for meter in site.meters:
            if meter.collector is not None and meter.collector.get("kind") == FILES:
                yield site, meter


def _built(fleet: Fleet) -> Iterator[tuple[tuple[str, str], tuple[str, CsvFolder]]]:
    for site, meter in _watched(fleet):
        collector = registry.build(
            registry.parse(meter.collector or {}), Binding(meter.id, meter.read_points)
        )
        assert isinstance(collector, CsvFolder)
        yield (str(collector.config.folder), collector.config.pattern), (site.id, collector)


def _take(engine: Engine, stored: Stored, site_id: str, delivery: Delivery) -> bool:
    """Import one file: done after the commit, or set aside with the reason."""
    site = stored.fleet.site.get(site_id)
    if site is None:
        return False
    try:
        understood = delivery.understand(site)
        by = Actor("wattline", f"watched folder {delivery.path.parent}")
        done = imports.import_file(engine, stored, site, delivery.path, by=by, understanding=understood)
    except StoreUnavailable:
        raise
    except DataError as error:
        return _refuse(delivery, str(error))
    except Exception:  # noqa: BLE001 - one file's fault must not end the others
        _log.exception("import of the file failed", file=str(delivery.path))
        return _refuse(delivery, "the import failed unexpectedly; see the traceback in the log")
    _log.info("file imported", file=delivery.path.name, accepted=done.accepted, rejected=done.rejected)
    return delivery.ack()


def _refuse(delivery: Delivery, problem: str) -> bool:
    """Set a file aside with the reason; one that cannot be moved is named, and comes again."""
    _log.warning("file rejected", file=str(delivery.path), problem=problem)
    try:
        delivery.refuse(problem)
    except OSError as error:
        _log.warning("rejected file cannot be moved", file=str(delivery.path), problem=str(error))
    return False
