"""Watched folders of an edge: complete files go to the cell, and are done once it has committed them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from app.domain.edge_message import MOST_NAMED, SetAside
from app.domain.site import Fleet, Meter, Site
from app.edge.facts import Device
from app.edge.transport import FileAnswer
from app.errors import CollectError
from collectors import registry
from collectors.csv.folder import CsvFolder, Delivery, FolderConfig, mark_of
from collectors.csv.folder import SetAside as Aside
from collectors.polling import FILES

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_log = structlog.get_logger(__name__)


class Folders:
    """The watched folders of an edge; several meters may share one. One thread runs them."""

    def __init__(self) -> None:
        self._folders: dict[tuple[str, str], tuple[Site, str, CsvFolder]] = {}
        self.problems: dict[str, str] = {}
        """Folders that cannot be read, by meter."""

    def follow(self, fleet: Fleet) -> None:
        """Watch the folders of `fleet` from now on; what was seen of a file that still grows is kept."""
        before = self._folders
        self._folders = {}
        for site, meter, config in _watched(fleet):
            key = str(config.folder), config.pattern
            known = before.get(key)
            folder = known[2] if known and known[2].config == config else CsvFolder(meter.id, config)
            folder.site_mark = mark_of(site)
            self._folders[key] = (site, meter.id, folder)

    def run(self, now: datetime, send: Callable[[str, Path], FileAnswer]) -> int:
        """Send the files that are complete; how many the cell has taken.

        Raises
        ------
        StoreUnavailable, TooBusy, AccessError
            As `send` does; the files stay where they are.
        """
        return sum(
            _sent(meter, delivery, send)
            for _, meter, folder in list(self._folders.values())
            for delivery in self._deliveries(folder, now)
        )

    def set_aside(self) -> tuple[SetAside, ...]:
        """Files that the cell could not read, the newest first."""
        found = [
            SetAside(site.id, file.path.name, file.reason, _EPOCH + timedelta(microseconds=file.at_us))
            for site, _, folder in self._folders.values()
            for file in _aside(folder)
        ]
        return tuple(sorted(found, key=lambda file: file.at, reverse=True)[:MOST_NAMED])

    def devices(self) -> list[Device]:
        """The folders, for page and metrics."""
        return [
            Device(site.id, meter, not (why := self.problems.get(folder.device, "")), None, 0.0, why)
            for site, meter, folder in self._folders.values()
        ]

    def _deliveries(self, folder: CsvFolder, now: datetime) -> list[Delivery]:
        """Complete files; a folder that cannot be read is named once."""
        try:
            found, problem = folder.deliveries(now), ""
        except (CollectError, OSError) as error:
            found, problem = [], str(error)
        if problem and self.problems.get(folder.device) != problem:
            _log.warning("watched folder cannot be read", problem=problem)
        self.problems[folder.device] = problem
        return found


def _aside(folder: CsvFolder) -> list[Aside]:
    try:
        return folder.set_aside()
    except OSError:
        return []


def _watched(fleet: Fleet) -> Iterator[tuple[Site, Meter, FolderConfig]]:
    """Folders, without their mappings: the cell reads the files."""
    for site in fleet.sites:
        for meter in site.meters:
            if meter.collector is not None and meter.collector.get("kind") == FILES:
                config = registry.parse(meter.collector)
                assert isinstance(config, FolderConfig)
                yield site, meter, config.model_copy(update={"mapping": None})


def _sent(meter: str, delivery: Delivery, send: Callable[[str, Path], FileAnswer]) -> bool:
    answer = send(meter, delivery.path)
    try:
        if answer.problem:
            _log.warning("file rejected", file=str(delivery.path), problem=answer.problem)
            delivery.refuse(answer.problem)
            return False
        _log.info(
            "file delivered", file=delivery.path.name, accepted=answer.accepted, rejected=answer.rejected
        )
        return delivery.ack()
    except OSError as error:
        _log.warning("file cannot be moved", file=str(delivery.path), problem=str(error))
        return False
