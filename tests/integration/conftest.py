"""The command line in a test: the real commands on a real database, in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.cli import main


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


Wattline = Callable[..., Done]


@pytest.fixture
def wattline(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Wattline:
    """Runs ``wattline ARGUMENTS...`` on a new database."""
    monkeypatch.setenv("WATTLINE_DATABASE_URL", database_url)
    monkeypatch.setenv("WATTLINE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("WATTLINE_CONFIG", raising=False)

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["wattline", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return Done(int(stop.value.code or 0), said.out, said.err)

    return run
