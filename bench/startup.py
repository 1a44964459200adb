"""How quickly commands start, against Python alone and against the libraries that a query needs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import collectors.simulated
from bench.ingest import durable_server
from bench.table import Row, interleaved_s

TITLE = "Start of a command"

_RUNS = 9
_PYTHON = [sys.executable, "-c", "pass"]
_LIBRARIES = [sys.executable, "-c", "import sqlalchemy, psycopg, numpy"]
_WATTLINE = str(Path(sys.executable).parent / "wattline")
_SITE = Path(collectors.simulated.__file__).parent / "demo_site.yaml"


def run() -> list[Row]:
    """Measure with a database that is up."""
    with durable_server() as url, tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "WATTLINE_DATABASE_URL": url, "WATTLINE_DATA_DIR": folder}
        environment.pop("WATTLINE_CONFIG", None)

        def command(*words: str) -> Callable[[], object]:
            return _runner([_WATTLINE, *words], environment)

        command("pue", "sh1", "--config", str(_SITE))()  # the site is in the database from here on
        return [
            *_rows(
                ("python -c pass", _runner(_PYTHON, environment)),
                [(words, command(*words.split())) for words in ("--version", "--help", "report --help")],
                3.0,
            ),
            *_rows(
                ("import sqlalchemy, psycopg, numpy", _runner(_LIBRARIES, environment)),
                [
                    *((words, command(*words.split())) for words in ("pue sh1", "energy sh1 --json")),
                    ("check-config", command("check-config", str(_SITE))),
                ],
                2.5,
            ),
        ]


def _runner(command: Sequence[str], environment: dict[str, str]) -> Callable[[], object]:
    def work() -> None:
        subprocess.run(command, env=environment, check=True, capture_output=True, stdin=subprocess.DEVNULL)

    return work


def _rows(
    peer: tuple[str, Callable[[], object]],
    commands: Sequence[tuple[str, Callable[[], object]]],
    most: float,
) -> list[Row]:
    peer_s, *times = interleaved_s([peer[1], *(work for _, work in commands)], _RUNS)
    return [
        Row(
            f"wattline {words}",
            f"{ours * 1000:.0f} ms",
            f"{peer[0]}: {peer_s * 1000:.0f} ms",
            ours / peer_s,
            f"<= {most:g}",
        )
        for (words, _), ours in zip(commands, times, strict=True)
    ]
