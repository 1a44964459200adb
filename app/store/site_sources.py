"""Whose site file describes which site, so that a file touches its own sites only.

An owner is an installation and the path of its file. Several may describe one site, e.g. two workers with
the same file; the site is retired when the last of them drops it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from app.domain.site import Fleet
from app.errors import ConfigError
from app.store import tables
from app.store.engine import store_errors
from app.store.site_moves import OWNER


class Scope(NamedTuple):
    """What a file may not touch."""

    foreign_ids: tuple[int, ...] = ()
    """Numbers of the sites that other files describe and this one does not."""
    kept: tuple[str, ...] = ()
    """Those among them that this file described before."""


def claim(connection: sa.Connection, owner: str, fleet: Fleet) -> Scope:
    """Drop the sites that the owner's file no longer describes; what it must leave alone.

    Raises
    ------
    ConfigError
        If a meter or point of the file stands in a site that only other files describe.
    StoreUnavailable
        If the database is away.
    """
    t, s = tables.site_sources, tables.sites
    dropped = (
        sa.delete(t)
        .where(t.c.owner == owner, t.c.site_id == s.c.id, s.c.key.not_in(list(fleet.site)))
        .returning(s.c.key)
    )
    foreign = sa.select(s.c.id, s.c.key).where(
        s.c.id.in_(sa.select(t.c.site_id)), s.c.key.not_in(list(fleet.site))
    )
    with store_errors():
        own = set(connection.execute(dropped).scalars())
        others = connection.execute(foreign).all()
        ids = tuple(row.id for row in others)
        _refuse_foreign(connection, ids, fleet)
    return Scope(ids, tuple(sorted(own & {row.key for row in others})))


def note(connection: sa.Connection, owner: str, fleet: Fleet) -> None:
    """Remember that the owner's file describes the sites of `fleet`, also those that came from another cell.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t, s = tables.site_sources, tables.sites
    came = t.c.owner == OWNER, t.c.site_id == s.c.id, s.c.key.in_(list(fleet.site))
    described = sa.select(s.c.id, sa.literal(owner), sa.func.clock_timestamp()).where(
        s.c.key.in_(list(fleet.site))
    )
    statement = insert(t).from_select(["site_id", "owner", "last_at"], described)
    fresh = {"last_at": statement.excluded.last_at}
    with store_errors():
        connection.execute(sa.delete(t).where(*came))
        connection.execute(statement.on_conflict_do_update(index_elements=["site_id", "owner"], set_=fresh))


def forget(connection: sa.Connection, owners: Collection[str]) -> None:
    """Forget files that are gone.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        connection.execute(
            sa.delete(tables.site_sources).where(tables.site_sources.c.owner.in_(list(owners)))
        )


def owners(connection: sa.Connection) -> list[str]:
    """Every owner whose file describes a site.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        return list(connection.execute(sa.select(tables.site_sources.c.owner).distinct()).scalars())


def _refuse_foreign(connection: sa.Connection, sites: tuple[int, ...], fleet: Fleet) -> None:
    """A meter or point has one place in all files; taken from another site its history would go along."""
    for table, keys in ((tables.meters, fleet.meter), (tables.points, fleet.point)):
        query = (
            sa.select(table.c.key, tables.sites.c.key.label("site"))
            .join(tables.sites, tables.sites.c.id == table.c.site_id)
            .where(table.c.site_id.in_(sites), table.c.retired_at.is_(None), table.c.key.in_(list(keys)))
            .order_by(table.c.key)
        )
        taken = connection.execute(query).first() if sites else None
        if taken is not None:
            what = table.name.removesuffix("s")
            raise ConfigError(
                f"{what} {taken.key!r} stands in site {taken.site!r}, which another site file describes; "
                f"choose another id, or describe both sites in one file if the {what} moved",
                key=f"{table.name}",
            )


def described_by(connection: sa.Connection, owner: str) -> set[str]:
    """Sites that an owner's file describes.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t, s = tables.site_sources, tables.sites
    query = sa.select(s.c.key).join(t, t.c.site_id == s.c.id).where(t.c.owner == owner)
    with store_errors():
        return set(connection.execute(query).scalars())


def described_by_others(connection: sa.Connection, owner: str) -> set[str]:
    """Sites that files of other owners describe.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t, s = tables.site_sources, tables.sites
    query = sa.select(s.c.key).join(t, t.c.site_id == s.c.id).where(t.c.owner != owner)
    with store_errors():
        return set(connection.execute(query).scalars())


def take_over(connection: sa.Connection, owner: str, fleet: Fleet) -> None:
    """The sites of `fleet` are no longer the owner's: another file describes them.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    t, s = tables.site_sources, tables.sites
    taken = sa.select(s.c.id).where(s.c.key.in_(list(fleet.site)))
    with store_errors():
        connection.execute(sa.delete(t).where(t.c.owner == owner, t.c.site_id.in_(taken)))
