"""Whose a site file is: an installation, known by a number in its data directory, and the file's path."""

from __future__ import annotations

import secrets
from pathlib import Path

from app.config import Settings
from app.store import site_sources
from app.store.engine import Connection

_FILE = "installation"


def owner_of(environment: Settings, config_path: Path | None) -> str:
    """The owner of the sites that a site file describes; empty where there is no file."""
    path = config_path or environment.config
    return "" if path is None else f"{_installation(environment.data_dir)}:{path.resolve()}"


def forget_gone(connection: Connection, owner: str) -> None:
    """Forget files of this installation that are no longer there, e.g. because they were renamed."""
    installation = owner.partition(":")[0]
    known = [other.partition(":") for other in site_sources.owners(connection)]
    gone = [
        f"{whose}:{path}" for whose, _, path in known if whose == installation and not Path(path).exists()
    ]
    if installation and gone:
        site_sources.forget(connection, gone)


def _installation(data_dir: Path) -> str:
    """The number of the installation, made at its first start."""
    path = data_dir / _FILE
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    try:
        with path.open("x", encoding="ascii") as file:
            file.write(secrets.token_hex(8))
    except FileExistsError:
        pass
    return path.read_text(encoding="ascii").strip()
