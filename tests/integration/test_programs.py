"""``make faults`` says which program it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import programs
from tests.programs import ProgramMissing, find_program, need_program


def test_a_missing_program_is_a_message_and_no_traceback(tmp_path: Path) -> None:
    """In a process of its own, where nothing is on the path."""
    hide = HIDDEN
    done = subprocess.run(
        [sys.executable, "-c", hide],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "no program faketime; install it with: apt-get install faketime" in done.stdout


HIDDEN = """
import runpy
from tests import programs
programs._MORE_PLACES = ()
runpy.run_module("tests.faults", run_name="__main__")
"""


def test_a_program_is_found_or_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(programs, "_MORE_PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramMissing, match="apt-get install some-tools"):
        find_program("sometool", "some-tools")
    tool = tmp_path / "sometool"
    tool.write_text("#!/bin/sh\n", encoding="utf-8")
    tool.chmod(0o755)
    assert find_program("sometool") == tool
    monkeypatch.setenv("WATTLINE_REQUIRE_PROGRAMS", "1")
    with pytest.raises(pytest.fail.Exception, match="no program other"):
        need_program("other")
    monkeypatch.delenv("WATTLINE_REQUIRE_PROGRAMS")
    with pytest.raises(pytest.skip.Exception, match="no program other"):
        need_program("other")
