"""A watched folder: export files are picked up when complete, and done only when the caller says so.

::

    collector: {kind: csv_folder, folder: /data/exports, pattern: "*.csv", mapping: bms.yaml}

A file is complete when its size and time have not changed for ``settle_s`` and its name does not say
that it is still being written. Nothing is remembered outside the folder: a file that was taken over is
moved into ``done/``, one that cannot be read into ``refused/`` beside a text that says why. There it is
read again when it changes, or its mapping, or the points of its site; once it, or another file of its name,
was taken over, the text goes. A crash before :meth:`Delivery.ack` leaves the file where it is; it is then
delivered once more, and storing it again changes nothing.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from app.domain.site import Site
from app.errors import CollectError, ConfigError
from collectors.base import Binding, Poll
from collectors.config import CollectorConfig, Seconds
from collectors.registry import CollectorKind

if TYPE_CHECKING:
    from collectors.csv.batch import ParsedBatch
    from collectors.csv.mapping import Mapping
    from collectors.csv.plan import Understanding

DONE, REFUSED = "done", "refused"
_REASON = ".reason.txt"
_TRIED = "read with mapping and points "
"""How the last line of a reason begins; a mark of both follows, and that the file is read again."""
_UNFINISHED = (".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp", ".lock", "~")


class FolderConfig(CollectorConfig):
    """``collector: {kind: csv_folder, ...}``: a folder into which another system writes export files."""

    kind: Literal["csv_folder"] = "csv_folder"
    """A watched folder."""
    folder: Annotated[Path, Field(description="folder the exports are written to")]
    """Folder the exports are written to. E.g. ``/data/exports``."""
    pattern: str = "*"
    """Names of the files to take. E.g. ``"*.csv"``."""
    mapping: Path | None = None
    """Mapping file for all of them; see the [mapping reference](csv-mapping.md). E.g. ``bms.yaml``."""
    settle_s: Seconds = 10.0
    """A file that did not change for so long is complete. [s] E.g. ``30``."""

    @property
    def stamps_polls(self) -> bool:
        """The files say when their readings were taken."""
        return False


@dataclass(frozen=True, slots=True)
class _State:
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> _State | None:
        try:
            stat = path.stat()
        except FileNotFoundError:
            return None
        return cls(stat.st_size, stat.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class SetAside:
    """A file that could not be read, and still lies in ``refused/``."""

    path: Path
    at_us: int
    """When it was set aside, since 1970. [us]"""

    @property
    def reason(self) -> str:
        """Why it could not be read; empty if that text is gone by now."""
        return _told(self.path)[0]


def _told(path: Path) -> tuple[str, str]:
    """Why a file is set aside, and the mark of what it was read with; empty if that text is gone by now."""
    try:
        text = _reason_of(path).read_text("utf-8", "replace").strip()
    except OSError:
        return "", ""
    reason, _, tried = text.rpartition(_TRIED)
    return (reason.strip(), tried.partition(";")[0]) if reason else (text, "")


def mark_of(site: Site) -> str:
    """What of a site the reading of a file depends on."""
    points = (
        (p.id, p.name, p.kind, p.source_unit, p.interval_s, p.stamp, p.modulus_kwh) for p in site.points()
    )
    return repr((site.time_zone, *points))


def _reason_of(path: Path) -> Path:
    return path.with_name(path.name + _REASON)


@dataclass(frozen=True)
class Delivery:
    """One complete file. Read it, store it, then :meth:`ack`; or :meth:`refuse` it."""

    path: Path
    mapping: Mapping | None
    _state: _State
    _mark: str = ""

    def understand(self, site: Site) -> Understanding:
        """How the file is read into the site's points.

        Raises
        ------
        FileNotUnderstood
            If it cannot be; then :meth:`refuse` it.
        """
        from collectors.csv.reader import understand  # and with it 30 MB that an edge has no use for

        return understand(self.path, site, self.mapping)

    def batches(self, understanding: Understanding, *, now: datetime) -> Iterator[ParsedBatch]:
        """The file's readings; see :func:`collectors.csv.reader.read`."""
        from collectors.csv.reader import read

        return read(self.path, understanding, now=now)

    def ack(self) -> bool:
        """The readings are committed: the file is done. False if it changed meanwhile and comes again."""
        if _State.of(self.path) != self._state:
            return False
        folder = _watched_folder(self.path)
        _move(self.path, folder / DONE)
        for path in _of_name(folder / REFUSED, self.path.name):
            _reason_of(path).unlink(missing_ok=True)
        return True

    def refuse(self, problem: str) -> Path:
        """Sets the file aside; the reason stands beside it. Returns its new place."""
        aside = _watched_folder(self.path) / REFUSED
        place = self.path if self.path.parent == aside else _move(self.path, aside)
        tried = f"{_TRIED}{self._mark}; it is read again when they change, or the file"
        _reason_of(place).write_text(f"{problem}\n{tried}\n", encoding="utf-8")
        return place


def _watched_folder(path: Path) -> Path:
    return path.parent.parent if path.parent.name == REFUSED else path.parent


def _of_name(folder: Path, name: str) -> Iterator[Path]:
    """Where :func:`_move` puts files of this name, one after the other."""
    place, number = folder / name, 1
    while place.exists() or _reason_of(place).exists():
        yield place
        number += 1
        place = _numbered(folder, name, number)


def _numbered(folder: Path, name: str, number: int) -> Path:
    path = folder / name
    return path.with_name(f"{path.stem}.{number}{path.suffix}")


def _move(path: Path, target: Path) -> Path:
    target.mkdir(exist_ok=True)
    place, number = target / path.name, 1
    while place.exists():
        number += 1
        place = _numbered(target, path.name, number)
    os.replace(path, place)
    return place


def _reason_state(path: Path) -> _State | None:
    return _State.of(_reason_of(path))


@dataclass
class CsvFolder:
    """The collector of one folder: :meth:`deliveries` instead of readings, since files need an ack."""

    device: str
    config: FolderConfig
    mapping: Mapping | None = None
    site_mark: str = ""
    """What of the site the reading of a file depends on."""
    _seen: dict[Path, tuple[_State, datetime]] = field(default_factory=dict)
    _mapping_state: _State | None = None

    async def poll(self, at: datetime) -> Poll:
        """No readings of its own; says if the folder cannot be read."""
        problem = self._problem()
        return Poll(at, failures=(CollectError(self.device, problem),) if problem else ())

    async def close(self) -> None:
        """Nothing is held open."""

    def deliveries(self, at: datetime) -> list[Delivery]:
        """Files that are complete at this instant, oldest first; look at least every few seconds.

        Raises
        ------
        CollectError
            If the folder cannot be read.
        """
        problem = self._problem()
        if problem:
            raise CollectError(self.device, problem)
        self._follow_mapping()
        found = {p: s for p in self._candidates() if (s := _State.of(p)) is not None}
        before, self._seen = self._seen, {}
        complete = []
        for path, state in found.items():
            known, since = before.get(path, (None, at))
            since = min(since, at)  # the clock may have been set back
            self._seen[path] = (state, since if known == state else at)
            if known == state and (at - since).total_seconds() >= self.config.settle_s:
                complete.append(Delivery(path, self.mapping, state, self._mark))
        return sorted(complete, key=lambda d: (d._state.mtime_ns, d.path.name))

    def set_aside(self) -> list[SetAside]:
        """Files that could not be read and were neither taken over nor removed since, oldest first.

        Raises
        ------
        OSError
            If the folder cannot be read.
        """
        aside = self.config.folder / REFUSED
        states = ((path, _reason_state(path)) for path in self._files(aside))
        found = [SetAside(path, state.mtime_ns // 1000) for path, state in states if state is not None]
        return sorted(found, key=lambda f: (f.at_us, f.path.name))

    @property
    def _mark(self) -> str:
        """Of the mapping and the site's points."""
        mapping = self.mapping.model_dump_json() if self.mapping else ""
        return hashlib.sha256(f"{mapping}\n{self.site_mark}".encode()).hexdigest()[:16]

    def _follow_mapping(self) -> None:
        """Read the mapping again where its file changed.

        Raises
        ------
        CollectError
            If it is not understood any more.
        """
        state = _State.of(self.config.mapping) if self.config.mapping else None
        if self.config.mapping and state != self._mapping_state:
            try:
                self.mapping = _load(self.config.mapping)
            except ConfigError as error:
                raise CollectError(self.device, str(error)) from None
            self._mapping_state = state

    def _candidates(self) -> Iterator[Path]:
        yield from self._files(self.config.folder)
        for path in self._files(self.config.folder / REFUSED):
            reason = _reason_state(path)
            if reason is None:
                continue
            if path.stat().st_ctime_ns > reason.mtime_ns or _told(path)[1] != self._mark:
                yield path  # it changed since the reason was written, or what it was read with

    def _files(self, folder: Path) -> Iterator[Path]:
        """The files of a folder that this collector takes; none where it does not exist."""
        for entry in os.scandir(folder) if folder.is_dir() else ():
            name = entry.name
            if name.startswith((".", "~")) or name.lower().endswith((*_UNFINISHED, _REASON)):
                continue
            if entry.is_file(follow_symlinks=False) and fnmatch.fnmatch(name, self.config.pattern):
                yield Path(entry.path)

    def _problem(self) -> str:
        folder = self.config.folder
        if not folder.is_dir():
            return f"folder {folder} does not exist"
        return "" if os.access(folder, os.R_OK | os.W_OK | os.X_OK) else f"folder {folder} is not writable"


def _load(file: Path) -> Mapping:
    from collectors.csv.mapping import load_mapping

    return load_mapping(file)


def build(config: FolderConfig, binding: Binding) -> CsvFolder:
    """The collector of one folder.

    Raises
    ------
    ConfigError
        If the mapping file cannot be read.
    """
    if config.folder.name in (DONE, REFUSED):
        raise ConfigError(f"a folder called {config.folder.name} holds what was taken already", key="folder")
    state = _State.of(config.mapping) if config.mapping else None
    mapping = _load(config.mapping) if config.mapping else None
    return CsvFolder(binding.meter, config, mapping, _mapping_state=state)


KIND = CollectorKind(FolderConfig, build)
