"""Uploads that wait for a decision: kept in a private folder for an hour."""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from app.errors import NotFound

LIFE_S = 3600.0
MOST_PER_OWNER = 3
"""Uploads that one person may have waiting; another one drives out the oldest."""
_CHUNK_BYTES = 1 << 20
_TICKET = re.compile(r"[A-Za-z0-9_-]{16,64}")


@dataclass(frozen=True)
class Upload:
    """A file that was uploaded and is not decided on."""

    ticket: str
    name: str
    """As the sender called it."""
    path: Path
    owner: str
    site: str
    since_s: float


@dataclass
class Uploads:
    """The uploads of this process, by ticket; only their owner gets them back."""

    monotonic_s: Callable[[], float] = time.monotonic
    _uploads: dict[str, Upload] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, source: IO[bytes], name: str, owner: str, site: str, folder: Path | None) -> Upload:
        """Write an upload to disk and return its ticket."""
        self._forget_old(owner)
        ticket = secrets.token_urlsafe(18)
        home = Path(tempfile.mkdtemp(prefix="wattline-upload-", dir=folder))
        path = home / f"upload{Path(name).suffix[:10]}"
        with path.open("wb") as out:
            shutil.copyfileobj(source, out, _CHUNK_BYTES)
        upload = Upload(ticket, Path(name).name[:200] or "upload", path, owner, site, self.monotonic_s())
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
        shutil.rmtree(upload.path.parent, ignore_errors=True)

    def _forget_old(self, owner: str) -> None:
        """Make room: what is too old, and the oldest of an owner who holds as many as one may."""
        with self._lock:
            old = [u for u in self._uploads.values() if self.monotonic_s() - u.since_s > LIFE_S]
            own = [u for u in self._uploads.values() if u.owner == owner and u not in old]
            old += own[: max(len(own) - MOST_PER_OWNER + 1, 0)]
        for upload in old:
            self.drop(upload)
