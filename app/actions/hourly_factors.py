"""Hourly emission factors: import a file with its source, and take an import back."""

from __future__ import annotations

import hashlib

from app.actions.view import View
from app.domain.access import Role
from app.domain.hourly_factors import HourlyFactors, parse
from app.store import hourly_factors


def add(
    view: View, content: bytes, name: str, *, region: str, basis: str, source: str, verified: bool
) -> tuple[int, HourlyFactors]:
    """Import a file of factors; the number of the import, and what it holds.

    Raises
    ------
    Forbidden
        If the caller is not operator of the whole deployment.
    SeriesError
        If the file is not understood, its basis is the carbon footprint, or the source is not said.
    StoreUnavailable
        If the database is away.
    """
    view.require_everywhere(Role.OPERATOR)
    first_at, kg_per_kwh = parse(content.decode("utf-8", errors="replace"), name)
    found = HourlyFactors(region.strip(), basis.strip(), source.strip(), verified, first_at, kg_per_kwh)
    sha256 = hashlib.sha256(content).hexdigest()
    number = hourly_factors.add(view.connection, found, sha256, view.principal.name)
    detail = {"import": number, "region": region, "basis": basis, "source": source, "sha256": sha256}
    view.audit("hourly_factors.add", "", {**detail, "hours": found.known_hours})
    return number, found


def withdraw(view: View, number: int) -> None:
    """Take an import back; it stays in the list, marked.

    Raises
    ------
    Forbidden
        If the caller is not operator of the whole deployment.
    NotFound
        If there is no such import in force.
    StoreUnavailable
        If the database is away.
    """
    view.require_everywhere(Role.OPERATOR)
    hourly_factors.withdraw(view.connection, number, view.principal.name)
    view.audit("hourly_factors.withdraw", "", {"import": number})
