"""``wattline db``: the database's shape and state, its backups, and its move to another server."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from app.cli.console import progress, say, show, show_json, show_table
from app.cli.opening import database, engine_at, located, settings
from app.cli.who import record
from app.errors import ConfigError
from app.store import backup as backups
from app.store import migrate, reader
from app.store import move as moves
from app.store import status as states
from app.store.engine import Engine, Url, begin
from app.store.migrate import Status

_GB = 1e9


def upgrade(*, as_json: bool) -> None:
    """Run the missing migrations.

    Raises
    ------
    ConfigError
        If the database was made by a newer version.
    StoreUnavailable
        If it is away.
    """
    with database() as engine:
        _say_shape(migrate.upgrade(engine), as_json=as_json)


def status(*, as_json: bool) -> None:
    """Say what shape the database is in, how big it is, and when the disk is full.

    Raises
    ------
    StoreUnavailable
        If it is away.
    """
    with database() as engine:
        shape = migrate.status(engine)
        if shape.current is None or not shape.known:
            _say_shape(shape, as_json=as_json)
            return
        document = states.status(engine, _disk_free_bytes()).document()
    if as_json:
        show_json(document)
    else:
        _say_shape(shape, as_json=False)
        show_table(
            ["", ">"], ([name.replace("_", " "), _text(name, value)] for name, value in document.items())
        )


def make_reader(password_file: Path) -> None:
    """Make or refresh the role for readers, on a database of the current shape.

    Raises
    ------
    ConfigError
        If the file holds no password.
    StoreUnavailable
        If the database is away.
    """
    password = password_file.read_text(encoding="utf-8").strip()
    if not password:
        raise ConfigError("is empty; write a password into it", file=str(password_file))
    with database() as engine:
        migrate.upgrade(engine)
        reader.ensure_reader(engine, password)
        with begin(engine) as connection:
            record(connection, "reader.allow", reader.ROLE)
    say(f"the role {reader.ROLE} may read the views")


def _disk_free_bytes() -> int | None:
    """Free space where the embedded database lies; None where another machine may have it."""
    environment = settings()
    return None if environment.url() else shutil.disk_usage(environment.data_dir).free


def _text(name: str, value: Any) -> str:
    if value is None or value == "":
        return "-"
    return f"{value / _GB:,.3f} GB" if "bytes" in name else f"{value:,}" if type(value) is int else str(value)


def _say_shape(found: Status, *, as_json: bool) -> None:
    if as_json:
        show_json({"current": found.current, "head": found.head, "up_to_date": found.up_to_date})
    elif found.up_to_date:
        show(f"up to date: revision {found.current}")
    elif not found.known:
        show(f"revision {found.current} was made by a newer version of Wattline; this one needs {found.head}")
    else:
        show(f"revision {found.current or 'none'}, needs {found.head}: run `wattline db upgrade`")


# -- backup, restore, move ---------------------------------------------------------------------------


def backup(file: Path, *, as_json: bool) -> None:
    """Write the whole database to a file.

    Raises
    ------
    ConfigError
        If the programs of PostgreSQL are missing or refuse.
    """
    environment = settings()
    with located(environment) as url, progress() as bar:
        task = bar.add_task("backup", total=None)
        size_bytes = backups.backup(
            _text_of(url),
            file,
            bin_dir=environment.postgres_bin,
            progress=lambda line: bar.update(task, description=line[:60]),
        )
        _record_backup(url, file)
    if as_json:
        show_json({"file": str(file), "size_bytes": size_bytes})
    else:
        show(f"wrote {file}, {size_bytes / 1e6:,.1f} MB")


def _record_backup(url: Url, file: Path) -> None:
    """A backup takes everything along; a database of an older shape may have no log yet."""
    with engine_at(url) as engine:
        if migrate.status(engine).up_to_date:
            with begin(engine) as connection:
                record(connection, "database.backup", "", {"file": str(file.absolute())})


def restore(file: Path, *, as_json: bool) -> None:
    """Fill the empty database from a backup.

    Raises
    ------
    ConfigError
        If the file is missing or the database is not empty.
    """
    environment = settings()
    with located(environment) as url, progress() as bar:
        task = bar.add_task("restore", total=None)
        backups.restore(
            _text_of(url),
            file,
            bin_dir=environment.postgres_bin,
            progress=lambda line: bar.update(task, description=line[:60]),
        )
        with engine_at(url) as engine:
            shape = migrate.upgrade(engine)
            with begin(engine) as connection:
                record(connection, "database.restore", "", {"file": str(file.absolute())})
    _say_shape(shape, as_json=as_json)


def _text_of(url: Url) -> str:
    return url if isinstance(url, str) else url()


def move(target_url: str, *, as_json: bool) -> None:
    """Copy the whole database to another one, which must be new; started again it goes on.

    Raises
    ------
    ConfigError
        If the service still runs, or the target holds another deployment.
    StoreUnavailable
        If either database is away.
    """
    with ExitStack() as stack:
        source_url = stack.enter_context(located(settings()))
        source = stack.enter_context(engine_at(source_url, name=moves.APPLICATION_NAME))
        target = stack.enter_context(engine_at(target_url))
        result = _moved(source, target)
    if as_json:
        show_json({"tables": result.tables, "rows": result.rows, "copied_slices": result.copied_slices})
    else:
        show(f"{result.rows:,} rows of {result.tables} tables are in the new database, compared row by row")
        say("set WATTLINE_DATABASE_URL to it and start `wattline serve`")


def _moved(source: Engine, target: Engine) -> moves.MoveResult:
    with progress(total_is_bytes=True) as bar:
        task = bar.add_task("move", total=1.0)

        def show_progress(what: str, share: float) -> None:
            bar.update(task, completed=share, description=what[:40])

        return moves.move(source, target, show_progress)
