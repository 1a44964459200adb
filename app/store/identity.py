"""Keys to the interface: made, found, revoked. A key is shown once; the store has only its hash."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from app.domain.access import Duty, Grant, Principal, Role, duties_of, why_not_separate
from app.errors import NotAuthenticated, NotFound, SeriesError
from app.store import administration, locks, tables
from app.store.engine import store_errors

_KEY = re.compile(r"wl_([0-9a-f]{12})_([0-9a-f]{32})")
SESSION = "single sign-on"
"""Maker of the keys that stand for sign-ins in a browser at a provider."""
KEY_SESSION = "sign-in with a key"
"""The same for sign-ins with a key: the browser never keeps that."""
SESSIONS = (SESSION, KEY_SESSION)
SESSION_LIFE = timedelta(hours=12)
"""How long a sign-in holds; grants that were taken away hold no longer either."""
IDLE = timedelta(minutes=30)
"""A session that is not used for so long is over."""
_USED_EVERY = timedelta(minutes=1)
"""So often it is written down that a session is used."""


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
    parent: str = ""
    """Key that a session was begun with; empty: at a sign-in provider, or no session."""
    last_used_at: datetime | None = None
    """When a session was last used, to the minute."""
    certificate_sha256: str = ""
    """Fingerprint of the client certificate without which it opens nothing; empty: none is needed."""

    @property
    def is_session(self) -> bool:
        """Whether it stands for a sign-in in a browser."""
        return self.created_by in SESSIONS

    def is_idle(self, now: datetime, idle: timedelta) -> bool:
        """Whether it is a session that was not used for too long."""
        return self.is_session and now - (self.last_used_at or self.created_at) > idle

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
    parent: str = "",
    certificate_sha256: str = "",
) -> str:
    """Make a key and return it; it cannot be shown again. A session names the key it was begun with.

    Raises
    ------
    SeriesError
        If administration is separate, and nobody may have these grants at once.
    StoreUnavailable
        If the database is away.
    """
    _refuse_combined(connection, grants)
    public_id, secret = secrets.token_hex(6), secrets.token_hex(16)
    row = {
        "public_id": public_id,
        "name": name,
        "secret_sha256": _hash(secret),
        "grants": [str(grant) for grant in grants],
        "created_by": created_by,
        "expires_at": expires_at,
        "parent": parent,
        "certificate_sha256": certificate_sha256,
    }
    with store_errors():
        connection.execute(sa.insert(tables.api_keys).values(row))
    return f"wl_{public_id}_{secret}"


def public_id_of(key: str) -> str:
    """The id of a key, which is no secret.

    Raises
    ------
    NotAuthenticated
        If it is no key.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        raise NotAuthenticated("this is no key of Wattline; one begins with wl_")
    return match[1]


def _refuse_combined(connection: sa.Connection, grants: Sequence[Grant]) -> None:
    problem = why_not_separate(grants)
    if not problem:
        return
    locks.hold(connection, locks.KEYS)  # else it could be made while another process separates
    if administration.is_separate(connection):
        raise SeriesError(f"grants: {problem}")


def _hash(secret: str) -> str:
    """128 random bits need no salt and no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def find(
    connection: sa.Connection, key: str, now: datetime, idle: timedelta = IDLE, certificate_sha256: str = ""
) -> Principal | None:
    """Whom a key belongs to; None where it is none, has expired or was revoked.

    A session is over with the key that it was begun with, and when it is not used for `idle`.

    Parameters
    ----------
    certificate_sha256 : str
        Fingerprint of the client certificate that came with it; empty: none.

    Raises
    ------
    NotAuthenticated
        If the key needs another certificate.
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
    if not found.is_valid(now) or found.is_idle(now, idle) or not _parent_is_valid(connection, found, now):
        return None
    if found.certificate_sha256 and found.certificate_sha256 != certificate_sha256:
        raise NotAuthenticated("the key is accepted only together with its client certificate")
    if found.is_session:
        _note_use(connection, found, now)
    return Principal(found.name, found.grants, found.public_id)


def _parent_is_valid(connection: sa.Connection, session: ApiKey, now: datetime) -> bool:
    if not session.parent:
        return True
    query = sa.select(tables.api_keys).where(tables.api_keys.c.public_id == session.parent)
    with store_errors():
        row = connection.execute(query).one_or_none()
    return row is not None and _api_key(row).is_valid(now)


def _note_use(connection: sa.Connection, session: ApiKey, now: datetime) -> None:
    if session.last_used_at is None or abs(now - session.last_used_at) > _USED_EVERY:
        table = tables.api_keys
        update = sa.update(table).where(table.c.public_id == session.public_id).values(last_used_at=now)
        with store_errors():
            connection.execute(update)


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


def opening(keys: Sequence[ApiKey], now: datetime, idle: timedelta = IDLE) -> frozenset[str]:
    """Ids of those of all `keys` that open something now."""
    valid = {key.public_id for key in keys if key.is_valid(now)}
    return frozenset(
        key.public_id
        for key in keys
        if key.public_id in valid and not key.is_idle(now, idle) and (not key.parent or key.parent in valid)
    )


def sessions(connection: sa.Connection, now: datetime) -> list[ApiKey]:
    """Sign-ins in a browser of today that nobody ended, the newest first; also those not used for long.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    keys = listing(connection)
    unused = opening(keys, now, SESSION_LIFE)
    return [key for key in reversed(keys) if key.is_session and key.public_id in unused]


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
    """Somebody has to be left who makes keys and somebody who reads the log, and not only for a while."""
    locks.hold(connection, locks.KEYS)
    keys = _administrators(connection, datetime.now(UTC))
    gone = next((key for key in keys if key.public_id == public_id), None)
    if gone is None:
        return
    left = [key for key in keys if key is not gone and (gone.expires_at is not None or not key.expires_at)]
    missing = (duties_of(gone.grants) - {d for key in left for d in duties_of(key.grants)}) - {Duty.SYSTEM}
    if missing:
        is_admin = Grant(Role.ADMIN) in gone.grants
        role, name = ("admin", "administrator's") if is_admin else (m := min(missing), f"{m} administrator's")
        raise SeriesError(
            f"this is the last {name} key that does not expire; make another one first: "
            f"wattline keys create NAME --grant {role}"
        )


def _administrators(connection: sa.Connection, now: datetime) -> list[ApiKey]:
    """Valid keys, no sessions, with a duty of administration."""
    keys = listing(connection)
    return [key for key in keys if key.is_valid(now) and not key.is_session and duties_of(key.grants)]


def separate(connection: sa.Connection, now: datetime) -> None:
    """From now on nobody may have more than one duty of administration.

    Raises
    ------
    SeriesError
        If somebody has, or nobody would be left for security or for the audit.
    StoreUnavailable
        If the database is away.
    """
    locks.hold(connection, locks.KEYS)
    valid = [key for key in listing(connection) if key.is_valid(now) and not key.is_session]
    mixed = [f"{key.public_id} ({key.name})" for key in valid if why_not_separate(key.grants)]
    held = {d for key in valid if key.expires_at is None for d in duties_of(key.grants)}
    missing = sorted({Duty.SECURITY, Duty.AUDIT} - held)
    if missing:
        raise SeriesError(
            f"no key that does not expire has the role {' or '.join(missing)}; make them first: "
            + "; ".join(f"wattline keys create NAME --grant {duty}" for duty in missing)
        )
    if mixed:
        raise SeriesError(
            f"these keys have the role admin or several that do not go together: {', '.join(mixed)}; replace "
            "them by keys with one of system, security, audit, and revoke them: wattline keys revoke ID"
        )
    administration.keep(connection, is_separate=True)


def combine(connection: sa.Connection) -> None:
    """From now on one key may have every duty of administration again.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    locks.hold(connection, locks.KEYS)
    administration.keep(connection, is_separate=False)


def begin_session(
    connection: sa.Connection,
    name: str,
    grants: Sequence[Grant],
    now: datetime,
    *,
    parent: str = "",
    maker: str = SESSION,
) -> str:
    """Make a key for a sign-in in a browser, and forget those of sign-ins that have ended.

    It needs the client certificate that its parent needs.

    Parameters
    ----------
    parent : str
        Id of the key that was shown; the session ends with it. Empty: a provider vouched.
    maker : str
        One of :data:`SESSIONS`.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    table = tables.api_keys
    over = sa.or_(table.c.expires_at <= now, table.c.revoked_at.is_not(None))
    with store_errors():
        connection.execute(sa.delete(table).where(table.c.created_by.in_(SESSIONS), over))
    ends, known = now + SESSION_LIFE, sa.select(table.c.certificate_sha256).where(table.c.public_id == parent)
    with store_errors():
        certificate = connection.execute(known).scalar_one_or_none() or ""
    return create(
        connection,
        name,
        grants,
        created_by=maker,
        expires_at=ends,
        parent=parent,
        certificate_sha256=certificate,
    )


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
    update = sa.update(table).where(*mine, table.c.created_by.in_(SESSIONS), table.c.revoked_at.is_(None))
    with store_errors():
        connection.execute(update.values(revoked_at=sa.func.now(), revoked_by="sign-out"))


def first_keys(connection: sa.Connection, *, is_separate: bool) -> dict[Role, str]:
    """Keys of the first administrators where no key was ever made: one for all duties, or one for each.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        locks.hold(connection, locks.KEYS)
        if connection.execute(sa.select(tables.api_keys.c.id).limit(1)).first() is not None:
            return {}
    administration.keep(connection, is_separate=is_separate)
    roles = (Role.SYSTEM, Role.SECURITY, Role.AUDIT) if is_separate else (Role.ADMIN,)
    return {
        role: create(connection, first_name(role), [Grant(role)], created_by="first start") for role in roles
    }


def first_name(role: Role) -> str:
    """Name of the first key of a role."""
    return "first administrator" if role is Role.ADMIN else f"first {role} administrator"


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
        row.parent,
        row.last_used_at,
        row.certificate_sha256,
    )
