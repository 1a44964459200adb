"""Alarms: those that fire with their present value, their history, acknowledgement and silences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from app.actions import alarms as actions
from app.actions.view import View
from app.charts import live as charts
from app.charts.live import Bar, ChartFrame, Mark, Span
from app.domain.access import Role
from app.domain.alarms.alarm import Rule, Severity, Side, State
from app.domain.alarms.notification import Silence
from app.domain.period import QUARTER_HOUR, Period, ceil, floor
from app.domain.site import Site
from app.jobs.alarms import history
from app.store import alarms, deployment
from app.store.alarms import Step, StoredAlarm
from app.web import render
from app.web.access import FromOwnPage, PageRoute, Viewer
from app.web.cache import TimedCache
from app.web.pages import figures
from app.web.words import Words

router = APIRouter(route_class=PageRoute)

_PAGE = 100
"""Alarms on one page."""
_MOST = 5_000
_HOURS = (1, 4, 12, 24, 72, 168)
"""How long a silence may be chosen to last. [h]"""
_FOLDED = 4
"""So many changes between firing and recovering in a row are shown as one line."""
_AROUND = timedelta(hours=6)
_LONGEST = timedelta(days=92)
"""Longest stretch around an alarm that is drawn."""
_POINTS = 360
_CHARTS = TimedCache(life_s=60)


@router.get("/alarms")
def alarms_page(
    request: Request,
    caller: Viewer,
    state: Literal["active", "all"] = "active",
    site: str = "",
    severity: Literal["", "critical", "warning"] = "",
    rule: str = "",
    page: Annotated[int, Query(ge=1, le=1000)] = 1,
) -> Response:
    """Active alarms, the most severe first, or all of them, and the silences in force."""
    with caller.read() as view:
        listed = actions.listing(view, state, site, limit=_MOST)
        silenced = actions.silences(view)
        zones = {s.id: s.zone for s in view.stored.fleet.sites}
        names = {s.id: s.name or s.id for s in view.stored.fleet.sites}
        acts = [site_id for site_id in (*names, "") if view.may(site_id, Role.OPERATOR)]
        rules = [one.id for one in alarms.rules(view.connection)]
    wanted = [a for a in listed if severity in ("", a.severity) and rule in ("", a.rule)]
    if state == "active":
        wanted.sort(key=lambda a: (a.severity_rank, a.acknowledged_at is not None))
    first = _PAGE * (page - 1)
    context = {
        "nav": "alarms",
        "alarms": wanted[first : first + _PAGE],
        "count": len(wanted),
        "pages": range(1, (len(wanted) - 1) // _PAGE + 2),
        "page": page,
        "silences": silenced,
        "state": state,
        "chosen_site": site,
        "severity": severity,
        "rule": rule,
        "query": {"state": state, "site": site, "severity": severity, "rule": rule},
        "zones": zones,
        "names": names,
        "acts": acts,
        "rules": rules,
        "severities": [one.value for one in reversed(Severity)],
        "hours": _HOURS,
        "now": caller.now,
    }
    return render.page(request, "alarms.html", context)


@router.get("/alarms/{number}")
def alarm_page(request: Request, number: int, caller: Viewer) -> Response:
    """One alarm with its value now and at its worst, its transitions and comments."""
    with caller.read() as view:
        alarm = actions.find(view, number)
        site = view.stored.fleet.site.get(alarm.site)
        silences = [
            s
            for s in actions.silences(view)
            if s.silence.covers(alarm.site, alarm.rule, alarm.subject, caller.now)
        ]
        context = {
            "nav": "alarms",
            "alarm": alarm,
            "site": site,
            "may_act": view.may(alarm.site, Role.OPERATOR),
            "steps": list(folded(alarms.history(view.connection, number))),
            "comments": alarms.comments(view.connection, number),
            "silences": silences,
            "hours": _HOURS,
            "now": caller.now,
        }
    return render.page(request, "alarm.html", context)


@dataclass(frozen=True)
class Folded:
    """Changes between firing and recovering in a row, as one line."""

    steps: Sequence[Step]

    @property
    def first_at(self) -> datetime:
        """When they began."""
        return self.steps[0].at

    @property
    def last_at(self) -> datetime:
        """The last of them."""
        return self.steps[-1].at

    @property
    def values(self) -> tuple[float | None, float | None]:
        """Lowest and highest value."""
        known = [s.value for s in self.steps if s.value is not None]
        return min(known, default=None), max(known, default=None)


def folded(steps: Sequence[Step]) -> Iterator[Step | Folded]:
    """Transitions with the stretches put together in which an alarm goes to and fro."""
    run: list[Step] = []
    for step in steps:
        if {step.before, step.after} == {State.FIRING.value, State.RECOVERING.value}:
            run.append(step)
            continue
        yield from _put_together(run)
        run = []
        yield step
    yield from _put_together(run)


def _put_together(run: Sequence[Step]) -> Iterator[Step | Folded]:
    if len(run) >= _FOLDED:
        yield Folded(run)
    else:
        yield from run


# -- the time around an alarm ------------------------------------------------------------------------------


@router.get("/alarms/{number}/chart")
def chart_page(request: Request, number: int, caller: Viewer) -> Response:
    """What the rule has seen around the time of an alarm."""
    words = Words(render.language_of(request))
    with caller.read() as view:
        alarm = actions.find(view, number)
        site = view.stored.fleet.site.get(alarm.site)
        rule = next((one for one in alarms.rules(view.connection) if one.id == alarm.rule), None)
        chart = _chart(view, alarm, site, rule, words) if site is not None and rule is not None else None
    context = {"nav": "alarms", "alarm": alarm, "site": site, "chart": chart, "now": caller.now}
    return render.page(request, "alarm_chart.html", context)


def around(alarm: StoredAlarm, now: datetime) -> Period:
    """The time of an alarm with some before and after; of a long one its end."""
    end = alarm.resolved_at or now
    margin = max(_AROUND, (end - alarm.started_at) / 4)
    until = min(ceil(end + margin), floor(now))
    since = max(floor(alarm.started_at - margin), until - _LONGEST)
    return Period(min(since, until - QUARTER_HOUR), until)


def _chart(view: View, alarm: StoredAlarm, site: Site, rule: Rule, words: Words) -> dict[str, Any] | None:
    period = around(alarm, view.now)
    profiles = deployment.limit_profiles(view.connection)
    key = (id(view.connection.engine), alarm.id, period)
    seen = _CHARTS.get(
        key,
        lambda: history.course(view.connection, view.stored, site, rule, alarm.subject, period, profiles),
    )
    bars, width = _bars(seen, period, rule.side)
    if not any(bar.values["value"] is not None for bar in bars):
        return None
    factor, unit = _scale(rule)
    span = Span(period.start, period.end)
    at, pattern = figures.labels(span, site)
    scaled = [Bar(b.start, b.end, {"value": _times(b.values["value"], factor)}) for b in bars]
    name = words(f"rule:{alarm.rule}")
    frame = ChartFrame(
        name,
        unit,
        150,
        lambda t: t.strftime(pattern),
        at,
        zone=site.time_zone,
        names={"value": name},
        digits=3 if not unit else 1,
        texts={"gap": words("No data")},
        until=view.now,
    )
    limit = _times(alarm.limit_value, factor)
    return {
        "period": period,
        "width_min": width,
        "drawn": charts.line(span, scaled, ["value"], frame, limit=limit, marks=_marks(alarm, span, words)),
    }


def _bars(seen: Sequence[tuple[datetime, float | None]], period: Period, side: Side) -> tuple[list[Bar], int]:
    """What was seen as bars, of so many minutes; of the values of a bar the furthest is shown."""
    size = max(-(-len(seen) // _POINTS), 1)
    furthest = max if side is Side.ABOVE else min
    bars = []
    for first in range(0, len(seen), size):
        part = seen[first : first + size]
        known = [value for _, value in part if value is not None]
        start = part[0][0] - QUARTER_HOUR
        bars.append(Bar(start, part[-1][0], {"value": furthest(known) if known else None}))
    return bars, 15 * size


def _scale(rule: Rule) -> tuple[float, str]:
    """Factor and unit in which the figure of a rule is drawn."""
    name = rule.indicator.value
    if name.endswith("_ratio"):
        return 100.0, "%"
    return 1.0, "%" if name.endswith("_percent") else "°C" if name.endswith("_c") else ""


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _marks(alarm: StoredAlarm, span: Span, words: Words) -> list[Mark]:
    marks = [Mark(alarm.fired_at, "error", words("Raised"))]
    if alarm.acknowledged_at:
        marks.append(Mark(alarm.acknowledged_at, "event", words("Acknowledged by")))
    if alarm.resolved_at:
        marks.append(Mark(alarm.resolved_at, "event", words("Resolved")))
    return [m for m in marks if span.start <= m.at <= span.end]


# -- what people do ----------------------------------------------------------------------------------------


@router.post("/alarms/{number}/acknowledge", dependencies=[FromOwnPage])
def acknowledge(number: int, caller: Viewer, comment: Annotated[str, Form(max_length=2000)] = "") -> Response:
    """Say that somebody is on it."""
    with caller.write() as view:
        actions.acknowledge(view, number, comment)
    return RedirectResponse(f"/alarms/{number}", HTTPStatus.SEE_OTHER)


@router.post("/alarms/{number}/comments", dependencies=[FromOwnPage])
def comment(number: int, caller: Viewer, comment: Annotated[str, Form(max_length=2000)] = "") -> Response:
    """Say something about an alarm."""
    with caller.write() as view:
        actions.comment(view, number, comment)
    return RedirectResponse(f"/alarms/{number}", HTTPStatus.SEE_OTHER)


@router.post("/alarms/{number}/silence", dependencies=[FromOwnPage])
def silence_alarm(
    number: int,
    caller: Viewer,
    scope: Annotated[Literal["alarm", "equipment", "rule"], Form()] = "alarm",
    hours: Annotated[int, Form(ge=1, le=168)] = 4,
    comment: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Silence an alarm, everything about its equipment, or its rule at the whole site."""
    now = caller.now
    with caller.write() as view:
        found = actions.find(view, number, Role.OPERATOR)
        whole = Silence(now, now + timedelta(hours=hours), found.site, found.rule, found.subject, comment)
        wider = {"alarm": whole, "equipment": replace(whole, rule=""), "rule": replace(whole, subject="")}
        actions.silence(view, wider[scope])
    return RedirectResponse(f"/alarms/{number}", HTTPStatus.SEE_OTHER)


@router.post("/silences", dependencies=[FromOwnPage])
def silence(
    caller: Viewer,
    site: Annotated[str, Form(max_length=100)] = "",
    rule: Annotated[str, Form(max_length=100)] = "",
    hours: Annotated[int, Form(ge=1, le=168)] = 4,
    comment: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Keep alarms from being notified for some hours; they are still shown."""
    now = caller.now
    with caller.write() as view:
        actions.silence(view, Silence(now, now + timedelta(hours=hours), site, rule, "", comment))
    return RedirectResponse("/alarms", HTTPStatus.SEE_OTHER)


@router.post("/silences/{number}/end", dependencies=[FromOwnPage])
def end_silence(number: int, caller: Viewer) -> Response:
    """End a silence before its time."""
    with caller.write() as view:
        actions.end_silence(view, number)
    return RedirectResponse("/alarms", HTTPStatus.SEE_OTHER)
