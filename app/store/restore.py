"""A backup brought back into an empty database: wholly or not at all.

``pg_restore`` only turns the file into a script; the script runs here, in one transaction. So the program
may be newer than the server: settings that an older server does not know are left away (a ``pg_restore``
of version 17 sets ``transaction_timeout``, and would fail on 15 and 16), and what the server refuses
names the statement that helps.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psycopg
import sqlalchemy as sa
import sqlalchemy.exc
from psycopg import sql

from app.errors import ConfigError
from app.store import manifest, programs, timescale
from app.store.engine import begin, connect, driver, make_engine, unhurried
from app.store.manifest import Manifest

Progress = Callable[[str], None]
"""Gets a line about every step."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back."""

    rows: int
    tables: int
    compared: bool
    """Whether a manifest lay beside the backup and every table holds what it says."""


def restore(
    url: str, file: Path, *, bin_dir: Path | None = None, progress: Progress = lambda line: None
) -> Restored:
    """Fill an empty database from a backup.

    Parameters
    ----------
    url : str
        Of a database without tables. An ordinary owner of it will do; a backup made on TimescaleDB needs a
        superuser.
    file : Path
        Where its manifest lies beside it, what came back is compared with that.
    bin_dir : Path, optional
        Folder whose ``pg_restore`` is preferred.
    progress : callable, optional

    Raises
    ------
    ConfigError
        If the file is missing or damaged, the database is not empty, or the server refuses.
    StoreUnavailable
        If the database is away.
    """
    if not file.is_file():
        raise ConfigError(f"there is no backup {file}")
    listed = _listing(file, bin_dir)
    known = manifest.read(file)
    engine = make_engine(url)
    try:
        _refuse_unless_empty(engine)
        hypertables = any("EXTENSION - timescaledb" in line for line in listed)
        place = _of_timescale(engine, known) if hypertables else nullcontext()
        with place, begin(engine) as connection, unhurried(connection):
            _run(driver(connection), _script(file, listed, bin_dir), progress)
            found = None if hypertables else _compared(connection, known)
        if found is None:  # compressed readings are seen only after the block
            with begin(engine) as connection, unhurried(connection):
                found = _compared(connection, known)
    finally:
        engine.dispose()
    return found


def is_of_timescale(file: Path, bin_dir: Path | None = None) -> bool:
    """Whether a backup was made on TimescaleDB.

    Raises
    ------
    ConfigError
        If the file is missing or no backup.
    """
    if not file.is_file():
        raise ConfigError(f"there is no backup {file}")
    return any("EXTENSION - timescaledb" in line for line in _listing(file, bin_dir))


def _listing(file: Path, bin_dir: Path | None) -> list[str]:
    """The backup's table of contents."""
    command = [programs.program("pg_restore", bin_dir), "--list", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unsupported version" in done.stderr and bin_dir is not None:
        return _listing(file, None)
    if done.returncode != 0:
        raise ConfigError(f"{file} is no backup: {done.stderr.strip()}")
    return done.stdout.splitlines()


def _refuse_unless_empty(engine: sa.Engine) -> None:
    query = """
        SELECT min(relname) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = pg_class.oid AND d.deptype = 'e')
    """
    with connect(engine) as connection:
        table = connection.execute(sa.text(query)).scalar()
    if table is not None:
        raise ConfigError(f"the database is not empty (it has {table}); restore into a new one")


def _compared(connection: sa.Connection, known: Manifest | None) -> Restored:
    """Compare what came back with the manifest."""
    connection.execute(sa.text("SELECT set_config('search_path', 'public', true)"))
    found = manifest.contents(connection)
    differences = known.differences(found) if known else []
    if differences:
        raise ConfigError(
            f"what came back is not what the backup's manifest says: {'; '.join(differences[:5])}; "
            "use another backup"
        )
    return Restored(sum(content.rows for content in found.values()), len(found), known is not None)


# -- the script --------------------------------------------------------------------------------------

_LEFT_TO_THE_SERVER = re.compile(
    r"\d+; \d+ \d+ (EXTENSION - |COMMENT - (EXTENSION|SCHEMA) |SCHEMA - public )"
)
"""Extensions belong to the server's administrator, and with them their comments."""


@contextmanager
def _script(file: Path, listed: list[str], bin_dir: Path | None) -> Iterator[IO[bytes]]:
    """The backup as a script of SQL."""
    with tempfile.NamedTemporaryFile("w", suffix=".list") as wanted:
        wanted.writelines(f"{line}\n" for line in listed if not _LEFT_TO_THE_SERVER.match(line))
        wanted.flush()
        command = [programs.program("pg_restore", bin_dir), "--no-owner", "--no-privileges", "--file=-"]
        command += [f"--use-list={wanted.name}", str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                yield process.stdout
            except BaseException:
                process.kill()
                raise
            said = process.stderr.read().decode(errors="replace").strip()
        if process.returncode != 0:
            raise ConfigError(f"{file} is damaged: {said}")


_SETTING = re.compile(rb"SET (\w+) = .*;\s*$")
_COPY = re.compile(rb"(COPY .* FROM stdin);\s*$")
_ENTRY = re.compile(rb"-- (?:Data for )?Name: (.*?); Type: (.*?);")
_END_OF_COPY = b"\\.\n"
_META = (b"\\restrict ", b"\\unrestrict ")
"""Guards of psql, which does not run here."""
_BLOCK_BYTES = 1 << 20


def _run(raw: psycopg.Connection[Any], script: AbstractContextManager[IO[bytes]], progress: Progress) -> None:
    """Run the script in the transaction of a connection."""
    known = {name.encode() for (name,) in raw.execute("SELECT name FROM pg_settings")}
    entry = "the beginning"
    try:
        with script as lines:
            held: list[bytes] = []
            for line in lines:
                if found := _ENTRY.match(line):
                    entry = f"{found[2].decode()} {found[1].decode()}"
                    progress(entry)
                    _execute(raw, held)
                if found := _COPY.match(line):
                    _execute(raw, held)
                    _copy(raw, found[1], lines)
                elif not line.startswith(_META) and not _is_unknown(line, known):
                    held.append(line)
            _execute(raw, held)
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigError(_forbidden(entry, error, raw)) from error
    except (psycopg.DataError, psycopg.ProgrammingError, psycopg.IntegrityError) as error:
        raise ConfigError(f"the server refused {entry}: {_first(error)}") from error
    except psycopg.NotSupportedError as error:
        raise ConfigError(f"the server does not support {entry}: {_first(error)}") from error


def _is_unknown(line: bytes, known: Iterable[bytes]) -> bool:
    setting = _SETTING.match(line)
    return setting is not None and setting[1] not in known


def _execute(raw: psycopg.Connection[Any], held: list[bytes]) -> None:
    """Run what has been read so far, several statements at once."""
    if any(not line.startswith(b"--") and line.strip() for line in held):
        raw.execute(b"".join(held))
    held.clear()


def _copy(raw: psycopg.Connection[Any], statement: bytes, lines: Iterable[bytes]) -> None:
    with raw.cursor() as cursor, cursor.copy(statement) as stream:
        block, size = [], 0
        for line in lines:
            if line == _END_OF_COPY:
                break
            block.append(line)
            size += len(line)
            if size > _BLOCK_BYTES:
                stream.write(b"".join(block))
                block, size = [], 0
        stream.write(b"".join(block))


def _first(error: psycopg.Error) -> str:
    return str(error).strip().splitlines()[0]


def _forbidden(entry: str, error: psycopg.Error, raw: psycopg.Connection[Any]) -> str:
    user, database = (sql.Identifier(name).as_string() for name in (raw.info.user, raw.info.dbname))
    return (
        f"user {user} may not restore {entry} ({_first(error)}); have a superuser run "
        f"ALTER DATABASE {database} OWNER TO {user}; or name the owner in WATTLINE_DATABASE_OWNER_URL"
    )


# -- TimescaleDB -------------------------------------------------------------------------------------


@contextmanager
def _of_timescale(engine: sa.Engine, known: Manifest | None) -> Iterator[None]:
    """TimescaleDB lets its own catalog be filled in the block."""
    with begin(engine) as connection:
        _check_timescale(connection, known)
    _call(engine, "timescaledb_pre_restore")
    engine.dispose()  # it holds in sessions that begin now
    try:
        yield
    finally:
        engine.dispose()  # sessions keep what pre_restore has set
        _call(engine, "timescaledb_post_restore")


def _check_timescale(connection: sa.Connection, known: Manifest | None) -> None:
    """Refuse before anything is done where it cannot end well.

    Raises
    ------
    ConfigError
        With the statement that helps.
    """
    raw = driver(connection)
    user, database = raw.info.user, raw.info.dbname
    if not timescale.is_offered(connection):
        raise ConfigError(
            "the backup was made on TimescaleDB, which this server does not offer; restore it on one "
            "that does, and use wattline db move from there"
        )
    if not connection.execute(sa.text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")).scalar():
        raise ConfigError(
            f"a backup made on TimescaleDB fills TimescaleDB's own catalog, which user {user} may not do; "
            f"have a superuser run ALTER ROLE {user} SUPERUSER; restore; then ALTER ROLE {user} NOSUPERUSER; "
            "or name a superuser of this database in WATTLINE_DATABASE_OWNER_URL"
        )
    wanted, found = known.timescaledb if known else None, timescale.version(connection)
    if found is None:
        version = f" VERSION '{wanted}'" if wanted else ""
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(f"CREATE EXTENSION timescaledb{version}")
        except sqlalchemy.exc.DBAPIError as error:
            raise ConfigError(
                f"the backup needs TimescaleDB {wanted or 'of its own version'}: "
                f"{str(error.orig).splitlines()[0]}; install that version's package, or restore on a server "
                "that has it"
            ) from error
    elif wanted not in (None, found):
        raise ConfigError(
            f"the backup was made on TimescaleDB {wanted} and database {database} has {found}; have a "
            f"superuser run DROP EXTENSION timescaledb; and, in a new session, "
            f"CREATE EXTENSION timescaledb VERSION '{wanted}'; then restore"
        )


def _call(engine: sa.Engine, function: str) -> None:
    try:
        with begin(engine) as connection:
            connection.exec_driver_sql(f"SELECT {function}()")
    except sqlalchemy.exc.DBAPIError as error:
        raise ConfigError(
            f"TimescaleDB refuses: {str(error.orig).splitlines()[0]}; "
            f"have a superuser run SELECT {function}(); in this database"
        ) from error
