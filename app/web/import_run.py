"""An import that was confirmed on a page: it runs on while the page shows how far it is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from app.domain.site import Site
from app.errors import WattlineError
from app.jobs.imports import RejectsFile, import_file
from app.store.audit import Actor
from app.store.corrections import Correction
from app.store.engine import Engine
from app.store.imports import Imported
from app.store.sites import Stored
from collectors.csv.mapping import Mapping
from collectors.csv.reader import Reject

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
SHOWN_REJECTS = 50

_log = structlog.get_logger(__name__)


@dataclass
class FileRun:
    """One file of an import."""

    name: str
    path: Path
    size_bytes: int
    state: str = WAITING
    read_bytes: int = 0
    taken: Imported | None = None
    problem: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """How far it is read, 0 to 1."""
        return 1.0 if self.state == DONE else min(self.read_bytes / max(self.size_bytes, 1), 1.0)


@dataclass(frozen=True)
class Target:
    """Where the readings go, and on whose behalf."""

    engine: Engine
    stored: Stored
    site: Site
    by: Actor
    stored_readings: Callable[[str, int], None]
    """Told the site and how many readings were stored, for metrics."""


@dataclass
class ImportRun:
    """The files of an import, one after the other; each is stored whole or not at all."""

    files: list[FileRun]
    mapping: Mapping | None
    correction: Callable[[str], Correction | None]
    """On whose word a file of this name corrects what is stored."""
    rejects_path: Path
    rejects: list[tuple[str, Reject]] = field(default_factory=list)
    """The first ones, with their file."""
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens."""
        return self.over.is_set()

    @property
    def ratio(self) -> float:
        """How far all of it is, 0 to 1."""
        whole = sum(f.size_bytes for f in self.files)
        return sum(f.ratio * f.size_bytes for f in self.files) / whole if whole else 1.0

    def total(self, name: str) -> int:
        """A count over all files."""
        return sum(getattr(f.taken, name) for f in self.files if f.taken)

    def start(self, target: Target, give_back: Callable[[], None]) -> None:
        """Begin, in a thread of its own; `give_back` is called at the end."""
        threading.Thread(target=self._run, args=(target, give_back), name="page-import", daemon=True).start()

    def _run(self, target: Target, give_back: Callable[[], None]) -> None:
        try:
            with RejectsFile(self.rejects_path) as rejects:
                for file in self.files:
                    self._one(target, file, rejects)
        finally:
            self.over.set()
            give_back()

    def _one(self, target: Target, file: FileRun, rejects: RejectsFile) -> None:
        file.state = RUNNING
        try:
            self._store(target, file, rejects)
            file.state = DONE
        except WattlineError as error:
            file.state, file.problem = FAILED, str(error).replace(str(file.path), file.name)
        except Exception:  # noqa: BLE001 - whatever it is, the page says that nothing was stored
            _log.exception("import failed", file=file.name)
            file.state, file.problem = FAILED, "something went wrong; nothing of this file was stored"
        file.path.unlink(missing_ok=True)

    def _store(self, target: Target, file: FileRun, rejects: RejectsFile) -> None:
        def far(packed_bytes: int) -> None:
            file.read_bytes = packed_bytes

        def note(found: Any) -> None:
            self.rejects += [(file.name, r) for r in found[: SHOWN_REJECTS - len(self.rejects)]]

        file.taken = import_file(
            target.engine,
            target.stored,
            target.site,
            file.path,
            self.mapping,
            by=target.by,
            rejects=_Named(rejects, file.name, note),
            on_progress=far,
            correction=self.correction(file.name),
            name=file.name,
        )
        target.stored_readings(target.site.id, file.taken.accepted)


class _Named(RejectsFile):
    """Writes rejects under the name that the sender knows, and shows them to somebody else as well."""

    def __init__(self, file: RejectsFile, name: str, note: Callable[[Any], None]) -> None:
        super().__init__(file.path)
        self._to, self._name, self._note = file, name, note

    def write(self, file: str, rejects: Any) -> None:
        """Hand them on."""
        found = list(rejects)
        self._note(found)
        self._to.write(self._name, found)
