"""Uploads that nobody decides on do not stay."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest

from app.errors import NotFound
from app.web.uploads import LIFE_S, Uploads
from tests.waiting import until


def keep(uploads: Uploads, folder: Path, owner: str = "ann") -> Path:
    return uploads.keep([(io.BytesIO(b"time,a\n"), "a.csv")], owner, "sh1", folder).files[0].path


def test_an_abandoned_upload_is_deleted_by_itself(tmp_path: Path) -> None:
    uploads = Uploads(life_s=0.05)
    path = keep(uploads, tmp_path)
    until(lambda: not path.exists(), name="the upload is deleted")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_deleted(tmp_path: Path) -> None:
    old, young, other = (tmp_path / name for name in ("wattline-upload-a", "wattline-upload-b", "mine"))
    for path in (old, young, other):
        path.mkdir()
        (path / "upload.csv").write_text("x")
    for path in (old, other):
        os.utime(path, (0, time.time() - 3 * LIFE_S))
    keep(Uploads(), tmp_path)
    assert [path.exists() for path in (old, young, other)] == [False, True, True]


def test_a_fourth_upload_drives_out_the_oldest(tmp_path: Path) -> None:
    uploads = Uploads()
    paths = [keep(uploads, tmp_path) for _ in range(4)]
    assert [path.exists() for path in paths] == [False, True, True, True]
    with pytest.raises(NotFound):
        uploads.get("no-such-ticket-at-all", "ann", "sh1")
