"""The table of attacks and failures names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_named_test_exists() -> None:
    named = _TEST.findall((ROOT / "docs" / "SECURITY-TESTS.md").read_text(encoding="utf-8"))
    texts = {file: (ROOT / file).read_text(encoding="utf-8") for file in {file for file, _ in named}}
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in texts[file]]
    assert missing == []
    assert len(named) > 60
