"""Uploads that wait for a decision: kept in a private folder for an hour."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from app.errors import NotFound
from app.web.import_run import ImportRun

LIFE_S = 3600.0
MOST_PER_OWNER = 3
"""Uploads that one person may have waiting; another one drives out the oldest."""
_CHUNK_BYTES = 1 << 20
_PREFIX = "wattline-upload-"
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
    life_s: float = LIFE_S
    """How long one waits for a decision; then it is deleted. [s]"""
    _uploads: dict[str, Upload] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(
        self, sources: Sequence[tuple[IO[bytes], str]], owner: str, site: str, folder: Path | None
    ) -> Upload:
        """Write files to disk and return them with their ticket."""
        self._forget_old(owner)
        forget_leftovers(folder)
        ticket = secrets.token_urlsafe(18)
        home = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
        files = tuple(_written(home, number, *source) for number, source in enumerate(sources, 1))
        upload = Upload(ticket, files, home, owner, site, self.monotonic_s())
        with self._lock:
            self._uploads[ticket] = upload
        self._expire_later(upload)
        return upload

    def _expire_later(self, upload: Upload) -> None:
        expiry = threading.Timer(self.life_s, self._expire, (upload,))
        expiry.daemon = True
        expiry.start()

    def _expire(self, upload: Upload) -> None:
        """Delete an upload that nobody decided on; one that is being imported lives on."""
        if upload.run is not None and not upload.run.is_over:
            self._expire_later(upload)
        else:
            self.drop(upload)

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

    def find(self, ticket: str, owner: str) -> Upload:
        """The upload of a ticket, for whatever site it is.

        Raises
        ------
        NotFound
            If there is none, or it is somebody else's.
        """
        with self._lock:
            upload = self._uploads.get(ticket)
        return self.get(ticket, owner, upload.site if upload else "")

    def drop(self, upload: Upload) -> None:
        """Delete an upload."""
        with self._lock:
            self._uploads.pop(upload.ticket, None)
        shutil.rmtree(upload.home, ignore_errors=True)

    def _forget_old(self, owner: str) -> None:
        """Make room: what is too old, and the oldest of an owner who holds as many as one may."""
        with self._lock:
            idle = [u for u in self._uploads.values() if u.run is None or u.run.is_over]
            old = [u for u in idle if self.monotonic_s() - u.since_s > self.life_s]
            own = [u for u in idle if u.owner == owner and u not in old]
            old += own[: max(len(own) - MOST_PER_OWNER + 1, 0)]
        for upload in old:
            self.drop(upload)


def _written(home: Path, number: int, source: IO[bytes], name: str) -> UploadedFile:
    path = home / f"upload{number}{Path(name).suffix[:10]}"
    with path.open("wb") as out:
        shutil.copyfileobj(source, out, _CHUNK_BYTES)
    return UploadedFile(Path(name).name[:200] or "upload", path)


def forget_leftovers(folder: Path | None) -> None:
    """Delete uploads that a process left behind when it was killed: nobody has their tickets any more."""
    home = Path(tempfile.gettempdir()) if folder is None else folder
    oldest_s = time.time() - 2 * LIFE_S
    for path in home.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if path.stat().st_mtime < oldest_s and path.stat().st_uid == os.getuid():
                shutil.rmtree(path, ignore_errors=True)
