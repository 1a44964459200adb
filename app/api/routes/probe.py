"""Ask an address what it is, before it becomes a meter of the site file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, WithJsonSchema
from starlette.concurrency import run_in_threadpool

from app.api.context import Caller
from app.domain.quantity import Role
from collectors import probe
from collectors.found import Outcome, Target
from collectors.snmp.session import AuthProtocol, PrivProtocol

router = APIRouter(tags=["meters"])


def _known(protocol: str) -> str:
    allowed = (probe.BOTH, *probe.PROTOCOLS)
    if protocol not in allowed:
        raise ValueError(f"allowed are {', '.join(allowed)}")
    return protocol


Protocol = Annotated[
    str,
    AfterValidator(_known),
    WithJsonSchema({"type": "string", "enum": [probe.BOTH, *probe.PROTOCOLS]}),
]


class SnmpV3In(BaseModel):
    """User and passwords of SNMPv3; they are used for this probe and kept nowhere."""

    model_config = ConfigDict(extra="forbid")
    user: str = Field(min_length=1, max_length=64)
    auth_protocol: AuthProtocol = "sha256"
    auth_password: SecretStr | None = None
    priv_protocol: PrivProtocol = "aes"
    priv_password: SecretStr | None = None


class ProbeIn(BaseModel):
    """Where to ask, and what is to be read from there."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"host": "10.0.0.17", "protocol": "modbus"}}
    )
    host: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[A-Za-z0-9:][A-Za-z0-9.:_%-]*(/\d{1,3})?$",
        description="An address, or a range of up to 64 such as 10.0.4.0/28",
    )
    protocol: Protocol = Field(
        probe.BOTH, description="A kind of collector; `both`: Modbus and SNMP, each on its usual port"
    )
    port: int | None = Field(None, ge=1, le=65_535, description="Default: the usual one of the protocol")
    unit: int = Field(1, ge=1, le=255, description="Unit behind the Modbus address")
    community: str = Field("public", max_length=200, pattern=r"^[\x20-\x7e]*$")
    timeout_s: float | None = Field(None, gt=0, le=30, description="Longest wait for one answer")
    profile: str = Field(
        "", max_length=100, pattern=r"^[A-Za-z0-9_-]*$", description="Read through this profile alone"
    )
    input_registers: bool = Field(False, description="Ask a Modbus device for input registers")
    snmp_v3: SnmpV3In | None = Field(None, description="Access of SNMPv3 in place of a community")
    options: dict[str, bool | int | float | Annotated[str, Field(max_length=500)]] = Field(
        default_factory=dict,
        max_length=20,
        description="Further keys of the collector, as the site file has them; none that name a file",
    )
    picks: dict[str, Role] = Field(
        default_factory=dict, max_length=500, description="Channels to be read, with their roles"
    )


class ColumnOut(BaseModel):
    """Numbers of one column of a device that no profile fits."""

    oid: str
    rows: list[str]
    values: list[float]
    looks_like: str = Field(description="Unit and factors where volts, amperes and power agree")


class UnknownOut(BaseModel):
    """A device of which no profile gives power or energy."""

    sys_descr: str
    sys_object_id: str
    columns: list[ColumnOut]
    nearest: list[str] = Field(description="Profiles of the same vendor")
    description: str = Field(description="A profile of five lines to begin with")


class RecognisedOut(BaseModel):
    """A device that was recognised."""

    profile: str
    model: str
    values: dict[str, float] = Field(description="By channel, in the unit its name ends in")
    notes: list[str]
    yaml: str = Field(description="The meter, to be pasted into the site file")


class AnswerOut(BaseModel):
    """An address of a range that answers."""

    host: str
    model: str = Field(description="Empty: no profile fits")
    profile: str
    power_kw: float | None
    energy_kwh: float | None
    note: str


class ProbeOut(BaseModel):
    """What answers, the likeliest profile of each protocol first, and why the rest does not."""

    host: str
    recognised: list[RecognisedOut]
    problems: list[str]
    unknown: list[UnknownOut] = Field(description="What a device says of itself that no profile reads")
    answers: list[AnswerOut] = Field(description="Of a range: the addresses that answer, in a line each")


@router.post("/probe")
async def probe_address(body: ProbeIn, caller: Caller) -> ProbeOut:
    """Ask an address, or each of a range, by reading only what it is and what it measures.

    Takes up to 30 s, of a range longer; 64 addresses of which none answers take a minute.

    For operators of the whole deployment, a few times a minute, within the networks collectors may reach.
    """
    await run_in_threadpool(caller.begin_probe, body.host)
    access = {} if body.snmp_v3 is None else {"version": "3", **body.snmp_v3.model_dump(exclude_none=True)}
    target = Target(
        body.host,
        body.protocol,
        body.port,
        body.unit,
        body.community,
        body.timeout_s,
        body.profile,
        body.input_registers,
        access,
        probe.allowed(body.protocol, body.options),
    )
    with caller.reach():
        if probe.is_range(body.host):
            return _of_range(body.host, await probe.probe_range(target))
        outcome = await probe.probe(target)
    found = [asdict(one) | {"yaml": probe.composed(one.yaml, body.picks)} for one in outcome.found]
    return ProbeOut(
        host=body.host,
        recognised=[RecognisedOut(**one) for one in found],
        problems=list(outcome.problems),
        unknown=[UnknownOut(**asdict(one)) for one in outcome.unknown],
        answers=[],
    )


def _of_range(text: str, outcomes: Mapping[str, Outcome]) -> ProbeOut:
    answers = [AnswerOut(**asdict(probe.Answer.of(*one))) for one in outcomes.items()]
    return ProbeOut(host=text, recognised=[], problems=[], unknown=[], answers=answers)
