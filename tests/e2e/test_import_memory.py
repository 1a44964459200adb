"""A million rows take no more memory than a tenth of them."""

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
      - id: main
        points: [{id: main.kwh, role: facility, kind: register}]
"""
MORE_MB = 64
"""What a tenfold file may cost beyond the smaller one: buffers of libraries."""


def rows(count: int) -> Iterator[str]:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    yield "time,main.kwh\n"
    for i in range(count):
        yield f"{start + timedelta(minutes=i):%Y-%m-%d %H:%M},{i * 2.5:.1f}\n"


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
    site.write_text(SITE)
    environment = {
        "WATTLINE_DATABASE_URL": database_url,
        "WATTLINE_CONFIG": str(site),
        "WATTLINE_DATA_DIR": str(tmp_path / "data"),
    }
    peaks = {}
    for count in (100_000, 1_000_000):
        file = tmp_path / f"{count}.csv"
        with file.open("w") as stream:
            stream.writelines(rows(count))
        peaks[count] = peak_mb(file, environment)
    with psycopg.connect(database_url) as connection:
        stored = connection.execute("SELECT count(*) FROM readings").fetchone()
    assert stored == (1_000_000,)
    assert peaks[1_000_000] < peaks[100_000] + MORE_MB, peaks
