"""Who runs a command, as the audit log and the records name it."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Mapping
from typing import Any

from app.cli.invocation import command
from app.domain.access import Grant, Principal, Role
from app.store import audit
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


def principal() -> Principal:
    """The user as administrator of everything: whoever may open the database may do all with it."""
    return Principal(user(), (Grant(Role.ADMIN),))


def record(
    connection: Connection, action: str, target: str = "", detail: Mapping[str, Any] | None = None
) -> None:
    """Write down in the audit log what a command did, in its transaction; call it last."""
    audit.append(connection, actor().did(action, target, detail))
