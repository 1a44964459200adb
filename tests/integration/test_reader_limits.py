"""The reading role reads: it holds nothing up, leaves nothing behind, and stays within its limits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import conninfo

from app.store import audit, backup, reader
from app.store.engine import begin
from tests.waiting import until

PASSWORD = "reads-only"


@dataclass(frozen=True)
class Reading:
    """A reading role on a database, and ways in."""

    role: str
    url: str
    """As the role."""
    superuser_url: str
    beyond: list[str]
    """What it may do beyond reading."""

    def connect(self) -> psycopg.Connection:
        """A session of the role that took its limits off."""
        session = psycopg.connect(self.url, autocommit=True)
        session.execute("SET default_transaction_read_only = off")
        session.execute("SET statement_timeout = 0")
        session.execute("SET idle_in_transaction_session_timeout = 0")
        return session


@pytest.fixture
def reading(engine: sa.Engine, database_url: str, superuser_url: str) -> Iterator[Reading]:
    role = f"reader_{os.getpid()}_{database_url.rsplit('_', 1)[1]}"
    beyond = reader.ensure_reader(engine, PASSWORD, role)
    parts = conninfo.conninfo_to_dict(database_url)
    own = conninfo.make_conninfo("", **{**parts, "user": role, "password": PASSWORD})
    yield Reading(role, own, superuser_url, beyond)
    with psycopg.connect(superuser_url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (role,))
        admin.execute(f"DROP OWNED BY {role}")
        admin.execute(f"DROP ROLE {role}")


def test_what_everybody_may_is_taken_from_everybody(reading: Reading) -> None:
    assert reading.beyond == []
    for statement in (
        "SELECT pg_advisory_lock(1470562320)",
        "SELECT pg_try_advisory_xact_lock(1, 2)",
        "SELECT lo_create(0)",
        "SELECT pg_logical_emit_message(false, 'a', repeat('x', 100))",
        "SELECT lo_from_bytea(0, 'x')",
        "CREATE TEMP TABLE mine (n int)",
        "CREATE TABLE mine (n int)",
        "SELECT name FROM locks FOR UPDATE",
        "BEGIN; LOCK TABLE audit IN ACCESS SHARE MODE",
    ):
        with reading.connect() as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(statement)


def test_advisory_locks_hold_nothing_up(reading: Reading, engine: sa.Engine) -> None:
    """Where only a superuser could forbid them: no lock of ours is an advisory one."""
    with psycopg.connect(reading.superuser_url, autocommit=True) as admin:
        admin.execute(f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pg_catalog TO {reading.role}")
    with reading.connect() as session:
        for key in range(0x57A7_0000, 0x57A7_0020):
            session.execute("SELECT pg_advisory_lock(%s)", (key,))
        for key in (0x57A7, 0x57A8):
            session.execute("SELECT pg_advisory_lock(%s, n) FROM generate_series(0, 50) AS n", (key,))
        with begin(engine) as connection:
            connection.execute(sa.text("SET LOCAL lock_timeout = '1s'"))
            audit.append(connection, audit.Entry("test", "reader.test"))
            assert len(audit.listing(connection)) == 1


def test_a_backup_survives_what_others_put_into_the_database(
    reading: Reading, database_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(reading.superuser_url, autocommit=True) as admin:
        admin.execute("SELECT lo_create(0)")
        admin.execute("CREATE TABLE foreign_notes (n int)")
        admin.execute("CREATE SCHEMA elsewhere")
        admin.execute("CREATE TABLE elsewhere.more (n serial)")
    said: list[str] = []
    assert backup.backup(database_url, tmp_path / "b.dump", progress=said.append) > 0
    left_out = [line for line in said if line.startswith("left out")]
    assert [line.split(",")[0] for line in left_out] == [
        "left out: elsewhere.more",
        "left out: elsewhere.more_n_seq",
        "left out: public.foreign_notes",
    ]


def test_a_session_beyond_the_limits_is_ended(
    reading: Reading, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STATEMENT_TIMEOUT_S", "TRANSACTION_TIMEOUT_S", "GRACE_S"):
        monkeypatch.setattr(reader, name, 0)
    idle, in_transaction = reading.connect(), reading.connect()
    in_transaction.execute("BEGIN")
    in_transaction.execute("LOCK TABLE v_pue IN ACCESS SHARE MODE")
    until(lambda: reader.guard(engine, reading.role).ended == 1, 30.0, name="the open transaction is ended")
    with pytest.raises(psycopg.OperationalError):
        in_transaction.execute("SELECT 1")
    assert idle.execute("SELECT 1").fetchone() == (1,)
    idle.close()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER ROLE {} SET statement_timeout = 0",
        "ALTER ROLE {} IN DATABASE {} SET default_transaction_read_only = off",
        "ALTER ROLE {} RESET ALL",
    ],
)
def test_what_it_changed_about_itself_is_set_back(reading: Reading, engine: sa.Engine, change: str) -> None:
    assert not reader.guard(engine, reading.role).was_changed
    with reading.connect() as session:
        session.execute(change.format(reading.role, session.info.dbname))
    assert reader.guard(engine, reading.role).was_changed
    assert not reader.guard(engine, reading.role).was_changed
    with psycopg.connect(reading.url) as session:
        assert session.execute("SHOW statement_timeout").fetchone() == ("30s",)
        assert session.execute("SHOW default_transaction_read_only").fetchone() == ("on",)


def test_a_password_that_it_changed_is_set_back(reading: Reading, engine: sa.Engine) -> None:
    with reading.connect() as session:
        session.execute(f"ALTER ROLE {reading.role} PASSWORD 'x'")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(reading.url)
    reader.set_back_password(engine, reading.role)
    psycopg.connect(reading.url).close()


def test_nothing_to_guard_is_no_error(engine: sa.Engine, make_test_engine: Callable[..., sa.Engine]) -> None:
    assert reader.guard(engine, "nobody_at_all") == reader.Guarded()
    reader.set_back_password(engine, "nobody_at_all")
