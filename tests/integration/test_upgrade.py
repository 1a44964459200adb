"""A database of any earlier revision is brought up without a loss, and is told beforehand what comes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.jobs import verify
from app.store import audit, manifest, migrate, restore, slices, upgrade_plan
from app.store import engine as stores
from app.store.audit_key import AuditKey
from tests.e2e.processes import PROGRAM
from tests.integration.conftest import Wattline
from tests.kept.__main__ import AUDIT_KEY, FOLDER

MakeEngine = Callable[..., sa.Engine]
KEPT = sorted(FOLDER.glob("*.dump"))
REVISED = {"deployment"}
"""Tables whose rows an upgrade may change: 0018 keeps the hash of each site file apart."""


@pytest.fixture(params=KEPT, ids=[file.stem for file in KEPT])
def kept(request: pytest.FixtureRequest) -> Path:
    """The dump of a revision."""
    file: Path = request.param
    return file


@pytest.fixture
def old(kept: Path, empty_database_url: str, tmp_path: Path, make_test_engine: MakeEngine) -> sa.Engine:
    """A database of that revision, with readings, an event, findings, frozen reports and an audit log."""
    file = Path(shutil.copy(kept, tmp_path / "old.dump"))
    restore.restore(empty_database_url, file)
    return make_test_engine(empty_database_url)


def test_nothing_is_lost_and_everything_adds_up(old: sa.Engine, kept: Path) -> None:
    with stores.connect(old) as connection:
        before = {one: slices.fingerprint(connection, one) for one in slices.whole(connection)}
        assert migrate.current_status(connection).current == kept.stem
    named = {one.table: rows for one, (rows, _) in before.items()}
    assert all(named[table] for table in ("readings", "energy_15m", "events", "findings", "reports", "audit"))

    assert migrate.upgrade(old).up_to_date
    with stores.connect(old) as connection:
        after = {one: slices.fingerprint(connection, one) for one in before if one.table not in REVISED}
        log = audit.verify(
            connection, [AuditKey.of(AUDIT_KEY.encode())], audit.anchors_of_reports(connection)
        )
    assert after == {one: found for one, found in before.items() if one.table not in REVISED}
    found, then = verify.verify(old), json.loads(kept.with_suffix(".json").read_text())
    assert found.breaches == ()
    assert (found.points, found.intervals) == (then["verify"]["points"], then["verify"]["intervals"])
    assert (log.problems, log.entries) == ((), then["audit"]["entries"])


def test_what_is_said_beforehand_is_what_is_done(old: sa.Engine, kept: Path) -> None:
    with stores.connect(old) as connection:
        files, indexes, held = _files(connection), _indexes(connection), manifest.contents(connection)
    plan = upgrade_plan.plan(old)
    with stores.connect(old) as connection:
        assert manifest.contents(connection) == held
        assert migrate.current_status(connection).current == kept.stem
    assert [step.revision for step in plan.steps] == [r for r in migrate.revisions() if r > kept.stem]
    assert all(len(step.words) > 10 for step in plan.steps)

    migrate.upgrade(old)
    with stores.connect(old) as connection:
        rewritten = {table for table, file in _files(connection).items() if files.get(table, file) != file}
        indexed = {table for name, table in _indexes(connection).items() if name not in indexes}
    said = {(work.table, work.kind) for step in plan.steps for work in step.work}
    assert rewritten == {table for table, kind in said if kind == "rewritten"}
    assert (indexed & files.keys()) - rewritten == {table for table, kind in said if kind == "indexed"}
    again = upgrade_plan.plan(old)
    assert (again.steps, again.takes_s, again.needs_bytes) == ((), 0, 0)


def _files(connection: sa.Connection) -> dict[str, Any]:
    """Table -> where it lies: a rewritten one lies elsewhere."""
    query = """
        SELECT relname, (oid, relfilenode)::text FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
    """
    return {row[0]: row[1] for row in connection.execute(sa.text(query))}


def _indexes(connection: sa.Connection) -> dict[str, str]:
    """Index -> table, without those of partitions."""
    query = """
        SELECT c.relname, t.relname FROM pg_index i
        JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
        WHERE t.relnamespace = 'public'::regnamespace AND NOT t.relispartition
    """
    return {row[0]: row[1] for row in connection.execute(sa.text(query))}


def test_the_estimate_follows_the_rows() -> None:
    few = upgrade_plan.Step("0012", "", (upgrade_plan.TableWork("energy_15m", "rewritten", 1_000, 10_000),))
    many = upgrade_plan.Step("0012", "", (upgrade_plan.TableWork("energy_15m", "rewritten", 10**8, 10**10),))
    plan = upgrade_plan.Plan("0011", "0012", None, (many,))
    assert few.takes_s < 1 < 600 < many.takes_s
    assert plan.needs_bytes == 2 * 10**10


def test_the_command_says_what_comes_and_changes_nothing(
    wattline: Wattline, empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore.restore(empty_database_url, Path(shutil.copy(KEPT[0], tmp_path / "old.dump")))
    monkeypatch.setenv("WATTLINE_DATABASE_URL", empty_database_url)
    said = wattline("db", "upgrade", "--check")
    assert said.code == 0
    assert "energy_15m rewritten" in said.out
    assert f"from {KEPT[0].stem} to {migrate.head()}" in said.out
    document = wattline("db", "upgrade", "--check", "--json").document
    assert (document["current"], document["possible"]) == (KEPT[0].stem, True)
    assert document["steps"][0]["tables"][0]["rows"] > 10_000
    assert wattline("db", "upgrade").code == 0
    assert "nothing to do" in wattline("db", "upgrade", "--check").out


def test_without_a_database_there_is_nothing_to_check(
    wattline: Wattline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("WATTLINE_DATABASE_URL")
    said = wattline("db", "upgrade", "--check")
    assert (said.code, list(tmp_path.glob("data/*"))) == (1, [])
    assert "there is no database yet" in said.err


@pytest.mark.parametrize(
    "command",
    [
        ("db", "upgrade"),
        ("db", "upgrade", "--check"),
        ("verify",),
        ("keys", "list"),
        ("serve", "--port", "0"),
    ],
)
def test_an_old_program_says_that_the_database_is_newer(
    command: tuple[str, ...], database_url: str, tmp_path: Path, make_test_engine: MakeEngine
) -> None:
    with stores.begin(make_test_engine(database_url)) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    environment = {**os.environ, "WATTLINE_DATABASE_URL": database_url, "WATTLINE_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [PROGRAM, *command], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "9999, made by a newer version of Wattline" in said
    assert "install the newer version or restore a backup" in said
    assert "Traceback" not in said
