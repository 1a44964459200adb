"""The first hour: from an empty installation to a site file and a first PUE, step by step."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from app.actions import site_file as actions
from app.domain.access import Role as AccessRole
from app.domain.period import Period
from app.domain.quantity import Role
from app.domain.suggestion import for_better_category
from app.errors import ConfigError, NotFound, SeriesError
from app.store import energy
from app.store.site_files import sha256_of
from app.web import first_site, render
from app.web.access import Caller, PageRoute, SeeOther, Viewer, checked_form
from app.web.first_site import Looked, Meter, Plan
from app.web.pages import connect, figures
from app.web.pages.imports import UPLOADS, chosen_in
from app.web.uploads import Upload
from collectors import probe as probing
from collectors.found import Outcome, Target

router = APIRouter(route_class=PageRoute)

_MOST_FILES = 20
_ZONES = (
    "Asia/Shanghai",
    "Asia/Hong_Kong",
    "Asia/Tokyo",
    "Asia/Singapore",
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "UTC",
)


@router.get("/start")
def start(request: Request, caller: Viewer) -> Response:
    """The first step: whose data centre, and where."""
    _require_empty(caller)
    return _page(request, caller, Plan(), "site")


def _require_empty(caller: Caller) -> None:
    """A site file that exists is edited, not begun."""
    place = caller.context.site_file
    with caller.read() as view:
        if actions.current(view, place):
            raise SeeOther("/settings/site-file")


@router.post("/start")
async def go_on(request: Request, caller: Viewer) -> Response:
    """Take what a step says; the next step, or the same one with what is wrong."""
    async with request.form(max_files=_MOST_FILES, max_fields=4000) as form:
        await checked_form(request)
        await run_in_threadpool(_require_empty, caller)
        try:
            plan = _plan(form)
            plan.check()
        except SeriesError as error:
            return _page(request, caller, _half(form), "site", problems=[str(error)])
        action = str(form.get("action", "meters"))
        problems: list[str] = []
        if action == "probe":
            problems = await _probe(caller, form, plan)
        elif action == "upload":
            problems = await run_in_threadpool(_take_files, caller, form, plan)
        return await run_in_threadpool(_answer, request, caller, plan, form, action, problems)


def _answer(
    request: Request, caller: Caller, plan: Plan, form: FormData, action: str, problems: list[str]
) -> Response:
    kept = _kept(caller, plan)
    plan.mapping = chosen_in(plan.mapping, str(form.get("key", "")), str(form.get("choice", "")))
    looked = first_site.look_at({f.name: f.path for f in kept.files}, plan) if kept else Looked()
    if action == "upload" or (action == "choose" and not plan.meters):
        plan.add([c.meter(n) for n, c in enumerate(looked.columns.values(), len(plan.meters) + 1)])
    if action in ("tree", "suggest", "draft") and plan.meters:
        return _tree(request, caller, plan, looked, action, kept)
    return _page(request, caller, plan, "meters", problems=[*problems, *looked.problems], looked=looked)


def _tree(
    request: Request, caller: Caller, plan: Plan, looked: Looked, action: str, kept: Upload | None
) -> Response:
    suggested = first_site.suggested(plan, looked)
    if action != "draft":
        for meter in plan.meters:
            meter.fed_by = suggested[meter.id].fed_by if meter.id in suggested else ""
        return _page(request, caller, plan, "tree", suggested=suggested, looked=looked)
    text = first_site.text(plan, caller.now.date())
    place = caller.context.site_file
    if place.obstacle:
        return _page(request, caller, plan, "text", text=text, problems=[place.obstacle])
    with caller.write() as view:
        number = actions.draft(view, place, text, sha256_of(actions.current(view, place)))
    then = f"/sites/{plan.site_id}/first"
    if kept is not None and looked.columns:
        kept.site, kept.mapping = plan.site_id, first_site.import_mapping(plan, looked)
        then = f"/sites/{plan.site_id}/imports/{kept.ticket}"
    return RedirectResponse(f"/settings/site-file/drafts/{number}?{urlencode({'next': then})}", 303)


def _kept(caller: Caller, plan: Plan) -> Upload | None:
    """The files that were sent; those of an hour ago are gone, and have to be sent again."""
    if not plan.ticket:
        return None
    try:
        return UPLOADS.find(plan.ticket, caller.principal.name)
    except NotFound:
        plan.ticket = ""
        plan.meters = [m for m in plan.meters if not m.column]
        return None


def _take_files(caller: Caller, form: FormData, plan: Plan) -> list[str]:
    files = [f for f in form.getlist("file") if isinstance(f, UploadFile) and f.filename]
    if not files:
        return ["choose a file first"]
    sources = [(f.file, f.filename or "upload") for f in files]
    kept = UPLOADS.keep(sources, caller.principal.name, "", caller.context.scratch)
    plan.ticket, plan.mapping = kept.ticket, ""
    plan.meters = [m for m in plan.meters if not m.column]
    return []


async def _probe(caller: Caller, form: FormData, plan: Plan) -> list[str]:
    """Ask an address or a range; devices that are known become meters."""
    try:
        target = connect.target(form)
        if not target.host:
            return ["enter an address, such as 10.0.0.17"]
        await run_in_threadpool(caller.begin_probe, target.host)
        with caller.reach():
            answers = await _asked(target)
    except ConfigError as error:
        return [str(error)]
    found = [one for outcome in answers.values() for one in outcome.found[:1]]
    plan.add([first_site.device(one) for one in found])
    said = [problem for outcome in answers.values() for problem in outcome.problems]
    return [] if found else said[:10] or ["no device answers there"]


async def _asked(target: Target) -> dict[str, Outcome]:
    if probing.is_range(target.host):
        return await probing.probe_range(target)
    return {target.host: await probing.probe(target)}


# -- what a form says ------------------------------------------------------------------------------------


def _half(form: FormData) -> Plan:
    """What can be kept of a form that is not understood."""
    return Plan(
        institution=str(form.get("institution", ""))[:200],
        site=str(form.get("site", ""))[:200],
        time_zone=str(form.get("time_zone", "Asia/Shanghai"))[:60],
    )


def _plan(form: FormData) -> Plan:
    """The plan that the form carries, with what its fields say.

    Raises
    ------
    SeriesError
        If a field cannot be read.
    """
    said = {name: str(form[name]).strip() for name in _SITE_FIELDS if name in form}
    numbers = {name: _number(form, name) for name in ("price_per_kwh", "it_capacity_kw") if name in form}
    try:
        carried = Plan.model_validate_json(str(form.get("plan") or "{}"))
        plan = Plan.model_validate({**carried.model_dump(), **said, **numbers})
        plan.meters = [_meter(form, n, m) for n, m in enumerate(plan.meters) if _is_kept(form, n)]
    except ValidationError as error:
        first = error.errors()[0]
        raise SeriesError(f"{first['loc'][-1]}: {first['msg']}, not {first['input']!r}") from None
    known = {m.id for m in plan.meters}
    for meter in plan.meters:
        meter.fed_by = meter.fed_by if meter.fed_by in known else ""
    return plan


_SITE_FIELDS = ("institution", "institution_class", "site", "time_zone")


def _number(form: FormData, name: str) -> float | None:
    text = str(form.get(name, "")).strip()
    try:
        return float(text) if text else None
    except ValueError:
        raise SeriesError(f"{name}: {text!r} is no number; write it like 1234.5") from None


def _is_kept(form: FormData, number: int) -> bool:
    return f"m.{number}.shown" not in form or f"m.{number}.use" in form


def _meter(form: FormData, number: int, meter: Meter) -> Meter:
    """A meter with what its row in the form says."""
    fields = ("name", "role", "kind", "unit", "fed_by")
    said: dict[str, Any] = {f: str(form[f"m.{number}.{f}"]) for f in fields if f"m.{number}.{f}" in form}
    if f"m.{number}.rated" in form:
        said["rated_power_kw"] = _number(form, f"m.{number}.rated")
    return Meter.model_validate({**meter.model_dump(), **said})


def _page(
    request: Request,
    caller: Caller,
    plan: Plan,
    step: str,
    *,
    problems: list[str] | None = None,
    looked: Looked | None = None,
    suggested: Any = None,
    text: str = "",
) -> Response:
    context = {
        "nav": "overview",
        "step": step,
        "plan": plan,
        "packed": plan.model_dump_json(),
        "problems": problems or [],
        "looked": looked or Looked(),
        "suggested": suggested or {},
        "roles": first_site.ROLES,
        "kinds": first_site.KINDS,
        "units": first_site.UNIT_CHOICES,
        "zones": _ZONES,
        "text": text,
        "has_it": any(m.role.value.startswith("it_") for m in plan.meters),
        "has_facility": any(m.role is Role.FACILITY for m in plan.meters),
        **connect.choices(Target()),
    }
    return render.page(request, "start.html", context)


# -- the first figure ------------------------------------------------------------------------------------


@router.get("/sites/{site}/first")
def first_figure(request: Request, site: str, caller: Viewer) -> Response:
    """The PUE of all that was measured so far, and what is missing for a better one."""
    with caller.read() as view:
        found = view.site(site)
        known = energy.extent(view.connection, view.stored.site_id[site])
        document = figures.document(view, found, Period(*known)) if known else None
        may_edit = view.may("", AccessRole.ADMIN)
    context = {
        "nav": "site",
        "tab": "figures",
        "site": found,
        "document": document,
        "better": for_better_category(found, document["category"]) if document else None,
        "unrated": [m.id for m in found.meters if m.rated_power_kw is None],
        "loose": [m.id for m in found.meters if not m.fed_by and not _is_supply(m)],
        "may_edit": may_edit,
        "now": caller.now,
    }
    return render.page(request, "first_figure.html", context)


def _is_supply(meter: Any) -> bool:
    return any(p.role in (Role.FACILITY, Role.GENERATOR, Role.RENEWABLE) for p in meter.points)
