"""Alarms, and what people do about them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from app.api.context import Caller, View
from app.domain.access import Role
from app.domain.alarms.notification import Silence
from app.errors import NotFound, SeriesError
from app.store import alarms, outbox
from app.store.alarms import DEPLOYMENT, StoredAlarm

router = APIRouter(tags=["alarms"])

LONGEST_SILENCE = timedelta(days=366)

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
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    document: dict[str, Any] = Field(description="Limit, profile, window, what moved, meters, links")


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
    """What not to be told of, and for how long; empty fields fit everything."""

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
        if site:
            view.site(site)
        found = alarms.listing(view.connection, _visible(view, site), state, limit=limit)
    return AlarmsOut(alarms=[alarm_out(one) for one in found])


def _visible(view: View, site: str) -> list[int]:
    if site:
        return [view.stored.site_id[site]]
    everywhere = [DEPLOYMENT] if view.principal.role_everywhere is not None else []
    return [*view.stored.site_id.values(), *everywhere]


@router.get("/alarms/{alarm}")
def get_alarm(alarm: _Number, caller: Caller) -> AlarmHistoryOut:
    """An alarm with its transitions and comments."""
    with caller.read() as view:
        found = _alarm(view, alarm, Role.VIEWER)
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
        found = _alarm(view, alarm, Role.OPERATOR)
        alarms.acknowledge(view.connection, alarm, view.principal.name, view.now, comment)
        view.audit("alarm.acknowledge", found.site, {"alarm": alarm})


@router.post("/alarms/{alarm}/comments", status_code=204)
def comment_alarm(alarm: _Number, body: CommentIn, caller: Caller) -> None:
    """Say something about an alarm."""
    with caller.write() as view:
        found = _alarm(view, alarm, Role.OPERATOR)
        alarms.add_comment(view.connection, alarm, view.principal.name, view.now, body.comment)
        view.audit("alarm.comment", found.site, {"alarm": alarm})


def _alarm(view: View, number: int, role: Role) -> StoredAlarm:
    """The alarm, if the caller may act on its site.

    Raises
    ------
    NotFound
        If there is none, or the caller may not know of it.
    Forbidden
        If the caller has only a lower role there.
    """
    found = alarms.one(view.connection, number)
    if found.site:
        if found.site not in view.stored.fleet.site:
            raise NotFound(f"there is no alarm {number}")
        view.site(found.site, role)
    else:
        view.require_everywhere(role)
    return found


@router.get("/silences")
def list_silences(caller: Caller) -> SilencesOut:
    """Silences that are not over and touch the caller's sites."""
    with caller.read() as view:
        kept = alarms.silences(view.connection, view.now)
        seen = [s for s in kept if not s.silence.site or s.silence.site in view.stored.fleet.site]
    return SilencesOut(silences=[_silence(s) for s in seen])


@router.post("/silences", status_code=201)
def add_silence(body: SilenceIn, caller: Caller) -> SilenceOut:
    """Tell nobody of some alarms for a while; they are judged and recorded all the same."""
    with caller.write() as view:
        wanted = silence_of(body, view.now)
        if wanted.site:
            view.site(wanted.site, Role.OPERATOR)
        else:
            view.require_everywhere(Role.OPERATOR)
        number = view.stored.site_id[wanted.site] if wanted.site else DEPLOYMENT
        made = alarms.add_silence(view.connection, wanted, number, view.principal.name)
        view.audit("silence.add", wanted.site, {"silence": made, "rule": wanted.rule})
        return _silence(alarms.StoredSilence(made, view.principal.name, wanted))


@router.delete("/silences/{silence}", status_code=204)
def end_silence(silence: _Number, caller: Caller) -> None:
    """End a silence before its time."""
    with caller.write() as view:
        kept = {s.id: s.silence for s in alarms.silences(view.connection, view.now)}
        if silence not in kept or (kept[silence].site and kept[silence].site not in view.stored.fleet.site):
            raise NotFound(f"there is no silence {silence} that is not over")
        if kept[silence].site:
            view.site(kept[silence].site, Role.OPERATOR)
        else:
            view.require_everywhere(Role.OPERATOR)
        alarms.end_silence(view.connection, silence, view.now)
        view.audit("silence.end", kept[silence].site, {"silence": silence})


@router.get("/deliveries")
def list_deliveries(caller: Caller, limit: Annotated[int, Query(ge=1, le=10_000)] = 200) -> DeliveriesOut:
    """The newest attempts to send messages, with what came of them."""
    with caller.read() as view:
        view.require_everywhere(Role.OPERATOR)
        found = outbox.log(view.connection, limit=limit)
    return DeliveriesOut(deliveries=[DeliveryOut.model_validate(d, from_attributes=True) for d in found])


def silence_of(body: SilenceIn, now: datetime) -> Silence:
    """The silence that is asked for.

    Raises
    ------
    SeriesError
        If its times make no sense.
    """
    start = body.start or now
    if start.tzinfo is None or body.end.tzinfo is None:
        raise SeriesError("start and end need a zone, like 2026-10-01T08:00:00+08:00")
    if not max(start, now) < body.end <= now + LONGEST_SILENCE:
        raise SeriesError("end: a silence must end after its start, in the future, and within a year")
    return Silence(max(start, now), body.end, body.site, body.rule, body.subject, body.comment)


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
        acknowledged_at=one.acknowledged_at,
        acknowledged_by=one.acknowledged_by,
        document=one.document,
    )


def _silence(one: alarms.StoredSilence) -> SilenceOut:
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
