"""Keys to the HTTP interface: make one, revoke one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from app.actions.view import View
from app.domain.access import Duty, Grant, Role, check_expiry
from app.domain.certificate import fingerprint
from app.errors import NotFound, SeriesError
from app.store import administration, identity, sites
from app.store.identity import ApiKey


def create(
    view: View,
    name: str,
    grants: Sequence[str],
    expires_at: datetime | None = None,
    certificate: str = "",
) -> str:
    """Make a key and return it: it cannot be shown again.

    Parameters
    ----------
    certificate : str
        PEM of the client certificate that it is bound to, or its SHA-256 fingerprint; empty: none.

    Raises
    ------
    Forbidden
        If the caller does not administer security.
    SeriesError
        If a grant or the certificate is not understood, the key would have expired already, or administration
        is separate and nobody may have these grants at once.
    NotFound
        If a grant is on a site or institution that does not exist.
    StoreUnavailable
        If the database is away.
    """
    view.require_duty(Duty.SECURITY)
    wanted = [_grant(view, text) for text in grants]
    if any(grant.role is Role.EDGE for grant in wanted):
        raise SeriesError("grants: the key of an edge is made with `wattline edges create`")
    check_expiry(expires_at, view.now)
    sha256 = _fingerprint(certificate)
    key = identity.create(
        view.connection,
        name,
        wanted,
        created_by=view.principal.name,
        expires_at=expires_at,
        certificate_sha256=sha256,
    )
    detail = {"grants": [str(grant) for grant in wanted]}
    view.audit("key.create", name, {**detail, "certificate_sha256": sha256} if sha256 else detail)
    return key


def _fingerprint(certificate: str) -> str:
    try:
        return fingerprint(certificate)
    except ValueError as error:
        raise SeriesError(f"certificate: {error}") from None


def _grant(view: View, text: str) -> Grant:
    """The grant; one on something that does not exist would open nothing, silently."""
    try:
        grant = Grant.parse(text)
    except ValueError as error:
        raise SeriesError(f"grants: {error}") from None
    fleet = sites.load(view.connection).fleet  # also what the security administrator does not see
    for kind, name, known in (
        ("site", grant.site, fleet.site),
        ("institution", grant.institution, fleet.institution),
    ):
        if name and name not in known:
            raise NotFound(f"there is no {kind} {name!r}")
    return grant


def listing(view: View) -> list[ApiKey]:
    """Every key, also expired and revoked ones, and sessions; oldest first.

    Raises
    ------
    Forbidden
        If the caller does not administer security.
    StoreUnavailable
        If the database is away.
    """
    view.require_duty(Duty.SECURITY)
    return identity.listing(view.connection)


def separate(view: View) -> None:
    """From now on nobody may have more than one duty of administration.

    Raises
    ------
    Forbidden
        If the caller does not administer security.
    SeriesError
        If somebody has more than one, or nobody would be left for security or for the audit.
    StoreUnavailable
        If the database is away.
    """
    view.require_duty(Duty.SECURITY)
    if not administration.is_separate(view.connection):
        identity.separate(view.connection, view.now)
        view.audit("administration.separate", "")


def combine(view: View) -> None:
    """From now on one key may have every duty of administration again.

    Raises
    ------
    Forbidden
        If the caller does not administer security.
    StoreUnavailable
        If the database is away.
    """
    view.require_duty(Duty.SECURITY)
    if administration.is_separate(view.connection):
        identity.combine(view.connection)
        view.audit("administration.combine", "")


def revoke(view: View, key_id: str) -> ApiKey:
    """Make a key open nothing from now on.

    Raises
    ------
    Forbidden
        If the caller does not administer security.
    NotFound
        If there is no such key, or it is revoked already.
    StoreUnavailable
        If the database is away.
    """
    view.require_duty(Duty.SECURITY)
    revoked = identity.revoke(view.connection, key_id, view.principal.name)
    view.audit("key.revoke", revoked.name, {"id": revoked.public_id})
    return revoked


def end_session(view: View, session_id: str) -> ApiKey:
    """End a sign-in in a browser; nothing else can be revoked this way.

    Raises
    ------
    Forbidden
        If the caller does not administer security.
    NotFound
        If there is no such session, or it is over already.
    StoreUnavailable
        If the database is away.
    """
    view.require_duty(Duty.SECURITY)
    if all(one.public_id != session_id for one in identity.sessions(view.connection, view.now)):
        raise NotFound("there is no such session, or it is over already")
    ended = identity.revoke(view.connection, session_id, view.principal.name)
    view.audit("session.end", ended.name, {"id": ended.public_id})
    return ended
