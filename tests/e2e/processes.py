"""Wattline as its own process, as a user starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.waiting import until

PROGRAM = Path(sys.executable).with_name("wattline")
_START_S, _STOP_S = 180.0, 60.0


@dataclass
class Running:
    """A process that is running."""

    process: subprocess.Popen[str]
    base: str
    log: Path

    def get(self, path: str) -> httpx.Response:
        """GET from it; no answer at all counts as status 599."""
        try:
            return httpx.get(self.base + path, timeout=10)
        except httpx.TransportError as error:
            return httpx.Response(599, text=str(error))

    def json_of(self, path: str) -> Any:
        """The JSON of an answer that must be good."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def until_status(self, path: str, status: int, timeout_s: float = 60.0) -> httpx.Response:
        """The first answer with that status."""
        return until(
            lambda: answer if (answer := self.get(path)).status_code == status else None,
            timeout_s,
            f"{status} from {path}",
        )

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; its exit code."""
        self.process.send_signal(sign)
        return self.process.wait(_STOP_S)


@contextmanager
def running(
    arguments: list[str],
    environment: Mapping[str, str],
    folder: Path,
    *,
    waits_for_address: bool = True,
    program: Path = PROGRAM,
    cwd: Path | None = None,
) -> Iterator[Running]:
    """Run ``wattline ARGUMENTS...`` until the end of the block; its address is read from what it says."""
    log = folder / f"{arguments[0]}-{len(list(folder.iterdir()))}.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [program, *arguments],
            cwd=cwd,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            text=True,
        )
    try:
        base = (
            until(lambda: _base(process, log), _START_S, "an address in the log") if waits_for_address else ""
        )
        yield Running(process, base, log)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(_STOP_S)


def _base(process: subprocess.Popen[str], log: Path) -> str:
    ended = process.poll()
    assert ended is None, f"it ended with code {ended} and said: {log.read_text()}"
    return next((word for word in log.read_text().split() if word.startswith("http://")), "")
