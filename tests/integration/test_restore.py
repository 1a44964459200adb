"""A backup comes back on every server that Wattline supports, and a drill tells a good one from a bad one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from app.errors import ConfigError
from app.store import backup as backups
from app.store import engine as stores
from app.store import manifest, migrate, programs, restore
from tests import servers
from tests.integration.conftest import Wattline
from tests.integration.test_backup import filled_url as filled_url
from tests.integration.test_readings import batch, everything, ingest

MakeEngine = Callable[..., sa.Engine]
KEPT = sorted((servers.ROOT / "tests/kept").glob("*.dump"))
"""Databases of earlier revisions, oldest first."""


@pytest.fixture
def backup_file(filled_url: str, tmp_path: Path) -> Path:
    """A backup with its manifest."""
    file = tmp_path / "wattline.dump"
    backups.backup(filled_url, file)
    return file


@pytest.fixture(scope="module", params=sorted(servers.RELEASES))
def other_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a server of another version, as the ordinary owner of its database."""
    with servers.server(request.param) as running:
        yield running.url


def test_it_comes_back_on_every_supported_server(
    filled_url: str, backup_file: Path, other_server: str, make_test_engine: MakeEngine
) -> None:
    with _new_database(other_server) as url:
        done = restore.restore(url, backup_file)
        after = make_test_engine(url)
        assert done.compared
        assert everything(after) == everything(make_test_engine(filled_url)) != []
        assert migrate.upgrade(after).up_to_date
        assert ingest(after, batch((1, 0, 0.1), (1, 1, 5.0))) == (1, 1, 0)

        again = backup_file.with_name("again.dump")  # the program is newer than the server
        backups.backup(url, again)
        assert manifest.read(again).server // 10_000 == _major(url)  # type: ignore[union-attr]
        after.dispose()
    with _new_database(other_server) as url:
        assert restore.restore(url, again).rows == done.rows + 2  # a reading, and its stretch in the queue


def _major(url: str) -> int:
    with psycopg.connect(url) as connection:
        return connection.info.server_version // 10_000


class _new_database:
    """A database of the server's ordinary user."""

    def __init__(self, url: str) -> None:
        self._admin = url

    def __enter__(self) -> str:
        self._run("CREATE DATABASE restored")
        return self._admin.rpartition("/")[0] + "/restored"

    def __exit__(self, *error: object) -> None:
        self._run("DROP DATABASE restored WITH (FORCE)")

    def _run(self, statement: str) -> None:
        with psycopg.connect(self._admin, autocommit=True) as connection:
            connection.execute(statement.encode())


def test_who_does_not_own_the_database_is_told_the_statement(
    superuser_url: str, backup_file: Path, empty_database_url: str
) -> None:
    target = superuser_url.rpartition("/")[0] + "/" + empty_database_url.rpartition("/")[2]
    with psycopg.connect(target, autocommit=True) as admin:
        admin.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
        try:
            host = psycopg.conninfo.conninfo_to_dict(target)
            url = f"postgresql://guest:guest@{host['host']}:{host['port']}/{host['dbname']}"
            helps = r'superuser run ALTER DATABASE "wattline_empty_\w+" OWNER TO "guest"'
            with pytest.raises(ConfigError, match=helps):
                restore.restore(url, backup_file)
            named = sql.Identifier(str(host["dbname"]))
            admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO guest").format(named))
            assert restore.restore(url, backup_file).compared
        finally:
            admin.execute("ALTER DATABASE " + str(host["dbname"]) + " OWNER TO wattline")  # type: ignore[arg-type]
            admin.execute("DROP OWNED BY guest")
            admin.execute("DROP ROLE guest")


def test_a_backup_without_its_manifest_comes_back_and_says_so(
    backup_file: Path, empty_database_url: str
) -> None:
    manifest.path_of(backup_file).unlink()
    assert not restore.restore(empty_database_url, backup_file).compared


def test_what_does_not_match_its_manifest_leaves_the_database_empty(
    backup_file: Path, empty_database_url: str, make_test_engine: MakeEngine
) -> None:
    beside = manifest.path_of(backup_file)
    document = json.loads(beside.read_text())
    document["tables"]["readings"]["rows"] += 1
    beside.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="readings has 270 rows instead of 271"):
        restore.restore(empty_database_url, backup_file)
    assert migrate.status(make_test_engine(empty_database_url)).current is None


def test_a_file_that_was_cut_leaves_the_database_empty(
    backup_file: Path, empty_database_url: str, make_test_engine: MakeEngine
) -> None:
    manifest.path_of(backup_file).unlink()
    backup_file.write_bytes(backup_file.read_bytes()[:-2000])
    with pytest.raises(ConfigError, match=r"is damaged|is no backup|refused"):
        restore.restore(empty_database_url, backup_file)
    assert migrate.status(make_test_engine(empty_database_url)).current is None


def test_a_program_older_than_the_server_is_passed_over(tmp_path: Path) -> None:
    old = tmp_path / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
    old.chmod(0o755)
    assert programs.program("pg_dump", tmp_path, at_least=15) != str(old)
    assert programs.program("pg_dump", tmp_path) == str(old)
    with pytest.raises(ConfigError, match=r"no pg_dump 99 or later; there are 9 in .*postgresql-client-99"):
        programs.program("pg_dump", tmp_path, at_least=99)


# -- the drill ---------------------------------------------------------------------------------------


def test_the_drill_finds_a_good_backup_good_and_touches_nothing(
    wattline: Wattline, tmp_path: Path, engine: sa.Engine
) -> None:
    file = tmp_path / "w.dump"
    assert wattline("db", "upgrade").code == 0
    assert wattline("keys", "create", "boards", "--grant", "viewer").code == 0
    assert wattline("db", "backup", file).code == 0
    before = _contents(engine)

    done = wattline("db", "restore", "--check", file, "--json")
    assert (done.code, done.document["ok"], done.document["problems"]) == (0, True, [])
    assert done.document["has_manifest"]
    assert done.document["audit_entries"] >= 1
    assert _contents(engine) == before
    assert list((tmp_path / "data").glob("restore-check-*")) == []
    said = wattline("db", "restore", "--check", file)
    assert "the backup is good" in said.out


def _contents(engine: sa.Engine) -> dict[str, manifest.Content]:
    with stores.connect(engine) as connection:
        return manifest.contents(connection)


def test_the_drill_names_a_changed_figure(
    wattline: Wattline,
    tmp_path: Path,
    empty_database_url: str,
    make_test_engine: MakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The manifest fits, since somebody changed the database before the backup: verify finds it."""
    monkeypatch.setenv("WATTLINE_DATABASE_URL", empty_database_url)
    file = Path(shutil.copy(KEPT[0], tmp_path / "w.dump"))
    assert wattline("db", "restore", file).code == 0
    with stores.begin(make_test_engine(empty_database_url)) as connection:
        connection.execute(sa.text("UPDATE energy_15m SET energy_kwh = energy_kwh + 1 WHERE point_id = 1"))
    assert wattline("db", "backup", file).code == 0
    done = wattline("db", "restore", "--check", file, "--json")
    assert done.code == 1
    assert any("rollup: north main.kwh" in problem for problem in done.document["problems"])


def test_the_drill_finds_a_file_that_was_not_copied_whole(backup_file: Path, wattline: Wattline) -> None:
    whole = backup_file.read_bytes()
    backup_file.write_bytes(whole[:-10] + bytes(10))
    done = wattline("db", "restore", "--check", backup_file)
    assert done.code == 1
    assert "its hash is another" in done.out
    backup_file.write_bytes(whole[:-10])
    assert "not copied whole" in wattline("db", "restore", "--check", backup_file).out
