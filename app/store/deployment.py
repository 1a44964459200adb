"""Sections of the site file that belong to no single site, kept so that every process sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.dialects.postgresql import insert

from app.domain.data.limit_profiles import LIMIT_PROFILES
from app.domain.limits import LimitProfile, merged_profiles
from app.domain.reference import BUILT_IN, Reference
from app.store import tables
from app.store.engine import store_errors


@cache  # built where they are needed, which is not in most commands
def _profiles() -> TypeAdapter[tuple[LimitProfile, ...]]:
    return TypeAdapter(tuple[LimitProfile, ...])


@cache
def _reference() -> TypeAdapter[Reference]:
    return TypeAdapter(Reference)


def clock(connection: sa.Connection) -> datetime:
    """What time it is for the database.

    Raises
    ------
    StoreUnavailable
        If it is away.
    """
    with store_errors():
        at: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    return at


def save(connection: sa.Connection, key: str, value: Any) -> None:
    """Keep one section, JSON-ready.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    statement = insert(tables.deployment).values(key=key, value=value)
    fresh = {"value": statement.excluded.value, "updated_at": sa.func.now()}
    with store_errors():
        connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_=fresh))


def load(connection: sa.Connection, key: str) -> Any:
    """One section; None where it was never saved.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = "SELECT value FROM deployment WHERE key = %s"
    with store_errors():
        return connection.exec_driver_sql(query, (key,)).scalar_one_or_none()


_OWNERS = "section_owners"


def take_section(connection: sa.Connection, section: str, owner: str, *, is_stated: bool) -> bool:
    """Whether a section of the deployment is the owner's to write: its file states it, or did so last.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    owners = load(connection, _OWNERS) or {}
    is_ours = is_stated or owners.get(section, owner) == owner
    if is_ours and owners.get(section) != owner:
        save(connection, _OWNERS, {**owners, section: owner})
    return is_ours


_EDITS, _MOST_EDITS = "definition_edits", 2000


def add_edits(connection: sa.Connection, by: str, edits: Sequence[Mapping[str, str | None]]) -> None:
    """Remember which definitions an edit of the site file changed, and who brought it.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    at = datetime.now(UTC).isoformat()
    known = load(connection, _EDITS) or []
    fresh = [{"at": at, "by": by, **edit} for edit in edits]
    save(connection, _EDITS, [*known, *fresh][-_MOST_EDITS:])


def edits(connection: sa.Connection) -> list[dict[str, str | None]]:
    """Edits of the site file that moved figures: at, by, what, start and end; oldest first.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return load(connection, _EDITS) or []


def save_limit_profiles(connection: sa.Connection, profiles: Sequence[LimitProfile]) -> None:
    """Keep the operator's own limit profiles.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    save(
        connection,
        "limit_profiles",
        _profiles().dump_python(tuple(profiles), mode="json", exclude_defaults=True),
    )


def limit_profiles(connection: sa.Connection) -> dict[str, LimitProfile]:
    """Every limit profile by id: the built-in ones, overridden by the operator's own.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    own = load(connection, "limit_profiles") or []
    return merged_profiles(LIMIT_PROFILES, _profiles().validate_python(own))


def save_reference(connection: sa.Connection, own: Reference) -> None:
    """Keep the operator's own emission factors, targets and scoring bands.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    save(connection, "reference", _reference().dump_python(own, mode="json", exclude_defaults=True))


def reference(connection: sa.Connection) -> Reference:
    """Emission factors, targets and scoring bands: the built-in ones with the operator's own.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    own = load(connection, "reference") or {}
    return BUILT_IN.with_own(_reference().validate_python(own))
