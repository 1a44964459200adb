"""A drill: is a backup whole, and does everything in it add up? The live database is not touched.

The file is restored into a server of its own that is thrown away afterwards, compared with its manifest,
brought to the present schema, and checked as ``wattline verify`` and ``wattline audit verify`` do. A
backup made on TimescaleDB needs a server that has it: a new database is made there, and dropped.
"""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app.errors import ConfigError
from app.jobs import verify as verification
from app.store import audit, manifest, migrate, restore, scratch
from app.store.audit_key import AuditKey
from app.store.embedded.server import EmbeddedServer
from app.store.engine import connect, make_engine
from app.store.manifest import Manifest
from app.store.restore import Restored

Progress = Callable[[str], None]
"""Gets a line about every step."""

_FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_wal_size": "4GB"}
"""What is thrown away need not survive a power cut."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What the drill found."""

    problems: tuple[str, ...]
    """Empty: the backup can be relied on."""
    has_manifest: bool
    made_at: str | None
    revision: str | None
    """Schema of the backup; it was brought to the present one for the check."""
    rows: int = 0
    tables: int = 0
    points: int = 0
    intervals: int = 0
    """Quarter-hours computed again from their readings."""
    audit_entries: int = 0


def check(
    file: Path,
    data_dir: Path,
    server_url: Callable[[], str],
    *,
    bin_dir: Path | None = None,
    postgres_bin: Path | None = None,
    keys: tuple[AuditKey, ...] = (),
    progress: Progress = lambda line: None,
) -> Checked:
    """Restore a backup aside and verify it.

    Parameters
    ----------
    file : Path
    data_dir : Path
        Where the server of the drill may lie.
    server_url : callable
        URL of a superuser on a server with TimescaleDB; asked for only where the backup needs that.
    bin_dir : Path, optional
        Folder of the client programs.
    postgres_bin : Path, optional
        Folder of the server's programs. Default: those installed with Wattline.
    keys : tuple of AuditKey
        With which entries of the audit log were signed.
    progress : callable, optional

    Raises
    ------
    ConfigError
        If there is no such file, no room, or no server for it.
    StoreUnavailable
        If the server of the drill does not answer.
    """
    of_timescale = restore.is_of_timescale(file, bin_dir)
    known = manifest.read(file)
    damage = _damage(file, known)
    if damage:
        return _refused(damage, known)
    place = _own_database(server_url()) if of_timescale else _own_server(data_dir, known, postgres_bin)
    with place as url:
        try:
            found = restore.restore(url, file, bin_dir=bin_dir, progress=progress)
        except ConfigError as error:
            return _refused(str(error), known)
        return _verified(url, found, known, keys, progress)


def _damage(file: Path, known: Manifest | None) -> str | None:
    if known is None or manifest.sha256_of(file) == known.sha256:
        return None
    size = file.stat().st_size
    if size != known.file_bytes:
        return f"the file has {size:,} bytes, not {known.file_bytes:,}: it was not copied whole"
    return "the file is not the one that was written: its hash is another"


def _refused(problem: str, known: Manifest | None) -> Checked:
    if known is None:
        return Checked((problem,), False, None, None)
    return Checked((problem,), True, known.made_at, known.revision)


def _verified(
    url: str, found: Restored, known: Manifest | None, keys: tuple[AuditKey, ...], progress: Progress
) -> Checked:
    engine = make_engine(url, statement_timeout_s=0.0)
    try:
        revision = migrate.status(engine).current
        if revision is None:
            return _refused("it is a backup of an empty database", known)
        progress("bringing it to the present schema")
        migrate.upgrade(engine)
        progress("verifying figures and audit log")
        figures = verification.verify(engine)
        with connect(engine) as connection:
            log = audit.verify(connection, list(keys), audit.anchors_of_reports(connection))
    finally:
        engine.dispose()
    breaches = [f"{b.rule}: {b.site} {b.what} {b.start}: {b.note}" for b in figures.breaches]
    return Checked(
        (*breaches, *log.problems),
        found.compared,
        known.made_at if known else None,
        revision,
        found.rows,
        found.tables,
        figures.points,
        figures.intervals,
        log.entries,
    )


@contextmanager
def _own_server(data_dir: Path, known: Manifest | None, postgres_bin: Path | None) -> Iterator[str]:
    """A server of the drill alone."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    _refuse_without_room(data_dir, known)
    folder = Path(tempfile.mkdtemp(prefix="restore-check-", dir=data_dir))
    folder.chmod(0o711)
    place = folder / "data"
    try:
        with EmbeddedServer(place, bin_dir=postgres_bin, settings=_FAST) as server:
            yield server.owner_url
    finally:
        _remove(folder, place)


def _remove(folder: Path, place: Path) -> None:
    """The cluster lies elsewhere where its user cannot enter the folder."""
    with suppress(OSError, ValueError, KeyError):
        shutil.rmtree(json.loads((place / "postgres.json").read_text())["cluster"], ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _refuse_without_room(data_dir: Path, known: Manifest | None) -> None:
    free, needed = shutil.disk_usage(data_dir).free, known.database_bytes if known else 0
    if free < needed:
        raise ConfigError(
            f"the check needs {needed / 1e9:,.1f} GB in {data_dir}, where {free / 1e9:,.1f} GB are free; "
            "name another folder with WATTLINE_DATA_DIR"
        )


@contextmanager
def _own_database(server_url: str) -> Iterator[str]:
    """A database of the drill alone, on a server with TimescaleDB."""
    name = f"wattline_check_{secrets.token_hex(4)}"
    with scratch.database(server_url, name) as url:
        yield url
