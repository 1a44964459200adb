"""Who runs a command, as the audit log and the records name it."""

from __future__ import annotations

import os
import pwd
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from app.store import audit
from app.store.audit import Who
from app.store.engine import Connection


def user() -> str:
    """The user of the operating system, from the process and not from variables that anybody sets."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def who() -> Who:
    """The user, with the command that was run and the machine it was run on."""
    return Who(user(), f"wattline {_command(sys.argv[1:])} on {socket.gethostname()}")


def _command(words: Sequence[str]) -> str:
    """The words that name the command, without what it was told: that may be secret."""
    from app.cli.commands import app

    is_group = any(group.name in words[:1] for group in app.registered_groups)
    return " ".join(words[: 2 if is_group else 1])


def record(
    connection: Connection, action: str, target: str = "", detail: Mapping[str, Any] | None = None
) -> None:
    """Write down in the audit log what a command did, in its transaction; call it last."""
    audit.append(connection, who().did(action, target, detail))
