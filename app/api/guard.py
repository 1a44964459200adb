"""What every request passes before and after its endpoint: plain ASGI, nothing is buffered.

- a request id, in the answer's header and in every problem document
- who asks, found out before any of the body is read; behind named proxies, from where
- limits: size, pace and time of the body, requests at once, for strangers far less; health always passes
- a key in the query string is refused, and never logged
- a browser's request from another origin may not change anything
- errors that nobody expected become a problem document without a trace
- security headers; the count of requests for ``/metrics``
"""

from __future__ import annotations

import time
import traceback
import uuid
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import anyio
import anyio.to_thread
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import problems
from app.api.admission import BodyLimits, Places, Turns
from app.api.auth import Authenticator, OpenToLoopback, token_of
from app.api.context import ApiLimits, Identified, source_of
from app.api.proxies import Proxies
from app.api.recorder import Recorder
from app.errors import Forbidden, NotAuthenticated, RequestTooLarge, TooBusy, WattlineError
from app.store.audit import Actor
from app.telemetry import ServiceMetrics

_log = structlog.get_logger(__name__)

HEALTH = ("/healthz", "/readyz")
_SECRET_NAMES = {"key", "api_key", "apikey", "api-key", "token", "access_token", "authorization", "secret"}
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_OPEN = ("/static/", "/sign-in", "/sign-out")
"""Beginnings of the paths that strangers may ask for, and send a form to."""
_HSTS = "max-age=31536000"
_BUSY = "too many requests at once; try again shortly"
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

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: ApiLimits,
        metrics: ServiceMetrics,
        authenticator: Authenticator,
        proxies: Proxies,
        recorder: Recorder,
    ) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics
        self._authenticator, self._proxies, self._recorder = authenticator, proxies, recorder
        is_shared = not isinstance(authenticator, OpenToLoopback)
        each = limits.requests_at_once * 3 // 4 if is_shared else limits.requests_at_once
        self._callers = Places(limits.requests_at_once, max(each, 1))
        self._turns = Turns(limits.work_at_once_each, limits.work_at_once_of_tenant) if is_shared else None
        self._strangers = Places(limits.strangers_at_once, limits.strangers_at_once)
        self._bodies = Places(limits.stranger_bodies, limits.stranger_bodies_each)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["request_id"] = uuid.uuid4().hex
        self._proxies.resolve(scope)
        exchange = _Exchange(scope, receive, send)
        started = time.perf_counter()
        try:
            await self._answer(exchange)
        finally:
            self._count(exchange, time.perf_counter() - started)
        if exchange.status == HTTPStatus.FORBIDDEN:
            await anyio.to_thread.run_sync(self._record_refusal, scope)

    def _record_refusal(self, scope: Scope) -> None:
        """What a caller may not do stands in the audit log; so does a page that tries it for them."""
        identified: Identified | None = scope.get("identified")
        caller = identified.principal if identified else None
        actor = Actor(caller.name if caller else "nobody", source_of(scope), caller.key_id if caller else "")
        self._recorder.record(actor.did("access.denied", f"{scope['method']} {_sent_path(scope)}"[:300]))

    async def _answer(self, exchange: _Exchange) -> None:
        try:
            self._check(exchange.scope)
            identified = await self._identified(exchange)
            exchange.bounds = self._bounds(exchange.scope, identified)
            exchange.check_length()
            with self._admitted(exchange, identified):
                async with self._turn(identified):
                    await self._app(exchange.scope, exchange.receive, exchange.send)
        except WattlineError as error:
            await exchange.refuse(error)
            return
        except _Broken:
            _log.info("body too large or too slow", path=_sent_path(exchange.scope))
        except ClientDisconnect:
            _log.info("client disconnected", path=_sent_path(exchange.scope))
        except Exception:  # noqa: BLE001 - the last line of defence: logged and reported, never shown
            request_id = exchange.scope["request_id"]
            path, trace = _sent_path(exchange.scope), traceback.format_exc()
            _log.error("unexpected error", request_id=request_id, path=path, trace=trace)
            await exchange.crash()
        await exchange.finish()

    def _check(self, scope: Scope) -> None:
        """Refuse what gets no further, whoever sent it."""
        names = {name.lower() for name, _ in parse_qsl(scope["query_string"].decode("latin-1"))}
        if names & _SECRET_NAMES:
            raise NotAuthenticated("keys go into the Authorization header, never into the address")
        if scope["method"] not in _SAFE_METHODS and _is_foreign(
            Headers(scope=scope), self._proxies.public_host
        ):
            raise Forbidden("requests from pages of another origin may not change anything")

    async def _identified(self, exchange: _Exchange) -> Identified | None:
        """Who asks; None for strangers. Raises where a body comes that only callers may send."""
        scope, request = exchange.scope, Request(exchange.scope)
        path, token = scope["path"], token_of(request)
        if path.endswith(HEALTH) or path.startswith(_OPEN) or not (token or exchange.has_body):
            return None
        ask = partial(self._authenticator.principal, request, source_of(scope))
        identified = Identified(token)
        try:
            identified.principal = await anyio.to_thread.run_sync(ask)
        except WattlineError as error:
            if exchange.has_body:
                raise
            identified.error = error
        scope["identified"] = identified
        return identified if identified.principal else None

    def _bounds(self, scope: Scope, identified: Identified | None) -> BodyLimits:
        limits = self._limits
        if identified is None:
            grace_s = limits.stranger_body_s
            return BodyLimits(limits.stranger_body_bytes, min(grace_s, limits.body_pause_s), grace_s, 1 << 40)
        most_bytes = self._most_bytes(scope["path"])
        return BodyLimits(most_bytes, limits.body_pause_s, limits.body_grace_s, limits.body_least_bytes_per_s)

    def _most_bytes(self, path: str) -> int:
        if path.endswith("/imports"):
            return self._limits.import_bytes
        return self._limits.readings_body_bytes if path.endswith("/readings") else self._limits.body_bytes

    def _turn(self, identified: Identified | None) -> AbstractAsyncContextManager[None]:
        """A caller's turn: nobody's requests keep all threads busy."""
        if self._turns is None or identified is None or identified.principal is None:
            return nullcontext()
        return self._turns.taken(identified.principal.name, identified.principal.tenant)

    @contextmanager
    def _admitted(self, exchange: _Exchange, identified: Identified | None) -> Iterator[None]:
        """Hold the places of a request while it is answered.

        Raises
        ------
        TooBusy
            If there are none.
        """
        with ExitStack() as held:
            if identified is not None and identified.principal is not None:
                held.enter_context(self._callers.taken(identified.principal.name, _BUSY))
            elif exchange.has_body:
                held.enter_context(self._bodies.taken(source_of(exchange.scope), _BUSY))
            elif not exchange.scope["path"].endswith(HEALTH):
                held.enter_context(self._strangers.taken("", _BUSY))
            yield

    def _count(self, exchange: _Exchange, duration_s: float) -> None:
        route = getattr(exchange.scope.get("route"), "path", "none")
        method = exchange.scope["method"]
        method = method if method in (*_SAFE_METHODS, "POST", "PUT", "PATCH", "DELETE") else "other"
        self._metrics.answered(method, route, exchange.status, duration_s)


def _sent_path(scope: Scope) -> str:
    """The path as it was sent: a line break in it stays percent-encoded and splits no log line."""
    path: bytes = scope.get("raw_path") or b""
    return path.decode("latin-1")[:500]


def _is_foreign(headers: Headers, public_host: str) -> bool:
    origin = headers.get("origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc not in {headers.get("host"), public_host} - {""}
    except ValueError:  # no address at all
        return True


class _Exchange:
    """One request and its answer, with the limit on the body."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.status = 0
        self.bounds = BodyLimits(0, 0.0, 0.0, 1.0)
        self._receive, self._send = receive, send
        self._received_bytes, self._since_s = 0, time.monotonic()
        sent = Headers(scope=scope)
        self._length = sent.get("content-length", "0")
        self.has_body = "transfer-encoding" in sent or self._length != "0"
        self._oversized = self._stalled = self._complete = False

    def check_length(self) -> None:
        """Refuse a body that says it is too large.

        Raises
        ------
        RequestTooLarge
            If it does, or says nothing that is a length.
        """
        if not self._length.isdecimal() or int(self._length[:20]) > self.bounds.most_bytes:
            raise RequestTooLarge(f"the body has at most {self.bounds.most_bytes} bytes")

    async def receive(self) -> Message:
        """The next part of the body; after it, whatever the server has to say."""
        if self._complete:
            return await self._receive()
        try:
            with anyio.fail_after(self._patience_s()):
                message = await self._receive()
        except TimeoutError:
            self._stalled = True
            raise _Broken from None
        self._complete = not message.get("more_body", False)
        if message["type"] == "http.request":
            self._received_bytes += len(message.get("body", b""))
            if self._received_bytes > self.bounds.most_bytes:
                self._oversized = True
                raise _Broken
        return message

    def _patience_s(self) -> float:
        """How long the next part of the body may take: not longer than a pause, nor than the whole may."""
        left_s = self._since_s + self.bounds.deadline_s(self._received_bytes) - time.monotonic()
        return max(min(self.bounds.pause_s, left_s), 0.0)

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
        if self.has_body and not self._complete:
            headers["Connection"] = "close"  # nobody reads the rest: it must not go on coming
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
        if self.scope["scheme"] == "https":
            headers.setdefault("Strict-Transport-Security", _HSTS)

    async def finish(self) -> None:
        """Say so where the body was too large or did not come, and nothing was said yet."""
        if self.status or not self.is_broken:
            return
        oversized, self._oversized, self._stalled = self._oversized, False, False
        if oversized:
            await self.fail(RequestTooLarge(f"the body has at most {self.bounds.most_bytes} bytes"))
        else:
            await self.fail(TooBusy("the body did not come in time; send it again", retry_after_s=1))

    @property
    def is_broken(self) -> bool:
        """Whether the body was too large, or stopped coming."""
        return self._oversized or self._stalled

    async def refuse(self, error: WattlineError) -> None:
        """Answer before the application has seen the request; a form of a stranger leads to the sign-in."""
        is_form = not self.scope["path"].startswith(("/api/", "/metrics"))
        if isinstance(error, NotAuthenticated) and is_form and self.has_body:
            await self._respond(lambda request: RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER))
        else:
            await self.fail(error)

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
