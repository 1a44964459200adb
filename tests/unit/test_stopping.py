"""A command that runs for long ends when it is asked to, whichever thread the signal reaches."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import os, signal, threading
from app.cli.stopping import stop_signal, wait_for

with stop_signal() as stop:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # of this thread alone
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    wait_for(stop)
print("ended")
"""


def test_a_signal_that_another_thread_receives_ends_the_wait() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
