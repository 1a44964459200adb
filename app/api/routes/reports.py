"""Reports: what is frozen, and every report in every form."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from itertools import chain
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from fastapi import Path as PathParameter
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

from app import __version__
from app.actions.view import View
from app.api import reports
from app.api.context import Caller, CallerOf, InScope, SiteId, bounded
from app.domain.period import floor
from app.domain.site import Institution
from app.errors import NotFound
from app.fleet import reports as others
from app.fleet.fanout import SCOPE_ALL
from app.reports import document, output
from app.reports.document import Document, InstitutionReport
from app.reports.institution import together
from app.reports.render import csv
from app.store.engine import connect, unhurried
from app.store.reports.revisions import Shelf

router = APIRouter(tags=["reports"])

_VERSION = __version__

FormName = Literal["pdf", "xlsx", "csv", "json", "html", "eu-csv"]
Lang = Annotated[str, Query(pattern="^[a-z]{2,8}$", description="Language: zh or en", examples=["zh"])]
Form = Annotated[
    FormName, Query(alias="format", description="eu-csv: energy fields of Annex II of (EU) 2024/1364")
]
Revision = Annotated[
    int | None,
    Query(ge=0, le=100_000, description="Frozen revision; 0: as of now; default: the newest, else as of now"),
]
PeriodName = Annotated[
    str,
    PathParameter(
        pattern=r"^(199[0-9]|2[01][0-9][0-9])(-(0[1-9]|1[0-2]))?$",
        description="Month or year of the site's own zone",
        examples=["2026-10"],
    ),
]
InstitutionId = Annotated[
    str,
    PathParameter(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$", description="Id of the institution", examples=["bank"]
    ),
]
Known = Annotated[str | None, Header(alias="If-None-Match")]


class FrozenOut(BaseModel):
    """A frozen revision of a report."""

    period: str
    revision: int
    sha256: str
    created_at: str


class ReportsOut(BaseModel):
    """Frozen revisions, newest period first, newest revision first."""

    of: str
    reports: list[FrozenOut]
    schema_path: str = "/api/v1/reports/schema"


@router.get("/reports/schema")
def get_report_schema(
    of: Annotated[Literal["site", "institution"], Query()] = "site",
) -> dict[str, Any]:
    """JSON schema of a report in its JSON form."""
    return document.schema(of_institution=of == "institution")


@router.get("/sites/{site}/reports")
def list_reports(site: SiteId, caller: Caller) -> ReportsOut:
    """Frozen revisions of the reports of a site; any other period can be asked for as provisional."""
    with caller.read() as view:
        view.site(site)
        return _listed(view, site, Shelf.of_site(view.stored, site))


@router.get("/sites/{site}/reports/{period}", response_class=Response)
def get_report(
    site: SiteId,
    period: PeriodName,
    caller: Caller,
    form: Form = "json",
    lang: Lang = "en",
    revision: Revision = None,
    known: Known = None,
) -> Response:
    """The report of a month or year: its newest frozen revision, else the provisional one."""
    with bounded(caller.context.exports, caller.principal, "exports"):
        with caller.read() as view:
            found = view.site(site)
            one = reports.of_site(view.connection, view.stored, found, period, revision, caller.now)
        return _recorded(caller, site, period, form, _answer(one, form, lang, known))


@router.get("/institutions/{institution}/reports")
def list_institution_reports(institution: InstitutionId, caller: Caller) -> ReportsOut:
    """Frozen revisions of the reports of all sites of an institution together."""
    with caller.read() as view:
        bank = view.institution(institution)
        return _listed(view, institution, Shelf.of_institution(view.connection, bank.id))


@router.get("/institutions/{institution}/reports/{period}", response_class=Response)
def get_institution_report(
    institution: InstitutionId,
    period: PeriodName,
    caller: Caller,
    form: Form = "json",
    lang: Lang = "en",
    revision: Revision = None,
    scope: InScope = SCOPE_ALL,
    known: Known = None,
) -> Response:
    """The report of all sites of an institution; as CSV one line per site, streamed.

    With other cells in the fleet it is made of theirs too, unless a revision is asked for, and provisional;
    a cell that does not answer is named in it.
    """
    if caller.context.cells and scope == SCOPE_ALL and revision is None:
        with bounded(caller.context.exports, caller.principal, "exports"):
            found = _of_all_cells(caller, institution, period)
            return _recorded(caller, institution, period, form, _answer(found, form, lang, known))
    with caller.read() as view:
        bank = view.institution(institution)
    if form == "csv":
        name = f'attachment; filename="{institution}-{period}-sites.csv"'
        media = output.FORMS["csv"].media_type
        content = _stream(caller, bank, period)
        head = next(content)  # what is refused is refused before the answer has begun
        answer = StreamingResponse(
            chain([head], content), media_type=media, headers={"Content-Disposition": name}
        )
        return _recorded(caller, institution, period, form, answer)
    with bounded(caller.context.exports, caller.principal, "exports"):
        with caller.read() as view, unhurried(view.connection):
            bank = view.institution(institution)
            one = reports.of_institution(view.connection, view.stored, bank, period, revision, caller.now)
        return _recorded(caller, institution, period, form, _answer(one, form, lang, known))


def _of_all_cells(caller: CallerOf, institution: str, period: str) -> InstitutionReport:
    if not any(grant.reaches_institution(institution) for grant in caller.principal.grants):
        raise NotFound(f"there is no institution {institution!r}")
    own: list[InstitutionReport] = []
    with caller.read() as view, unhurried(view.connection):
        bank = view.stored.fleet.institution.get(institution)
        if bank is not None and reports.sites_of(view.stored, bank):
            one = reports.of_institution(view.connection, view.stored, bank, period, None, caller.now)
            own = [one] if isinstance(one, InstitutionReport) else []
    answers = others.ask(caller.context.cells, institution, period)
    found = [*own, *(report for answer in answers for report in answer.said or ())]
    missing = [answer.cell.id for answer in answers if answer.said is None]
    if not found:
        named = f"; without an answer: {', '.join(missing)}" if missing else ""
        raise NotFound(f"no cell has a site of institution {institution!r}{named}")
    return together(found, missing, floor(caller.now))


def _recorded(caller: CallerOf, of: str, period: str, form: str, answer: Response) -> Response:
    """An answer that takes a report out of the house stands in the audit log; "you have it" does not."""
    if answer.status_code == HTTPStatus.OK:
        with caller.write() as view:
            view.audit("report.export", of, {"period": period, "form": form})
    return answer


def _listed(view: View, of: str, shelf: Shelf) -> ReportsOut:
    rows = [
        FrozenOut(period=p, revision=r, sha256=sha, created_at=at.isoformat())
        for p, r, sha, at in shelf.listing(view.connection)
    ]
    return ReportsOut(of=of, reports=rows)


def _stream(caller: CallerOf, bank: Institution, period: str) -> Iterator[bytes]:
    gate = bounded(caller.context.exports, caller.principal, "exports")
    with gate, connect(caller.context.engine) as connection, unhurried(connection):
        stored = caller.context.fleet.visible(connection, caller.principal)
        yield from csv.lines(reports.lines(connection, stored, bank, period, caller.now))


def _answer(one: Document, form: str, lang: str, known: str | None) -> Response:
    """The file, unless the caller has it."""
    worded = output.FORMS[form].worded
    etag = f'"{one.sha256[:32]}-{form}{"-" + lang if worded else ""}-{_VERSION}"'
    days_s = 86_400 if one.revision.closed else 0
    headers = {
        "ETag": etag,
        "Cache-Control": f"private, max-age={days_s}, must-revalidate",
        "X-Report-Revision": str(one.revision.number),
    }
    if known is not None and etag in known:
        return Response(status_code=304, headers=headers)
    content = output.render(one, form, lang)
    name = output.file_name(one, form, lang)
    place = "inline" if form == "html" else "attachment"
    headers["Content-Disposition"] = f'{place}; filename="{name}"'
    return Response(content, media_type=output.FORMS[form].media_type, headers=headers)
