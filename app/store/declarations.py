"""Indicators that were declared in a page, beside those of the site file; withdrawn, never changed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa

from app.domain.site import Declared
from app.errors import NotFound
from app.store import tables
from app.store.engine import store_errors

_TABLE = tables.declarations


@dataclass(frozen=True, slots=True)
class Declaration:
    """An indicator with who declared it, and who took it back."""

    id: int
    site_id: int
    indicator: str
    value: float
    dated: date
    evidence: str
    author: str
    created_at: datetime
    withdrawn_by: str | None
    withdrawn_at: datetime | None


def add(connection: sa.Connection, site_id: int, declared: Declared, author: str) -> int:
    """Write a declaration; its number.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    values = {
        "site_id": site_id,
        "indicator": declared.indicator,
        "value": declared.value,
        "dated": declared.date,
        "evidence": declared.evidence,
        "author": author,
    }
    with store_errors():
        return int(connection.execute(sa.insert(_TABLE).values(values).returning(_TABLE.c.id)).scalar_one())


def withdraw(connection: sa.Connection, site_id: int, number: int, by: str) -> None:
    """Take a declaration back; it stays, marked.

    Raises
    ------
    NotFound
        If the site has no such declaration in force.
    StoreUnavailable
        If the database is away.
    """
    known = (_TABLE.c.id == number, _TABLE.c.site_id == site_id, _TABLE.c.withdrawn_at.is_(None))
    update = sa.update(_TABLE).where(*known).values(withdrawn_at=sa.func.now(), withdrawn_by=by)
    with store_errors():
        if not connection.execute(update).rowcount:
            raise NotFound(f"declaration {number} does not exist or is withdrawn already")


def listing(connection: sa.Connection, site_id: int) -> list[Declaration]:
    """Every declaration of a site, withdrawn ones too, the newest first.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.select(_TABLE).where(_TABLE.c.site_id == site_id).order_by(_TABLE.c.id.desc())
    with store_errors():
        return [Declaration(*row) for row in connection.execute(query)]


def in_force(connection: sa.Connection) -> defaultdict[int, tuple[Declared, ...]]:
    """What holds, by the number of the site, in the order it was declared.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.select(_TABLE).where(_TABLE.c.withdrawn_at.is_(None)).order_by(_TABLE.c.id)
    found: defaultdict[int, tuple[Declared, ...]] = defaultdict(tuple)
    with store_errors():
        for row in (Declaration(*r) for r in connection.execute(query)):
            one = Declared(indicator=row.indicator, value=row.value, date=row.dated, evidence=row.evidence)
            found[row.site_id] += (one,)
    return found
