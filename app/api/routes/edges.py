"""Edges: what they send and get, and what the operator sees of them."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from app.actions import edges as actions
from app.api.context import Caller, CallerOf, InScope, bounded
from app.domain.edge_message import MOST_BYTES, Claim, decode, encode_answer
from app.errors import Forbidden
from app.fleet import fanout
from app.fleet.cells import Cell
from app.fleet.fanout import SCOPE_ALL
from app.jobs import edge_files, edge_intake
from app.store import edges

router = APIRouter(tags=["edges"])

_MEDIA = "application/octet-stream"
_PROCESS = r"^[0-9a-zA-Z._-]{1,64}$"
_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {_MEDIA: {"schema": {"type": "string", "format": "binary"}}}}
}


class BeginIn(BaseModel):
    """A process that is to speak for an edge."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"process": "f3a91c"}})
    process: str = Field(pattern=_PROCESS, description="Made anew at each start")


class BeginOut(BaseModel):
    """It may."""

    edge: str
    epoch: int = Field(description="Stands in everything that the process sends")


class ReleaseIn(BeginIn):
    """A process that ends."""

    epoch: int = Field(ge=0, le=1 << 62)


class ReleaseOut(BaseModel):
    """Another one may begin."""

    edge: str


class BatchOut(BaseModel):
    """What became of a batch, once it is committed."""

    cell_at: datetime
    revision: int = Field(description="Of the definitions that hold")
    backlog_per_s: float = Field(description="Readings a second that may be sent of those that waited")
    stored: int
    duplicate: int
    conflicting: int = Field(description="Another value was stored for their time first; kept aside")
    unknown: int = Field(description="Of points that are not declared; they wait in the database")
    refused: int = Field(description="In the drop ledger")


class DefinitionsOut(BaseModel):
    """Definitions of an edge's sites, signed for it."""

    definitions: str
    signature: str


class FileOut(BaseModel):
    """A file that is imported, or cannot be read."""

    accepted: int
    duplicate: int
    rejected: int
    problem: str = Field(description="Why nothing of it was stored; empty where it was")


class SetAsideOut(BaseModel):
    """A file that could not be read and lies in the edge's folder."""

    site: str
    file: str
    reason: str
    at: datetime


class EdgeOut(BaseModel):
    """What is known of an edge."""

    name: str
    cell: str = Field(default="", description="Cell that it sends to; empty: this one")
    sites: list[str]
    key: str = Field(description="Public id of its key")
    created_at: datetime
    is_revoked: bool
    is_online: bool = Field(description="Whether it was heard of in the last 30 s")
    last_seen_at: datetime | None
    version: str
    revision: int = Field(description="Of the definitions that it works with; 0: none")
    newest_revision: int = Field(description="Of those that hold")
    is_current: bool
    problem: str = Field(description="Why it does not work with newer definitions")
    clock_offset_s: float | None = Field(description="How far its clock is ahead")
    is_clock_off: bool
    clock_off_readings: int = Field(description="Readings that were stored while its clock was off")
    spool_readings: int = Field(description="Readings that wait at the edge")
    spool_oldest_at: datetime | None
    unknown_readings: int = Field(description="Readings of undeclared points that wait in the database")
    unknown_points: list[str] = Field(description="Some of those points")
    second_process_refused_at: datetime | None = Field(
        description="When a second process with its key was last refused"
    )
    files_set_aside: list[SetAsideOut]


class EdgesOut(BaseModel):
    """The edges of the sites that you may see."""

    edges: list[EdgeOut]
    missing: list[str] = Field(description="Cells that did not answer")


@router.get("/fleet/edges")
def list_edges(caller: Caller, scope: InScope = SCOPE_ALL) -> EdgesOut:
    """Edges with when they were last heard of, what waits, their clock and their definitions.

    Those of other cells are there for callers who may see every site.
    """
    with caller.read() as view:
        own = [_out(edge) for edge in actions.listing(view)]
    sees_all = caller.principal.role_everywhere is not None
    cells = caller.context.cells if scope == SCOPE_ALL and sees_all else ()
    answers = fanout.ask(cells, "/fleet/edges", {}, _of_cell, deadline_s=fanout.DEADLINE_S)
    others = [edge for answer in answers for edge in answer.said or ()]
    return EdgesOut(edges=[*own, *others], missing=[a.cell.id for a in answers if a.said is None])


def _of_cell(cell: Cell, document: Any) -> list[EdgeOut]:
    try:
        found = EdgesOut.model_validate(document)
    except ValidationError as error:
        said = error.errors()[0]["msg"]
        raise fanout.NotUnderstood(f"the answer is of another version: {said}") from None
    return [edge.model_copy(update={"cell": cell.id}) for edge in found.edges]


def _out(edge: edges.Edge) -> EdgeOut:
    return EdgeOut(
        name=edge.name,
        sites=list(edge.sites),
        key=edge.key_id,
        created_at=edge.created_at,
        is_revoked=edge.is_revoked,
        is_online=edge.is_online,
        last_seen_at=edge.last_seen_at,
        version=edge.version,
        revision=edge.revision,
        newest_revision=edge.newest_revision,
        is_current=edge.is_current,
        problem=edge.problem,
        clock_offset_s=edge.clock_offset_s,
        is_clock_off=edge.is_clock_off,
        clock_off_readings=edge.clock_off_readings,
        spool_readings=edge.waiting,
        spool_oldest_at=edge.oldest_waiting_at,
        unknown_readings=edge.unknown_readings,
        unknown_points=list(edge.unknown_points),
        second_process_refused_at=edge.refused_at,
        files_set_aside=[
            SetAsideOut(site=f.site, file=f.file, reason=f.reason, at=f.at) for f in edge.set_aside
        ],
    )


# -- for edges -----------------------------------------------------------------------------------------


@router.post("/edges/begin")
def begin_edge(body: BeginIn, caller: Caller) -> BeginOut:
    """Speak for an edge from now on; refused while another process with the same key does."""
    key_id, engine = _key(caller), caller.context.engine
    claim = edge_intake.speak(engine, key_id, body.process, caller.source)
    with caller.read() as view:
        return BeginOut(edge=edges.of_key(view.connection, key_id).name, epoch=claim.epoch)


@router.post("/edges/release")
def release_edge(body: ReleaseIn, caller: Caller) -> ReleaseOut:
    """End speaking for an edge, so that another process need not wait."""
    key_id, claim = _key(caller), Claim(body.process, body.epoch)
    edge_intake.release(caller.context.engine, key_id, claim, caller.source)
    with caller.read() as view:
        return ReleaseOut(edge=edges.of_key(view.connection, key_id).name)


@router.post("/edges/readings", response_model=BatchOut, openapi_extra=_BODY)
async def post_edge_readings(request: Request, caller: Caller) -> JSONResponse:
    """A batch of an edge with its state; the answer comes after the commit. Packed as edges do it."""
    key_id, batches = _key(caller), caller.context.batches
    body = await batches.received(request.stream(), MOST_BYTES)
    async with batches.turn(body):
        return JSONResponse(await run_in_threadpool(_take, caller, key_id, body))


def _take(caller: CallerOf, key_id: str, body: bytes) -> dict[str, object]:
    return encode_answer(caller.context.edges.take(key_id, decode(body)))


@router.get("/edges/definitions")
def get_edge_definitions(caller: Caller) -> DefinitionsOut:
    """The definitions of the edge's sites."""
    signed = edge_intake.definitions(caller.context.engine, _key(caller))
    return DefinitionsOut(definitions=str(signed["definitions"]), signature=str(signed["signature"]))


@router.post("/edges/imports", openapi_extra=_BODY)
async def post_edge_file(
    request: Request,
    caller: Caller,
    meter: Annotated[str, Query(max_length=100, description="Meter whose folder the file lay in")],
    name: Annotated[str, Query(min_length=1, max_length=255, description="Name of the file")],
    process: Annotated[str, Query(pattern=_PROCESS)],
    epoch: Annotated[int, Query(ge=0, le=1 << 62)],
) -> FileOut:
    """A file of one of the edge's watched folders; the answer comes after all of it is safely stored."""
    key_id = _key(caller)
    with (
        bounded(caller.context.imports, caller.principal, "imports"),
        tempfile.TemporaryDirectory(prefix="wattline-edge-", dir=caller.context.scratch) as folder,
    ):
        sent = edge_files.placed(Path(folder), name)
        with sent.path.open("wb") as file:
            async for chunk in request.stream():
                await run_in_threadpool(file.write, chunk)
        return await run_in_threadpool(_import, caller, key_id, Claim(process, epoch), meter, sent)


def _import(caller: CallerOf, key_id: str, claim: Claim, meter: str, sent: edge_files.Sent) -> FileOut:
    done = edge_files.take(caller.context.engine, key_id, claim, meter, sent, source=caller.source)
    return FileOut(
        accepted=done.accepted, duplicate=done.duplicate, rejected=done.rejected, problem=done.problem
    )


def _key(caller: CallerOf) -> str:
    """Public id of the key of an edge.

    Raises
    ------
    Forbidden
        If the caller is none.
    """
    principal = caller.principal
    if principal.is_local:
        raise Forbidden("this service asks nobody for a key; set WATTLINE_REQUIRE_KEYS=true where edges send")
    if not principal.edge_sites:
        raise Forbidden("only edges send here; make a key with `wattline edges create`")
    return principal.key_id
