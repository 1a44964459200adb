"""The key that the audit log is signed with: a file outside the database.

Whoever can change the database cannot sign what they put there. The key of the process is set once, by
what reads the environment (:func:`use`); without one, entries are chained but not signed.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from app.errors import ConfigError

LEAST_BYTES = 32
_SETTING = "WATTLINE_AUDIT_KEY_FILE"


@dataclass(frozen=True, slots=True)
class AuditKey:
    """A key and the short name by which entries say that it signed them."""

    id: str
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, secret: bytes) -> AuditKey:
        """The key with its name."""
        return cls(hashlib.sha256(b"wattline audit key " + secret).hexdigest()[:12], secret)

    def sign(self, text: bytes) -> str:
        """HMAC-SHA-256 of a text."""
        return hmac.new(self.secret, text, hashlib.sha256).hexdigest()


@lru_cache(maxsize=8)
def read(file: Path) -> AuditKey:
    """The key of a file.

    Raises
    ------
    ConfigError
        If it cannot be read, or is too short.
    """
    try:
        secret = file.read_bytes().strip()
    except OSError as error:
        reason = f"{file} cannot be read by user {os.geteuid()}: {error.strerror}; chmod a+r lets it"
        raise ConfigError(reason, key=_SETTING) from None
    if len(secret) < LEAST_BYTES:
        raise ConfigError(
            f"{file} has {len(secret)} bytes; at least {LEAST_BYTES} are needed: openssl rand -hex 32",
            key=_SETTING,
        )
    return AuditKey.of(secret)


def read_or_make(file: Path) -> AuditKey:
    """The key of a file, which is made where it is missing; only its owner can read it.

    Raises
    ------
    ConfigError
        If it can neither be read nor made.
    """
    if not file.exists():
        try:
            _make(file)
        except OSError as error:
            raise ConfigError(f"{file} cannot be written: {error.strerror}", key=_SETTING) from None
    return read(file)


def _make(file: Path) -> None:
    """Whole or not at all; where two processes make it, the first one's stays."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
    made = file.with_name(f".{file.name}-{os.getpid()}-{secrets.token_hex(4)}")
    handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as stream:
        stream.write(secrets.token_hex(32))
        stream.flush()
        os.fsync(stream.fileno())
    try:
        os.link(made, file)
    except FileExistsError:
        pass
    finally:
        made.unlink()


_find: Callable[[], AuditKey | None] = lambda: None  # noqa: E731 - set by use()


def use(find: Callable[[], AuditKey | None]) -> None:
    """From now on this process signs with the key that `find` gives, when there is something to sign."""
    global _find
    _find = find


def current() -> AuditKey | None:
    """The key of this process; None where it has none."""
    return _find()
