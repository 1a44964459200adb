"""Sign in at the sign-in provider, with a key or with a token, and sign out.

Cookies are ``SameSite=Lax``: a link in a mail opens the page signed in, while nothing that changes
anything comes with them from elsewhere; forms carry a token besides.
"""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from app.domain.access import KEY_COOKIE
from app.errors import NotAuthenticated, NotFound, TooBusy
from app.store import identity
from app.web import render
from app.web.access import FromOwnPage, PageRoute, caller_of, single_sign_on

router = APIRouter(route_class=PageRoute)

PENDING_COOKIE = "wattline_pending"
"""What a browser brings back from the provider, besides the provider's answer."""
_PENDING_PATH = "/sign-in/callback"
_PENDING_S = 900
_NO_PROVIDER = "no sign-in provider is configured; sign in with a key"


@router.get("/sign-in")
def sign_in_page(request: Request, next: str = "/") -> Response:
    """The form for a key."""
    return _page(request, next)


@router.post("/sign-in", dependencies=[FromOwnPage])
def sign_in(
    request: Request,
    secret: Annotated[str, Form(max_length=16_384)] = "",
    next: Annotated[str, Form(max_length=500)] = "/",
) -> Response:
    """Check the key and begin a session; its cookie is read by no script and sent by no other site."""
    value = secret.strip()
    if not value.isascii() or not value.isprintable() or set(value) & set(' ;,"\\'):
        return _page(request, next, "this is not an access key; keys start with wl_")
    try:
        with caller_of(_carrying(request, value)).write() as view:
            who = view.principal
            session = identity.begin_session(
                view.connection,
                who.name,
                who.grants,
                view.now,
                parent=who.key_id,
                maker=identity.KEY_SESSION,
            )
            view.audit("login", "key")
    except NotAuthenticated as error:
        return _page(request, next, str(error))
    return _signed_in(request, session, next)


def _signed_in(request: Request, key: str, next: str) -> Response:
    answer = RedirectResponse(_own_path(next), HTTPStatus.SEE_OTHER)
    render.keep_cookie(request, answer, KEY_COOKIE, key)
    return answer


@router.get("/sign-in/start")
def start(request: Request, next: str = "/") -> Response:
    """Send the browser to the sign-in provider."""
    provider = single_sign_on(request)
    if provider is None:
        raise NotFound(_NO_PROVIDER)
    address, pending = provider.begin(str(request.base_url), _own_path(next)[:500], _source(request))
    answer = RedirectResponse(address, HTTPStatus.SEE_OTHER)
    secure = request.url.scheme == "https"
    answer.set_cookie(
        PENDING_COOKIE,
        pending.packed(),
        max_age=_PENDING_S,
        path=_PENDING_PATH,
        httponly=True,
        samesite="lax",
        secure=secure,
    )
    return answer


@router.get(_PENDING_PATH)
def finish(request: Request) -> Response:
    """Accept the provider's response if it belongs to this browser's request, and start a session."""
    provider = single_sign_on(request)
    if provider is None:
        raise NotFound(_NO_PROVIDER)
    try:
        pending = provider.unpacked(request.cookies.get(PENDING_COOKIE, ""))
        key = provider.finish(pending, request.query_params, _source(request))
    except NotAuthenticated as error:
        answer = _page(request, "/", str(error))
    else:
        answer = _signed_in(request, key, pending.next)
    answer.delete_cookie(PENDING_COOKIE, path=_PENDING_PATH, httponly=True, samesite="lax")
    return answer


def _carrying(request: Request, value: str) -> Request:
    """The request as if it came with the key in its header."""
    others = [(k, v) for k, v in request.scope["headers"] if k not in (b"authorization", b"cookie")]
    headers = [*others, (b"authorization", f"Bearer {value}".encode("ascii"))]
    return Request({**request.scope, "headers": headers})


def _source(request: Request) -> str:
    return request.client.host if request.client else ""


def _own_path(path: str) -> str:
    """`path` if it leads to a page of ours, else the overview."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_own else "/"


@router.post("/sign-out", dependencies=[FromOwnPage])
def sign_out(request: Request) -> Response:
    """End the session, wherever its cookie may be."""
    answer = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    with suppress(NotAuthenticated, TooBusy), caller_of(request).write() as view:
        identity.end_session(view.connection, render.cookie(request, KEY_COOKIE))
        view.audit("logout", "session")
    render.drop_cookie(request, answer, KEY_COOKIE)
    return answer


def _page(request: Request, next: str, problem: str = "") -> Response:
    status = HTTPStatus.UNAUTHORIZED if problem else HTTPStatus.OK
    provider = single_sign_on(request) is not None
    context = {"nav": "", "next": _own_path(next), "problem": problem, "has_provider": provider}
    return render.page(request, "signin.html", context, status=int(status))
