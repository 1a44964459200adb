"""``wattline alarms``, ``silence`` and ``notify``: active alarms, and the notifications sent."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from app.actions import alarms as actions
from app.api.routes.alarms import alarm_out, silence_out
from app.cli.actor import record
from app.cli.console import say, show, show_json, show_table
from app.cli.opening import Opened, opened
from app.cli.periods import Wanted
from app.domain.alarms.alarm import Indicator
from app.domain.alarms.notification import Language, Silence
from app.domain.alarms.text import number
from app.domain.period import Period, ceil, floor
from app.jobs.alarms import backfill
from app.jobs.alarms.replay import Replayed, replay_site
from app.jobs.notifications import send
from app.store import alarms, outbox
from app.store.alarms import DEPLOYMENT, StoredAlarm, StoredSilence
from app.store.engine import begin, connect


def listing(site_id: str | None, *, state: str, config_path: Path | None, as_json: bool) -> None:
    """Print alarms, newest first.

    Raises
    ------
    NotFound
        If there is no such site.
    """
    with opened(config_path) as here, connect(here.engine) as connection:
        numbers = [*here.stored.site_key, DEPLOYMENT] if site_id is None else [_number(here, site_id)]
        found = alarms.listing(connection, numbers, state)
    if as_json:
        show_json({"alarms": [alarm_out(one).model_dump(mode="json") for one in found]})
        return
    columns = [
        ">id",
        "site",
        "rule",
        "equipment",
        "severity",
        "state",
        "since",
        "until",
        ">now",
        ">at onset",
        ">worst",
        ">threshold",
    ]
    show_table([*columns, "main driver"], (_row(one) for one in found))


def _number(here: Opened, site_id: str) -> int:
    return here.stored.site_id[here.site(site_id).id]


def _row(one: StoredAlarm) -> list[str]:
    indicator = str(one.document.get("indicator", ""))
    values = [
        number(indicator, x, Language.EN)
        for x in (one.value_now, one.value, one.worst_value, one.limit_value)
    ]
    until = "" if one.resolved_at is None else f"{one.resolved_at:%Y-%m-%d %H:%M}"
    state = "acknowledged" if one.acknowledged_at and one.resolved_at is None else one.state
    moved = str(one.document.get("moved") or "")
    since = f"{one.started_at:%Y-%m-%d %H:%M}Z"
    return [str(one.id), one.site, one.rule, one.subject, one.severity, state, since, until, *values, moved]


def replay(site_id: str, wanted: Wanted, *, is_kept: bool, config_path: Path | None, as_json: bool) -> None:
    """Print what the rules would have said of a period; `is_kept`: and put it on record.

    Raises
    ------
    NotFound
        If there is no such site.
    SeriesError
        If the period is not understood.
    """
    with opened(config_path) as here:
        site, now = here.site(site_id), datetime.now(UTC)
        asked = wanted.period(site.zone, now)
        period = Period(floor(asked.start), min(ceil(asked.end), floor(now)))
        with connect(here.engine) as connection:
            found = replay_site(connection, here.stored, site, period)
            indicators = {rule.id: rule.indicator for rule in alarms.rules(connection)}
        if is_kept:
            _keep(here, site_id, period)
    if as_json:
        show_json({"site": site_id, "alarms": [one.as_dict() for one in found]})
        return
    columns = ["rule", "equipment", "severity", "since", "until", ">value", ">threshold"]
    show_table(columns, (_replayed(one, indicators[one.rule]) for one in found))


def _keep(here: Opened, site_id: str, period: Period) -> None:
    fresh = backfill.record(here.engine, site_id, period)
    with begin(here.engine) as connection:
        record(connection, "alarms.replay", site_id, {**period.as_dict(), "alarms": fresh})
    say(f"{fresh} alarms of {site_id} are new on record; the others were known")


def _replayed(one: Replayed, indicator: Indicator) -> list[str]:
    until = "" if one.resolved_at is None else f"{one.resolved_at:%Y-%m-%d %H:%M}Z"
    since = f"{one.started_at:%Y-%m-%d %H:%M}Z"
    values = [number(indicator, x, Language.EN) for x in (one.value, one.threshold)]
    return [one.rule, one.subject, one.severity, since, until, *values]


def acknowledge(alarm_id: int, comment: str) -> None:
    """Say that somebody is on it.

    Raises
    ------
    NotFound
        If there is no such alarm.
    """
    with opened() as here, here.write() as view:
        found = actions.acknowledge(view, alarm_id, comment)
        who = view.principal.name
    show(f"alarm {alarm_id} ({found.rule} at {found.site or 'the deployment'}): acknowledged by {who}")


def comment(alarm_id: int, text: str) -> None:
    """Say something about an alarm.

    Raises
    ------
    NotFound
        If there is no such alarm.
    """
    with opened() as here, here.write() as view:
        actions.comment(view, alarm_id, text)


def silence(site_id: str | None, rule: str, subject: str, hours: float, text: str) -> None:
    """Tell nobody of some alarms for a while.

    Raises
    ------
    NotFound
        If there is no such site.
    """
    with opened() as here, here.write() as view:
        end = view.now + timedelta(hours=hours)
        made = actions.silence(view, Silence(view.now, end, site_id or "", rule, subject, text))
    show(f"silence {made.id} until {made.silence.end:%Y-%m-%d %H:%M}Z")


def silences(*, as_json: bool) -> None:
    """Print the silences that are not over."""
    with opened() as here, here.read() as view:
        found = actions.silences(view)
    if as_json:
        show_json({"silences": [silence_out(one).model_dump(mode="json") for one in found]})
        return
    columns = [">id", "site", "rule", "what", "from", "until", "by", "comment"]
    show_table(columns, (_silence_row(one) for one in found))


def _silence_row(one: StoredSilence) -> list[str]:
    times = [f"{at:%Y-%m-%d %H:%M}Z" for at in (one.silence.start, one.silence.end)]
    what = [one.silence.site, one.silence.rule, one.silence.subject]
    return [str(one.id), *what, *times, one.author, one.silence.comment]


def end_silence(silence_id: int) -> None:
    """End a silence before its time.

    Raises
    ------
    NotFound
        If there is none that is not over.
    """
    with opened() as here, here.write() as view:
        actions.end_silence(view, silence_id)
    show(f"silence {silence_id}: ended")


def test(channel: str, config_path: Path | None) -> None:
    """Send a test message over a channel.

    Raises
    ------
    NotFound
        If there is no such channel.
    DeliveryFailed
        If it was not taken.
    """
    with opened(config_path) as here:
        send.test(here.engine, channel, datetime.now(UTC))
    say(f"channel {channel}: the receiver took the message")


def log(*, limit: int, as_json: bool) -> None:
    """Print the newest attempts to send."""
    with opened() as here, connect(here.engine) as connection:
        found = outbox.log(connection, limit=limit)
    if as_json:
        show_json({"deliveries": [_document(one) for one in found]})
        return
    show_table(
        [">id", "channel", ">messages", "at", "outcome", "detail"],
        (
            [str(d.id), d.channel, str(d.messages), f"{d.started_at:%Y-%m-%d %H:%M:%S}Z", d.outcome, d.detail]
            for d in found
        ),
    )


def _document(one: outbox.Delivery) -> dict[str, Any]:
    times = {k: v.isoformat() for k, v in asdict(one).items() if isinstance(v, datetime)}
    return {**asdict(one), **times}
