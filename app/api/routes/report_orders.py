"""Reports made in the background: order one, see how far it is, fetch the file."""

from __future__ import annotations

import uuid
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter
from fastapi import Path as PathParameter
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from app.actions import reports as actions
from app.api.context import Caller, CallerOf, SiteId
from app.api.routes.reports import FormName, InstitutionId, PeriodName
from app.store.reports import orders
from app.store.reports.orders import DONE, Order, Wanted

router = APIRouter(tags=["reports"])

OrderId = Annotated[uuid.UUID, PathParameter(description="Id of the order")]


class OrderIn(BaseModel):
    """The form in which a report is wanted."""

    model_config = ConfigDict(extra="forbid")

    format: FormName = "pdf"
    lang: str = Field(default="en", pattern="^[a-z]{2,8}$", description="Language: zh or en")
    revision: int | None = Field(
        default=None,
        ge=0,
        le=100_000,
        strict=True,
        description="Frozen revision; 0: as of now; default: the newest, else as of now",
    )


class OrderOut(BaseModel):
    """An order, and how far it is."""

    id: uuid.UUID
    of: str
    period: str
    format: FormName
    lang: str
    state: Literal["waiting", "running", "done", "failed"]
    steps_done: int
    steps_total: int
    """Sites to be read, and one for setting the pages."""
    asked_at: datetime
    finished_at: datetime | None
    problem: str
    """Why it failed; else empty."""
    path: str
    file_path: str | None
    """Where the file is, once it is done; it is kept for a day."""


@router.post("/sites/{site}/reports/{period}", status_code=HTTPStatus.ACCEPTED)
def order_report(
    site: SiteId, period: PeriodName, body: OrderIn, caller: Caller, answer: Response
) -> OrderOut:
    """Have the report of a month or year made in the background; follow it at ``path``."""
    with caller.write() as view:
        bank = view.site(site).institution
        order = actions.order(view, Wanted(site, bank, period, body.revision, body.format, body.lang))
    return _accepted(caller, order, answer)


@router.post("/institutions/{institution}/reports/{period}", status_code=HTTPStatus.ACCEPTED)
def order_institution_report(
    institution: InstitutionId, period: PeriodName, body: OrderIn, caller: Caller, answer: Response
) -> OrderOut:
    """Have the report of all sites of an institution made in the background; follow it at ``path``."""
    with caller.write() as view:
        order = actions.order(view, Wanted("", institution, period, body.revision, body.format, body.lang))
    return _accepted(caller, order, answer)


@router.get("/reports/orders/{order_id}")
def get_report_order(order_id: OrderId, caller: Caller) -> OrderOut:
    """How far an ordered report is."""
    with caller.read() as view:
        return _out(actions.find_order(view, order_id))


@router.get("/reports/orders/{order_id}/file", response_class=Response)
def get_report_file(order_id: OrderId, caller: Caller) -> Response:
    """The file of an ordered report, once it is done."""
    with caller.write() as view:
        order = actions.find_order(view, order_id)
        content = orders.content(view.connection, order)
        wanted = order.wanted
        detail = {"period": wanted.period, "form": wanted.format}
        view.audit("report.export", wanted.site or wanted.institution, detail)
    place = "inline" if wanted.format == "html" else "attachment"
    headers = {"Content-Disposition": f'{place}; filename="{order.file_name}"', "Cache-Control": "private"}
    return Response(content, media_type=order.media_type, headers=headers)


def _accepted(caller: CallerOf, order: Order, answer: Response) -> OrderOut:
    caller.context.maker.ring()
    out = _out(order)
    answer.headers["Location"] = out.path
    return out


def _out(order: Order) -> OrderOut:
    path = f"/api/v1/reports/orders/{order.id}"
    return OrderOut.model_validate(
        {
            "id": order.id,
            "of": order.wanted.site or order.wanted.institution,
            "period": order.wanted.period,
            "format": order.wanted.format,
            "lang": order.wanted.lang,
            "state": order.state,
            "steps_done": order.steps_done,
            "steps_total": order.steps_total,
            "asked_at": order.asked_at,
            "finished_at": order.finished_at,
            "problem": order.problem,
            "path": path,
            "file_path": f"{path}/file" if order.state == DONE else None,
        }
    )
