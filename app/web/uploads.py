"""Uploads that wait for a decision: kept in a private folder for an hour."""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from app.errors import NotFound
from app.web.import_run import ImportRun

LIFE_S = 3600.0
MOST_PER_OWNER = 3
"""Uploads that one person may have waiting; another one drives out the oldest."""
_CHUNK_BYTES = 1 << 20
_TICKET = re.compile(r"[A-Za-z0-9_-]{16,64}")


@dataclass(frozen=True)
class UploadedFile:
    """One file of an upload."""

    name: str
    """As the sender called it."""
    path: Path


@dataclass
class Upload:
    """Files that were uploaded together, for one mapping."""

    ticket: str
    files: tuple[UploadedFile, ...]
    home: Path
    owner: str
    site: str
    since_s: float
    mapping: str = ""
    """The mapping that was looked at last."""
    run: ImportRun | None = None
    """The import, once it was confirmed."""

    @property
    def rejects_path(self) -> Path:
        """Where the refused rows are written to."""
        return self.home / "rejects.csv"

    def known_as(self, text: str) -> str:
        """A message with the names that the sender knows, not those of the folder."""
        for file in self.files:
            text = text.replace(str(file.path), file.name)
        return text


@dataclass
class Uploads:
    """The uploads of this process, by ticket; only their owner gets them back."""

    monotonic_s: Callable[[], float] = time.monotonic
    _uploads: dict[str, Upload] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(
        self, sources: Sequence[tuple[IO[bytes], str]], owner: str, site: str, folder: Path | None
    ) -> Upload:
        """Write files to disk and return them with their ticket."""
        self._forget_old(owner)
        ticket = secrets.token_urlsafe(18)
        home = Path(tempfile.mkdtemp(prefix="wattline-upload-", dir=folder))
        files = tuple(_written(home, number, *source) for number, source in enumerate(sources, 1))
        upload = Upload(ticket, files, home, owner, site, self.monotonic_s())
        with self._lock:
            self._uploads[ticket] = upload
        return upload

    def get(self, ticket: str, owner: str, site: str) -> Upload:
        """The upload of a ticket.

        Raises
        ------
        NotFound
            If there is none, or it is somebody else's.
        """
        with self._lock:
            upload = self._uploads.get(ticket) if _TICKET.fullmatch(ticket) else None
        if upload is None or (upload.owner, upload.site) != (owner, site):
            raise NotFound("the file is no longer available; upload it again")
        return upload

    def drop(self, upload: Upload) -> None:
        """Delete an upload."""
        with self._lock:
            self._uploads.pop(upload.ticket, None)
        shutil.rmtree(upload.home, ignore_errors=True)

    def _forget_old(self, owner: str) -> None:
        """Make room: what is too old, and the oldest of an owner who holds as many as one may."""
        with self._lock:
            idle = [u for u in self._uploads.values() if u.run is None or u.run.is_over]
            old = [u for u in idle if self.monotonic_s() - u.since_s > LIFE_S]
            own = [u for u in idle if u.owner == owner and u not in old]
            old += own[: max(len(own) - MOST_PER_OWNER + 1, 0)]
        for upload in old:
            self.drop(upload)


def _written(home: Path, number: int, source: IO[bytes], name: str) -> UploadedFile:
    path = home / f"upload{number}{Path(name).suffix[:10]}"
    with path.open("wb") as out:
        shutil.copyfileobj(source, out, _CHUNK_BYTES)
    return UploadedFile(Path(name).name[:200] or "upload", path)
