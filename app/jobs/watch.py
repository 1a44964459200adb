"""Watched folders: complete files are imported, and moved to ``done`` only after the commit.

Files that were set aside are findings of their site until they were taken over or removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import structlog

from app.domain.quality.finding import Evidence, Finding, FindingKind, Severity
from app.domain.reading import LATEST, OLDEST
from app.domain.site import Fleet, Meter, Site
from app.errors import CollectError, DataError, StoreUnavailable, WorkTooLarge
from app.jobs import imports
from app.store import findings, sites
from app.store.audit import Actor
from app.store.engine import Engine, begin, connect
from app.store.findings import Scope
from app.store.readings import from_us
from app.store.sites import Stored
from collectors import registry
from collectors.base import Binding
from collectors.csv.folder import CsvFolder, Delivery, SetAside, mark_of
from collectors.polling import FILES

_log = structlog.get_logger(__name__)


class Folders:
    """The watched folders of an fleet; several meters may share one."""

    def __init__(self) -> None:
        self._fleet = Fleet()
        self._folders: dict[tuple[str, str], tuple[str, CsvFolder]] = {}
        self._problems: dict[str, str] = {}
        self._told: dict[str, list[SetAside]] | None = None

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
        self._tell(engine)
        return taken

    def _tell(self, engine: Engine) -> None:
        """Keep the findings about files that are set aside up to date."""
        aside = self._aside()
        if self._told == aside:
            return
        with begin(engine) as connection:
            stored = sites.load(connection)
            before = self._told or findings.standing_count(connection, FindingKind.IMPORT_FAILED)
            for site_id in sorted((before.keys() | aside.keys()) & stored.site_id.keys()):
                scope = Scope(stored.site_id[site_id], [0], [FindingKind.IMPORT_FAILED], OLDEST, LATEST)
                findings.replace(connection, scope, _findings(aside.get(site_id, [])), {})
        self._told = aside

    def _aside(self) -> dict[str, list[SetAside]]:
        """Files that are set aside, by site; where a folder cannot be read, as it was seen last."""
        found: dict[str, dict[Path, SetAside]] = {}
        for site_id, folder in self._folders.values():
            of_site = found.setdefault(site_id, {})
            try:
                of_site |= {file.path: file for file in folder.set_aside()}
            except OSError:
                of_site |= {file.path: file for file in (self._told or {}).get(site_id, ())}
        return {s: sorted(f.values(), key=lambda a: (a.at_us, a.path)) for s, f in found.items()}

    def _deliveries(self, folder: CsvFolder, now: datetime) -> list[Delivery]:
        """Complete files; a folder that cannot be read is named once."""
        try:
            found, problem = folder.deliveries(now), ""
        except (CollectError, OSError) as error:
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
        collector.site_mark = mark_of(site)
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
    except (DataError, WorkTooLarge) as error:
        return _refuse(delivery, str(error))
    except Exception:  # noqa: BLE001 - one file's fault must not end the others
        _log.exception("import of the file failed", file=str(delivery.path))
        return _refuse(delivery, "the import failed unexpectedly; see the traceback in the log")
    _log.info("file imported", file=delivery.path.name, accepted=done.accepted, rejected=done.rejected)
    return _acknowledge(delivery)


def _acknowledge(delivery: Delivery) -> bool:
    """Move a file that is imported; one that cannot be moved is named, and comes again."""
    try:
        return delivery.ack()
    except OSError as error:
        _log.warning("imported file cannot be moved", file=str(delivery.path), problem=str(error))
        return False


def _refuse(delivery: Delivery, problem: str) -> bool:
    """Set a file aside with the reason; one that cannot be moved is named, and comes again."""
    _log.warning("file rejected", file=str(delivery.path), problem=problem)
    try:
        delivery.refuse(problem)
    except OSError as error:
        _log.warning("rejected file cannot be moved", file=str(delivery.path), problem=str(error))
    return False


def _findings(files: Iterable[SetAside]) -> list[Finding]:
    """One for each file, oldest first; those of one instant stand a microsecond apart."""
    found, last_us = [], 0
    for file in files:
        last_us = max(file.at_us, last_us + 1)
        at = from_us(last_us)
        evidence: Evidence = {"file": str(file.path), "reason": file.reason}
        found.append(Finding(FindingKind.IMPORT_FAILED, "", at, at, Severity.WARNING, None, evidence))
    return found
