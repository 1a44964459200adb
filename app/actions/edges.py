"""Edges: make one with its key, see them, take one out of service."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from app.actions.view import View
from app.domain.access import Duty, Grant, Role, check_expiry
from app.errors import NotFound, SeriesError
from app.store import edges, identity, sites
from app.store.edges import Edge

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}", re.ASCII)


def create(view: View, name: str, site_ids: Sequence[str], expires_at: datetime | None = None) -> str:
    """Make an edge for sites and return its key: it cannot be shown again.

    Raises
    ------
    Forbidden
        If the caller does not administer security.
    SeriesError
        If the name is none or taken, no site is named, or a site has an edge.
    NotFound
        If a site does not exist.
    StoreUnavailable
        If the database is away.
    """
    view.require_duty(Duty.SECURITY)
    if not _NAME.fullmatch(name):
        raise SeriesError(f"name: {name[:100]!r}; allowed are letters, digits and . _ : - (at most 100)")
    wanted = list(dict.fromkeys(site_ids))
    if not wanted:
        raise SeriesError("sites: none is named; give at least one")
    known = sites.load(view.connection).fleet.site  # also what the security administrator does not see
    missing = next((site for site in wanted if site not in known), None)
    if missing is not None:
        raise NotFound(f"there is no site {missing[:100]!r}")
    check_expiry(expires_at, view.now)
    grants = [Grant(Role.EDGE, site) for site in wanted]
    key = identity.create(
        view.connection, f"edge {name}", grants, created_by=view.principal.name, expires_at=expires_at
    )
    edges.create(view.connection, name, identity.public_id_of(key), wanted)
    view.audit("edge.create", name, {"sites": wanted})
    return key


def listing(view: View) -> list[Edge]:
    """The edges of the caller's sites, each with those of its sites that the caller may see.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    visible = view.stored.fleet.site
    found = []
    for edge in edges.listing(view.connection):
        own = tuple(site for site in edge.sites if site in visible)
        if own or Duty.SECURITY in view.principal.duties:
            aside = tuple(file for file in edge.set_aside if file.site in own)
            found.append(edge._replace(sites=own or edge.sites, set_aside=aside))
    return found


def revoke(view: View, name: str) -> Edge:
    """Take an edge out of service: its key opens nothing from now on, and a worker measures its sites.

    Raises
    ------
    Forbidden
        If the caller does not administer security.
    NotFound
        If there is no such edge, or it is revoked already.
    StoreUnavailable
        If the database is away.
    """
    view.require_duty(Duty.SECURITY)
    edge = edges.named(view.connection, name)
    identity.revoke(view.connection, edge.key_id, view.principal.name)
    view.audit("edge.revoke", name, {"id": edge.key_id})
    return edge
