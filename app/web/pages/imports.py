"""Import a file: upload it, see what was understood, correct the mapping, see what is refused, confirm."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from typing import Any

import yaml
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from app.domain.access import Role
from app.domain.site import Site
from app.errors import ConfigError, FileNotUnderstood, SeriesError, TooBusy
from app.store import imports
from app.web import render
from app.web.access import Caller, PageRoute, Viewer, checked_form
from app.web.uploads import Upload, Uploads
from collectors.csv.mapping import Ambiguous, MappingNeeded, mapping_lines, parse_mapping
from collectors.csv.reader import ParsedBatch, Reject, Understanding, read, understand

router = APIRouter(route_class=PageRoute)

_UPLOADS = Uploads()
_TRIED_BATCHES = 8
"""Parts of the file that a preview goes through before it is confirmed."""
_SHOWN_REJECTS = 50
_LIST = 20
_UNDECIDED = "?"
"""What a mapping to start from says where a point has to be chosen."""


@dataclass
class Preview:
    """What a file would become; or why it is not understood, and what may be answered."""

    upload: Upload
    mapping: str
    plan: Understanding | None = None
    accepted: int = 0
    refused: int = 0
    is_part: bool = False
    rejects: list[Reject] = field(default_factory=list)
    problem: str = ""
    key: str = ""
    """Where the file can be read in two ways: the key of the mapping that decides."""
    choices: tuple[tuple[str, str], ...] = ()
    asked: tuple[tuple[str, str], ...] = ()
    """Columns whose point has to be said, with a suggestion."""


@router.get("/imports")
def choose_site(request: Request, caller: Viewer) -> Response:
    """Straight to the only site; else the choice of one."""
    with caller.read() as view:
        sites = view.stored.fleet.sites
    if len(sites) == 1:
        return RedirectResponse(f"/sites/{sites[0].id}/imports", HTTPStatus.SEE_OTHER)
    return render.page(request, "choose.html", {"nav": "imports", "sites": sites, "end": "imports"})


@router.get("/sites/{site}/imports")
def imports_page(request: Request, site: str, caller: Viewer) -> Response:
    """The form for a file, and the newest imports."""
    with caller.read() as view:
        found = view.site(site)
        listed = imports.listing(view.connection, view.stored.site_id[site], _LIST)
        may_act = (role := caller.principal.role_at(found)) is not None and role.rank >= Role.OPERATOR.rank
    return _page(request, found, "imports.html", {"imports": listed, "may_act": may_act})


@router.post("/sites/{site}/imports")
async def upload(request: Request, site: str, caller: Viewer) -> Response:
    """Take a file and show how it is understood; nothing is stored yet."""
    found = await run_in_threadpool(_operated, caller, site)
    async with request.form(max_files=1, max_fields=3) as form:
        await checked_form(request)
        file = form.get("file")
        if not isinstance(file, UploadFile) or not file.filename:
            raise SeriesError("choose a file first")
        kept = await run_in_threadpool(_keep, caller, found, file)
    preview = await run_in_threadpool(_preview, found, kept, "")
    return _page(request, found, "import_preview.html", _shown(found, preview))


@router.post("/sites/{site}/imports/{ticket}")
async def decide(request: Request, site: str, ticket: str, caller: Viewer) -> Response:
    """Look again with another mapping, import, or let go."""
    found = await run_in_threadpool(_operated, caller, site)
    form = await request.form(max_fields=2000)
    await checked_form(request)
    kept = _UPLOADS.get(ticket, caller.principal.name, site)
    action = str(form.get("action", "preview"))
    if action == "drop":
        await run_in_threadpool(_UPLOADS.drop, kept)
        return RedirectResponse(f"/sites/{site}/imports", HTTPStatus.SEE_OTHER)
    try:
        mapping = _answered(str(form.get("mapping", "")), form)
    except ConfigError as error:
        preview = Preview(kept, str(form.get("mapping", "")), problem=str(error))
        return _page(request, found, "import_preview.html", _shown(found, preview))
    if action == "import":
        return await run_in_threadpool(_import, request, caller, found, kept, mapping)
    preview = await run_in_threadpool(_preview, found, kept, mapping)
    return _page(request, found, "import_preview.html", _shown(found, preview))


def _operated(caller: Caller, site: str) -> Site:
    with caller.read() as view:
        return view.site(site, Role.OPERATOR)


def _keep(caller: Caller, site: Site, file: UploadFile) -> Upload:
    name = file.filename or "upload"
    return _UPLOADS.keep(file.file, name, caller.principal.name, site.id, caller.context.scratch)


def _page(request: Request, site: Site, template: str, more: Mapping[str, Any]) -> Response:
    return render.page(request, template, {"nav": "imports", "tab": "imports", "site": site, **more})


def _shown(site: Site, preview: Preview) -> dict[str, Any]:
    points = [(m.name or m.id, [p.id for p in m.points]) for m in site.meters]
    return {"preview": preview, "points": points, "columns": _shown_columns(preview)}


def _shown_columns(preview: Preview) -> list[tuple[str, str, str]]:
    """Every column of the file: name, the point it fills (empty: none), unit."""
    if preview.plan is None:
        return [(str(name), point, "") for name, point in preview.asked]
    taken = [(c.name, c.point.id, c.unit) for c in preview.plan.columns]
    return [*taken, *((name, "", "") for name in preview.plan.unused)]


# -- preview --------------------------------------------------------------------------------------------


def _preview(site: Site, upload: Upload, mapping: str) -> Preview:
    """What the file would become with a mapping; the first parts of it are gone through."""
    preview = Preview(upload, mapping)
    try:
        preview.plan = understand(upload.path, site, _parsed(mapping))
        preview.mapping = preview.plan.mapping_yaml
        _try(preview, preview.plan)
    except (FileNotUnderstood, ConfigError) as error:
        preview.problem = str(error).replace(str(upload.path), upload.name)
        if isinstance(error, MappingNeeded):
            preview.problem = preview.problem.partition("\n")[0]
            preview.mapping = _without_comments(error.template)
            preview.asked = tuple(yaml.safe_load(error.template).get("columns", {}).items())
        if isinstance(error, Ambiguous):
            preview.key, preview.choices = error.key, error.choices
    return preview


def _without_comments(template: str) -> str:
    """The points are offered beside each column; the template's list of them is not needed here."""
    return "".join(line for line in template.splitlines(keepends=True) if not line.startswith("#"))


def _parsed(mapping: str) -> Any:
    return parse_mapping(mapping) if mapping.strip() else None


def _try(preview: Preview, plan: Understanding) -> None:
    batches = read(preview.upload.path, plan)
    for batch in islice(batches, _TRIED_BATCHES):
        preview.accepted += len(batch.columns)
        preview.refused += len(batch.rejects)
        preview.rejects += batch.rejects[: _SHOWN_REJECTS - len(preview.rejects)]
    preview.is_part = next(batches, None) is not None


def _answered(mapping: str, form: FormData) -> str:
    """The mapping with what was chosen in the form beside it.

    Raises
    ------
    ConfigError
        If the mapping is no YAML mapping.
    """
    data = mapping_lines(mapping).data
    changed = _choose(data, str(form.get("key", "")), str(form.get("choice", "")))
    changed |= _repoint(data, form)
    columns = _part(data, "columns") if data.get("columns") else {}
    undecided = [name for name, point in columns.items() if point == _UNDECIDED]
    for name in undecided:
        del columns[name]
    if not changed and not undecided:
        return mapping
    return str(yaml.safe_dump(data, allow_unicode=True, sort_keys=False))


def _choose(data: dict[str, Any], key: str, choice: str) -> bool:
    """Write a choice under a key such as ``time: format``."""
    if not key or not choice:
        return False
    *parents, last = [part.strip() for part in key.split(":")]
    for parent in parents:
        data = _part(data, parent)
    data[last] = mapping_lines(f"chosen: {choice}").data["chosen"]
    return True


def _part(data: dict[str, Any], key: str) -> dict[str, Any]:
    """The mapping under a key; a new one where there is none.

    Raises
    ------
    ConfigError
        If something else stands there.
    """
    if data.get(key) is None:
        data[key] = {}
    part = data[key]
    if not isinstance(part, dict):
        raise ConfigError("must be a mapping", key=key)
    return part


def _repoint(data: dict[str, Any], form: FormData) -> bool:
    """Apply the points chosen for columns, where they differ from what was shown."""
    changed = False
    for number, name in _columns(form):
        before, now = form.get(f"before.{number}", ""), str(form.get(f"point.{number}", ""))
        if now == before:
            continue
        changed, columns = True, _part(data, "columns")
        if now:
            columns[name] = now
        else:
            columns.pop(name, None)
    return changed


def _columns(form: FormData) -> Iterator[tuple[str, str]]:
    for field_name, value in form.multi_items():
        if field_name.startswith("column."):
            yield field_name.removeprefix("column."), str(value)


# -- importing ------------------------------------------------------------------------------------------


def _import(request: Request, caller: Caller, site: Site, upload: Upload, mapping: str) -> Response:
    """Store all of the file, or nothing of it, and say what became of it."""
    refused: list[Reject] = []

    def note(batch: Any) -> None:
        assert isinstance(batch, ParsedBatch)
        refused.extend(batch.rejects[: _SHOWN_REJECTS - len(refused)])

    with caller.read() as view:
        stored, actor = view.stored, view.actor
    try:
        with _one_of_few(caller):
            plan = understand(upload.path, site, _parsed(mapping))
            source = imports.Source(site.id, upload.name, _digest(upload), plan.warnings)
            batches = read(upload.path, plan, now=caller.now)
            taken = imports.store_source(caller.context.engine, stored, source, batches, note, by=actor)
    except (FileNotUnderstood, ConfigError) as error:
        preview = Preview(upload, mapping, problem=str(error).replace(str(upload.path), upload.name))
        return _page(request, site, "import_preview.html", _shown(site, preview))
    caller.context.telemetry.stored(site.id, taken.accepted)
    _UPLOADS.drop(upload)
    return _page(request, site, "import_done.html", {"taken": taken, "rejects": refused, "name": upload.name})


@contextmanager
def _one_of_few(caller: Caller) -> Iterator[None]:
    gate = caller.context.imports
    if not gate.acquire(blocking=False):
        raise TooBusy("other imports are running; try again shortly", retry_after_s=10)
    try:
        yield
    finally:
        gate.release()


def _digest(upload: Upload) -> str:
    with upload.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
