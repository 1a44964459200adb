"""Completion of commands and options in a real shell, installed as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
wattline --install-completion bash >/dev/null
source ~/.bashrc
read -ra COMP_WORDS <<<"$1"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
$(complete -p wattline | sed 's/.*-F \\([^ ]*\\).*/\\1/') wattline
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("wattline re", ["report", "reports"]),
        ("wattline db st", ["status"]),
        ("wattline pue --mo", ["--month"]),
        ("wattline --vers", ["--version"]),
    ],
)
def test_bash_completes_what_was_typed(tmp_path: Path, typed: str, offered: list[str]) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", SCRIPT, "bash", typed],
        env={"HOME": str(tmp_path), "PATH": path, "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.split() == offered
