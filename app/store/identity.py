"""Keys to the interface: made, found, revoked. A key is shown once; the store has only its hash."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from app.domain.access import Grant, Principal, Role
from app.errors import NotFound, SeriesError
from app.store import locks, tables
from app.store.engine import store_errors

_KEY = re.compile(r"wl_([0-9a-f]{12})_([0-9a-f]{32})")
SESSION = "single sign-on"
"""Maker of the keys that stand for sign-ins in a browser."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known about a key."""

    public_id: str
    name: str
    grants: tuple[Grant, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None

    def is_valid(self, now: datetime) -> bool:
        """Whether it opens anything now."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def create(
    connection: sa.Connection,
    name: str,
    grants: Sequence[Grant],
    *,
    created_by: str,
    expires_at: datetime | None = None,
) -> str:
    """Make a key and return it; it cannot be shown again.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    public_id, secret = secrets.token_hex(6), secrets.token_hex(16)
    row = {
        "public_id": public_id,
        "name": name,
        "secret_sha256": _hash(secret),
        "grants": [str(grant) for grant in grants],
        "created_by": created_by,
        "expires_at": expires_at,
    }
    with store_errors():
        connection.execute(sa.insert(tables.api_keys).values(row))
    return f"wl_{public_id}_{secret}"


def _hash(secret: str) -> str:
    """128 random bits need no salt and no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def find(connection: sa.Connection, key: str, now: datetime) -> Principal | None:
    """Whom a key belongs to; None where it is none, has expired or was revoked.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    query = sa.select(tables.api_keys).where(tables.api_keys.c.public_id == match[1])
    with store_errors():
        row = connection.execute(query).one_or_none()
    if row is None or not hmac.compare_digest(row.secret_sha256, _hash(match[2])):
        return None
    found = _api_key(row)
    return Principal(found.name, found.grants, found.public_id) if found.is_valid(now) else None


def listing(connection: sa.Connection) -> list[ApiKey]:
    """Every key, also expired and revoked ones, oldest first.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        rows = connection.execute(sa.select(tables.api_keys).order_by(tables.api_keys.c.id))
        return [_api_key(row) for row in rows]


def revoke(connection: sa.Connection, public_id: str, by: str) -> ApiKey:
    """Make a key open nothing from now on.

    Parameters
    ----------
    public_id : str
        The key's own id, as :func:`listing` shows it; the whole key is understood, too.

    Raises
    ------
    NotFound
        If there is no such key, or it is revoked already.
    SeriesError
        If it is the last one of an administrator of everything.
    StoreUnavailable
        If the database is away.
    """
    match = _KEY.fullmatch(public_id)
    table = tables.api_keys
    own_id = match[1] if match else public_id
    _refuse_last_administrator(connection, own_id)
    update = (
        sa.update(table)
        .where(table.c.public_id == own_id, table.c.revoked_at.is_(None))
        .values(revoked_at=sa.func.now(), revoked_by=by)
        .returning(*table.c)
    )
    with store_errors():
        row = connection.execute(update).one_or_none()
    if row is None:
        raise NotFound("there is no such key, or it is revoked already; `wattline keys list` shows their ids")
    return _api_key(row)


def _refuse_last_administrator(connection: sa.Connection, public_id: str) -> None:
    locks.hold(connection, locks.KEYS)
    now = datetime.now(UTC)
    administrators = {
        key.public_id
        for key in listing(connection)
        if key.is_valid(now) and key.created_by != SESSION and Grant(Role.ADMIN) in key.grants
    }
    if administrators == {public_id}:
        raise SeriesError(
            "this is the last administrator's key; make another one first: "
            "wattline keys create NAME --grant admin"
        )


def begin_session(
    connection: sa.Connection, name: str, grants: Sequence[Grant], now: datetime, expires_at: datetime
) -> str:
    """Make a key for a sign-in in a browser, and forget those of sign-ins that have ended.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    table = tables.api_keys
    over = sa.or_(table.c.expires_at <= now, table.c.revoked_at.is_not(None))
    with store_errors():
        connection.execute(sa.delete(table).where(table.c.created_by == SESSION, over))
    return create(connection, name, grants, created_by=SESSION, expires_at=expires_at)


def end_session(connection: sa.Connection, key: str) -> None:
    """Make the key of a sign-in open nothing from now on; other keys stay as they are.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    match = _KEY.fullmatch(key)
    table = tables.api_keys
    if match is None:
        return
    mine = (table.c.public_id == match[1], table.c.secret_sha256 == _hash(match[2]))
    update = sa.update(table).where(*mine, table.c.created_by == SESSION, table.c.revoked_at.is_(None))
    with store_errors():
        connection.execute(update.values(revoked_at=sa.func.now(), revoked_by="sign-out"))


def first_admin_key(connection: sa.Connection) -> str | None:
    """An administrator's key where no key was ever made; None otherwise.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        locks.hold(connection, locks.KEYS)
        if connection.execute(sa.select(tables.api_keys.c.id).limit(1)).first() is not None:
            return None
    return create(connection, "first administrator", [Grant(Role.ADMIN)], created_by="first start")


def _api_key(row: sa.Row[tuple[object, ...]]) -> ApiKey:
    return ApiKey(
        row.public_id,
        row.name,
        tuple(Grant.parse(text) for text in row.grants),
        row.created_at,
        row.created_by,
        row.expires_at,
        row.revoked_at,
        row.revoked_by,
    )
