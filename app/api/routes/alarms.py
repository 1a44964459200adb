"""Alarms, and what people do about them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from app.actions import alarms as actions
from app.api.context import Caller
from app.domain.access import Role
from app.domain.alarms.notification import Silence
from app.store import alarms, outbox
from app.store.alarms import StoredAlarm, StoredSilence

router = APIRouter(tags=["alarms"])

_Number = Annotated[int, Path(ge=1, le=1 << 62)]
_Text = Annotated[str, Field(max_length=4000, pattern=r"^[^\x00]*$")]
_Name = Annotated[str, Field(max_length=400, pattern=r"^[^\x00]*$")]


class AlarmOut(BaseModel):
    """An alarm that fired."""

    id: int
    site: str = Field(description="Empty: the deployment")
    subject: str = Field(description="What of the site; empty: the site itself")
    rule: str
    severity: str = Field(examples=["critical"])
    state: str = Field(examples=["firing"])
    fingerprint: str
    started_at: datetime = Field(description="When the threshold was crossed")
    fired_at: datetime
    resolved_at: datetime | None
    value: float | None = Field(description="At its worst severity, in the unit of the rule's indicator")
    threshold: float | None
    worst_value: float | None = Field(description="Furthest since the breach began")
    worst_at: datetime | None
    value_now: float | None = Field(description="Of the newest evaluation; null once the alarm is over")
    value_now_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    document: dict[str, Any] = Field(description="Limit, profile, window, main driver, meters, links")


class AlarmsOut(BaseModel):
    """Alarms, newest first."""

    alarms: list[AlarmOut]


class TransitionOut(BaseModel):
    """A change of state."""

    at: datetime
    before: str
    after: str
    severity: str | None
    value: float | None
    threshold: float | None
    reason: str


class CommentOut(BaseModel):
    """What somebody said."""

    at: datetime
    author: str
    text: str


class AlarmHistoryOut(BaseModel):
    """An alarm with its course."""

    alarm: AlarmOut
    transitions: list[TransitionOut]
    comments: list[CommentOut]


class CommentIn(BaseModel):
    """What to say about an alarm."""

    model_config = ConfigDict(extra="forbid")
    comment: _Text = ""


class SilenceIn(BaseModel):
    """Alarms to silence, and for how long; empty fields match everything."""

    model_config = ConfigDict(extra="forbid")
    site: _Name = ""
    rule: _Name = ""
    subject: _Name = ""
    start: datetime | None = Field(None, description="Default: now")
    end: datetime
    comment: _Text = Field(min_length=1)


class SilenceOut(BaseModel):
    """A silence."""

    id: int
    site: str
    rule: str
    subject: str
    start: datetime
    end: datetime
    author: str
    comment: str


class SilencesOut(BaseModel):
    """Silences that are not over."""

    silences: list[SilenceOut]


class DeliveryOut(BaseModel):
    """An attempt to send a message."""

    id: int
    channel: str
    messages: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str = Field(description="started, sent or failed")
    detail: str


class DeliveriesOut(BaseModel):
    """Attempts, newest first."""

    deliveries: list[DeliveryOut]


@router.get("/alarms")
def list_alarms(
    caller: Caller,
    state: Annotated[
        Literal["active", "firing", "recovering", "acknowledged", "resolved", "all"], Query()
    ] = "active",
    site: Annotated[str, Query(max_length=100, pattern=r"^[^\x00]*$", description="Only of this site")] = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> AlarmsOut:
    """Alarms of the sites that the caller may see, newest first."""
    with caller.read() as view:
        found = actions.listing(view, state, site, limit=limit)
    return AlarmsOut(alarms=[alarm_out(one) for one in found])


@router.get("/alarms/{alarm}")
def get_alarm(alarm: _Number, caller: Caller) -> AlarmHistoryOut:
    """An alarm with its transitions and comments."""
    with caller.read() as view:
        found = actions.find(view, alarm)
        return AlarmHistoryOut(
            alarm=alarm_out(found),
            transitions=[
                TransitionOut.model_validate(t, from_attributes=True)
                for t in alarms.history(view.connection, alarm)
            ],
            comments=[
                CommentOut.model_validate(c, from_attributes=True)
                for c in alarms.comments(view.connection, alarm)
            ],
        )


@router.post("/alarms/{alarm}/acknowledge", status_code=204)
def acknowledge_alarm(alarm: _Number, caller: Caller, body: CommentIn | None = None) -> None:
    """Say that somebody is on it: the alarm is not repeated any more."""
    comment = body.comment if body is not None else ""
    with caller.write() as view:
        actions.acknowledge(view, alarm, comment)


@router.post("/alarms/{alarm}/comments", status_code=204)
def comment_alarm(alarm: _Number, body: CommentIn, caller: Caller) -> None:
    """Say something about an alarm."""
    with caller.write() as view:
        actions.comment(view, alarm, body.comment)


@router.get("/silences")
def list_silences(caller: Caller) -> SilencesOut:
    """Silences that are not over and touch the caller's sites."""
    with caller.read() as view:
        return SilencesOut(silences=[silence_out(s) for s in actions.silences(view)])


@router.post("/silences", status_code=201)
def add_silence(body: SilenceIn, caller: Caller) -> SilenceOut:
    """Suppress notifications of some alarms for a time; the alarms are still evaluated and recorded."""
    with caller.write() as view:
        start = body.start or view.now
        wanted = Silence(start, body.end, body.site, body.rule, body.subject, body.comment)
        return silence_out(actions.silence(view, wanted))


@router.delete("/silences/{silence}", status_code=204)
def end_silence(silence: _Number, caller: Caller) -> None:
    """End a silence before its time."""
    with caller.write() as view:
        actions.end_silence(view, silence)


@router.get("/deliveries")
def list_deliveries(caller: Caller, limit: Annotated[int, Query(ge=1, le=10_000)] = 200) -> DeliveriesOut:
    """The newest attempts to send messages, with what came of them."""
    with caller.read() as view:
        view.require_everywhere(Role.OPERATOR)
        found = outbox.log(view.connection, limit=limit)
    return DeliveriesOut(deliveries=[DeliveryOut.model_validate(d, from_attributes=True) for d in found])


def alarm_out(one: StoredAlarm) -> AlarmOut:
    """An alarm as a document."""
    return AlarmOut(
        id=one.id,
        site=one.site,
        subject=one.subject,
        rule=one.rule,
        severity=one.severity,
        state=one.state,
        fingerprint=one.fingerprint,
        started_at=one.started_at,
        fired_at=one.fired_at,
        resolved_at=one.resolved_at,
        value=one.value,
        threshold=one.limit_value,
        worst_value=one.worst_value,
        worst_at=one.worst_at,
        value_now=one.value_now,
        value_now_at=one.value_now_at,
        acknowledged_at=one.acknowledged_at,
        acknowledged_by=one.acknowledged_by,
        document=one.document,
    )


def silence_out(one: StoredSilence) -> SilenceOut:
    """A silence as a document."""
    s = one.silence
    return SilenceOut(
        id=one.id,
        site=s.site,
        rule=s.rule,
        subject=s.subject,
        start=s.start,
        end=s.end,
        author=one.author,
        comment=s.comment,
    )
