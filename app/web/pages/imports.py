"""Import files: upload them, see what was understood, correct the mapping, see what is refused, confirm.

One mapping serves all files of an upload. The import runs on in the background while its page shows how
far it is; a short one is over before the page is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import yaml
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from app.domain.access import Role
from app.domain.site import Site
from app.errors import ConfigError, FileNotUnderstood, NotFound, SeriesError, TooBusy, WorkTooLarge
from app.jobs import replace
from app.jobs.dry_run import Held, Seen, Trialled, tried
from app.jobs.imports import RejectsFile
from app.jobs.replace import Trial
from app.store import imports
from app.store.engine import connect
from app.web import render
from app.web.access import Caller, PageRoute, Viewer, checked_form
from app.web.import_run import SHOWN_REJECTS, FileRun, ImportRun, Target
from app.web.uploads import Upload, UploadedFile, Uploads
from collectors.csv.mapping import Ambiguous, MappingNeeded, mapping_lines, mapping_yaml, parse_mapping
from collectors.csv.mapping import Mapping as FileMapping
from collectors.csv.reader import Reject, Understanding, read, understand

router = APIRouter(route_class=PageRoute)

UPLOADS = Uploads()
_MOST_FILES = 100
"""Files of one upload."""
_PREVIEW_S = 10.0
"""So long a preview goes through the files; what it has not reached by then is counted by the import."""
_LIST = 20
_UNDECIDED = "?"
"""What a mapping to start from says where a point has to be chosen."""
_SHORT_S = 4.0
"""An import that is over so soon is answered with what became of it."""


@dataclass
class FilePreview:
    """What one file would become; or why it is not understood, and what may be answered."""

    file: UploadedFile
    tried: Trialled | None = None
    problem: str = ""
    key: str = ""
    """Where the file can be read in two ways: the key of the mapping that decides."""
    choices: tuple[tuple[str, str], ...] = ()
    template: str = ""
    """A mapping to start from, where points have to be said."""
    asked: dict[str, str] = field(default_factory=dict)
    """Columns whose point has to be said, with a suggestion."""

    @property
    def plan(self) -> Understanding | None:
        """How it is read; None where that is not understood."""
        return self.tried.understood if self.tried else None

    @property
    def warnings(self) -> list[str]:
        """What was assumed, and what to look at."""
        return self.tried.warnings if self.tried else []


@dataclass
class Preview:
    """What the files of an upload would become with one mapping."""

    upload: Upload
    mapping: str
    files: list[FilePreview] = field(default_factory=list)
    problem: str = ""
    """What is wrong with the mapping."""
    trial: Trial | None = None
    """What would change, if the files are to correct what is stored."""
    replaces: bool = False
    reason: str = ""

    @property
    def understood(self) -> list[FilePreview]:
        """The files that can be imported."""
        return [f for f in self.files if f.plan]

    @property
    def shown(self) -> FilePreview | None:
        """The file whose rows are shown."""
        return next(iter(self.understood), None)

    @property
    def question(self) -> FilePreview | None:
        """The first file that can be read in two ways."""
        return next((f for f in self.files if f.choices), None)

    @property
    def rejects(self) -> list[tuple[str, Reject]]:
        """The first refused rows, with their file."""
        return [(f.file.name, r) for f in self.files if f.tried for r in f.tried.rejects][:SHOWN_REJECTS]


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
    """The form for files, and the newest imports."""
    with caller.read() as view:
        found = view.site(site)
        listed = imports.listing(view.connection, view.stored.site_id[site], _LIST)
        may_act = (role := caller.principal.role_at(found)) is not None and role.rank >= Role.OPERATOR.rank
    return _page(request, found, "imports.html", {"imports": listed, "may_act": may_act})


@router.post("/sites/{site}/imports")
async def upload(request: Request, site: str, caller: Viewer) -> Response:
    """Take files and show how they are understood; nothing is stored yet."""
    found = await run_in_threadpool(_operated, caller, site)
    async with request.form(max_files=_MOST_FILES, max_fields=3) as form:
        await checked_form(request)
        files = [f for f in form.getlist("file") if isinstance(f, UploadFile) and f.filename]
        if not files:
            raise SeriesError("choose a file first")
        kept = await run_in_threadpool(_keep, caller, found, files)
    preview = await run_in_threadpool(_preview, caller, found, kept, "")
    return _shown(request, found, preview)


@router.post("/sites/{site}/imports/{ticket}")
async def decide(request: Request, site: str, ticket: str, caller: Viewer) -> Response:
    """Look again with another mapping, import, or let go."""
    found = await run_in_threadpool(_operated, caller, site)
    form = await request.form(max_fields=2000)
    await checked_form(request)
    kept = UPLOADS.get(ticket, caller.principal.name, site)
    if kept.run is not None:
        return RedirectResponse(f"/sites/{site}/imports/{ticket}", HTTPStatus.SEE_OTHER)
    action = str(form.get("action", "preview"))
    if action == "drop":
        await run_in_threadpool(UPLOADS.drop, kept)
        return RedirectResponse(f"/sites/{site}/imports", HTTPStatus.SEE_OTHER)
    return await run_in_threadpool(_decided, request, caller, found, kept, form, action)


def _decided(
    request: Request, caller: Caller, site: Site, kept: Upload, form: FormData, action: str
) -> Response:
    replaces, reason = form.get("replace") == "1", str(form.get("reason", ""))[:500]
    try:
        kept.mapping = _answered(str(form.get("mapping", "")), form)
        parsed = _parsed(kept.mapping)
    except ConfigError as error:
        preview = Preview(kept, str(form.get("mapping", "")), problem=str(error))
        return _shown(request, site, preview)
    if action == "import" and (not replaces or form.get("agreed") == "1"):
        return _import(request, caller, site, kept, parsed, reason if replaces else None)
    preview = _preview(caller, site, kept, kept.mapping)
    preview.replaces, preview.reason = replaces, reason
    if action == "import":
        _try_replacing(caller, site, preview)
    return _shown(request, site, preview)


@router.get("/sites/{site}/imports/{ticket}")
def progress(request: Request, site: str, ticket: str, caller: Viewer) -> Response:
    """How far an import is, or what became of it; the preview where it is not confirmed yet."""
    found = _operated(caller, site)
    kept = UPLOADS.get(ticket, caller.principal.name, site)
    if kept.run is None:
        return _shown(request, found, _preview(caller, found, kept, kept.mapping))
    return _ran(request, found, kept, kept.run)


@router.get("/sites/{site}/imports/{ticket}/rejects.csv")
def rejects(site: str, ticket: str, caller: Viewer) -> Response:
    """All refused rows of an upload, of the import or as it would be."""
    found = _operated(caller, site)
    kept = UPLOADS.get(ticket, caller.principal.name, site)
    if kept.run is None:
        _write_rejects(found, kept)
    if not kept.rejects_path.is_file():
        raise NotFound("no row was rejected")
    return FileResponse(kept.rejects_path, media_type="text/csv; charset=utf-8", filename="rejects.csv")


def _write_rejects(site: Site, kept: Upload) -> None:
    kept.rejects_path.unlink(missing_ok=True)
    with RejectsFile(kept.rejects_path) as out:
        for file in kept.files:
            try:
                for batch in read(file.path, understand(file.path, site, _parsed(kept.mapping))):
                    out.write(file.name, batch.rejects)
            except (FileNotUnderstood, ConfigError) as error:
                out.write(file.name, [Reject(0, "", kept.known_as(str(error)), "")])


def _operated(caller: Caller, site: str) -> Site:
    with caller.read() as view:
        return view.site(site, Role.OPERATOR)


def _keep(caller: Caller, site: Site, files: Sequence[UploadFile]) -> Upload:
    sources = [(f.file, f.filename or "upload") for f in files]
    return UPLOADS.keep(sources, caller.principal.name, site.id, caller.context.scratch)


def _page(request: Request, site: Site, template: str, more: Mapping[str, Any]) -> Response:
    return render.page(request, template, {"nav": "imports", "tab": "imports", "site": site, **more})


def _shown(request: Request, site: Site, preview: Preview) -> Response:
    points = [(m.name or m.id, [p.id for p in m.points]) for m in site.meters]
    more = {"preview": preview, "points": points, "columns": _shown_columns(preview)}
    return _page(request, site, "import_preview.html", more)


def _shown_columns(preview: Preview) -> list[tuple[str, str, str]]:
    """Every column of the files: name, the point it fills (empty: none), unit."""
    found: dict[str, tuple[str, str]] = {}
    for plan in (f.plan for f in preview.understood):
        assert plan is not None
        found |= {c.name: (c.point.id, c.unit) for c in plan.columns}
        found = dict.fromkeys(plan.unused, ("", "")) | found
    asked = {name: (point, "") for f in preview.files for name, point in f.asked.items()}
    taken = {n: v for n, v in found.items() if v[0]}
    return [(name, *value) for name, value in (taken | asked | found).items()]


# -- preview --------------------------------------------------------------------------------------------


def _preview(caller: Caller, site: Site, upload: Upload, mapping: str) -> Preview:
    """What the files would become with a mapping: all of them, unless that takes too long."""
    preview = Preview(upload, mapping)
    try:
        parsed = _parsed(mapping)
    except ConfigError as error:
        preview.problem = str(error)
        return preview
    with caller.read() as view:
        stored = view.stored
    seen = Seen(Held(lambda: connect(caller.context.engine), stored))
    ends_s = time.monotonic() + _PREVIEW_S
    preview.files = [_preview_file(site, upload, file, parsed, seen, ends_s) for file in upload.files]
    if not mapping.strip():
        preview.mapping = _proposed(preview)
    return preview


def _preview_file(
    site: Site, upload: Upload, file: UploadedFile, mapping: Any, seen: Seen, ends_s: float
) -> FilePreview:
    found = FilePreview(file)
    try:
        plan = understand(file.path, site, mapping)
        found.tried = tried(file.path, site, plan, seen, may_go_on=lambda: time.monotonic() < ends_s)
    except (FileNotUnderstood, ConfigError) as error:
        found.problem = upload.known_as(str(error))
        if isinstance(error, MappingNeeded):
            found.problem = found.problem.partition("\n")[0]
            found.template = _without_comments(error.template)
            asked = yaml.safe_load(error.template).get("columns", {})
            found.asked = {str(n): c if isinstance(c, str) else c.get("point", "?") for n, c in asked.items()}
        if isinstance(error, Ambiguous):
            found.key, found.choices = error.key, error.choices
    return found


def _proposed(preview: Preview) -> str:
    """A mapping for all of the files: of one file all that was understood, of several their columns."""
    if len(preview.files) == 1:
        one = preview.files[0]
        return one.plan.mapping_yaml if one.plan else one.template
    columns: dict[str, Any] = {}
    for file in preview.files:
        columns |= {name: point for name, point in file.asked.items() if name not in columns}
        columns |= dict(file.plan.mapping.columns) if file.plan else {}
    known = {n: c for n, c in columns.items() if not isinstance(c, str)}
    text = mapping_yaml(FileMapping(columns=known)) if known else ""
    data = yaml.safe_load(text) or {}
    open_ = {n: c for n, c in columns.items() if isinstance(c, str)}
    if open_:
        data["columns"] = {**data.get("columns", {}), **open_}
    return str(yaml.safe_dump(data, allow_unicode=True, sort_keys=False)) if data else ""


def _without_comments(template: str) -> str:
    """The points are offered beside each column; the template's list of them is not needed here."""
    return "".join(line for line in template.splitlines(keepends=True) if not line.startswith("#"))


def _parsed(mapping: str) -> Any:
    return parse_mapping(mapping) if mapping.strip() else None


def _try_replacing(caller: Caller, site: Site, preview: Preview) -> None:
    """Find out what would change, if the files are to correct what is stored."""
    with caller.read() as view:
        stored = view.stored
    plans = [(f.file.path, f.plan) for f in preview.understood if f.plan]
    try:
        with _one_of_few(caller):
            preview.trial = replace.trial(caller.context.engine, stored, site, plans)
    except (FileNotUnderstood, TooBusy, WorkTooLarge) as error:
        preview.problem = preview.upload.known_as(str(error))


_OTHERS_RUN = "other imports are running; try again shortly"


def _one_of_few(caller: Caller) -> AbstractContextManager[None]:
    who = caller.principal
    return caller.context.imports.taken(who.name, _OTHERS_RUN, group=who.tenant, retry_after_s=10)


def _acquire(caller: Caller) -> Callable[[], None]:
    who = caller.principal
    return caller.context.imports.take(who.name, _OTHERS_RUN, group=who.tenant, retry_after_s=10)


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


def chosen_in(mapping: str, key: str, choice: str) -> str:
    """A mapping with a choice under a key such as ``time: format``; as it was where nothing is chosen."""
    data = mapping_lines(mapping).data if mapping.strip() else {}
    return str(yaml.safe_dump(data, allow_unicode=True)) if _choose(data, key, choice) else mapping


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


def _import(
    request: Request, caller: Caller, site: Site, kept: Upload, mapping: Any, reason: str | None
) -> Response:
    """Begin to store the files, each whole or not at all; show what became of them, or how far it is."""
    with caller.read() as view:
        stored, actor = view.stored, view.actor
    author = caller.principal.name
    files = [FileRun(f.name, f.path, f.path.stat().st_size) for f in kept.files]
    run = ImportRun(
        files,
        mapping,
        lambda name: None if reason is None else replace.correction(author, reason, name),
        kept.rejects_path,
    )
    kept.rejects_path.unlink(missing_ok=True)
    give_back = _acquire(caller)
    kept.run = run
    telemetry = caller.context.telemetry
    run.start(Target(caller.context.engine, stored, site, actor, telemetry.stored), give_back)
    run.over.wait(_SHORT_S)
    if not run.is_over:
        return RedirectResponse(f"/sites/{site.id}/imports/{kept.ticket}", HTTPStatus.SEE_OTHER)
    return _ran(request, site, kept, run)


def _ran(request: Request, site: Site, kept: Upload, run: ImportRun) -> Response:
    return _page(request, site, "import_done.html", {"run": run, "ticket": kept.ticket})
