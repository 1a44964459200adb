"""``wattline db reader``: the role that boards read with."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo
from typer.testing import CliRunner

from app.cli.commands import app
from app.store.reader import ROLE

RUNNER = CliRunner()


def reader_url(database_url: str, password: str) -> str:
    parts = conninfo.conninfo_to_dict(database_url)
    return conninfo.make_conninfo("", **{**parts, "user": ROLE, "password": password})


def test_the_role_reads_views_with_the_password_of_the_file(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATTLINE_DATABASE_URL", database_url)
    file = tmp_path / "password"
    for password in ("first-one", "second-one"):
        file.write_text(password + "\n")
        result = RUNNER.invoke(app, ["db", "reader", "--password-file", str(file)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        with psycopg.connect(reader_url(database_url, password)) as connection:
            assert connection.execute("SELECT count(*) FROM v_pue").fetchone() == (0,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT * FROM readings")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(reader_url(database_url, "first-one"))
