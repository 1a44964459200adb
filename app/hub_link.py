"""The connection to a hub of NATS servers, as edges and cells have it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import structlog

from app.config import why_unreadable
from app.domain.hub_message import HubAddress
from app.errors import ConfigError, LineSlow, StoreUnavailable

if TYPE_CHECKING:
    from nats.aio.client import Client

CONNECT_S = 5.0

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that holds one connection at a time.

    A new attempt of the NATS client forgets the connection of an attempt that failed without closing it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._made: list[asyncio.BaseTransport] = []

    async def create_connection(self, *args: Any, **kwargs: Any) -> Any:
        """A connection in place of the one before."""
        self.abort()
        made = await super().create_connection(*args, **kwargs)
        self._made.append(made[0])
        return made

    async def start_tls(self, *args: Any, **kwargs: Any) -> Any:
        """TLS on the connection."""
        made = await super().start_tls(*args, **kwargs)
        if made is not None:
            self._made.append(made)
        return made

    def abort(self) -> None:
        """Close what is open, at once."""
        for transport in reversed(self._made):
            transport.abort()  # type: ignore[attr-defined]
        self._made.clear()


class Link:
    """A connection to a hub, kept in a thread of its own; made again whenever it is lost."""

    def __init__(
        self, at: HubAddress, seed_file: Path | None, ca_file: Path | None, *, inbox: str = "_INBOX"
    ) -> None:
        self._options = options(at, seed_file, ca_file, inbox=inbox)
        self._loop = _Loop()
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hub", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float | None) -> T:
        """What a coroutine returns, run in the thread of the connection.

        Raises
        ------
        StoreUnavailable
            If the hub cannot be reached.
        LineSlow
            If it, or the cell behind it, does not answer in time.
        """
        import nats.errors

        done: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return done.result(None if timeout_s is None else timeout_s + CONNECT_S)
        except nats.errors.NoRespondersError:
            raise StoreUnavailable("the cell is not connected to the hub") from None
        except TimeoutError:  # that of nats is one of these
            done.cancel()
            raise LineSlow("the centre does not answer in time") from None
        except (nats.errors.Error, OSError) as error:
            raise StoreUnavailable(f"the hub cannot be reached: {error or type(error).__name__}") from None

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands: that a server is gone is noticed within seconds."""
        return self._client is not None and self._client.is_connected

    async def client(self) -> Client:
        """The connection; a new one where there is none.

        Raises
        ------
        OSError
            If it is lost just now, and is being made again.
        """
        import nats

        async with self._connecting:
            if self._client is None or self._client.is_closed:
                self._client = await asyncio.wait_for(nats.connect(**self._options), CONNECT_S)
            if self._client.is_reconnecting:
                raise ConnectionError("the connection is lost, and is being made again")
            return self._client

    def close(self) -> None:
        """End it, and whatever still runs on it."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(3.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2.0)
        if not self._thread.is_alive():
            self._loop.close()

    async def _end(self) -> None:
        if self._client is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._client.close(), 2.0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await _end_connections(self._loop)


async def _end_connections(loop: _Loop) -> None:
    loop.abort()
    await asyncio.sleep(0)  # the sockets are closed in the next pass of the loop


def run_alone(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that connects by itself; whatever it leaves open is closed."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        try:
            return runner.run(work)
        finally:
            loop = runner.get_loop()
            assert isinstance(loop, _Loop)
            runner.run(_end_connections(loop))


def options(
    at: HubAddress, seed_file: Path | None, ca_file: Path | None, *, inbox: str = "_INBOX"
) -> dict[str, Any]:
    """How to connect.

    Raises
    ------
    ConfigError
        If a file cannot be used, or the extra ``wattline[hub]`` is not installed.
    """
    try:
        import nats as _nats  # noqa: F401 - whether it is there
    except ImportError:
        raise ConfigError("a hub needs the extra: pip install 'wattline[hub]'") from None
    found: dict[str, Any] = {
        "servers": list(at.servers),
        "connect_timeout": 2,
        "reconnect_time_wait": 1,
        "max_reconnect_attempts": -1,
        "ping_interval": 2,
        "max_outstanding_pings": 2,
        "inbox_prefix": inbox,
        "error_cb": _note,
    }
    if seed_file is not None:
        found["nkeys_seed_str"] = _seed(seed_file)
    if ca_file is not None or not all(_is_here(server) for server in at.servers):
        found["tls"] = _tls(ca_file)
        found["tls_handshake_first"] = True  # else whoever is in between could say that the hub has no TLS
    return found


async def _note(error: Exception) -> None:
    _log.info("the hub", problem=str(error) or type(error).__name__)


def _is_here(server: str) -> bool:
    host = urlsplit(server).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _seed(file: Path) -> str:
    try:
        seed = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=str(file), key="WATTLINE_HUB_SEED_FILE") from None
    if not seed.startswith("SU"):
        raise ConfigError(
            "holds no NKey seed of a user; it begins with SU", file=str(file), key="WATTLINE_HUB_SEED_FILE"
        )
    return seed


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise ConfigError(f"has no certificates in PEM: {error}", file=str(ca_file)) from None
    except OSError as error:
        raise ConfigError(why_unreadable(error), file=str(ca_file)) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
