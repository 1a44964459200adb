"""``wattline keys``, ``audit`` and ``db``."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.integration.conftest import Wattline


def test_a_key_is_shown_once_listed_and_revoked(wattline: Wattline) -> None:
    key = wattline("keys", "create", "board", "--grant", "viewer", "--days", 30, "--json").document["key"]
    listed = wattline("keys", "list", "--json")
    assert key.rpartition("_")[2] not in listed.out
    (known,) = listed.document["keys"]
    assert (known["name"], known["grants"], known["valid"]) == ("board", ["viewer"], True)
    assert "board" in wattline("keys", "list").out
    assert wattline("keys", "revoke", known["public_id"]).code == 0
    assert not wattline("keys", "list", "--json").document["keys"][0]["valid"]
    assert wattline("keys", "revoke", known["public_id"]).code == 1


def test_a_grant_that_is_not_understood(wattline: Wattline) -> None:
    done = wattline("keys", "create", "x", "--grant", "emperor")
    assert done.code == 2
    assert "write viewer, operator or admin" in done.err


def test_the_audit_log_is_a_chain(wattline: Wattline, engine: sa.Engine) -> None:
    wattline("keys", "create", "one", "--grant", "viewer")
    wattline("keys", "create", "two", "--grant", "operator")
    assert wattline("audit", "verify", "--json").document["entries"] == 2
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE audit DISABLE TRIGGER USER"))
        connection.execute(sa.text("UPDATE audit SET actor = 'nobody' WHERE seq = 1"))
    done = wattline("audit", "verify")
    assert done.code == 1
    assert "broken" in done.out


def test_backup_and_restore(
    wattline: Wattline, empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wattline("keys", "create", "kept", "--grant", "viewer")
    file = tmp_path / "wattline.dump"
    done = wattline("db", "backup", file, "--json")
    assert done.code == 0, done.err
    assert done.document["size_bytes"] == file.stat().st_size
    assert wattline("db", "restore", file).code == 1
    monkeypatch.setenv("WATTLINE_DATABASE_URL", empty_database_url)
    assert wattline("db", "restore", file).code == 0
    assert wattline("keys", "list", "--json").document["keys"][0]["name"] == "kept"


def test_move_to_a_new_database(
    wattline: Wattline, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wattline("keys", "create", "moved", "--grant", "viewer")
    done = wattline("db", "move", "--to", empty_database_url, "--json")
    assert done.code == 0, done.err
    monkeypatch.setenv("WATTLINE_DATABASE_URL", empty_database_url)
    assert wattline("keys", "list", "--json").document["keys"][0]["name"] == "moved"
