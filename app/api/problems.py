"""Errors as problem documents (RFC 9457): the one place that knows HTTP statuses.

Every answer from 400 up is ``application/problem+json`` with ``type``, ``title``, ``status``,
``detail``, ``instance`` and ``request_id``; problems with the input also list them in ``errors``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from app.errors import (
    CollectError,
    ConfigError,
    DataError,
    EdgeReplaced,
    Forbidden,
    NotAuthenticated,
    NotFound,
    RequestTooLarge,
    SiteMoved,
    StoreUnavailable,
    TooBusy,
    WattlineError,
    WorkTooLarge,
)

MEDIA_TYPE = "application/problem+json"

_STATUS: Sequence[tuple[type[WattlineError], HTTPStatus]] = (
    (NotFound, HTTPStatus.NOT_FOUND),
    (NotAuthenticated, HTTPStatus.UNAUTHORIZED),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (EdgeReplaced, HTTPStatus.CONFLICT),
    (SiteMoved, HTTPStatus.MISDIRECTED_REQUEST),
    (RequestTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (WorkTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (TooBusy, HTTPStatus.TOO_MANY_REQUESTS),
    (StoreUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (DataError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (ConfigError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (CollectError, HTTPStatus.BAD_GATEWAY),
)
_RETRY_AFTER_S = 5
"""When to try again while the database is away. [s]"""


def status_of(error: WattlineError) -> HTTPStatus:
    """The status that belongs to an error."""
    fitting = (status for kind, status in _STATUS if isinstance(error, kind))
    return next(fitting, HTTPStatus.INTERNAL_SERVER_ERROR)


def document(
    status: HTTPStatus, detail: str, *, path: str, request_id: str, errors: Sequence[Mapping[str, str]] = ()
) -> dict[str, Any]:
    """A problem document."""
    out: dict[str, Any] = {
        "type": f"urn:wattline:problem:{status.phrase.lower().replace(' ', '-')}",
        "title": status.phrase,
        "status": int(status),
        "detail": detail,
        "instance": path,
        "request_id": request_id,
    }
    return {**out, "errors": list(errors)} if errors else out


def response(
    request: Request,
    status: HTTPStatus,
    detail: str,
    *,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The answer to a request that failed."""
    request_id = str(request.scope.get("request_id", ""))
    body = document(status, detail, path=request.url.path, request_id=request_id, errors=errors)
    return JSONResponse(body, int(status), dict(headers or {}), media_type=MEDIA_TYPE)


def of_error(request: Request, error: WattlineError) -> JSONResponse:
    """The answer to a request that ended in one of our own errors; of a site that moved, where it is."""
    answer = response(request, status_of(error), str(error), headers=_headers(error))
    if not isinstance(error, SiteMoved):
        return answer
    body = json.loads(bytes(answer.body)) | {
        "moved": {"site": error.site, "cell": error.cell, "url": error.url}
    }
    return JSONResponse(body, answer.status_code, media_type=MEDIA_TYPE)


def _headers(error: WattlineError) -> dict[str, str]:
    if isinstance(error, TooBusy):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, StoreUnavailable):
        return {"Retry-After": str(_RETRY_AFTER_S)}
    return {"WWW-Authenticate": "Bearer"} if isinstance(error, NotAuthenticated) else {}


def unsupported_media(allowed: str) -> HTTPException:
    """To be raised where a body is of another media type."""
    return HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send the body as {allowed}")


Page = Callable[[Request], Response]


def install(app: FastAPI, methods_of: Callable[[str], set[str]], missing_page: Page | None = None) -> None:
    """Make `app` answer with problem documents; `methods_of` finds the methods that a path knows.

    A browser that asks for an address that nothing has gets the `missing_page`, if there is one.
    """

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == HTTPStatus.NOT_FOUND and missing_page and _asks_for_a_page(request):
            return missing_page(request)
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(sorted(methods_of(request.url.path))) or headers.get("Allow", "")
        return response(request, HTTPStatus(error.status_code), str(error.detail), headers=headers)

    app.add_exception_handler(WattlineError, _on_wattline_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, on_http_exception)


def _asks_for_a_page(request: Request) -> bool:
    is_page = not request.url.path.startswith("/api/")
    return is_page and "text/html" in request.headers.get("accept", "")


async def _on_wattline_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, WattlineError)
    return of_error(request, error)


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [{"where": _where(e["loc"]), "problem": _plain(e)} for e in error.errors()[:100]]
    detail = "; ".join(f"{e['where']}: {e['problem']}" for e in errors[:5])
    return response(request, HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


def _where(location: Sequence[object]) -> str:
    return ".".join(str(part) for part in location)


def _plain(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown; remove it"
    if error["type"] == "missing":
        return "is missing; add it"
    return str(error["msg"]).removeprefix("Value error, ")
