"""A dry run counts the whole of a file, or says that it had no time for the rest."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Meter, Point, Site
from app.jobs import dry_run
from app.jobs.dry_run import Seen, Trialled, tried
from collectors.csv.reader import read, understand

ROWS = 2000
SITE = Site(
    id="dc",
    institution="bank",
    time_zone="UTC",
    meters=(
        Meter(id="m", points=(Point(id="m.kwh", role=Role.NONE, kind=ReadingKind.REGISTER, interval_s=60),)),
    ),
)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of many parts; they are small here."""
    monkeypatch.setattr(dry_run, "read", partial(read, block_bytes=1024))
    path = tmp_path / "export.csv"
    rows = (f"2026-02-{1 + n // 1440:02d} {n // 60 % 24:02d}:{n % 60:02d},{n}\n" for n in range(ROWS))
    path.write_text("time,m.kwh\n" + "".join(rows) + "2026-02-27 00:00,abc\n")
    return path


def tried_for(file: Path, parts: int) -> Trialled:
    left = iter(range(parts - 1, -1, -1))
    return tried(file, SITE, understand(file, SITE), Seen(), may_go_on=lambda: next(left) > 0)


def test_the_whole_file_is_counted(file: Path) -> None:
    found = tried(file, SITE, understand(file, SITE), Seen())
    assert (found.accepted, found.rejected, found.is_part) == (ROWS, 1, False)
    found = tried_for(file, 1000)
    assert (found.accepted, found.rejected, found.is_part) == (ROWS, 1, False)


def test_without_time_it_says_that_it_is_a_part(file: Path) -> None:
    one, nine = (tried_for(file, parts) for parts in (1, 9))
    assert one.is_part
    assert nine.is_part
    assert 0 < one.accepted < nine.accepted < ROWS
    assert nine.rejected == 0
