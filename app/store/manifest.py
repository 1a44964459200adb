"""What a backup holds, in a file beside it: rows and a fingerprint of every table, and the file's own hash.

It is taken from the same state of the database as the backup itself, so a restored database can be
compared with it row by row. Its name is that of the backup with ``.manifest.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from app.errors import ConfigError
from app.store import migrate, slices, timescale
from app.store.engine import driver

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Content:
    """What one table holds."""

    rows: int
    hash: str
    """Sum of the hashes of its rows, whatever their order."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What stands in the file."""

    made_at: str
    revision: str | None
    server: int
    """Version of the server, as its ``server_version_num``."""
    timescaledb: str | None
    database_bytes: int
    tables: Mapping[str, Content] = field(default_factory=dict)
    file_bytes: int = 0
    sha256: str = ""

    def differences(self, found: Mapping[str, Content]) -> list[str]:
        """Tables in which a database differs, in words."""
        return [
            _difference(name, self.tables.get(name), found.get(name))
            for name in sorted(self.tables.keys() | found.keys())
            if self.tables.get(name) != found.get(name)
        ]

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(content.rows for content in self.tables.values())


def _difference(name: str, wanted: Content | None, found: Content | None) -> str:
    if found is None:
        return f"{name} is missing"
    if wanted is None:
        return f"{name} is not in the backup's manifest"
    if wanted.rows != found.rows:
        return f"{name} has {found.rows:,} rows instead of {wanted.rows:,}"
    return f"{name} has other values than when the backup was made"


def take(connection: sa.Connection, left_out: Collection[str] = ()) -> Manifest:
    """What the database holds, as this transaction sees it.

    Raises
    ------
    StoreUnavailable
        If it is away.
    """
    size = connection.execute(sa.text("SELECT pg_database_size(current_database())")).scalar_one()
    return Manifest(
        datetime.now(UTC).isoformat(timespec="seconds"),
        migrate.current_status(connection).current,
        driver(connection).info.server_version,
        timescale.version(connection),
        size,
        contents(connection, left_out),
    )


def contents(connection: sa.Connection, left_out: Collection[str] = ()) -> dict[str, Content]:
    """Rows and fingerprint of every table.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    found = {}
    for one in slices.whole(connection):
        if one.table not in left_out:
            rows, total = slices.fingerprint(connection, one)
            found[one.table] = Content(rows, str(total))
    return found


def path_of(backup: Path) -> Path:
    """The file beside a backup."""
    return backup.with_name(f"{backup.name}.manifest.json")


def write(found: Manifest, backup: Path, path: Path) -> None:
    """Write the manifest of a backup, which is there, to `path`."""
    document = {**asdict(found), "format": _FORMAT, "file_bytes": backup.stat().st_size}
    document["sha256"] = sha256_of(backup)
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read(backup: Path) -> Manifest | None:
    """The manifest beside a backup; None where there is none.

    Raises
    ------
    ConfigError
        If the file is none, or of a later version of Wattline.
    """
    path = path_of(backup)
    if not path.exists():
        return None
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("format") != _FORMAT:
            raise ConfigError("was written by a later version of Wattline; use that one", file=str(path))
        tables = {name: Content(**content) for name, content in document.pop("tables").items()}
        return Manifest(**document, tables=tables)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError("is no manifest of a backup; remove it or copy it again", file=str(path)) from error


def sha256_of(file: Path) -> str:
    """Hash of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
