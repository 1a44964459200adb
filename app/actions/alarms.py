"""Alarms: find one, acknowledge it, comment on it; silence alarms for a while and end that early."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from app.actions.view import View
from app.domain.access import Role
from app.domain.alarms.notification import Silence
from app.errors import NotFound, SeriesError
from app.store import alarms
from app.store.alarms import DEPLOYMENT, StoredAlarm, StoredSilence

LONGEST_SILENCE = timedelta(days=366)


def listing(view: View, state: str, site_id: str = "", *, limit: int = 1000) -> list[StoredAlarm]:
    """Alarms of the caller's sites, or of one of them, newest first; of the deployment for those who see all.

    Raises
    ------
    NotFound
        If there is no such site, or the caller may not know of it.
    StoreUnavailable
        If the database is away.
    """
    if site_id:
        view.site(site_id)
        numbers = [view.stored.site_id[site_id]]
    else:
        everywhere = [DEPLOYMENT] if view.may("", Role.VIEWER) else []
        numbers = [*view.stored.site_id.values(), *everywhere]
    return alarms.listing(view.connection, numbers, state, limit=limit)


def find(view: View, number: int, role: Role = Role.VIEWER) -> StoredAlarm:
    """The alarm, if the caller may act on its site as `role`.

    Raises
    ------
    NotFound
        If there is none, or it is of a site that the caller may not know of.
    Forbidden
        If the caller has only a lower role there.
    StoreUnavailable
        If the database is away.
    """
    found = alarms.one(view.connection, number)
    if not view.may(found.site, Role.VIEWER):
        raise NotFound(f"there is no alarm {number}")
    view.require(found.site, role)
    return found


def acknowledge(view: View, number: int, comment: str = "") -> StoredAlarm:
    """Say that somebody is on it: the alarm is not repeated any more; raises as :func:`find`."""
    found = find(view, number, Role.OPERATOR)
    alarms.acknowledge(view.connection, number, view.principal.name, view.now, comment.strip())
    view.audit("alarm.acknowledge", found.site, {"alarm": number})
    return found


def comment(view: View, number: int, text: str) -> StoredAlarm:
    """Say something about an alarm.

    Raises
    ------
    SeriesError
        If nothing is said.
    NotFound, Forbidden, StoreUnavailable
        As :func:`find`.
    """
    found = find(view, number, Role.OPERATOR)
    if not text.strip():
        raise SeriesError("comment: is empty; say something")
    alarms.add_comment(view.connection, number, view.principal.name, view.now, text.strip())
    view.audit("alarm.comment", found.site, {"alarm": number})
    return found


def silences(view: View) -> list[StoredSilence]:
    """Silences that are not over and touch the caller's sites; those of the deployment touch everybody's.

    Of the latter, who does not see the whole deployment gets neither author nor reason, nor any about things
    of others: they may name what does not exist for the caller.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    kept = alarms.silences(view.connection, view.now)
    own = [s for s in kept if not s.silence.site or view.may(s.silence.site, Role.VIEWER)]
    if view.may("", Role.VIEWER):
        return own
    fleet = view.stored.fleet
    known = {"", *fleet.site, *fleet.meter, *view.stored.point_id}
    return [
        s if s.silence.site else replace(s, author="", silence=replace(s.silence, comment=""))
        for s in own
        if s.silence.site or s.silence.subject in known
    ]


def silence(view: View, wanted: Silence) -> StoredSilence:
    """Notify nobody of some alarms for a while; they are judged and recorded all the same.

    Raises
    ------
    SeriesError
        If its times make no sense, there is no such rule, or it is not said why.
    NotFound
        If there is no such site, or the caller may not know of it.
    Forbidden
        If the caller is not operator there.
    StoreUnavailable
        If the database is away.
    """
    view.require(wanted.site, Role.OPERATOR)
    checked = _checked(view, wanted)
    number = alarms.site_number(view.stored, checked.site)
    made = alarms.add_silence(view.connection, checked, number, view.principal.name)
    detail = {
        "silence": made,
        "rule": checked.rule,
        "subject": checked.subject,
        "end": checked.end.isoformat(),
    }
    view.audit("silence.add", checked.site, detail)
    return StoredSilence(made, view.principal.name, checked)


def _checked(view: View, wanted: Silence) -> Silence:
    """The silence as it is kept; one that should have begun begins now."""
    if wanted.start.tzinfo is None or wanted.end.tzinfo is None:
        raise SeriesError("start and end need a zone, like 2026-10-01T08:00:00+08:00")
    start = max(wanted.start, view.now)
    if not start < wanted.end <= view.now + LONGEST_SILENCE:
        raise SeriesError("end: a silence must end after its start, in the future, and within a year")
    if not wanted.comment.strip():
        raise SeriesError("comment: is empty; say why nobody is notified")
    known = {rule.id for rule in alarms.rules(view.connection)}
    if wanted.rule and wanted.rule not in known:
        raise SeriesError(f"there is no rule {wanted.rule!r}; known are {', '.join(sorted(known))}")
    return replace(wanted, start=start, comment=wanted.comment.strip())


def end_silence(view: View, number: int) -> StoredSilence:
    """End a silence before its time.

    Raises
    ------
    NotFound
        If there is none that is not over, or the caller may not know of it.
    Forbidden
        If the caller is not operator where it holds.
    StoreUnavailable
        If the database is away.
    """
    found = next((s for s in silences(view) if s.id == number), None)
    if found is None:
        raise NotFound(f"there is no silence {number} that is not over")
    view.require(found.silence.site, Role.OPERATOR)
    alarms.end_silence(view.connection, number, view.now)
    view.audit("silence.end", found.silence.site, {"silence": number})
    return found
