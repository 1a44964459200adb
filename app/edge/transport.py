"""The way from an edge to its cell. Another one, through a hub, has the same methods."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode, urlsplit

from app import __version__
from app.config import why_unreadable
from app.domain.edge_message import Answer, Claim, Message, decode_answer, encode
from app.edge.proxy import proxy_for
from app.errors import (
    AccessError,
    ConfigError,
    EdgeReplaced,
    Forbidden,
    LineSlow,
    NotAuthenticated,
    NotFound,
    SeriesError,
    SiteMoved,
    StoreUnavailable,
    TooBusy,
    WorkTooLarge,
)

PREFIX = "/api/v1/edges"
TIMEOUT_S = 20.0
"""Longest silence of the centre. [s]"""
FILE_TIMEOUT_S = 600.0
"""The same after a whole file: it is being imported. [s]"""
_MOST_ANSWER_BYTES = 64 << 20
_LONGEST_URL = 2000
_MISDIRECTED = 421
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class ConnectionBroken(StoreUnavailable):
    """The connection ended before an answer came."""


class FileAnswer(NamedTuple):
    """What became of a file."""

    accepted: int
    rejected: int
    problem: str
    """Why nothing of it was stored; empty where it was."""


class Transport(Protocol):
    """A way to the cell. Every method waits for its answer, and raises StoreUnavailable where none comes,
    TooBusy where the cell says when to try again, WorkTooLarge where it takes less at a time, EdgeReplaced
    where another process speaks for the edge, SiteMoved where another cell has its sites, and AccessError
    where the key opens nothing."""

    @property
    def problem(self) -> str:
        """Why nothing would get through at this moment, where that is known without asking; else empty."""

    def begin(self, process: str) -> Claim:
        """Speak for the edge from now on."""

    def send(self, message: Message) -> Answer:
        """Send a batch; returns when the cell has committed it."""

    def send_file(self, claim: Claim, meter: str, file: Path) -> FileAnswer:
        """Send a file of a watched folder; returns when the cell has committed it."""

    def definitions(self) -> Mapping[str, Any]:
        """The signed definitions that hold."""

    def release(self, claim: Claim) -> None:
        """Let another process begin."""

    def close(self) -> None:
        """End the connection, and what waits for an answer."""


class Https:
    """HTTP batches to the centre, with the key of the edge.

    Parameters
    ----------
    url : str
        Of the centre; ``http://`` only to this machine, or where that is allowed.
    key : str
    ca_file : Path, optional
        Certificates of the authority of the centre; default: those of the system.
    allow_plain : bool
        Whether ``http://`` to other machines is allowed.
    proxy : str
        Address of an HTTP proxy; empty: that of ``https_proxy``. Never for this machine itself.

    Raises
    ------
    ConfigError
        If the address or the file of certificates cannot be used.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        ca_file: Path | None = None,
        allow_plain: bool = False,
        proxy: str = "",
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise ConfigError(f"{url!r} is no address; write https://...", key="WATTLINE_CENTRE_URL")
        if parts.scheme == "http" and not allow_plain and parts.hostname not in _LOOPBACK:
            raise ConfigError(
                "http:// shows the key and the readings to everybody on the way; write https://, or set "
                "WATTLINE_CENTRE_PLAIN_HTTP=true where the line itself is protected",
                key="WATTLINE_CENTRE_URL",
            )
        self._host, self._path = parts.hostname, parts.path.rstrip("/")
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        is_here = parts.hostname in _LOOPBACK
        self._proxy = None if is_here and not proxy else proxy_for(self._host, self._port, proxy)
        self._tls = _tls(ca_file) if parts.scheme == "https" else None
        self._headers = {"Authorization": f"Bearer {key}", "User-Agent": f"wattline-edge/{__version__}"}
        self._lock = threading.Lock()
        self._kept: http.client.HTTPConnection | None = None
        self._is_closed = False

    @property
    def problem(self) -> str:
        """Empty: nothing is known of the centre without asking it."""
        return ""

    @property
    def is_behind_proxy(self) -> bool:
        """Whether a proxy is on the way."""
        return self._proxy is not None

    def begin(self, process: str) -> Claim:
        """Speak for the edge from now on."""
        said = self._post("/begin", json.dumps({"process": process}).encode(), "application/json")
        return Claim(process, int(said["epoch"]))

    def send(self, message: Message) -> Answer:
        """Send a batch; returns when the cell has committed it."""
        return decode_answer(self._post("/readings", encode(message), "application/octet-stream"))

    def release(self, claim: Claim) -> None:
        """Let another process begin."""
        body = json.dumps({"process": claim.process, "epoch": claim.epoch}).encode()
        self._post("/release", body, "application/json")

    def definitions(self) -> Mapping[str, Any]:
        """The signed definitions that hold."""
        return self._once("GET", "/definitions", None, TIMEOUT_S)

    def send_file(self, claim: Claim, meter: str, file: Path) -> FileAnswer:
        """Send a file of a watched folder; returns when the cell has committed it."""
        query = {"meter": meter, "name": file.name, "process": claim.process, "epoch": claim.epoch}
        path = f"/imports?{urlencode(query, quote_via=quote)}"
        said = self._once("POST", path, file, FILE_TIMEOUT_S)
        return FileAnswer(int(said["accepted"]), int(said["rejected"]), str(said["problem"]))

    def close(self) -> None:
        """End the connection that is kept, and what waits for an answer; nothing is sent after that."""
        self._is_closed, kept = True, self._kept
        if kept is not None and kept.sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(kept.sock, socket.SHUT_RDWR)
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _post(self, path: str, body: bytes, kind: str) -> Mapping[str, Any]:
        """On the connection that is kept; one that does not answer is left.

        The other side may have closed a connection that lay idle: then at once on a new one. What is posted
        may arrive twice.
        """
        with self._lock:
            if self._kept is not None:
                with suppress(ConnectionBroken):
                    return self._kept_exchange(path, body, kind)
            if self._is_closed:
                raise StoreUnavailable("the edge is stopping")
            self._kept = self._connection(TIMEOUT_S)
            return self._kept_exchange(path, body, kind)

    def _kept_exchange(self, path: str, body: bytes, kind: str) -> Mapping[str, Any]:
        assert self._kept is not None
        try:
            return self._exchange(self._kept, "POST", path, body, kind)
        except BaseException:
            self._drop()
            raise

    def _once(self, method: str, path: str, file: Path | None, timeout_s: float) -> Mapping[str, Any]:
        """On a connection of its own, so that readings do not wait for it."""
        connection = self._connection(timeout_s)
        try:
            if file is None:
                return self._exchange(connection, method, path, None, "")
            with file.open("rb") as body:
                return self._exchange(
                    connection, method, path, body, "application/octet-stream", file.stat().st_size
                )
        finally:
            connection.close()

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        through = self._proxy
        host, port = (through.host, through.port) if through else (self._host, self._port)
        found = (
            http.client.HTTPConnection(host, port, timeout=timeout_s)
            if self._tls is None
            else http.client.HTTPSConnection(host, port, timeout=timeout_s, context=self._tls)
        )
        if through:
            found.set_tunnel(self._host, self._port, through.headers)
        return found

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        """Connect, through the proxy where there is one.

        Raises
        ------
        StoreUnavailable
            If that fails; with what to do.
        """
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            why = f"the certificate of {self._host} is not accepted: {error.verify_message}"
            raise StoreUnavailable(why) from None
        except (OSError, http.client.HTTPException) as error:
            if self._proxy:
                why = self._proxy.problem(error, f"{self._host}:{self._port}")
                raise StoreUnavailable(why) from None
            raise StoreUnavailable(f"the centre cannot be reached: {error or type(error).__name__}") from None

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Any,
        kind: str,
        length: int | None = None,
    ) -> Mapping[str, Any]:
        headers = dict(self._headers)
        if body is not None:
            headers |= {"Content-Type": kind, "Content-Length": str(len(body) if length is None else length)}
        if connection.sock is None:
            self._connect(connection)
        try:
            connection.request(method, f"{self._path}{PREFIX}{path}", body, headers)
            answer = connection.getresponse()
            text = answer.read(_MOST_ANSWER_BYTES)
        except TimeoutError:
            raise LineSlow("the centre does not answer in time") from None
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionBroken(f"the centre does not answer: {error or type(error).__name__}") from None
        if answer.will_close:
            connection.close()
        return _understood(answer, text)


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise ConfigError(
            f"has no certificates in PEM: {error}", file=str(ca_file), key="WATTLINE_CENTRE_CA_FILE"
        ) from None
    except OSError as error:
        raise ConfigError(why_unreadable(error), file=str(ca_file), key="WATTLINE_CENTRE_CA_FILE") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _understood(answer: http.client.HTTPResponse, text: bytes) -> Mapping[str, Any]:
    """The document of a good answer; raises what a bad one means."""
    try:
        document = json.loads(text)
    except ValueError:
        document = {}
    if not isinstance(document, dict):
        document = {}
    if answer.status == 200 and document:
        return document
    if answer.status == _MISDIRECTED and isinstance(moved := document.get("moved"), dict):
        raise SiteMoved(*(str(moved.get(name, ""))[:_LONGEST_URL] for name in ("site", "cell", "url")))
    said = str(document.get("detail") or f"status {answer.status}")[:500]
    if answer.status == 413:  # ours, or a proxy's before it
        raise WorkTooLarge(f"the centre says: {said}")
    if answer.status in (429, 503):
        raise TooBusy(f"the centre says: {said}", retry_after_s=_retry_after_s(answer))
    _raise(answer.status, said, is_ours=bool(document))
    raise StoreUnavailable(f"the centre says: {said}")


def _raise(status: int, said: str, *, is_ours: bool) -> None:
    """What only Wattline itself says; a proxy before it may answer in its own words."""
    kinds: dict[int, type[AccessError | NotFound | SeriesError]] = {
        401: NotAuthenticated,
        403: Forbidden,
        404: NotFound,
        409: EdgeReplaced,
        422: SeriesError,
    }
    if is_ours and status in kinds:
        raise kinds[status](said)


def _retry_after_s(answer: http.client.HTTPResponse) -> int:
    text = answer.getheader("Retry-After", "")
    return min(int(text), 300) if text.isdecimal() and len(text) < 6 else 5
