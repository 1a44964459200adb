"""Serves an edge's page, ``/metrics`` and ``/healthz``; nothing can be changed here."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from app.edge.facts import Facts, exposition
from app.edge.page import language_of, page
from app.errors import ConfigError
from app.exposition import CONTENT_TYPE

_PATIENCE_S = 10.0
_AT_ONCE = 8
_LOCAL_NAMES = {"localhost", "127.0.0.1", "[::1]"}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@contextmanager
def served(host: str, port: int, facts: Callable[[], Facts], page_key: str) -> Iterator[int]:
    """Serve until the end of the block; gives the port.

    Parameters
    ----------
    page_key : str
        What a caller has to show, as a bearer token or as the password of a browser; empty: nothing, which is
        allowed on this machine alone.

    Raises
    ------
    ConfigError
        If the address cannot be used, or can be reached by others without a key.
    """
    if not page_key and not is_loopback(host):
        raise ConfigError(
            f"{host} can be reached by others; bind to 127.0.0.1, or name a file with a key in "
            "WATTLINE_PAGE_KEY_FILE",
            key="--host",
        )
    server = _server(host, port, facts, page_key)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 1.0}, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def _server(host: str, port: int, facts: Callable[[], Facts], page_key: str) -> ThreadingHTTPServer:
    places = threading.BoundedSemaphore(_AT_ONCE)

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True

        def process_request(self, request: Any, client_address: Any) -> None:
            """In a thread, as long as there are not too many; else the connection is closed."""
            if places.acquire(blocking=False):
                super().process_request(request, client_address)
            else:
                self.shutdown_request(request)

        def process_request_thread(self, request: Any, client_address: Any) -> None:
            try:
                super().process_request_thread(request, client_address)
            finally:
                places.release()

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A caller that is gone is no error."""

    class Handler(_Handler):
        asks = staticmethod(facts)
        key = page_key

    try:
        return Server((host, port), Handler)
    except OSError as error:
        raise ConfigError(
            f"{host}:{port} cannot be used: {error.strerror}; choose another", key="--port"
        ) from None


class _Handler(BaseHTTPRequestHandler):
    asks: Callable[[], Facts]
    key = ""
    timeout = _PATIENCE_S
    server_version, sys_version = "wattline", ""

    def do_GET(self) -> None:
        """Answer."""
        path = self.path.partition("?")[0]
        if path == "/healthz":
            self._answer(200, "text/plain; charset=utf-8", b"ok\n")
        elif path not in ("/", "/metrics"):
            self._answer(404, "text/plain; charset=utf-8", b"not found\n")
        elif not self._may():
            challenge = {"WWW-Authenticate": 'Basic realm="wattline", charset="UTF-8"'}
            self._answer(401, "text/plain; charset=utf-8", b"a key is needed\n", challenge)
        elif path == "/metrics":
            self._answer(200, CONTENT_TYPE, exposition(self.asks()))
        else:
            language = language_of(self.headers.get("Accept-Language", ""))
            text = page(self.asks(), datetime.now(UTC), language)
            self._answer(200, "text/html; charset=utf-8", text.encode())

    def _may(self) -> bool:
        """Whether the caller has the key; where none is asked, whether it is this machine by its own name."""
        if not self.key:
            host = self.headers.get("Host", "")
            return bool({host, host.rsplit(":", 1)[0]} & _LOCAL_NAMES)
        return hmac.compare_digest(_shown(self.headers.get("Authorization", "")).encode(), self.key.encode())

    def _answer(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, **(headers or {}), "Content-Type": kind}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a scrape every few seconds is no news."""


def _shown(authorization: str) -> str:
    """The key of a bearer token, or the password of a browser."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
