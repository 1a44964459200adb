"""Imported hourly emission factors with their source: withdrawn, never changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from app.domain.hourly_factors import HourlyFactors
from app.domain.period import Period
from app.errors import NotFound
from app.store import tables
from app.store.engine import store_errors

_TABLE = tables.hourly_factors
_HOURS = sa.func.coalesce(sa.func.cardinality(_TABLE.c.kg_per_kwh), 0)
_END = _TABLE.c.first_at + _HOURS * sa.text("interval '1 hour'")


@dataclass(frozen=True, slots=True)
class Imported:
    """An import without its factors."""

    id: int
    region: str
    basis: str
    source: str
    verified: bool
    first_at: datetime
    end: datetime
    sha256: str
    author: str
    created_at: datetime
    withdrawn_by: str | None
    withdrawn_at: datetime | None


def add(connection: sa.Connection, factors: HourlyFactors, sha256: str, author: str) -> int:
    """Keep the factors of a file; the number of the import.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    values = {
        "region": factors.region,
        "basis": factors.basis,
        "source": factors.source,
        "verified": factors.verified,
        "first_at": factors.first_at,
        "kg_per_kwh": list(factors.kg_per_kwh),
        "sha256": sha256,
        "author": author,
    }
    with store_errors():
        return int(connection.execute(sa.insert(_TABLE).values(values).returning(_TABLE.c.id)).scalar_one())


def withdraw(connection: sa.Connection, number: int, by: str) -> None:
    """Take an import back; it stays, marked.

    Raises
    ------
    NotFound
        If there is no such import in force.
    StoreUnavailable
        If the database is away.
    """
    known = (_TABLE.c.id == number, _TABLE.c.withdrawn_at.is_(None))
    update = sa.update(_TABLE).where(*known).values(withdrawn_at=sa.func.now(), withdrawn_by=by)
    with store_errors():
        if not connection.execute(update).rowcount:
            raise NotFound(f"import {number} of hourly factors does not exist or is withdrawn already")


def listing(connection: sa.Connection) -> list[Imported]:
    """Every import, withdrawn ones too, the newest first.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    c = _TABLE.c
    stated = (c.id, c.region, c.basis, c.source, c.verified, c.first_at, _END.label("end"))
    query = sa.select(*stated, c.sha256, c.author, c.created_at, c.withdrawn_by, c.withdrawn_at)
    with store_errors():
        return [Imported(**row._mapping) for row in connection.execute(query.order_by(c.id.desc()))]


def of_period(connection: sa.Connection, region: str, basis: str, span: Period) -> tuple[HourlyFactors, ...]:
    """Factors in force of a region and basis that touch a period, in the order they were imported.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    c = _TABLE.c
    query = (
        sa.select(c.region, c.basis, c.source, c.verified, c.first_at, c.kg_per_kwh)
        .where(c.region == region, c.basis == basis, c.withdrawn_at.is_(None))
        .where(c.first_at < span.end, span.start < _END)
        .order_by(c.id)
    )
    with store_errors():
        rows = connection.execute(query).all()
    return tuple(HourlyFactors(*row[:4], row[4].astimezone(UTC), tuple(row[5])) for row in rows)
