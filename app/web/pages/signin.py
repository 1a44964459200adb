"""Sign in with a key, or with a token of the sign-in provider, and sign out."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from app.errors import NotAuthenticated
from app.web import render
from app.web.access import KEY_COOKIE, FromOwnPage, PageRoute, caller_of

router = APIRouter(route_class=PageRoute)


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
    """Check the key and keep it in a cookie that no script reads and no other site sends."""
    value = secret.strip()
    if not value.isascii() or not value.isprintable() or set(value) & set(' ;,"\\'):
        return _page(request, next, "this is no key; it begins with wl_")
    try:
        caller_of(_carrying(request, value))
    except NotAuthenticated as error:
        return _page(request, next, str(error))
    answer = RedirectResponse(_own_path(next), HTTPStatus.SEE_OTHER)
    secure = request.url.scheme == "https"
    answer.set_cookie(KEY_COOKIE, value, httponly=True, samesite="strict", secure=secure)
    return answer


def _carrying(request: Request, value: str) -> Request:
    """The request as if it came with the key in its header."""
    others = [(k, v) for k, v in request.scope["headers"] if k not in (b"authorization", b"cookie")]
    headers = [*others, (b"authorization", f"Bearer {value}".encode("ascii"))]
    return Request({**request.scope, "headers": headers})


def _own_path(path: str) -> str:
    """`path` if it leads to a page of ours, else the overview."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_own else "/"


@router.post("/sign-out", dependencies=[FromOwnPage])
def sign_out() -> Response:
    """Forget the key."""
    answer = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    answer.delete_cookie(KEY_COOKIE, httponly=True, samesite="strict")
    return answer


def _page(request: Request, next: str, problem: str = "") -> Response:
    status = HTTPStatus.UNAUTHORIZED if problem else HTTPStatus.OK
    context = {"nav": "", "next": _own_path(next), "problem": problem}
    return render.page(request, "signin.html", context, status=int(status))
