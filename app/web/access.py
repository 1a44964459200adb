"""Who looks at a page, and errors as pages.

The caller comes from the HTTP interface, which puts a way to find it into the application's state; only
its shape is known here.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Protocol
from urllib.parse import quote

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute

from app.actions.site_file import Place
from app.actions.view import View
from app.domain.access import Principal
from app.errors import Forbidden, NotAuthenticated, SeriesError, WattlineError
from app.fleet.watch import Watch
from app.store.engine import Engine
from app.telemetry import Telemetry
from app.web import render


class Places(Protocol):
    """Places that are shared, as the HTTP interface has them."""

    def taken(
        self, name: str, problem: str, *, group: str = "", retry_after_s: int = 1
    ) -> AbstractContextManager[None]:
        """Hold a place while the block lasts, or refuse with the problem."""

    def take(self, name: str, problem: str, *, group: str = "", retry_after_s: int = 1) -> Callable[[], None]:
        """The same until what is returned is called."""


class Bell(Protocol):
    """Something that waits for work."""

    def ring(self) -> None:
        """There is something to do."""


class Context(Protocol):
    """What the application is made of, as far as pages need it."""

    @property
    def engine(self) -> Engine:
        """The store."""

    @property
    def telemetry(self) -> Telemetry:
        """What is counted."""

    @property
    def scratch(self) -> Path | None:
        """Folder for uploads."""

    @property
    def imports(self) -> Places:
        """How many imports may run at once."""

    @property
    def site_file(self) -> Place:
        """Where this process has its site file."""

    @property
    def fleet_watch(self) -> Watch:
        """What other cells said last."""

    @property
    def maker(self) -> Bell:
        """Makes ordered reports."""


class Caller(Protocol):
    """Who asks, and the way to the store."""

    @property
    def principal(self) -> Principal:
        """Name and roles."""

    @property
    def context(self) -> Context:
        """The application."""

    @property
    def now(self) -> datetime:
        """The time, by the application's clock."""

    @property
    def session_idle(self) -> timedelta:
        """A browser's session that is not used for so long is over."""

    def read(self) -> AbstractContextManager[View]:
        """A view for reading."""

    def write(self) -> AbstractContextManager[View]:
        """A view for writing, committed at the end of the block."""

    def require_operator(self) -> None:
        """Refuse callers who are not operators of the whole deployment."""

    def begin_probe(self, host: str) -> None:
        """Allow one probe, and write it down."""

    def reach(self) -> AbstractContextManager[None]:
        """Devices are asked on the caller's behalf."""


class Pending(Protocol):
    """A sign-in at a provider that is under way."""

    @property
    def next(self) -> str:
        """Page to be shown afterwards."""

    def packed(self) -> str:
        """As a cookie holds it."""


class SingleSignOn(Protocol):
    """Sign-in at a provider, as the HTTP interface has it."""

    def begin(self, base: str, next: str, source: str) -> tuple[str, Pending]:
        """Where to send the browser, and what it has to bring back."""

    def unpacked(self, cookie: str) -> Pending:
        """The sign-in of a cookie."""

    def finish(self, pending: Pending, answer: Mapping[str, str], source: str) -> str:
        """The key of a new session."""


def single_sign_on(request: Request) -> SingleSignOn | None:
    """Sign-in at a provider; None where none is configured."""
    found: SingleSignOn | None = request.app.state.single_sign_on
    return found


def caller_of(request: Request) -> Caller:
    """The caller of a request.

    Raises
    ------
    NotAuthenticated
        If the caller did not authenticate, or the credentials are invalid.
    """
    caller: Caller = request.app.state.caller_of(request)
    return caller


Viewer = Annotated[Caller, Depends(caller_of)]


# -- forms ----------------------------------------------------------------------------------------------


async def checked_form(request: Request) -> None:
    """Refuse a form that no page of ours has made: its token must be that of the visitor's cookie.

    Raises
    ------
    Forbidden
        If it is not.
    """
    form = await request.form()
    sent, own = str(form.get(render.FORM_FIELD, "")), render.cookie(request, render.FORM_COOKIE)
    if not own or not hmac.compare_digest(render.unmasked(sent, own).encode(), own.encode()):
        raise Forbidden("the form has expired; reload the page and try again")


FromOwnPage = Depends(checked_form)
"""Dependency of every route that changes something."""


# -- errors as pages ------------------------------------------------------------------------------------

_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class SeeOther(Exception):
    """The page is at another address."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


class PageRoute(APIRoute):
    """A route whose errors are pages, and that sends strangers to the sign-in.

    What an address asks is shown or refused: parameters that the page does not know, or that are given
    twice, are an error.
    """

    def get_route_handler(self) -> _Handler:
        """The endpoint, with its errors turned into pages."""
        endpoint = super().get_route_handler()
        known = set(_query_names(self.dependant)) | {"lang"}
        is_open = self.path.startswith(_ANSWERED_BY_OTHERS)

        async def handle(request: Request) -> Response:
            try:
                if request.method == "GET" and not is_open:
                    _check_parameters(request, known)
                return await endpoint(request)
            except SeeOther as other:
                return RedirectResponse(other.address, HTTPStatus.SEE_OTHER)
            except NotAuthenticated as error:
                return _to_sign_in(request, error)
            except WattlineError as error:
                status: HTTPStatus = request.app.state.status_of(error)
                return error_page(request, status, str(error))
            except RequestValidationError as error:
                return _misread(request, error)

        return handle


_ANSWERED_BY_OTHERS = ("/sign-in", "/static", "/favicon.ico")
"""Pages whose parameters a sign-in provider chooses, or that have none of ours."""


def _query_names(dependant: Dependant) -> Iterator[str]:
    """Parameters of the address that an endpoint or one of its dependencies takes."""
    yield from (field.alias for field in dependant.query_params)
    for one in dependant.dependencies:
        yield from _query_names(one)


def _check_parameters(request: Request, known: set[str]) -> None:
    """Refuse what the page would pass over in silence."""
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in known:
            allowed = ", ".join(sorted(known))
            raise SeriesError(f"{name}: this page has no such parameter; allowed are {allowed}")
        if names.count(name) > 1:
            raise SeriesError(f"{name}: is given {names.count(name)} times; give it once")


def _misread(request: Request, error: RequestValidationError) -> Response:
    """A path that names nothing is a missing page; a parameter that cannot be read is refused."""
    places = [problem["loc"] for problem in error.errors()]
    wrong = [str(place[-1]) for place in places if place[0] == "query"]
    if not wrong:
        return missing_page(request)
    problem = f"{wrong[0]}: {request.query_params.get(wrong[0], '')!r} cannot be read"
    return error_page(request, HTTPStatus.UNPROCESSABLE_ENTITY, problem)


def _to_sign_in(request: Request, error: NotAuthenticated) -> Response:
    if request.url.path.startswith("/sign-in"):
        return error_page(request, HTTPStatus.UNAUTHORIZED, str(error))
    asked = f"{request.url.path}?{request.url.query}".removesuffix("?")
    back = asked if request.method == "GET" else "/"
    return RedirectResponse(f"/sign-in?next={quote(back)}", HTTPStatus.SEE_OTHER)


def missing_page(request: Request) -> Response:
    """What a browser is shown at an address that nothing has."""
    return error_page(request, HTTPStatus.NOT_FOUND, "page not found")


def error_page(request: Request, status: HTTPStatus, problem: str) -> Response:
    """A page that says what went wrong."""
    context = {"status": int(status), "title": status.phrase, "problem": problem, "nav": ""}
    return render.page(request, "error.html", context, status=int(status))
