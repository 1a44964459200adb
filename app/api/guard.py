"""What every request passes before and after its endpoint: plain ASGI, nothing is buffered.

- a request id, in the answer's header and in every problem document
- limits: size of the body, requests at once; health always passes
- a key in the query string is refused, and never logged
- a browser's request from another origin may not change anything
- errors that nobody expected become a problem document without a trace
- security headers; the count of requests for ``/metrics``
"""

from __future__ import annotations

import time
import traceback
import uuid
from collections.abc import Callable, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import anyio
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import problems
from app.api.context import ApiLimits
from app.errors import Forbidden, NotAuthenticated, RequestTooLarge, TooBusy, WattlineError
from app.telemetry import ServiceMetrics

_log = structlog.get_logger(__name__)

HEALTH = ("/healthz", "/readyz")
_SECRET_NAMES = {"key", "api_key", "apikey", "api-key", "token", "access_token", "authorization", "secret"}
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class _Broken(Exception):
    """The body grew beyond what is allowed, or stopped coming; never leaves this module."""


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, limits: ApiLimits, metrics: ServiceMetrics) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics
        self._at_once = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["request_id"] = uuid.uuid4().hex
        exchange = _Exchange(scope, receive, send, self._body_limit(scope["path"]), self._limits.body_pause_s)
        started = time.perf_counter()
        self._at_once += 1
        try:
            await self._answer(exchange)
        finally:
            self._at_once -= 1
            self._count(exchange, time.perf_counter() - started)

    async def _answer(self, exchange: _Exchange) -> None:
        refusal = self._refusal(exchange.scope)
        if refusal is not None:
            await exchange.fail(refusal)
            return
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except _Broken:
            _log.info("body too large or too slow", path=_sent_path(exchange.scope))
        except ClientDisconnect:
            _log.info("caller went away", path=_sent_path(exchange.scope))
        except Exception:  # noqa: BLE001 - the last line of defence: logged, told, never shown
            request_id = exchange.scope["request_id"]
            path, trace = _sent_path(exchange.scope), traceback.format_exc()
            _log.error("unexpected error", request_id=request_id, path=path, trace=trace)
            await exchange.crash()
        await exchange.finish()

    def _refusal(self, scope: Scope) -> WattlineError | None:
        """Why the request gets no further; None where it does."""
        headers = Headers(scope=scope)
        names = {name.lower() for name, _ in parse_qsl(scope["query_string"].decode("latin-1"))}
        if names & _SECRET_NAMES:
            return NotAuthenticated("keys go into the Authorization header, never into the address")
        if scope["method"] not in _SAFE_METHODS and _is_foreign(headers):
            return Forbidden("requests from pages of another origin may not change anything")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._body_limit(scope["path"]):
            return RequestTooLarge(f"the body has at most {self._body_limit(scope['path'])} bytes")
        busy = self._at_once > self._limits.requests_at_once and not scope["path"].endswith(HEALTH)
        return TooBusy("too many requests at once; try again shortly", retry_after_s=1) if busy else None

    def _body_limit(self, path: str) -> int:
        if path.endswith("/imports"):
            return self._limits.import_bytes
        return self._limits.readings_body_bytes if path.endswith("/readings") else self._limits.body_bytes

    def _count(self, exchange: _Exchange, duration_s: float) -> None:
        route = getattr(exchange.scope.get("route"), "path", "none")
        method = exchange.scope["method"]
        method = method if method in (*_SAFE_METHODS, "POST", "PUT", "PATCH", "DELETE") else "other"
        self._metrics.answered(method, route, exchange.status, duration_s)


def _sent_path(scope: Scope) -> str:
    """The path as it was sent: a line break in it stays percent-encoded and splits no log line."""
    path: bytes = scope.get("raw_path") or b""
    return path.decode("latin-1")[:500]


def _is_foreign(headers: Headers) -> bool:
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


class _Exchange:
    """One request and its answer, with the limit on the body."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, most_bytes: int, pause_s: float) -> None:
        self.scope = scope
        self.status = 0
        self._receive, self._send, self._left = receive, send, most_bytes
        self._most_bytes, self._pause_s = most_bytes, pause_s
        sent = Headers(scope=scope)
        self._sends_body = "transfer-encoding" in sent or sent.get("content-length", "0") != "0"
        self._oversized = self._stalled = self._complete = False

    async def receive(self) -> Message:
        """The next part of the body; after it, whatever the server has to say."""
        if self._complete:
            return await self._receive()
        try:
            with anyio.fail_after(self._pause_s):
                message = await self._receive()
        except TimeoutError:
            self._stalled = True
            raise _Broken from None
        self._complete = not message.get("more_body", False)
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self._oversized = True
                raise _Broken
        return message

    async def send(self, message: Message) -> None:
        """Part of the answer; swallowed once the body is broken, see :meth:`finish`."""
        if self.is_broken and not self.status:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._add_headers(message)
        await self._send(message)

    def _add_headers(self, message: MutableMapping[str, Any]) -> None:
        headers = MutableHeaders(scope=message)
        headers["X-Request-Id"] = self.scope["request_id"]
        if self._sends_body and not self._complete:
            headers["Connection"] = "close"  # nobody reads the rest: it must not go on coming
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)

    async def finish(self) -> None:
        """Say so where the body was too large or did not come, and nothing was said yet."""
        if self.status or not self.is_broken:
            return
        oversized, self._oversized, self._stalled = self._oversized, False, False
        if oversized:
            await self.fail(RequestTooLarge(f"the body has at most {self._most_bytes} bytes"))
        else:
            await self.fail(TooBusy("the body did not come in time; send it again", retry_after_s=1))

    @property
    def is_broken(self) -> bool:
        """Whether the body was too large, or stopped coming."""
        return self._oversized or self._stalled

    async def fail(self, error: WattlineError) -> None:
        """Answer with a problem document."""
        await self._respond(lambda request: problems.of_error(request, error))

    async def crash(self) -> None:
        """Answer an error that nobody expected, unless an answer is under way."""
        if not self.status:
            status, text = HTTPStatus.INTERNAL_SERVER_ERROR, "unexpected error; its trace is in the log"
            await self._respond(lambda request: problems.response(request, status, text))

    async def _respond(self, make: Callable[[Request], Any]) -> None:
        await make(Request(self.scope))(self.scope, self._receive, self.send)
