"""Backups in the format of ``pg_dump``, each with a manifest of what it holds."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from app.errors import ConfigError, StoreUnavailable
from app.store import manifest, programs
from app.store.engine import connect, driver, make_engine, unhurried

Progress = Callable[[str], None]
"""Gets a line about every step."""


def backup(
    url: str, file: Path, *, bin_dir: Path | None = None, progress: Progress = lambda line: None
) -> int:
    """Write a backup of the whole database; `file` appears only when it is complete.

    Its manifest is written beside it, of the same state of the database (:mod:`app.store.manifest`).

    Parameters
    ----------
    url : str
    file : Path
        An existing file is replaced.
    bin_dir : Path, optional
        Folder whose ``pg_dump`` is preferred; one older than the server is passed over.
    progress : callable, optional

    Returns
    -------
    int
        Size of the file. [B]

    Raises
    ------
    ConfigError
        If there is no such program, or it refuses.
    """
    unfinished = file.with_name(f".{file.name}.unfinished")
    beside = manifest.path_of(unfinished)
    engine = make_engine(url)
    try:
        with connect(engine) as connection:
            _write(connection, url, unfinished, bin_dir, progress)
        manifest.path_of(file).unlink(missing_ok=True)
        unfinished.replace(file)
        beside.replace(manifest.path_of(file))
    finally:
        engine.dispose()
        unfinished.unlink(missing_ok=True)
        beside.unlink(missing_ok=True)
    return file.stat().st_size


def _write(connection: sa.Connection, url: str, file: Path, bin_dir: Path | None, progress: Progress) -> None:
    """Dump and describe one state of the database, which a snapshot holds meanwhile."""
    connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    with unhurried(connection):
        connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        snapshot = connection.execute(sa.text("SELECT pg_export_snapshot()")).scalar_one()
        left_out = _left_out(connection, progress)
        pg_dump = programs.program("pg_dump", bin_dir, at_least=_major(connection))
        options = ["--no-password", "--format=custom", "--no-owner", "--no-privileges", "--verbose"]
        options += [_NO_LARGE_OBJECTS, f"--file={file}", f"--snapshot={snapshot}"]
        _run([pg_dump, *options, *(f"--exclude-table={name}" for name in left_out)], url, progress)
        progress("counting the rows")
        found = manifest.take(connection, [name.removeprefix("public.") for name in left_out])
    manifest.write(found, file, manifest.path_of(file))


_NO_LARGE_OBJECTS = "-B"
"""Wattline has none; those of other roles cannot be read and would end the backup. The long name is new."""


def _major(connection: sa.Connection) -> int:
    return driver(connection).info.server_version // 10_000


_UNREADABLE = sa.text(
    """
    SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), pg_get_userbyid(c.relowner)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      AND n.nspname !~ '^(pg_|_timescaledb|timescaledb)' AND n.nspname <> 'information_schema'
      AND NOT (
          has_schema_privilege(n.oid, 'USAGE')
          AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT')
                   ELSE has_table_privilege(c.oid, 'SELECT') END
      )
    ORDER BY 1
    """
)


def _left_out(connection: sa.Connection, progress: Progress) -> list[str]:
    """What others have put into the database and we may not read."""
    foreign = connection.execute(_UNREADABLE).all()
    for name, owner in foreign:
        progress(f"left out: {name}, which belongs to {owner} and cannot be read")
    return [name for name, _ in foreign]


def _run(command: list[str], url: str, progress: Progress) -> None:
    """Run a client program; what it says goes to `progress`, its last words into the error."""
    said: list[str] = []
    with subprocess.Popen(
        command, env=programs.environment(url), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said = [*said[-4:], line.strip()]
            progress(line.strip())
    if process.returncode != 0:
        raise _failure(Path(command[0]).name, said)


def _failure(name: str, said: list[str]) -> ConfigError | StoreUnavailable:
    text = f"{name} failed: {' '.join(said)}"
    away = any("connection to server" in line for line in said)
    return StoreUnavailable(text) if away else ConfigError(text)
