"""Ask an address what it is, before it becomes a meter of the site file."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from app.api.context import Caller
from app.domain.quantity import Role
from collectors import probe

router = APIRouter(tags=["meters"])


class ProbeIn(BaseModel):
    """Where to ask, and what is to be read from there."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"host": "10.0.0.17", "protocol": "modbus"}}
    )
    host: str = Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9:][A-Za-z0-9.:_%-]*$")
    protocol: probe.Protocol = "both"
    port: int | None = Field(None, ge=1, le=65_535, description="Default: 502 for Modbus, 161 for SNMP")
    unit: int = Field(1, ge=1, le=255, description="Unit behind the Modbus address")
    community: str = Field("public", max_length=200, pattern=r"^[\x20-\x7e]*$")
    picks: dict[str, Role] = Field(
        default_factory=dict, max_length=500, description="Channels to be read, with their roles"
    )


class RecognisedOut(BaseModel):
    """A device that was recognised."""

    profile: str
    model: str
    values: dict[str, float] = Field(description="By channel, in the unit its name ends in")
    notes: list[str]
    yaml: str = Field(description="The meter, to be pasted into the site file")


class ProbeOut(BaseModel):
    """What answers, the likeliest profile of each protocol first, and why the rest does not."""

    host: str
    recognised: list[RecognisedOut]
    problems: list[str]


@router.post("/probe")
async def probe_address(body: ProbeIn, caller: Caller) -> ProbeOut:
    """Ask an address by reading only what it is and what it measures; takes up to 30 s.

    For operators of the whole deployment, a few times a minute, within the networks collectors may reach.
    """
    await run_in_threadpool(caller.begin_probe, body.host)
    target = probe.Target(body.host, body.protocol, body.port, body.unit, body.community)
    with caller.reach():
        outcome = await probe.probe(target)
    found = [asdict(one) | {"yaml": probe.composed(one.yaml, body.picks)} for one in outcome.found]
    return ProbeOut(
        host=body.host, recognised=[RecognisedOut(**one) for one in found], problems=list(outcome.problems)
    )
