"""Migrations: from nothing, one at a time, without a loss, and in agreement with the code."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.errors import ConfigError, StoreUnavailable
from app.store import engine as stores
from app.store import migrate, partitions, reader
from app.store.tables import metadata
from tests.integration.test_readings import START, batch, everything, ingest

MakeEngine = Callable[..., sa.Engine]


def test_the_tables_are_those_the_code_knows(engine: sa.Engine) -> None:
    with stores.connect(engine) as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "include_object": lambda thing, name, kind, found, there: (
                    kind != "index" and not (kind == "table" and re.search(r"_20\d{6}$", str(name)))
                ),
            },
        )
        differences = [d for d in compare_metadata(context, metadata) if "comment" not in str(d)]
    assert differences == []


def test_no_key_column_may_be_null(engine: sa.Engine) -> None:
    query = """
        SELECT c.relname || '.' || a.attname FROM pg_index i
        JOIN pg_class c ON c.oid = i.indrelid
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey)
        WHERE i.indisunique AND NOT a.attnotnull AND c.relnamespace = 'public'::regnamespace
    """
    with stores.connect(engine) as connection:
        assert connection.execute(sa.text(query)).scalars().all() == []


def test_every_instant_has_a_zone(engine: sa.Engine) -> None:
    query = """
        SELECT table_name || '.' || column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND data_type = 'timestamp without time zone'
    """
    with stores.connect(engine) as connection:
        assert connection.execute(sa.text(query)).scalars().all() == []


def test_the_chain_is_one_line_in_the_order_of_its_file_names() -> None:
    chain = ScriptDirectory(str(migrate._SCRIPTS)).walk_revisions()
    assert [one.revision for one in chain] == list(reversed(migrate.revisions()))
    assert migrate.head() == migrate.revisions()[-1]


def test_an_empty_database_is_brought_up_once(empty_database_url: str, make_test_engine: MakeEngine) -> None:
    engine = make_test_engine(empty_database_url)
    assert migrate.status(engine) == migrate.Status(None, migrate.status(engine).head, True)
    assert migrate.upgrade(engine).up_to_date
    assert migrate.upgrade(engine).up_to_date


def test_two_processes_upgrade_at_the_same_time(
    empty_database_url: str, make_test_engine: MakeEngine
) -> None:
    ends: list[bool] = []
    threads = [
        threading.Thread(
            target=lambda e=make_test_engine(empty_database_url): ends.append(migrate.upgrade(e).up_to_date)
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == [True, True, True]


def test_a_newer_database_is_refused(engine: sa.Engine) -> None:
    with stores.begin(engine) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="9999, made by a newer version"):
        migrate.upgrade(engine)


def test_history_survives_every_later_migration(
    empty_database_url: str, make_test_engine: MakeEngine
) -> None:
    """A database that stopped at the first migration, with readings, is brought up to date."""
    engine = make_test_engine(empty_database_url)
    migrate.upgrade(engine, "0001")
    ingest(engine, batch((1, 0, 1.0), (1, 15, 2.0), (2, 0, 3.0)))
    before = everything(engine)
    assert not migrate.status(engine).up_to_date

    assert migrate.upgrade(engine).up_to_date
    assert everything(engine) == before


def test_a_failing_migration_changes_nothing(
    empty_database_url: str, make_test_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_test_engine(empty_database_url)
    migrate.upgrade(engine, "0001")
    with stores.begin(engine) as connection:
        connection.execute(sa.text("CREATE TABLE alarms (id int)"))
    with pytest.raises(sa.exc.ProgrammingError, match="already exists"):
        migrate.upgrade(engine)

    assert migrate.status(engine).current == "0001"
    with stores.begin(engine) as connection:
        connection.execute(sa.text("DROP TABLE alarms"))
    assert migrate.upgrade(engine).up_to_date


FIGURES = {
    "energy_15m": "1, CAST(:at AS timestamptz), 1.5, 1, 0, 60, 1",
    "volume_15m": "1, CAST(:at AS timestamptz), 2.5, 1, 0, 60, 1",
    "gauge_15m": "1, CAST(:at AS timestamptz), 20, 19, 21, 15",
    "site_15m": "1, '', CAST(:at AS timestamptz), 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2",
}


def _figures(engine: sa.Engine) -> dict[str, list[Any]]:
    """Rows of the tables of figures, and what is written about them."""
    with stores.connect(engine) as connection:
        found = {t: [tuple(r) for r in connection.exec_driver_sql(f"TABLE {t} ORDER BY at")] for t in FIGURES}
        comments = connection.execute(
            sa.text(
                "SELECT objoid::regclass::text, objsubid, description FROM pg_description"
                " WHERE objoid = ANY(CAST(:t AS regclass[])) ORDER BY 1, 2"
            ),
            {"t": list(FIGURES)},
        ).all()
        through = connection.exec_driver_sql("SELECT count(*) FROM v_pue, v_energy_15m, v_gauge").scalar_one()
    return {**found, "comments": [tuple(c) for c in comments], "views": [through]}


def test_figures_move_into_partitions_with_all_that_belongs_to_them(
    empty_database_url: str, make_test_engine: MakeEngine
) -> None:
    engine = make_test_engine(empty_database_url)
    migrate.upgrade(engine, "0011")
    ats = [datetime(2019, 12, 31, 23, 45, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC), START]
    with stores.begin(engine) as connection:
        for table, values in FIGURES.items():
            insert = sa.text(f"INSERT INTO {table} VALUES ({values})")
            connection.execute(insert, [{"at": at} for at in ats])
        connection.exec_driver_sql("GRANT SELECT ON energy_15m TO pg_monitor")
    before = _figures(engine)
    assert [len(before[table]) for table in FIGURES] == [3, 3, 3, 3]

    migrate.upgrade(engine, "0012")
    assert _figures(engine) == before
    with stores.connect(engine) as connection:
        for table in FIGURES:
            made = [start for _, start, _ in partitions.existing(connection, table)]
            assert made[:3] == [
                datetime(2019, 10, 1, tzinfo=UTC),
                datetime(2020, 1, 1, tzinfo=UTC),
                START.replace(month=1, day=1),
            ], table
        may_read = "SELECT has_table_privilege('pg_monitor', 'energy_15m', 'SELECT')"
        assert connection.execute(sa.text(may_read)).scalar_one()
        plan = connection.execute(
            sa.text("EXPLAIN SELECT * FROM v_energy_15m WHERE at >= '2020-01-01Z' AND at < '2020-02-01Z'")
        ).scalars()
        assert set(re.findall(r"energy_15m_\d{8}", "\n".join(plan))) == {"energy_15m_20200101"}


_KEYS = """
SELECT t.relname, c.relname, pg_get_indexdef(c.oid), i.indisprimary, h.inhparent::regclass::text
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
LEFT JOIN pg_inherits h ON h.inhrelid = c.oid
WHERE t.relname = 'readings' OR t.relname LIKE 'readings\\_2%' ORDER BY 1, 2
"""
WEEK_MINUTES = 7 * 24 * 60


def _keys(engine: sa.Engine) -> dict[str, list[tuple[str, bool, str | None]]]:
    """Indexes of readings by week: the columns, whether it is the key, and what it is a part of."""
    found: dict[str, list[tuple[str, bool, str | None]]] = {}
    with stores.connect(engine) as connection:
        for table, _, definition, is_key, whole in connection.execute(sa.text(_KEYS)):
            found.setdefault(table, []).append((definition.partition("btree ")[2], is_key, whole))
    return found


def test_readings_get_their_one_index_however_often_the_upgrade_is_interrupted(
    empty_database_url: str, make_test_engine: MakeEngine
) -> None:
    engine = make_test_engine(empty_database_url)
    migrate.upgrade(engine, "0037")
    ingest(engine, batch(*((point, week * WEEK_MINUTES, 1.0) for week in range(4) for point in (1, 2))))
    made: list[str] = []

    def interrupt(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("CREATE UNIQUE INDEX"):
            made.append(statement)
            if len(made) in (2, 5):
                raise StoreUnavailable("the server is gone")

    sa.event.listen(engine, "before_cursor_execute", interrupt)
    for week in (4, 5):
        before = everything(engine)
        with pytest.raises(StoreUnavailable, match="gone"):
            migrate.upgrade(engine)
        assert migrate.status(engine).current == "0037"
        assert everything(engine) == before
        ingest(engine, batch((1, week * WEEK_MINUTES, 1.0)))  # the version before goes on
    before = everything(engine)
    assert migrate.upgrade(engine).up_to_date
    assert everything(engine) == before

    ingest(engine, batch((1, 0, 2.0), (1, 6 * WEEK_MINUTES, 1.0)))
    assert everything(engine) == [*before[:6], (1, 6.0 * WEEK_MINUTES, 1.0), *before[6:]]
    keys = _keys(engine)
    assert keys.pop("readings") == [("(point_id, at)", True, None)]
    assert len(keys) >= 7
    assert set(map(tuple, keys.values())) == {(("(point_id, at)", True, "readings_pkey"),)}


def test_readings_go_back_to_two_indexes(engine: sa.Engine) -> None:
    ingest(engine, batch((1, 0, 1.0), (2, WEEK_MINUTES, 1.0)))
    before = everything(engine)
    with stores.connect(engine) as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(migrate._SCRIPTS))
        config.set_main_option("path_separator", "os")
        command.downgrade(config, "0037")
    both = (("(at, point_id)", True, "readings_pkey"), ("(point_id, at)", False, "readings_point_id_at"))
    assert {tuple(sorted(found)) for name, found in _keys(engine).items() if name != "readings"} == {both}
    ingest(engine, batch((1, 0, 1.0), (2, 3 * WEEK_MINUTES, 1.0)))
    assert migrate.upgrade(engine).up_to_date
    assert everything(engine) == [*before, (2, 3.0 * WEEK_MINUTES, 1.0)]


# -- views and their reader --------------------------------------------------------------------------

PROMISED = {"v_pue", "v_energy_15m", "v_energy_day", "v_power", "v_meter_health", "v_findings", "v_alarms"}


def test_every_promised_view_answers_and_is_described(engine: sa.Engine) -> None:
    with stores.connect(engine) as connection:
        found = reader.views(connection)
        for view in found:
            connection.execute(sa.text(f"SELECT * FROM {view}"))
            comment = f"SELECT obj_description('{view}'::regclass)"
            assert connection.execute(sa.text(comment)).scalar()
    assert set(found) >= PROMISED


def test_every_number_of_a_view_says_its_unit(engine: sa.Engine) -> None:
    query = """
        SELECT c.relname || '.' || a.attname, col_description(c.oid, a.attnum) FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE c.relkind = 'v' AND c.relname LIKE 'v\\_%' AND a.atttypid = 'double precision'::regtype
          AND a.attname !~ '_(kwh|kw|m3|s|c|ratio|percent)$'
    """
    with stores.connect(engine) as connection:
        unnamed = connection.execute(sa.text(query)).all()
    assert [name for name, comment in unnamed if not comment] == []


def test_the_reader_reads_the_views_and_nothing_else(
    engine: sa.Engine, database_url: str, make_test_engine: MakeEngine
) -> None:
    role = f"reader_{database_url.rsplit('_', 1)[1]}"
    reader.ensure_reader(engine, "a b'c", role)
    reader.ensure_reader(engine, "secret-word", role)
    mine = sa.make_url(database_url).set(drivername="postgresql", username=role, password="secret-word")
    theirs = make_test_engine(mine.render_as_string(hide_password=False), statement_timeout_s=0)
    forbidden = [
        "SELECT * FROM readings",
        "SELECT * FROM sites",
        "DROP VIEW v_pue",
        "DELETE FROM energy_15m",
        "UPDATE sites SET name = ''",
        "CREATE TABLE mine (n int)",
        "COPY v_pue TO PROGRAM 'id'",
        "SELECT pg_read_file('/etc/passwd')",
    ]
    try:
        with stores.connect(theirs) as connection:
            assert connection.execute(sa.text("SELECT count(*) FROM v_pue")).scalar() == 0
            assert connection.execute(sa.text("SELECT count(*) FROM v_meter_health")).scalar() == 0
            setting = "SELECT rolconfig::text FROM pg_roles WHERE rolname = current_user"
            assert "statement_timeout=30s" in str(connection.execute(sa.text(setting)).scalar())
        for statement in forbidden:
            with stores.connect(theirs) as connection:
                connection.execute(sa.text("SET TRANSACTION READ WRITE"))
                with pytest.raises(sa.exc.ProgrammingError, match=r"permission denied|must be "):
                    connection.execute(sa.text(statement))
    finally:
        theirs.dispose()
        with stores.begin(engine) as connection:
            connection.execute(sa.text(f"GRANT {role} TO CURRENT_USER"))
            connection.execute(sa.text(f"DROP OWNED BY {role}"))
            connection.execute(sa.text(f"DROP ROLE {role}"))


def test_events_are_withdrawn_never_changed(engine: sa.Engine) -> None:
    insert = """
        INSERT INTO events (site_id, kind, start_at, end_at, author, note)
        VALUES (1, 'test', now(), now(), 'a', 'n')
    """
    with stores.begin(engine) as connection:
        connection.execute(sa.text(insert))
    for change in ("SET note = 'x'", "SET withdrawn_at = now(), note = 'x'"):
        with pytest.raises(sa.exc.DBAPIError, match="never changed"), engine.begin() as connection:
            connection.execute(sa.text(f"UPDATE events {change}"))
    with stores.begin(engine) as connection:
        connection.execute(sa.text("UPDATE events SET withdrawn_at = now(), withdrawn_by = 'b'"))
    for change in ("UPDATE events SET withdrawn_at = NULL", "DELETE FROM events"):
        with pytest.raises(sa.exc.DBAPIError, match="never changed"), engine.begin() as connection:
            connection.execute(sa.text(change))
