"""A worker of a cell that is killed between commit and acknowledgement, so many times.

``python -m tests.faults.fleet.consumer FOLDER KILLS serve --role worker``: each time a process of its own is
begun, as ``wattline`` with these words; it ends itself by SIGKILL in turn after the first commit of a batch
from the hub, and before the acknowledgement of the first one that was answered. Exits with 0 when all kills
have happened.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from app.cli import main
from app.cli.console import show
from tests.faults.fleet.process import prepare


def _die(*_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def _die_after_commit() -> None:
    from app.jobs.edge_intake import Intake

    take = Intake.take

    def last(intake: Intake, key_id: str, message: object) -> object:
        answer = take(intake, key_id, message)  # type: ignore[arg-type]
        if message.readings:  # type: ignore[attr-defined]
            _die()
        return answer

    Intake.take = last  # type: ignore[method-assign, assignment]


def _die_before_acknowledgement() -> None:
    from nats.aio.msg import Msg

    Msg.ack = _die  # type: ignore[method-assign, assignment]


def _killed(journals: Path, number: int) -> bool:
    """Whether one process ended as it should."""
    pid = os.fork()
    if pid == 0:
        prepare(journals, "cell")
        (_die_after_commit, _die_before_acknowledgement)[number % 2]()
        main()
        os._exit(0)

    def stop(sign: int, frame: FrameType | None) -> None:
        os.kill(pid, signal.SIGKILL)
        os._exit(1)

    signal.signal(signal.SIGTERM, stop)
    status = os.waitpid(pid, 0)[1]
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def again_and_again(journals: Path, kills: int) -> int:
    """Begin and kill; the exit code."""
    import nats as _nats  # noqa: F401 - what is imported before the fork is imported once

    import app.cli.serving as _serving  # noqa: F401

    for number in range(kills):
        if not _killed(journals, number):
            show(f"process {number} ended by itself")
            return 1
        show(f"killed {number + 1}")
    return 0


if __name__ == "__main__":
    folder, count = Path(sys.argv.pop(1)), int(sys.argv.pop(1))
    sys.exit(again_and_again(folder, count))
