"""Whether administration of the system, of security and of the audit is separate: kept in the database.

So it holds for every process and every command, whatever their environment says.
"""

from __future__ import annotations

import sqlalchemy as sa

from app.store import deployment

_SECTION, _SEPARATE = "administration", "separate"


def is_separate(connection: sa.Connection) -> bool:
    """Whether nobody may have more than one duty of administration.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    return bool(deployment.load(connection, _SECTION) == _SEPARATE)


def keep(connection: sa.Connection, *, is_separate: bool) -> None:
    """Write down whether it is; whoever calls this holds the lock of the keys.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    deployment.save(connection, _SECTION, _SEPARATE if is_separate else "combined")
