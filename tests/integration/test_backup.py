"""A backup brings everything back; a move loses nothing, doubles nothing and can be interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from app.errors import ConfigError, StoreUnavailable
from app.store import backup as backups
from app.store import engine as stores
from app.store import migrate, partitions
from app.store import restore as restores
from app.store.engine import make_engine
from app.store.move import APPLICATION_NAME, move
from app.store.readings import to_us
from tests.e2e.processes import PROGRAM
from tests.integration.test_engine import closed_port
from tests.integration.test_readings import START, batch, everything, ingest
from tests.integration.test_sites import SITE, load, sync
from tests.waiting import until

MakeEngine = Callable[..., sa.Engine]
DAY = 24 * 60


@pytest.fixture
def filled_url(database_url: str) -> str:
    """A database with sites, readings of three months, conflicts, figures and an event."""
    engine = make_engine(database_url)
    sync(engine, SITE)
    ingest(engine, batch(*((p, d * DAY, d + 0.1) for p in (1, 2, 3) for d in range(90))))
    ingest(engine, batch((1, 0, 99.0)))
    with stores.begin(engine) as connection:
        days_us = np.array([to_us(START + timedelta(days=d)) for d in range(90)], np.int64)
        partitions.ensure_figures(connection, "energy_15m", days_us)
        connection.execute(
            sa.text("INSERT INTO energy_15m SELECT point_id, at, 1, 1, 0, 60, 1 FROM readings")
        )
        connection.execute(
            sa.text(
                "INSERT INTO events (site_id, kind, start_at, end_at, author, note) "
                "VALUES (1, 'test', now(), now(), 'a', 'n')"
            )
        )
    engine.dispose()
    return database_url


def test_a_backup_brings_everything_back(
    filled_url: str, empty_database_url: str, tmp_path: Path, make_test_engine: MakeEngine
) -> None:
    file = tmp_path / "wattline.dump"
    lines: list[str] = []
    size = backups.backup(filled_url, file, progress=lines.append)
    restores.restore(empty_database_url, file)

    before, after = make_test_engine(filled_url), make_test_engine(empty_database_url)
    assert size == file.stat().st_size > 1000
    assert any("readings" in line for line in lines)
    assert everything(after) == everything(before)
    assert load(after) == load(before)
    assert migrate.upgrade(after).up_to_date
    assert ingest(after, batch((1, 0, 0.1), (1, 1, 5.0))) == (1, 1, 0)


def test_a_database_with_tables_is_not_restored_over(filled_url: str, tmp_path: Path) -> None:
    file = tmp_path / "wattline.dump"
    backups.backup(filled_url, file)
    with pytest.raises(ConfigError, match="not empty"):
        restores.restore(filled_url, file)


def test_a_file_that_is_no_backup_leaves_the_database_empty(empty_database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    with pytest.raises(ConfigError, match="there is no backup"):
        restores.restore(empty_database_url, file)
    file.write_text("no backup")
    with pytest.raises(ConfigError, match="is no backup"):
        restores.restore(empty_database_url, file)


def test_a_backup_that_fails_leaves_no_file(tmp_path: Path) -> None:
    file = tmp_path / "wattline.dump"
    with pytest.raises(StoreUnavailable, match="does not answer"):
        backups.backup(f"postgresql://u:secret-word@127.0.0.1:{closed_port()}/d", file)
    assert list(tmp_path.iterdir()) == []


# -- move --------------------------------------------------------------------------------------------


def test_a_move_takes_everything_once(
    filled_url: str, empty_database_url: str, make_test_engine: MakeEngine
) -> None:
    source = make_test_engine(filled_url, application_name=APPLICATION_NAME)
    target = make_test_engine(empty_database_url)
    steps: list[float] = []
    first = move(source, target, lambda what, share: steps.append(share))
    again = move(source, target)

    assert everything(target) == everything(source)
    assert load(target) == load(source)
    assert first.rows == again.rows > 500
    assert (again.copied_slices, steps[-1], steps == sorted(steps)) == (0, 1.0, True)
    with stores.begin(target) as connection:
        new = connection.execute(
            sa.text(
                "INSERT INTO dropped_readings (collector, reason, readings) VALUES ('c', 'r', 1) RETURNING id"
            )
        ).scalar_one()
    assert new == 1
    assert sync(target, SITE).recomputed_points == ()


def test_an_interrupted_move_is_started_again(
    filled_url: str, empty_database_url: str, make_test_engine: MakeEngine
) -> None:
    source = make_test_engine(filled_url, application_name=APPLICATION_NAME)
    target = make_test_engine(empty_database_url)

    def stop_in_the_readings(what: str, share: float) -> None:
        if what == "readings 2026-04":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move(source, target, stop_in_the_readings)
    assert 0 < len(everything(target)) < 270
    ingest(source, batch((1, 1, 7.0)))  # the service ran on in between

    move(source, target)
    assert everything(target) == everything(source)


def test_what_the_source_dropped_between_two_tries_is_not_left_behind(
    filled_url: str, empty_database_url: str, make_test_engine: MakeEngine
) -> None:
    source = make_test_engine(filled_url, application_name=APPLICATION_NAME)
    target = make_test_engine(empty_database_url)
    move(source, target)
    with stores.begin(source) as connection:
        connection.execute(sa.text("DELETE FROM readings WHERE at < '2026-04-01' OR at >= '2026-05-01'"))
        connection.execute(sa.text("DELETE FROM energy_15m"))
    move(source, target)
    assert everything(target) == everything(source) != []
    with stores.connect(target) as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM energy_15m")).scalar_one() == 0


def test_a_move_that_is_killed_in_the_middle_of_a_table_is_started_again(
    filled_url: str, empty_database_url: str, make_test_engine: MakeEngine, tmp_path: Path
) -> None:
    source, target = make_test_engine(filled_url), make_test_engine(empty_database_url)
    migrate.upgrade(target)
    environment = {**os.environ, "WATTLINE_DATABASE_URL": filled_url, "WATTLINE_DATA_DIR": str(tmp_path)}
    environment.pop("WATTLINE_CONFIG", None)
    command = [str(PROGRAM), "db", "move", "--to", empty_database_url]
    source.dispose()  # or it counts as a running service
    with stores.begin(target) as gate:
        partitions.lock(gate, "readings")
        killed = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        waits = sa.text(
            "SELECT count(*) FROM pg_locks WHERE mode = 'ShareUpdateExclusiveLock' AND NOT granted"
        )
        until(lambda: gate.execute(waits).scalar_one() == 1, 120.0, name="the move is within the readings")
        killed.kill()
        assert killed.wait() == -signal.SIGKILL
    assert everything(target) == []

    def again() -> bool:  # the server may take a moment to notice that the first one is gone
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        sys.stderr.write(done.stderr)
        return done.returncode == 0 and "compared row by row" in done.stdout

    until(again, 120.0, name="the second move")
    assert everything(target) == everything(source)
    assert load(target) == load(source)


def test_a_move_out_of_a_database_in_use_is_refused(
    filled_url: str, empty_database_url: str, make_test_engine: MakeEngine
) -> None:
    with (
        stores.connect(make_test_engine(filled_url)),
        pytest.raises(ConfigError, match="a service is connected"),
    ):
        move(
            make_test_engine(filled_url, application_name=APPLICATION_NAME),
            make_test_engine(empty_database_url),
        )


def test_a_move_onto_another_deployment_is_refused(
    filled_url: str, empty_database_url: str, make_test_engine: MakeEngine
) -> None:
    target = make_test_engine(empty_database_url)
    migrate.upgrade(target)
    with stores.begin(target) as connection:
        connection.execute(sa.text("INSERT INTO institutions VALUES (DEFAULT, 'x', 0, '', 'other')"))
        connection.execute(
            sa.text("INSERT INTO sites VALUES (DEFAULT, 'theirs', 0, 1, '', 'UTC', '{}', '', NULL)")
        )
    with pytest.raises(ConfigError, match="another deployment"):
        move(make_test_engine(filled_url, application_name=APPLICATION_NAME), target)
