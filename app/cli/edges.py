"""``wattline edges``: make one with its key, see them, take one out of service."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from app.actions import edges as actions
from app.cli.console import say, show, show_json, show_table
from app.cli.opening import opened
from app.store.edges import Edge


def create(name: str, sites: Sequence[str], days: int | None, *, as_json: bool) -> None:
    """Make an edge and print its key: it is shown this once.

    Raises
    ------
    SeriesError
        If the name is taken, or a site has an edge.
    NotFound
        If a site does not exist.
    """
    with opened() as here, here.write() as view:
        expires_at = None if days is None else view.now + timedelta(days=days)
        key = actions.create(view, name, sites, expires_at)
    if as_json:
        show_json({"name": name, "sites": list(sites), "key": key})
    else:
        show(key)
        say("keep it in the file of the edge that WATTLINE_CENTRE_KEY_FILE names: it is not shown again.")
        say("Workers here measure the sites until the edge first connects.")


def listing(*, as_json: bool) -> None:
    """Print every edge.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with opened() as here, here.read() as view:
        found = actions.listing(view)
    if as_json:
        show_json({"edges": [_document(edge) for edge in found]})
    else:
        columns = [
            "edge",
            "sites",
            "state",
            "last seen",
            ">waits",
            ">unknown",
            ">clock",
            "revision",
            "problem",
        ]
        show_table(columns, map(_row, found))


def _document(edge: Edge) -> dict[str, Any]:
    said = edge._asdict()
    times = {k: v.isoformat() for k, v in said.items() if isinstance(v, datetime)}
    files = [
        {"site": f.site, "file": f.file, "reason": f.reason, "at": f.at.isoformat()} for f in edge.set_aside
    ]
    more = {"is_clock_off": edge.is_clock_off, "is_current": edge.is_current, "set_aside": files}
    return {**said, **times, **more}


def _row(edge: Edge) -> list[str]:
    state = "revoked" if edge.is_revoked else "online" if edge.is_online else "offline"
    seen = f"{edge.last_seen_at:%Y-%m-%d %H:%M:%SZ}" if edge.last_seen_at else "never"
    offset = (
        "" if edge.clock_offset_s is None else f"{edge.clock_offset_s:+.1f} s{' OFF' * edge.is_clock_off}"
    )
    newest = edge.newest_revision
    revision = str(edge.revision) if edge.is_current or not newest else f"{edge.revision} of {newest}"
    return [
        edge.name,
        ", ".join(edge.sites),
        state,
        seen,
        str(edge.waiting),
        str(edge.unknown_readings),
        offset,
        revision,
        _problems(edge),
    ]


def _problems(edge: Edge) -> str:
    refused = (
        f"a second process was refused at {edge.refused_at:%Y-%m-%d %H:%M:%SZ}" if edge.refused_at else ""
    )
    aside = f"{len(edge.set_aside)} files set aside" if edge.set_aside else ""
    return "; ".join(filter(None, [edge.problem, refused, aside]))


def revoke(name: str, *, as_json: bool) -> None:
    """Take an edge out of service.

    Raises
    ------
    NotFound
        If there is no such edge.
    """
    with opened() as here, here.write() as view:
        edge = actions.revoke(view, name)
    if as_json:
        show_json({"name": edge.name, "sites": list(edge.sites), "is_revoked": True})
    else:
        show(f"{edge.name}: revoked; workers measure {', '.join(edge.sites)} from now on")
