"""A backup brings everything back; a move loses nothing, doubles nothing and can be interrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.errors import ConfigError, StoreUnavailable
from app.store import backup as backups
from app.store import engine as stores
from app.store import migrate
from app.store.engine import make_engine
from app.store.move import APPLICATION_NAME, move
from tests.integration.test_engine import closed_port
from tests.integration.test_readings import batch, everything, ingest
from tests.integration.test_sites import SITE, load, sync

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
    backups.restore(empty_database_url, file)

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
        backups.restore(filled_url, file)


def test_a_file_that_is_no_backup_leaves_the_database_empty(empty_database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    with pytest.raises(ConfigError, match="there is no backup"):
        backups.restore(empty_database_url, file)
    file.write_text("no backup")
    with pytest.raises(ConfigError, match="is no backup"):
        backups.restore(empty_database_url, file)


def test_a_backup_that_fails_leaves_no_file(tmp_path: Path) -> None:
    file = tmp_path / "wattline.dump"
    with pytest.raises(StoreUnavailable, match="pg_dump failed"):
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
