"""Memory of an import does not grow with the file, once its blocks are full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from tests.e2e.processes import PROGRAM

SITE = """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: sh1
    institution: bank
    time_zone: UTC
    meters:
"""
METERS = 10
METER = "      - {id: m%d, points: [{id: m%d.kwh, role: it_pdu_output, kind: register}]}\n"
SMALL, LARGE = 600_000, 1_800_000
"""Readings; the smaller file fills more than one block of the reader already."""
MORE_MB = 32
"""What the larger file may cost beyond the smaller one: findings look at all readings of a meter."""


def rows(count: int) -> Iterator[str]:
    """A file with this many readings."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    yield ",".join(["time", *(f"m{n}.kwh" for n in range(METERS))]) + "\n"
    for i in range(count // METERS):
        yield f"{start + timedelta(minutes=i):%Y-%m-%d %H:%M}" + f",{i * 2.5:.1f}" * METERS + "\n"


def peak_mb(file: Path, environment: dict[str, str]) -> float:
    """Highest resident memory of an import in a process of its own. [MB]"""
    program = "import resource,subprocess,sys; subprocess.run(sys.argv[1:], check=True); "
    program += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    arguments = ["python", "-c", program, str(PROGRAM), "import", str(file), "--site", "sh1"]
    done = subprocess.run(
        arguments,
        executable=PROGRAM.with_name("python"),
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[-1]) / 1024


@pytest.mark.timeout(300)
def test_memory_is_flat(database_url: str, tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(SITE + "".join(METER % (n, n) for n in range(METERS)))
    environment = {
        "WATTLINE_DATABASE_URL": database_url,
        "WATTLINE_CONFIG": str(site),
        "WATTLINE_DATA_DIR": str(tmp_path / "data"),
    }
    peaks = {}
    for count in (SMALL, SMALL, LARGE):  # what is stored already takes another way, of larger blocks
        file = tmp_path / f"{count}.csv"
        with file.open("w") as stream:
            stream.writelines(rows(count))
        peaks[count] = peak_mb(file, environment)
    with psycopg.connect(database_url) as connection:
        stored = connection.execute("SELECT count(*) FROM readings").fetchone()
    assert stored == (LARGE,)
    assert peaks[LARGE] < peaks[SMALL] + MORE_MB, peaks
