"""Who runs a command, as the audit log and the records name it."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from app.cli.environment import settings
from app.cli.invocation import command
from app.domain.access import Grant, Principal, Role, why_not_separate
from app.errors import ConfigError
from app.store import administration, audit, identity
from app.store.audit import Actor
from app.store.engine import Connection


def user() -> str:
    """The user of the operating system, from the process and not from variables that anybody sets."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def actor() -> Actor:
    """The user, with the command that was run and the machine it was run on."""
    return Actor(user(), f"{command()} on {socket.gethostname()}")


def source() -> str:
    """Where an action came from; who shows a key is not the user who runs the command."""
    return f"{actor().source} by {user()}" if settings().key_file else actor().source


def principal(connection: Connection, now: datetime) -> Principal:
    """The owner of the key in ``WATTLINE_KEY_FILE``, else the user of the operating system.

    Whoever may open the database may do all with it, so the user is administrator of everything; with
    separate administration only of the system, and the other duties need a key.

    Raises
    ------
    ConfigError
        If the file cannot be read, or its key opens nothing.
    """
    file = settings().key_file
    if file is not None:
        return _owner_of_key(connection, file, now)
    role = Role.SYSTEM if administration.is_separate(connection) else Role.ADMIN
    return Principal(user(), (Grant(role),), is_local=True)


def _owner_of_key(connection: Connection, file: Path, now: datetime) -> Principal:
    try:
        found = identity.find(connection, file.read_text(encoding="ascii").strip(), now)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}", key="WATTLINE_KEY_FILE") from None
    problem = why_not_separate(found.grants) if found else "the key is unknown, has expired or was revoked"
    if found is None or (problem and administration.is_separate(connection)):
        raise ConfigError(f"{file}: {problem}", key="WATTLINE_KEY_FILE")
    return found


def record(
    connection: Connection, action: str, target: str = "", detail: Mapping[str, Any] | None = None
) -> None:
    """Write down in the audit log what a command did, in its transaction; call it last."""
    audit.append(connection, actor().did(action, target, detail))
