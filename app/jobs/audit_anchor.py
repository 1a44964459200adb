"""The newest entry of the audit log, kept where the database's administrator cannot change it.

At intervals its number and hash go into a file of the data folder, into the log and ``/metrics``, and where
it is configured to a syslog server or a webhook. ``wattline audit verify`` compares them with the log.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import structlog

from app.store import audit
from app.store.audit import Anchor
from app.store.engine import Engine, begin

EVERY_S = 600.0
"""Longest time in which entries can be cut off unseen. [s]"""
LOOK_EVERY_S = 15.0
_TIMEOUT_S = 10.0
_PRIORITY = 13 * 8 + 5
"""Facility "log audit", severity "notice" (RFC 5424, 6.2.1)."""

_log = structlog.get_logger(__name__)

Sink = Callable[[Anchor], None]
"""Takes an anchor away; raises OSError or httpx.HTTPError where it cannot."""


def file_of(data_dir: Path, log_id: str) -> Path:
    """Where the anchors of a log are kept."""
    return data_dir / f"audit-{log_id}.anchors"


class Anchoring:
    """Takes anchors of the log, one each :data:`EVERY_S` in which something was added.

    Parameters
    ----------
    engine : Engine
    data_dir : Path
    sinks : sequence of Sink
        Where anchors go besides; one that fails gets the next.
    """

    def __init__(self, engine: Engine, data_dir: Path, sinks: Sequence[Sink] = ()) -> None:
        self._engine, self._data_dir, self._sinks = engine, data_dir, sinks
        self._taken_s: float | None = None
        self.newest: Anchor | None = None

    def run(self) -> None:
        """Take an anchor where it is time.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        if self._taken_s is None or time.monotonic() - self._taken_s >= EVERY_S:
            self.take()
            self._taken_s = time.monotonic()

    def take(self) -> None:
        """Take an anchor now, unless the log is as it was.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        with begin(self._engine) as connection:
            head, log = audit.head(connection), audit.log_id(connection)
        if head is None or head == self.newest:
            return
        self.newest = head
        _log.info("audit log", seq=head.seq, hash=head.hash)
        _keep(file_of(self._data_dir, log), head)
        for sink in self._sinks:
            try:
                sink(head)
            except (OSError, httpx.HTTPError, httpx.InvalidURL) as error:
                _log.warning("anchor of the audit log was not delivered", problem=str(error)[:300])


def _keep(file: Path, anchor: Anchor) -> None:
    line = json.dumps({"at": datetime.now(UTC).isoformat(), "seq": anchor.seq, "hash": anchor.hash})
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "a", encoding="utf-8") as stream:
        stream.write(line + "\n")
        stream.flush()
        os.fsync(stream.fileno())


@dataclass(frozen=True, slots=True)
class Syslog:
    """A syslog server over TLS: RFC 5424 messages, framed by their length as in RFC 5425."""

    host: str
    port: int = 6514
    ca_file: Path | None = None
    """Certificates of its authority; None: those of the system."""

    def __call__(self, anchor: Anchor) -> None:
        """Send an anchor."""
        context = ssl.create_default_context(cafile=self.ca_file)
        message = self.message(anchor, datetime.now(UTC))
        with (
            socket.create_connection((self.host, self.port), _TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=self.host) as secured,
        ):
            secured.sendall(f"{len(message)} ".encode() + message)

    @staticmethod
    def message(anchor: Anchor, at: datetime) -> bytes:
        """The message in its frame's content; the number is that of examples, as nobody registered one."""
        stamp = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        head = f"<{_PRIORITY}>1 {stamp} {socket.gethostname()[:255]} wattline {os.getpid()} audit-anchor"
        data = f'[audit@32473 seq="{anchor.seq}" hash="{anchor.hash}"]'
        return f"{head} {data} newest entry of the audit log".encode()


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that takes a JSON document; its certificate is checked."""

    url: str

    def __call__(self, anchor: Anchor) -> None:
        """Send an anchor."""
        body = {"event": "audit.anchor", "seq": anchor.seq, "hash": anchor.hash}
        with httpx.Client(timeout=_TIMEOUT_S, follow_redirects=False) as client:
            client.post(self.url, json=body).raise_for_status()
