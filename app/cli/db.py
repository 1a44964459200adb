"""``wattline db``: the database's shape and state, its backups, and its move to another server."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from app.cli.actor import record
from app.cli.console import progress, say, show, show_json, show_table
from app.cli.environment import settings
from app.cli.opening import database, engine_at, has_database, kept, located
from app.errors import ConfigError
from app.jobs import audit_anchor, restore_check
from app.jobs.restore_check import Checked
from app.store import audit, audit_key, migrate, reader, upgrade_plan, versions
from app.store import backup as backups
from app.store import move as moves
from app.store import restore as restores
from app.store import status as states
from app.store.engine import Engine, Url, begin, connect
from app.store.migrate import Status
from app.store.status import StoreStatus
from app.store.upgrade_plan import Plan, Step


def upgrade(*, as_json: bool) -> None:
    """Run the missing migrations.

    Raises
    ------
    ConfigError
        If the database was made by a newer version.
    StoreUnavailable
        If it is away.
    """
    with located(settings()) as place:
        _say_shape(place.shape(), as_json=as_json)
        with engine_at(place.url) as engine, connect(engine) as connection:
            for warning in versions.of(connection).warnings:
                say(f"warning: {warning}")


def check_upgrade(*, as_json: bool) -> None:
    """Say what an upgrade would do, and how long that may take; exits 1 where it cannot be done.

    Raises
    ------
    ConfigError
        If there is no database yet.
    StoreUnavailable
        If it is away.
    """
    if not has_database():
        raise ConfigError(
            "there is no database yet; `wattline db upgrade` makes one", key="WATTLINE_DATA_DIR"
        )
    with database() as engine:
        found = upgrade_plan.plan(engine)
    free = _disk_free_bytes()
    if as_json:
        show_json({**found.document(), "disk_free_bytes": free})
    else:
        _show_plan(found, free)
    if found.problem or (free is not None and free < found.needs_bytes):
        raise typer.Exit(1)


def _show_plan(found: Plan, free_bytes: int | None) -> None:
    if found.problem:
        show(found.problem)
        return
    if not found.steps:
        show(f"up to date: revision {found.current}; nothing to do")
        return
    show_table(["revision", "what", "tables", ">takes"], map(_plan_row, found.steps))
    start = found.current or "nothing"
    show(f"from {start} to {found.head}: {_duration(found.takes_s)}, by the number of rows")
    room = f"up to {_size(found.needs_bytes)} of free disk"
    if free_bytes is not None:
        room += f"; {_size(free_bytes)} are free" + (
            "" if free_bytes >= found.needs_bytes else ": too little"
        )
    show(room)
    if found.sessions:
        show(f"{found.sessions} other sessions are connected: stop the service first")
    show("make a backup before: wattline db backup FILE")


def _plan_row(step: Step) -> list[str]:
    tables = ", ".join(f"{w.table} {w.kind}: {w.rows:,} rows" for w in step.work)
    return [step.revision, step.words, tables or "no rows are touched", _duration(step.takes_s)]


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "under 1 s"
    return f"about {seconds:,.0f} s" if seconds < 120 else f"about {seconds / 60:,.0f} min"


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
        found = states.status(engine, _disk_free_bytes(), kept(settings()))
    if as_json:
        show_json(found.document())
    else:
        _say_shape(shape, as_json=False)
        show_table(["", ""], _status_rows(found))


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
    with located(settings()) as place, ExitStack() as stack:
        if place.owner_url is not None:
            place.shape()
        engine = stack.enter_context(engine_at(place.url))
        migrate.upgrade(engine)
        beyond = reader.ensure_reader(engine, password)
        with begin(engine) as connection:
            record(connection, "reader.allow", reader.ROLE)
    say(f"the role {reader.ROLE} may read the views")
    if beyond:
        say(
            f"only a superuser of the server can keep it from {', '.join(beyond[:3])} and {len(beyond)} such "
            "rights in all; run `wattline db upgrade` once with WATTLINE_DATABASE_OWNER_URL of one"
        )


def _disk_free_bytes() -> int | None:
    """Free space where the embedded database lies; None where another machine may have it."""
    environment = settings()
    return None if environment.url() else shutil.disk_usage(environment.data_dir).free


def _status_rows(found: StoreStatus) -> list[list[str]]:
    parts = f"{found.slices:,} weeks" if found.kind != "timescaledb" else f"{found.slices:,} chunks"
    if found.compressed_slices:
        parts += f", {found.compressed_slices:,} compressed"
    version = f" {found.timescale_version}" if found.timescale_version else ""
    rows = [
        ["server", found.server],
        ["raw readings in", f"{found.kind}{version}, {parts}"],
        ["", found.timescale_note],
        *(["warning", warning] for warning in found.version_warnings),
        *(["compression", _compression(state)] for state in found.compression),
        ["size", f"{_size(found.size_bytes)}, of which {_size(found.readings_bytes)} raw readings"],
        ["raw readings", f"about {found.readings:,}"],
        ["growth", f"{_size(found.growth_bytes_per_day)} a day, by the readings of the last day"],
        ["disk", _disk(found)],
        ["kept", f"raw readings {found.kept_readings_days} days, and as long after an import"],
        ["", f"next to go: {found.next_drop} on {found.next_drop_on}" if found.next_drop else ""],
        [
            "dropped",
            f"raw readings before {found.raw_horizon:%Y-%m-%d}" if found.raw_horizon else "nothing yet",
        ],
        ["still to compute", f"{found.queued_rollups:,} stretches"],
        ["contradictions", f"{found.conflicting_readings:,} readings differ from one stored before"],
    ]
    return [row for row in rows if row[1]]


def _compression(state: dict[str, Any]) -> str:
    if state["problem"]:
        return f"{state['table']}: {state['problem']}"
    last = state["last_success_at"]
    return f"{state['table']} after {state['after_days']:.0f} days, last {last[:16] if last else 'not yet'}"


def _size(count_bytes: int) -> str:
    unit, name = next(
        ((u, n) for u, n in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")) if count_bytes >= u), (1e3, "kB")
    )
    return f"{count_bytes / unit:,.1f} {name}"


def _disk(found: StoreStatus) -> str:
    if found.disk_free_bytes is None:
        return "another machine's"
    full = f"full on {found.disk_full_on}" if found.disk_full_on else "not full in this century at that rate"
    return f"{_size(found.disk_free_bytes)} free; {full}"


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
    with located(environment) as place, progress() as bar:
        task = bar.add_task("backup", total=None)
        size_bytes = backups.backup(
            _text_of(place.url),
            file,
            bin_dir=environment.postgres_bin,
            progress=lambda line: bar.update(task, description=line[:60]),
        )
        _record_backup(place.url, file)
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
    with located(environment) as place, progress() as bar:
        task = bar.add_task("restore", total=None)
        found = restores.restore(
            _text_of(place.widest),
            file,
            bin_dir=environment.postgres_bin,
            progress=lambda line: bar.update(task, description=line[:60]),
        )
        shape = place.shape()
        with engine_at(place.url) as engine, begin(engine) as connection:
            _set_anchors_aside(environment.data_dir, audit.known_log_id(connection) or "")
            record(connection, "database.restore", "", {"file": str(file.absolute())})
    if not as_json:
        show(f"{found.rows:,} rows of {found.tables} tables are back{_compared(found.compared)}")
    _say_shape(shape, as_json=as_json)


def _compared(done: bool) -> str:
    return ", as the manifest says" if done else "; there is no manifest beside the file to compare them with"


def check_restore(file: Path, key_files: Sequence[Path], *, as_json: bool) -> None:
    """Restore a backup aside and verify it; exits 1 where it cannot be relied on.

    Raises
    ------
    ConfigError
        If the file is missing, or there is no place for the check.
    """
    environment = settings()
    with progress() as bar:
        task = bar.add_task("check", total=None)
        found = restore_check.check(
            file,
            environment.data_dir,
            _server_of_the_check,
            bin_dir=environment.postgres_bin,
            keys=tuple(map(audit_key.read, key_files)),
            progress=lambda line: bar.update(task, description=line[:60]),
        )
    if as_json:
        show_json({**asdict(found), "file": str(file), "ok": not found.problems})
    else:
        _show_checked(file, found)
    if found.problems:
        raise typer.Exit(1)


def _server_of_the_check() -> str:
    environment = settings()
    url = environment.owner_url() or environment.url()
    if url is None:
        raise ConfigError(
            "the backup was made on TimescaleDB; name a server that has it, where a database may be made "
            "and dropped, e.g. postgresql://postgres:password@host/postgres",
            key="WATTLINE_DATABASE_OWNER_URL",
        )
    return url


def _show_checked(file: Path, found: Checked) -> None:
    show(f"{file}: {f'made {found.made_at}, ' if found.made_at else ''}schema {found.revision or 'unknown'}")
    show(f"{found.rows:,} rows of {found.tables} tables{_compared(found.has_manifest)}")
    show(f"{found.points:,} points, {found.intervals:,} intervals computed again from their readings")
    show(f"{found.audit_entries:,} entries of the audit log")
    for problem in found.problems:
        show(problem)
    show("the backup cannot be relied on" if found.problems else "the backup is good")


def _set_anchors_aside(data_dir: Path, log_id: str) -> None:
    """The log is again what it was at the backup: anchors of later entries would call that a theft."""
    file = audit_anchor.file_of(data_dir, log_id)
    if file.exists():
        aside = file.with_suffix(f".before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
        file.rename(aside)
        say(f"anchors of the audit log from before the restore are in {aside}")


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
        place = stack.enter_context(located(settings()))
        source = stack.enter_context(engine_at(place.widest, name=moves.APPLICATION_NAME))
        try:
            target = stack.enter_context(engine_at(target_url))
        except ConfigError as error:
            raise ConfigError(error.problem, key="--to") from None
        result = _moved(source, target)
        with begin(target) as connection:
            record(connection, "database.move", "", {"tables": result.tables, "rows": result.rows})
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
