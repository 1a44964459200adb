"""PostgreSQL's client programs: found by the version that a server needs."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psycopg.pq

from app.errors import ConfigError
from app.store.embedded.paths import packaged_bin_dir
from app.store.engine import connect_parameters

_OF_DEBIAN = Path("/usr/lib/postgresql")


def program(name: str, bin_dir: Path | None = None, *, at_least: int = 0) -> str:
    """Path of a client program of a major version or a later one.

    Parameters
    ----------
    name : str
        ``pg_dump`` or ``pg_restore``.
    bin_dir : Path, optional
        Folder that is asked first; then come the installed programs, those of Debian's packages, and PATH.
    at_least : int
        Major version; 0 for any.

    Raises
    ------
    ConfigError
        If there is none.
    """
    seen = []
    for folder in _folders(bin_dir):
        found = _major(folder / name)
        if found >= max(at_least, 1):
            return str(folder / name)
        if found:
            seen.append(f"{found} in {folder}")
    wanted = f"{name} {at_least} or later" if at_least else name
    others = f"; there are {', '.join(seen)}" if seen else ""
    raise ConfigError(
        f"there is no {wanted}{others}; install PostgreSQL's client programs"
        f"{f' (Debian: postgresql-client-{at_least})' if at_least else ''} or name their bin folder",
        key="WATTLINE_POSTGRES_BIN",
    )


def _folders(bin_dir: Path | None) -> Iterator[Path]:
    if bin_dir is not None:
        yield bin_dir
    with suppress(ConfigError):  # no package for this platform: the system's programs do as well
        yield packaged_bin_dir()
    versions = _OF_DEBIAN.glob("[0-9]*/bin")
    yield from sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)
    yield from map(Path, os.get_exec_path())


def _major(path: Path) -> int:
    """Major version of a program; 0 where there is none."""
    if not path.is_file():
        return 0
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    return int(found[1]) if found else 0


def environment(url: str) -> Mapping[str, str]:
    """The connection as libpq's variables: a password in arguments would be seen by every user."""
    names = {
        option.keyword.decode(): option.envvar.decode()
        for option in psycopg.pq.Conninfo.get_defaults()
        if option.envvar
    }
    given = connect_parameters(url, "wattline backup")
    return {**os.environ, **{names[key]: str(value) for key, value in given.items() if key in names}}
