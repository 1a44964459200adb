"""Keys, for the administration of security, and the audit log, for that of the audit."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from app.actions import keys
from app.api.context import Caller
from app.api.schemas import NO_NUL
from app.domain.access import Duty
from app.domain.asked import instant
from app.store import administration, audit, identity, receipts
from app.store.identity import ApiKey

router = APIRouter(tags=["administration"])


class KeyIn(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"name": "gateway sh1", "grants": ["operator:site/sh1"]}},
    )
    name: str = Field(min_length=1, max_length=200, pattern=NO_NUL)
    grants: list[str] = Field(min_length=1, max_length=100)
    expires_at: str | None = Field(None, json_schema_extra={"format": "date-time"})
    certificate: str | None = Field(
        None,
        max_length=16_384,
        pattern=NO_NUL,
        description="Client certificate that the key is bound to: PEM, or its SHA-256 fingerprint",
    )


class KeyOut(BaseModel):
    """What is known about a key; never the key."""

    id: str
    name: str
    grants: list[str]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None
    is_session: bool = Field(description="Whether it stands for a sign-in in a browser")
    last_used_at: datetime | None = Field(description="When a session was last used, to the minute")
    opens: bool = Field(description="Whether it opens anything now; an idle session does not")
    certificate_sha256: str = Field(
        description="SHA-256 fingerprint of the client certificate that it is bound to; empty: none"
    )


class NewKeyOut(BaseModel):
    """A new key: it is shown here, and never again."""

    key: str


class KeysOut(BaseModel):
    """Every key, also expired and revoked ones."""

    keys: list[KeyOut]
    is_administration_separate: bool = Field(
        description="Whether nobody may have more than one of the roles system, security and audit"
    )


class AuditEntryOut(BaseModel):
    """Something that was done."""

    seq: int
    at: datetime
    actor: str
    source: str
    action: str
    target: str
    detail: str = Field(description="JSON, as it was hashed")
    hash: str


class AuditOut(BaseModel):
    """Entries of the audit log, newest first."""

    entries: list[AuditEntryOut]


@router.get("/keys")
def list_keys(caller: Caller) -> KeysOut:
    """Every key."""
    with caller.read() as view:
        found = keys.listing(view)
        opening = identity.opening(found, caller.now, caller.session_idle)
        is_separate = administration.is_separate(view.connection)
    listed = [_out(key, opens=key.public_id in opening) for key in found]
    return KeysOut(keys=listed, is_administration_separate=is_separate)


@router.post("/keys", status_code=201)
def post_key(body: KeyIn, caller: Caller) -> NewKeyOut:
    """Make a key; the answer is the only time it is shown."""
    expires_at = instant(body.expires_at, "expires_at") if body.expires_at is not None else None
    with caller.write() as view:
        return NewKeyOut(key=keys.create(view, body.name, body.grants, expires_at, body.certificate or ""))


@router.post("/keys/{key_id}/revoke")
def revoke_key(key_id: Annotated[str, Path(pattern="^[0-9a-f]{12}$")], caller: Caller) -> KeyOut:
    """Make a key open nothing from now on."""
    with caller.write() as view:
        return _out(keys.revoke(view, key_id), opens=False)


@router.get("/audit")
def list_audit(
    caller: Caller,
    before_seq: Annotated[int | None, Query(ge=1, le=1 << 62, description="Entries before this one")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditOut:
    """The newest entries of the audit log, newest first; readings that were sent are summed up by hour."""
    with caller.read() as view:
        view.require_duty(Duty.AUDIT)
    receipts.settle(caller.context.engine, caller.now + timedelta(hours=1))
    with caller.read() as view:
        found = audit.listing(view.connection, before_seq=before_seq, limit=limit)
    names = AuditEntryOut.model_fields
    return AuditOut(entries=[AuditEntryOut(**{n: getattr(entry, n) for n in names}) for entry in found])


def _out(key: ApiKey, *, opens: bool) -> KeyOut:
    return KeyOut(
        id=key.public_id,
        name=key.name,
        grants=[str(grant) for grant in key.grants],
        created_at=key.created_at,
        created_by=key.created_by,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        revoked_by=key.revoked_by,
        is_session=key.is_session,
        last_used_at=key.last_used_at,
        opens=opens,
        certificate_sha256=key.certificate_sha256,
    )
