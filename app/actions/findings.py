"""Findings about the readings: acknowledge one."""

from __future__ import annotations

from app.actions.view import View
from app.domain.access import Role
from app.store import findings


def acknowledge(view: View, site_id: str, number: int) -> None:
    """Mark an open finding as seen.

    Raises
    ------
    NotFound
        If there is no such site or open finding, or the caller may not know of it.
    Forbidden
        If the caller is not operator of the site.
    StoreUnavailable
        If the database is away.
    """
    view.site(site_id, Role.OPERATOR)
    findings.acknowledge(view.connection, view.stored.site_id[site_id], number)
    view.audit("finding.acknowledge", site_id, {"finding": number})
