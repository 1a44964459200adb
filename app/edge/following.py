"""The way to whichever cell has the edge's sites: where one says that they moved, the edge goes there.

A cell that an edge trusts with its key and its readings may send it on, but from https:// only to https://.
The new address is kept on disk and holds until another one is configured.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import structlog

from app.domain.edge_message import Answer, Claim, Message
from app.edge.transport import FileAnswer, Transport
from app.errors import ConfigError, SiteMoved, StoreUnavailable

T = TypeVar("T")
_HUB = ("nats://", "tls://")

_log = structlog.get_logger(__name__)


class Following:
    """A :class:`~app.edge.transport.Transport` that goes where the sites are.

    Parameters
    ----------
    make : callable
        Makes the way to an address.
    configured : str
        The address that the environment names.
    file : Path
        Where another one is kept.

    Raises
    ------
    ConfigError
        If the address cannot be used.
    """

    def __init__(self, make: Callable[[str], Transport], configured: str, file: Path) -> None:
        self._make, self._configured, self._file = make, configured, file
        self.url = self._kept() or configured
        """Address that holds now."""
        self._now = make(self.url)
        self._going = threading.Lock()

    @property
    def problem(self) -> str:
        """Why nothing would get through at this moment, where that is known without asking; else empty."""
        return self._now.problem

    def begin(self, process: str) -> Claim:
        """Speak for the edge from now on."""
        return self._at(lambda way: way.begin(process))

    def send(self, message: Message) -> Answer:
        """Send a batch; returns when the cell has committed it."""
        return self._at(lambda way: way.send(message))

    def send_file(self, claim: Claim, meter: str, file: Path) -> FileAnswer:
        """Send a file of a watched folder; returns when the cell has committed it."""
        return self._at(lambda way: way.send_file(claim, meter, file))

    def definitions(self) -> Mapping[str, Any]:
        """The signed definitions that hold."""
        return self._at(lambda way: way.definitions())

    def release(self, claim: Claim) -> None:
        """Let another process begin."""
        self._at(lambda way: way.release(claim))

    def close(self) -> None:
        """End the connection, and what waits for an answer."""
        self._now.close()

    def _at(self, ask: Callable[[Transport], T]) -> T:
        way = self._now
        try:
            return ask(way)
        except SiteMoved as moved:
            with self._going:
                if way is self._now:
                    self._go(moved)
            raise StoreUnavailable(str(moved)) from None

    def _go(self, moved: SiteMoved) -> None:
        url = _address(self.url, moved)
        try:
            if self.url.startswith("https://") and not url.startswith("https://"):
                raise ConfigError("the address does not begin with https://")
            way = self._make(url)
        except ConfigError as error:
            raise StoreUnavailable(f"{moved}; the edge does not go there: {error}") from None
        self._keep(url)
        before, self._now = self._now, way
        _log.warning("the sites are in another cell; readings go there", site=moved.site, url=url)
        self.url = url
        before.close()

    def _kept(self) -> str:
        """The address to which the configured one sent us; empty: none."""
        try:
            said = json.loads(self._file.read_text(encoding="utf-8"))
            return str(said["url"]) if said["configured"] == self._configured else ""
        except FileNotFoundError:
            return ""
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("the address of the centre that was kept is not used", problem=str(error))
            return ""

    def _keep(self, url: str) -> None:
        """Write it down whole or not at all; without a disk the configured address sends us on again."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._file.with_suffix(".new")
            fresh.write_text(json.dumps({"configured": self._configured, "url": url}), encoding="utf-8")
            os.replace(fresh, self._file)
        except OSError as error:
            _log.warning("the new address of the centre is not kept", problem=str(error))


def _address(now: str, moved: SiteMoved) -> str:
    """Where the site is: through a hub it is the same hub and another cell."""
    if now.startswith(_HUB):
        return f"{now.rstrip('/').rpartition('/')[0]}/{moved.cell}"
    return moved.url
