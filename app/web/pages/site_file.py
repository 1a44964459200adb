"""The site file in the browser: text, check, difference, apply and undo; read-only where others manage it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import RedirectResponse, Response

from app import schema
from app.actions import site_file as actions
from app.actions.site_file import Place
from app.actions.view import View
from app.errors import ConfigError, SeriesError
from app.store.site_files import sha256_of
from app.web import render
from app.web.access import Caller, FromOwnPage, PageRoute, Viewer

router = APIRouter(route_class=PageRoute)

_PATH = "/settings/site-file"
_LONGEST_SHOWN = 60_000
"""A longer text is not put into the page: it is edited elsewhere and sent as a file. [characters]"""
_LINES = 400
_KEYS = 40
_PROBLEMS = 50
Text = Annotated[str, Form(max_length=actions.MOST_BYTES)]


@router.get(_PATH)
def site_file_page(
    request: Request, caller: Viewer, applied: Annotated[int | None, Query()] = None
) -> Response:
    """The text in force with its revisions, to be edited where it may be."""
    place = caller.context.site_file
    with caller.read() as view:
        text = actions.current(view, place)
        context = {
            **_common(view, place, text),
            "is_stale": False,
            "then": "",
            "revisions": actions.revisions(view, place),
            "elsewhere": actions.described_elsewhere(view, place),
            "applied": applied,
            "now": caller.now,
        }
    return render.page(request, "site_file.html", context)


def _common(view: View, place: Place, text: str) -> dict[str, Any]:
    return {
        "nav": "settings",
        "tab": "site-file",
        "place": place,
        "obstacle": place.obstacle,
        "text": text,
        "size": len(text.encode()),
        "is_short": len(text) <= _LONGEST_SHOWN,
        "base_sha256": sha256_of(text),
    }


@router.get(f"{_PATH}/text")
def text(caller: Viewer, number: Annotated[int | None, Query(ge=1)] = None) -> Response:
    """The text in force, or that of a draft or revision, as a file."""
    place = caller.context.site_file
    with caller.read() as view:
        content = actions.found(view, place, number).text if number else actions.current(view, place)
    name = f"site-{number}.yaml" if number else "site.yaml"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(content, media_type="application/yaml", headers=headers)


@router.post(_PATH, dependencies=[FromOwnPage])
def make_draft(
    caller: Viewer,
    base: Annotated[str, Form(max_length=64)] = "",
    next: Annotated[str, Form(max_length=300)] = "",
    text: Text = "",
    file: Annotated[UploadFile | None, File()] = None,
) -> Response:
    """Keep an edited text as a draft, and show what it would change."""
    if file is not None and file.filename:
        text = _decoded(file.file.read())
    with caller.write() as view:
        number = actions.draft(view, caller.context.site_file, text, base)
    return _to_draft(number, _inside(next))


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SeriesError("the file is no UTF-8 text; save it as UTF-8") from None


def _to_draft(number: int, then: str = "") -> Response:
    more = f"?{urlencode({'next': then})}" if then else ""
    return RedirectResponse(f"{_PATH}/drafts/{number}{more}", HTTPStatus.SEE_OTHER)


@router.get(f"{_PATH}/drafts/{{number}}")
def draft_page(
    request: Request, number: int, caller: Viewer, next: Annotated[str, Query(max_length=300)] = ""
) -> Response:
    """What is wrong with a draft, what it changes, and the way to apply it."""
    return _draft(request, caller, number, _inside(next))


def _inside(path: str) -> str:
    """A page of ours to go on with; empty where it is none."""
    return path if path.startswith("/sites/") and path.isprintable() and "\\" not in path else ""


def _draft(request: Request, caller: Caller, number: int, then: str) -> Response:
    place = caller.context.site_file
    with caller.write() as view:  # what it would change is tried, and taken back
        draft, in_force = actions.found(view, place, number), actions.current(view, place)
        wrong = actions.problems(draft.text, place)
        lines = actions.difference(in_force, draft.text)
        changed: Any = None
        if not wrong and lines and not place.obstacle:
            try:
                changed = actions.effects(view, place, draft.text)
            except ConfigError as error:
                wrong = [actions.Problem(0, str(error))]
        context = {
            **_common(view, place, draft.text),
            "base_sha256": sha256_of(in_force),
            "draft": draft,
            "then": then,
            "is_stale": actions.is_stale(view, place, draft),
            "newest": next(iter(actions.revisions(view, place)), None),
            "problems": list(actions.quoted(draft.text, wrong))[:_PROBLEMS],
            "lines": lines[:_LINES],
            "more": max(len(lines) - _LINES, 0),
            "changed": changed,
            "now": caller.now,
        }
    return render.page(request, "site_file_draft.html", context)


@router.post(f"{_PATH}/drafts/{{number}}/apply", dependencies=[FromOwnPage])
def apply(
    request: Request,
    number: int,
    caller: Viewer,
    note: Annotated[str, Form(max_length=500)] = "",
    next: Annotated[str, Form(max_length=300)] = "",
) -> Response:
    """Put a draft in force; where somebody else was faster, show the draft against that."""
    place = caller.context.site_file
    with caller.read() as view:
        is_stale = actions.is_stale(view, place, actions.found(view, place, number))
    if is_stale:
        answer = _draft(request, caller, number, _inside(next))
        answer.status_code = HTTPStatus.CONFLICT
        return answer
    with caller.write() as view:
        actions.apply(view, place, number, note)
    return RedirectResponse(_inside(next) or f"{_PATH}?applied={number}", HTTPStatus.SEE_OTHER)


@router.get(f"{_PATH}/revisions/{{number}}")
def revision_page(request: Request, number: int, caller: Viewer) -> Response:
    """An earlier revision against the text in force, and the way back to it."""
    place = caller.context.site_file
    with caller.read() as view:
        revision, in_force = actions.found(view, place, number), actions.current(view, place)
        lines = actions.difference(in_force, revision.text)
        context = {
            **_common(view, place, revision.text),
            "revision": revision,
            "lines": lines[:_LINES],
            "more": max(len(lines) - _LINES, 0),
            "now": caller.now,
        }
    return render.page(request, "site_file_revision.html", context)


@router.post(f"{_PATH}/revisions/{{number}}/restore", dependencies=[FromOwnPage])
def restore(number: int, caller: Viewer) -> Response:
    """Make a draft of an earlier revision: it is applied as every other one."""
    place = caller.context.site_file
    with caller.write() as view:
        earlier, in_force = actions.found(view, place, number), actions.current(view, place)
        made = actions.draft(view, place, earlier.text, sha256_of(in_force))
    return _to_draft(made)


# -- help about keys -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Key:
    """A key of the site file, as the schema has it."""

    of: str
    """What it belongs to."""
    name: str
    text: str
    allowed: str
    unit: str
    example: str


@router.get(f"{_PATH}/keys")
def keys_page(request: Request, caller: Viewer, q: Annotated[str, Query(max_length=100)] = "") -> Response:
    """What the keys of the site file mean; those whose name is, or has, what is asked for."""
    known, wanted = _keys(), q.strip().casefold()
    exact = [key for key in known if key.name.casefold() == wanted]
    shown = exact or [key for key in known if wanted in f"{key.of}.{key.name} {key.text}".casefold()]
    context = {
        "nav": "settings",
        "tab": "site-file",
        "q": q,
        "keys": shown[:_KEYS],
        "count": len(shown),
        "of": sorted({key.of for key in known}),
    }
    return render.page(request, "site_file_keys.html", context)


@cache
def _keys() -> tuple[Key, ...]:
    found = schema.site_file()
    definitions = {"site file": found, **found["$defs"]}
    return tuple(
        _key(name, key, part)
        for name, one in definitions.items()
        for key, part in one.get("properties", {}).items()
    )


def _key(of: str, name: str, part: dict[str, Any]) -> Key:
    examples = part.get("examples", [])
    return Key(
        of,
        name,
        part.get("description", ""),
        ", ".join(dict.fromkeys(_allowed(part))),
        part.get(schema.UNIT_KEY, ""),
        str(examples[0]) if examples else "",
    )


def _allowed(part: dict[str, Any]) -> Iterator[str]:
    """The types and values that a part of the schema lets through."""
    for choice in part.get("anyOf", []):
        yield from _allowed(choice)
    if "$ref" in part:
        reference = part["$ref"].rsplit("/", 1)[1]
        values = schema_values().get(reference)
        yield from values or (reference,)
    elif "enum" in part:
        yield from map(str, part["enum"])
    elif part.get("type") == "array":
        yield from (f"list of {one}" for one in _allowed(part.get("items", {})))
    elif "type" in part and part["type"] != "null":
        yield part["type"]


@cache
def schema_values() -> dict[str, tuple[str, ...]]:
    """Values of the enumerations of the schema, by their name."""
    definitions = schema.site_file()["$defs"]
    return {name: tuple(map(str, one["enum"])) for name, one in definitions.items() if "enum" in one}
