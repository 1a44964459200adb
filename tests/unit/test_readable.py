"""Files that the container's user, or Prometheus and Grafana, may not read: a message with the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import config
from app.cli import readable
from app.config import Settings, why_unreadable
from app.errors import ConfigError


def test_open_files_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "site.yaml").write_text("x")
    (tmp_path / "site.yaml").chmod(0o644)
    assert readable.main([str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""


def test_every_closed_one_is_named_with_its_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "grafana" / "rules"
    rules.mkdir(parents=True)
    for folder, mode in ((tmp_path / "grafana", 0o755), (rules, 0o750)):
        folder.chmod(mode)
    site = tmp_path / "site.yaml"
    site.write_text("x")
    site.chmod(0o600)
    assert readable.main([str(site), str(tmp_path / "grafana"), str(tmp_path / "none")]) == 1
    first, second, third = capsys.readouterr().err.splitlines()
    assert first.endswith("chmod a+r site.yaml")
    assert second.endswith("chmod -R a+rX rules")
    assert third.endswith("none: is missing")


def test_what_wattline_itself_may_not_read_is_said_with_the_command(tmp_path: Path) -> None:
    assert "chmod a+r" in why_unreadable(PermissionError(13, "Permission denied"))
    with pytest.raises(ConfigError) as told:
        Settings(database_url_file=tmp_path / "none").url()
    assert "WATTLINE_DATABASE_URL_FILE" in str(told.value)
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "none.yaml")
