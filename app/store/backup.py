"""Backups in the format of ``pg_dump``, and their restoration into an empty database."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg.pq
import sqlalchemy as sa

from app.errors import ConfigError, StoreUnavailable
from app.store import timescale
from app.store.embedded.paths import packaged_bin_dir
from app.store.engine import begin, connect, connect_parameters, make_engine

Progress = Callable[[str], None]
"""Gets a line about every step."""


def backup(
    url: str, file: Path, *, bin_dir: Path | None = None, progress: Progress = lambda line: None
) -> int:
    """Write a backup of the whole database; `file` appears only when it is complete.

    Parameters
    ----------
    url : str
    file : Path
        An existing file is replaced.
    bin_dir : Path, optional
        Folder with ``pg_dump``, at least as new as the server. Default: the installed programs.
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
    command = ["--format=custom", "--no-owner", "--no-privileges", "--verbose", f"--file={unfinished}"]
    command += [_NO_LARGE_OBJECTS, *_left_out(url, progress)]
    try:
        _run("pg_dump", command, url, bin_dir, progress)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
    return file.stat().st_size


_NO_LARGE_OBJECTS = "-B"
"""Wattline has none; those of other roles cannot be read and would end the backup. The long name is new."""

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


def _left_out(url: str, progress: Progress) -> list[str]:
    """Options that leave out what others have put into the database and we may not read."""
    engine = make_engine(url)
    try:
        with connect(engine) as connection:
            foreign = connection.execute(_UNREADABLE).all()
    finally:
        engine.dispose()
    for name, owner in foreign:
        progress(f"left out: {name}, which belongs to {owner} and cannot be read")
    return [f"--exclude-table={name}" for name, _ in foreign]


def restore(
    url: str, file: Path, *, bin_dir: Path | None = None, progress: Progress = lambda line: None
) -> None:
    """Fill an empty database from a backup: wholly or not at all.

    Parameters
    ----------
    url : str
        Of a database without tables.
    file : Path
    bin_dir : Path, optional
        Folder with ``pg_restore``, of the server's version. Default: the installed programs.
    progress : callable, optional

    Raises
    ------
    ConfigError
        If the file is missing, the database is not empty, or the program refuses.
    StoreUnavailable
        If the database is away.
    """
    if not file.is_file():
        raise ConfigError(f"there is no backup {file}")
    engine = make_engine(url)
    try:
        _refuse_unless_empty(engine)
        hypertables = _prepare(engine, file, bin_dir)
        command = ["--no-owner", "--no-privileges", "--verbose", "--exit-on-error", "--single-transaction"]
        try:
            _run("pg_restore", [*command, f"--dbname={_database(url)}", str(file)], url, bin_dir, progress)
        finally:
            if hypertables:
                _call(engine, "timescaledb_post_restore")
    finally:
        engine.dispose()


def _refuse_unless_empty(engine: sa.Engine) -> None:
    query = """
        SELECT min(relname) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
    """
    with connect(engine) as connection:
        table = connection.execute(sa.text(query)).scalar()
    if table is not None:
        raise ConfigError(f"the database is not empty (it has {table}); restore into a new one")


def _prepare(engine: sa.Engine, file: Path, bin_dir: Path | None) -> bool:
    """Get TimescaleDB ready where the backup needs it."""
    if not _needs_timescale(file, bin_dir):
        return False
    with begin(engine) as connection:
        if not timescale.ensure_extension(connection):
            raise ConfigError(
                "the backup was made on TimescaleDB, which this server does not offer; restore it on one "
                "that does, and use wattline db move from there"
            )
    _call(engine, "timescaledb_pre_restore")
    return True


def _needs_timescale(file: Path, bin_dir: Path | None) -> bool:
    listing = subprocess.run(
        [_program("pg_restore", bin_dir), "--list", str(file)], capture_output=True, text=True, check=False
    )
    if listing.returncode != 0:
        raise ConfigError(f"{file} is no backup: {listing.stderr.strip()}")
    return any("EXTENSION - timescaledb" in line for line in listing.stdout.splitlines())


def _call(engine: sa.Engine, function: str) -> None:
    with begin(engine) as connection:
        connection.exec_driver_sql(f"SELECT {function}()")


def _run(name: str, arguments: list[str], url: str, bin_dir: Path | None, progress: Progress) -> None:
    """Run a client program; what it says goes to `progress`, its last words into the error."""
    said: list[str] = []
    command = [_program(name, bin_dir), "--no-password", *arguments]
    with subprocess.Popen(command, env=_environment(url), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said = [*said[-4:], line.strip()]
            progress(line.strip())
    if process.returncode != 0:
        raise _failure(name, said)


def _failure(name: str, said: list[str]) -> ConfigError | StoreUnavailable:
    text = f"{name} failed: {' '.join(said)}"
    away = any("connection to server" in line for line in said)
    return StoreUnavailable(text) if away else ConfigError(text)


def _program(name: str, bin_dir: Path | None) -> str:
    path = (bin_dir or packaged_bin_dir()) / name
    if not path.exists():
        raise ConfigError(f"there is no {name} in {path.parent}; name a PostgreSQL bin folder")
    return str(path)


def _environment(url: str) -> dict[str, str]:
    """The connection as libpq's variables: a password in arguments would be seen by every user."""
    names = {
        option.keyword.decode(): option.envvar.decode()
        for option in psycopg.pq.Conninfo.get_defaults()
        if option.envvar
    }
    given = connect_parameters(url, "wattline backup")
    return {**os.environ, **{names[key]: str(value) for key, value in given.items() if key in names}}


def _database(url: str) -> str:
    return str(connect_parameters(url).get("dbname", "postgres"))
