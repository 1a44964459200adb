"""Whatever changes something, or takes something out, stands in the audit log, however it was done."""

from __future__ import annotations

import ast
import json
import os
import pwd
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from app import config
from app.cli import serving
from app.cli.opening import synchronised
from app.errors import ConfigError
from app.jobs.watch import Folders
from app.store import audit, identity
from app.store.audit import Written
from tests.integration.api_helpers import NOW, a_day, client
from tests.integration.conftest import Wattline

SITE = """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    meters:
      - id: main
        points: [{id: main.kwh, role: facility, kind: register}]
      - id: ups
        points: [{id: ups.kwh, role: it_pdu_output, kind: register}]
"""
FILE = "time,main.kwh,ups.kwh\n2026-03-01 00:00,0,0\n2026-03-01 00:15,36,25\n"
ROOT = Path(__file__).parents[2]
USER = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def site(tmp_path: Path) -> Path:
    file = tmp_path / "site.yaml"
    file.write_text(SITE)
    return file


@pytest.fixture
def export(tmp_path: Path) -> Path:
    file = tmp_path / "export.csv"
    file.write_text(FILE)
    return file


def entries(engine: sa.Engine) -> list[Written]:
    """The log, oldest first; its chain is whole."""
    with engine.connect() as connection:
        assert audit.verify(connection).problems == ()
        return audit.listing(connection)[::-1]


def last(engine: sa.Engine, action: str) -> tuple[Written, dict[str, Any]]:
    entry = next(e for e in reversed(entries(engine)) if e.action == action)
    return entry, json.loads(entry.detail)


# -- commands ----------------------------------------------------------------------------------------


def test_what_commands_do_is_written_down(
    wattline: Wattline,
    engine: sa.Engine,
    site: Path,
    export: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("USER", "somebody-else")
    monkeypatch.setenv("LOGNAME", "somebody-else")
    report = tmp_path / "report.json"
    for command in (
        ("import", export, "--site", "sh1", "--config", site),
        ("meter", "event", "main", "--at", "2026-03-01T00:10:00+08:00", "--kind", "test", "--note", "x"),
        ("report", "sh1", "2026-03", "--format", "json", "-o", report),
        ("alarms", "silence", "works", "--site", "sh1", "--hours", "1"),
        ("keys", "create", "boards", "--grant", "viewer"),
    ):
        done = wattline(*command)
        assert done.code == 0, (command, done.err)
    found = entries(engine)
    assert [e.action for e in found] == [
        *("site_file.change", "import", "event.add", "report.export", "silence.add", "key.create")
    ]
    assert {e.actor for e in found} == {USER}, "who it is, not who he says he is"
    commands = [e.source.partition(" on ")[0] for e in found]
    assert commands == [
        f"wattline {c}"
        for c in ("import", "import", "meter event", "report", "alarms silence", "keys create")
    ]
    _, imported = last(engine, "import")
    assert (imported["file"], imported["accepted"]) == ("export.csv", 4)
    assert len(imported["sha256"]) == 64
    event, detail = last(engine, "event.add")
    assert (event.target, detail["kind"]) == ("main", "test")
    exported, detail = last(engine, "report.export")
    assert (exported.target, detail["period"], detail["file"]) == ("sh1", "2026-03", str(report))
    assert wattline("audit", "verify", "--json").document["entries"] == 6


def test_a_refused_command_leaves_no_entry(
    wattline: Wattline, engine: sa.Engine, site: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.csv"
    damaged.write_text("no table\n")
    assert wattline("import", damaged, "--site", "sh1", "--config", site).code == 1
    assert (
        wattline("meter", "event", "nothing", "--at", "2026-03-01", "--kind", "test", "--note", "x").code == 1
    )
    assert [e.action for e in entries(engine)] == ["site_file.change"]


def test_a_move_is_written_down_where_it_leads(
    wattline: Wattline, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wattline("keys", "create", "moved", "--grant", "viewer")
    for _ in range(2):
        assert wattline("db", "move", "--to", empty_database_url).code == 0, "again makes no difference"
    monkeypatch.setenv("WATTLINE_DATABASE_URL", empty_database_url)
    moved = wattline("audit", "verify", "--json").document
    assert (moved["entries"], moved["ok"]) == (2, True)


def test_backups_and_restorations_are_written_down(
    wattline: Wattline,
    engine: sa.Engine,
    tmp_path: Path,
    empty_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "wattline.dump"
    assert wattline("db", "backup", file).code == 0
    _, detail = last(engine, "database.backup")
    assert detail == {"file": str(file)}
    monkeypatch.setenv("WATTLINE_DATABASE_URL", empty_database_url)
    assert wattline("db", "restore", file).code == 0
    restored = wattline("audit", "verify", "--json").document
    assert restored["ok"]
    assert restored["entries"] == 1


# -- the site file -----------------------------------------------------------------------------------


def test_a_changed_site_file_is_written_down_once_with_its_hash(
    wattline: Wattline, engine: sa.Engine, site: Path, export: Path
) -> None:
    def brought() -> list[dict[str, Any]]:
        assert wattline("pue", "sh1", "--config", site).code == 0
        return [json.loads(e.detail) for e in entries(engine) if e.action == "site_file.change"]

    (first,) = brought()
    assert first["sha256"] == wattline("check-config", site, "--json").document["sha256"]
    assert (first["before"], first["sites"], first["meters"], first["points"]) == (None, 1, 2, 2)
    site.write_text("# only a comment\n" + SITE)
    assert len(brought()) == 1
    site.write_text(SITE.replace("role: it_pdu_output", "role: it_ups_output"))
    _, second = brought()
    assert second["before"] == first["sha256"]
    assert second["sha256"] == wattline("check-config", site, "--json").document["sha256"] != first["sha256"]


def test_the_service_writes_down_its_site_file_and_the_first_key(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["wattline", "serve"])
    synchronised(engine, config.parse(SITE))
    serving._prepare_keys(engine, is_separate=False)
    serving._prepare_keys(engine, is_separate=False)
    found = entries(engine)
    assert [e.action for e in found] == ["site_file.change", "key.create"]
    assert all(e.actor == USER and e.source.startswith("wattline serve on ") for e in found)
    key = capsys.readouterr().err.partition("key is ")[2].partition(";")[0]
    assert key.startswith("wl_")
    assert key not in str(found)


def test_the_first_key_is_handed_over_in_a_file_and_never_shown(
    engine: sa.Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken, absent, closed = (tmp_path / name for name in ("taken", "absent", "folder"))
    taken.write_text("something\n")
    closed.mkdir()
    for file, problem in ((taken, "is not empty"), (closed, "cannot be written")):
        with pytest.raises(ConfigError, match=problem):
            serving._prepare_keys(engine, is_separate=False, file=file)
    assert taken.read_text() == "something\n"
    serving._prepare_keys(engine, is_separate=False, file=absent)
    key = absent.read_text().strip()
    assert absent.stat().st_mode & 0o777 == 0o600
    with engine.connect() as connection:
        assert len(identity.listing(connection)) == 1, "those that could not be handed over were not made"
    said = capsys.readouterr()
    assert key.startswith("wl_")
    assert key not in said.out + said.err
    assert str(absent) in said.err
    serving._prepare_keys(engine, is_separate=False, file=tmp_path / "another")
    assert not (tmp_path / "another").exists()


# -- over HTTP, and by the service itself ------------------------------------------------------------


@pytest.fixture
def http(engine: sa.Engine) -> Iterator[httpx.Client]:
    a_day(engine)
    with client(engine, clock=lambda: NOW) as http:
        yield http


def test_imports_and_exports_over_http_are_written_down(http: httpx.Client, engine: sa.Engine) -> None:
    text = "time,main.kwh\n2026-02-01 00:00,1\n2026-02-01 00:15,2\n"
    answer = http.post("/api/v1/imports", data={"site": "sh1"}, files={"file": ("old.csv", text)})
    assert answer.status_code == 200, answer.text
    entry, detail = last(engine, "import")
    assert (entry.actor, entry.target, entry.source) == ("local", "sh1", "127.0.0.1")
    assert (detail["file"], detail["accepted"], detail["import"]) == ("old.csv", 2, answer.json()["id"])
    for of in ("sites/sh1", "institutions/bank"):
        path = f"/api/v1/{of}/reports/2026-03"
        report = http.get(path, params={"format": "json"})
        assert report.status_code == 200
        entry, detail = last(engine, "report.export")
        assert (entry.actor, entry.target) == ("local", of.partition("/")[2])
        assert detail == {"form": "json", "period": "2026-03"}
        before = len(entries(engine))
        held = http.get(path, params={"format": "json"}, headers={"If-None-Match": report.headers["ETag"]})
        assert held.status_code == 304
        assert len(entries(engine)) == before, "what the caller has is not taken out again"
    assert http.get("/api/v1/institutions/bank/reports/2026-03", params={"format": "csv"}).status_code == 200
    assert json.loads(last(engine, "report.export")[0].detail)["form"] == "csv"


def test_files_from_a_watched_folder_are_written_down(engine: sa.Engine, tmp_path: Path) -> None:
    section = f"id: main\n        collector: {{kind: csv_folder, folder: {tmp_path}, settle_s: 5}}"
    file = config.parse(SITE.replace("id: main\n", section + "\n", 1))
    synchronised(engine, file)
    (tmp_path / "drop.csv").write_text("time,main.kwh\n2026-03-01 00:00,0\n2026-03-01 00:15,36\n")
    folders = Folders()
    folders.follow(file.fleet)
    now = datetime.now(UTC)
    assert sum(folders.run(engine, now + timedelta(seconds=s)) for s in (0, 60, 120)) == 1
    entry, detail = last(engine, "import")
    assert (entry.actor, entry.source) == ("wattline", f"watched folder {tmp_path}")
    assert detail["file"] == "drop.csv"


# -- what forgets ------------------------------------------------------------------------------------

OPENS = {"write", "begin"}
"""How a transaction that changes something is opened: by a caller, and by a command."""
WRITES_DOWN = {"audit", "audit_readings", "record"}


def _calls(*nodes: ast.AST) -> set[str]:
    """Names of what is called."""
    parts = [one for node in nodes for one in ast.walk(node)]
    functions = [one.func for one in parts if isinstance(one, ast.Call)]
    return {str(getattr(f, "attr", getattr(f, "id", ""))) for f in functions}


def _functions(path: Path) -> list[ast.FunctionDef]:
    return [one for one in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(one, ast.FunctionDef)]


READING = {"listing", "find", "silences", "find_order", "current", "described_elsewhere", "problems"}
READING |= {
    "difference",
    "is_stale",
    "revisions",
    "found",
    "quoted",
    "obstacle",
    "name",
    "is_ours",
    "of_deployment",
}
"""Actions that change nothing."""
TRIED = {"effects"}
"""What is tried and taken back in the same transaction."""
ACTING = {
    f.name: _calls(*f.body)
    for path in sorted((ROOT / "app/actions").glob("*.py"))
    if path.name != "view.py"
    for f in _functions(path)
    if not f.name.startswith("_") and f.name not in READING and "property" not in ast.dump(f)
}
"""What people do, with what each calls."""


def test_every_action_writes_itself_down() -> None:
    assert {"acknowledge", "silence", "declare", "create", "order"} <= set(ACTING)
    silent = [name for name, calls in ACTING.items() if not calls & {"audit", "_record_change"}]
    assert set(silent) <= TRIED


@pytest.mark.parametrize("folder", ["app/api/routes", "app/web/pages", "app/cli"])
def test_every_transaction_that_writes_writes_it_down(folder: str) -> None:
    """Itself, in a function of its module that does, or by an action."""
    opened, silent = 0, []
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        functions = [one for one in parts if isinstance(one, ast.FunctionDef)]
        enough = WRITES_DOWN | {one.name for one in functions if _calls(*one.body) & WRITES_DOWN}
        acts = any(isinstance(p, ast.ImportFrom) and p.module == "app.actions" for p in parts)
        enough |= set(ACTING) if acts else set()
        for block in (one for one in parts if isinstance(one, ast.With)):
            if _calls(*(item.context_expr for item in block.items)) & OPENS:
                opened += 1
                hands_on = any(isinstance(one, ast.Yield) for node in block.body for one in ast.walk(node))
                if not hands_on and not _calls(*block.body) & enough:
                    silent.append(f"{path.relative_to(ROOT)}:{block.lineno}")
    assert silent == []
    assert opened > 3
