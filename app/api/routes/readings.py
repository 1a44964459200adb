"""Readings in and out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from app.actions.view import View
from app.api import exports, problems, rows, schemas
from app.api.context import Caller, CallerOf, bounded
from app.api.periods import End, Start
from app.api.rows import Outcome
from app.domain.asked import instant
from app.domain.period import Period
from app.domain.site import Point
from app.errors import NotFound, RequestTooLarge, SeriesError
from app.store import reading_pages, receipts

router = APIRouter(tags=["readings"])

BATCH_ROWS = 5000
_LONGEST_LINE_BYTES = 64 << 10
_NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")

_READING_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["point", "at", "value"],
    "additionalProperties": False,
    "properties": {
        "point": {"type": ["string", "null"], "description": "Id of the point"},
        "at": {
            "type": ["string", "null"],
            "description": "RFC 3339 with a zone: instant of measurement, or the end of the interval "
            "that the point's `stamp` names",
        },
        "value": {"type": ["number", "string", "null"], "description": "In the unit of the point"},
        "interval_s": {
            "type": ["integer", "null"],
            "description": "Length of the stated interval; default: the point's [s]",
        },
        "valid_s": {"type": ["integer", "null"], "description": "Measured part of the interval [s]"},
    },
}
_EXAMPLE = {"readings": [{"point": "main.kwh", "at": "2026-10-01T00:15:00+08:00", "value": 1042.5}]}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["readings"],
                    "additionalProperties": False,
                    "properties": {"readings": {"type": "array", "items": _READING_SCHEMA}},
                },
                "example": _EXAMPLE,
            },
            "application/x-ndjson": {"schema": {"type": "string", "description": "One reading a line"}},
        },
    }
}


@router.post("/readings", response_model=schemas.ReadingsTaken, openapi_extra=_BODY)
async def post_readings(request: Request, caller: Caller) -> JSONResponse:
    """Send readings, in any order, again and again; the answer comes after they are safely stored.

    A row that cannot be stored is rejected with its reason, the others are stored. A value that differs
    from the one stored for the same point and time is rejected: the first one stays.
    """
    caller.refuse_viewers()
    outcome = Outcome()
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if kind in _NDJSON:
        await _take_lines(request, caller, outcome)
    elif kind == "application/json":
        document = _parsed(await _whole_body(request, caller.limits.json_body_bytes))
        await run_in_threadpool(_take_all, caller, rows.check_shape(document), outcome)
    else:
        raise problems.unsupported_media("application/json or application/x-ndjson")
    return JSONResponse(outcome.as_dict())


def _take_all(caller: CallerOf, values: list[Any], outcome: Outcome) -> None:
    for batch in rows.batches(enumerate(values), BATCH_ROWS):
        _take_batch(caller, batch, outcome)


def _take_batch(caller: CallerOf, batch: list[tuple[int, Any]], outcome: Outcome) -> None:
    """One transaction; its rows count in `outcome` only once it is committed."""
    part = Outcome()
    with caller.write() as view:
        rows.take(view, batch, caller.now, part)
        if part.accepted:
            sites, digest = ",".join(sorted(part.by_site)), receipts.digest(row for _, row in batch)
            view.audit_readings(sites, part.accepted, digest)
    outcome.add(part)
    caller.context.telemetry.service.rejected(part.reasons)
    for site, count in part.by_site.items():
        caller.context.telemetry.stored(site, count)


async def _whole_body(request: Request, most_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise RequestTooLarge(f"a JSON body has at most {most_bytes} bytes; send NDJSON, or in parts")
    return bytes(body)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise SeriesError(f"body: not JSON: {str(error)[:200]}") from None


async def _take_lines(request: Request, caller: CallerOf, outcome: Outcome) -> None:
    lines: list[bytes] = []
    number = 0
    async for more in _lines(request):
        lines += more
        while len(lines) >= BATCH_ROWS:
            batch, lines = lines[:BATCH_ROWS], lines[BATCH_ROWS:]
            await run_in_threadpool(_take_some_lines, caller, number, batch, outcome)
            number += BATCH_ROWS
    if lines:
        await run_in_threadpool(_take_some_lines, caller, number, lines, outcome)


def _take_some_lines(caller: CallerOf, number: int, lines: list[bytes], outcome: Outcome) -> None:
    _take_batch(caller, list(enumerate(rows.parsed_lines(lines), number)), outcome)


async def _lines(request: Request) -> AsyncIterator[list[bytes]]:
    """Lines with anything in them, as many at a time as come."""
    rest = b""
    async for chunk in request.stream():
        *whole, rest = (rest + chunk).split(b"\n")
        yield [line for line in whole if line.strip()]
        if len(rest) > _LONGEST_LINE_BYTES:
            raise RequestTooLarge(f"a line has at most {_LONGEST_LINE_BYTES} bytes; one reading a line")
    yield [rest] if rest.strip() else []


@router.get(
    "/readings",
    response_model=schemas.ReadingsPage,
    responses={200: {"content": {"text/csv": {}, "application/vnd.apache.parquet": {}}}},
)
def get_readings(
    point: Annotated[list[str], Query(min_length=1, max_length=1000, description="Ids of points")],
    start: Start,
    end: End,
    caller: Caller,
    format: Literal["json", "csv", "parquet"] = "json",
    limit: Annotated[int, Query(ge=1, le=100_000, description="Readings in one page of JSON")] = 10_000,
) -> Response:
    """Stored readings with start <= at < end, in order of time: pages of JSON, or whole as CSV or Parquet."""
    period = Period(instant(start, "start"), instant(end, "end"))
    if format == "json":
        with caller.read() as view:
            return JSONResponse(_page(view, _visible(view, point), period, limit))
    with bounded(caller.context.exports, caller.principal, "exports"), caller.write() as view:
        points = _visible(view, point)
        exports.check_size(points, period, caller.limits.export_readings)
        file = exports.readings_file(view, points, period, format, caller.context.scratch)
        view.audit("readings.export", ",".join(p.id for p in points)[:500], {"format": format})
    return file


def _visible(view: View, keys: list[str]) -> list[Point]:
    """The points, once each."""
    known = view.stored.fleet.point
    missing = next((key for key in keys if key not in known), None)
    if missing is not None:
        raise NotFound(f"there is no point {missing[:100]!r}")
    return [known[key][2] for key in dict.fromkeys(keys)]


def _page(view: View, points: list[Point], period: Period, limit: int) -> dict[str, Any]:
    keys = {view.stored.point_id[p.id]: p.id for p in points}
    rows, following = reading_pages.page(view.connection, list(keys), period.start, period.end, limit)
    return {
        "points": {p.id: p.quantity.house_unit for p in points},
        "readings": [_out(row, keys) for row in rows],
        "next_start": following and _text(following),
    }


def _out(row: reading_pages.Row, keys: dict[int, str]) -> dict[str, Any]:
    return {
        "point": keys[row.point_id],
        "at": _text(row.at),
        "value": row.value,
        "interval_s": row.interval_s,
        "valid_s": row.valid_s,
    }


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
