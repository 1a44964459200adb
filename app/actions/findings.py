"""Findings: acknowledge one about the readings; those about the deployment, which are found when asked."""

from __future__ import annotations

from app.actions.view import View
from app.domain.access import Role
from app.store import compression, findings
from app.store.compression import State

COMPRESSION_FAILING = "compression_failing"
"""Kind of what :func:`of_deployment` finds; also the rule of its alarm."""


def of_deployment(view: View) -> list[State]:
    """Tables that are not compressed as they should be; nothing for callers who see only some sites.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return compression.broken(view.connection) if view.may("", Role.VIEWER) else []


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
