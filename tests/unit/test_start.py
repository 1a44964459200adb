"""How the ``wattline`` command starts: help and version at once, and only from our own packages."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import tomllib
from pathlib import Path

import pytest

from app import __version__
from app.cli import helptext
from tests.starting import loaded_modules
from tools.helptexts import texts

ROOT = Path(__file__).parents[2]


def test_stored_help_is_what_typer_prints() -> None:
    assert helptext.stored() == texts(), "run `make help-texts`"


@pytest.mark.parametrize("words", ["", "pue", "db status"])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_of_every_command_is_answered_without_typer(words: str, option: str) -> None:
    answer = helptext.answer([*words.split(), option])
    assert answer is not None
    assert f"Usage: {f'wattline {words}'.rstrip()}" in answer


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["pue"],
        ["pue", "sh1"],
        ["--help", "pue"],
        ["nonsense", "--help"],
        ["pue", "sh1", "-h"],
        ["--version", "x"],
    ],
)
def test_everything_else_is_left_to_typer(words: list[str]) -> None:
    assert helptext.answer(words) is None


def test_a_narrow_terminal_is_left_to_typer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Narrow:
        @staticmethod
        def fileno() -> int:
            return slave

    master, slave = pty.openpty()
    try:
        monkeypatch.setattr(sys, "stdout", Narrow)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
        assert helptext.answer(["--help"]) is None
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        assert helptext.answer(["--help"]) is not None
    finally:
        monkeypatch.undo()
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("words", ["--version", "--help", "report --help"])
def test_help_and_version_import_next_to_nothing(words: str) -> None:
    loaded, printed = loaded_modules(*words.split())
    assert loaded & {"typer", "rich", "numpy", "pydantic", "sqlalchemy", "dataclasses", "asyncio"} == set()
    assert ("wattline " + __version__ if words == "--version" else "Usage: wattline") in printed


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert f"image: wattline:{__version__}\n" in (ROOT / "compose.yaml").read_text("utf-8")


# -- packages of other distributions under our names -------------------------------------------------


def _start(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wattline", *words],
        env={**os.environ, "PYTHONPATH": str(path)},
        cwd=path,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["app", "collectors", "migrations", "grafana"])
def test_a_package_in_front_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong one ran')\n")
    done = _start(tmp_path, "--version")
    assert done.returncode == 1
    assert str(tmp_path / name / "__init__.py") in done.stderr
    assert "pipx install wattline" in done.stderr
    assert "Traceback" not in done.stderr
    assert "the wrong one ran" not in done.stderr
