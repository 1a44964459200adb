"""Keys to the HTTP interface: make one, revoke one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from app.actions.view import View
from app.domain.access import Grant, Role, check_expiry
from app.errors import NotFound, SeriesError
from app.store import identity
from app.store.identity import ApiKey


def create(view: View, name: str, grants: Sequence[str], expires_at: datetime | None = None) -> str:
    """Make a key and return it: it cannot be shown again.

    Raises
    ------
    Forbidden
        If the caller is not administrator of the whole deployment.
    SeriesError
        If a grant is not understood, or the key would have expired already.
    NotFound
        If a grant is on a site or institution that does not exist.
    StoreUnavailable
        If the database is away.
    """
    view.require_everywhere(Role.ADMIN)
    wanted = [_grant(view, text) for text in grants]
    check_expiry(expires_at, view.now)
    key = identity.create(
        view.connection, name, wanted, created_by=view.principal.name, expires_at=expires_at
    )
    view.audit("key.create", name, {"grants": [str(grant) for grant in wanted]})
    return key


def _grant(view: View, text: str) -> Grant:
    """The grant; one on something that does not exist would open nothing, silently."""
    try:
        grant = Grant.parse(text)
    except ValueError as error:
        raise SeriesError(f"grants: {error}") from None
    if grant.site:
        view.site(grant.site)
    if grant.institution:
        view.institution(grant.institution)
    return grant


def revoke(view: View, key_id: str) -> ApiKey:
    """Make a key open nothing from now on.

    Raises
    ------
    Forbidden
        If the caller is not administrator of the whole deployment.
    NotFound
        If there is no such key, or it is revoked already.
    StoreUnavailable
        If the database is away.
    """
    view.require_everywhere(Role.ADMIN)
    revoked = identity.revoke(view.connection, key_id, view.principal.name)
    view.audit("key.revoke", revoked.name, {"id": revoked.public_id})
    return revoked


def end_session(view: View, session_id: str) -> ApiKey:
    """End a sign-in in a browser; nothing else can be revoked this way.

    Raises
    ------
    Forbidden
        If the caller is not administrator of the whole deployment.
    NotFound
        If there is no such session, or it is over already.
    StoreUnavailable
        If the database is away.
    """
    view.require_everywhere(Role.ADMIN)
    if all(one.public_id != session_id for one in identity.sessions(view.connection, view.now)):
        raise NotFound("there is no such session, or it is over already")
    ended = identity.revoke(view.connection, session_id, view.principal.name)
    view.audit("session.end", ended.name, {"id": ended.public_id})
    return ended
