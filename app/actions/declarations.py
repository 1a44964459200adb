"""Indicators that nobody measures: declare one with its evidence, and take a declaration back."""

from __future__ import annotations

import math

from app.actions.view import View
from app.domain.access import Role
from app.domain.site import Declared
from app.errors import SeriesError
from app.store import declarations

_MOST = 1e12


def declare(view: View, site_id: str, declared: Declared) -> int:
    """Declare an indicator of a site from a day on; the number of the declaration.

    Raises
    ------
    NotFound
        If there is no such site, or the caller may not know of it.
    Forbidden
        If the caller is not operator of the site.
    SeriesError
        If the value is none, the day is to come, or the evidence is missing.
    StoreUnavailable
        If the database is away.
    """
    site = view.site(site_id, Role.OPERATOR)
    if not math.isfinite(declared.value) or abs(declared.value) > _MOST:
        raise SeriesError(f"value: {declared.value} is no value of an indicator; write it like 3")
    if declared.date > view.now.astimezone(site.zone).date():
        raise SeriesError(f"date: {declared.date} is to come; give the day on which it was found")
    if not declared.evidence.strip():
        raise SeriesError("evidence: is empty; say what supports it, such as an audit report")
    number = declarations.add(view.connection, view.stored.site_id[site_id], declared, view.principal.name)
    detail = {"indicator": declared.indicator, "value": declared.value, "entry": number}
    view.audit("indicator.declare", site_id, detail)
    return number


def withdraw(view: View, site_id: str, number: int) -> None:
    """Take a declaration back; it stays in the list, marked.

    Raises
    ------
    NotFound
        If there is no such site or declaration in force, or the caller may not know of it.
    Forbidden
        If the caller is not operator of the site.
    StoreUnavailable
        If the database is away.
    """
    view.site(site_id, Role.OPERATOR)
    declarations.withdraw(view.connection, view.stored.site_id[site_id], number, view.principal.name)
    view.audit("indicator.withdraw", site_id, {"entry": number})
