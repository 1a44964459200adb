"""``wattline workers``: which workers share the database, and what each measures."""

from __future__ import annotations

from app.cli.console import show_json, show_table
from app.cli.opening import database
from app.store import workers
from app.store.engine import connect
from app.store.workers import Member


def listing(*, as_json: bool) -> None:
    """Print every worker that was heard of within the time of a lease.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with database() as engine, connect(engine) as connection:
        found = workers.members(connection)
    if as_json:
        show_json({"workers": [_document(member) for member in found]})
    else:
        show_table(["worker", "since", "last seen", "jobs", "sites"], map(_row, found))


def _document(member: Member) -> dict[str, object]:
    times = {"started_at": member.started_at.isoformat(), "seen_at": member.seen_at.isoformat()}
    return {**member._asdict(), **times}


def _row(member: Member) -> list[str]:
    times = (f"{at:%Y-%m-%d %H:%M:%SZ}" for at in (member.started_at, member.seen_at))
    return [member.name, *times, "yes" if member.has_jobs else "no", ", ".join(member.sites) or "none"]
