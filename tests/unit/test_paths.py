"""Who may enter which folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.store.embedded.paths import RunUser, _may_enter, can_enter

ROOT_USER = RunUser(0, 0, "root")
NOBODY = RunUser(65_534, 65_534, "nobody")


@pytest.mark.parametrize(
    ("mode", "user", "may"),
    [
        (0o700, RunUser(os.getuid(), os.getgid(), "me"), True),
        (0o700, NOBODY, False),
        (0o711, NOBODY, True),
        (0o710, NOBODY, False),
        (0o710, RunUser(65_534, os.getgid(), "kin"), True),
        (0o701, RunUser(65_534, os.getgid(), "kin"), False),
        (0o000, ROOT_USER, True),
    ],
)
def test_owner_group_and_others(tmp_path: Path, mode: int, user: RunUser, may: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    assert _may_enter(folder.stat(), user) is may
    folder.chmod(0o700)


def test_one_closed_folder_above_is_enough(tmp_path: Path) -> None:
    inner = tmp_path / "closed" / "open"
    inner.mkdir(parents=True, mode=0o777)
    inner.parent.chmod(0o700)
    assert not can_enter(inner, NOBODY)
