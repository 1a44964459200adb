"""Becomes the database server: steps down to its user, ties its life to the parent's, then runs it.

Run as a script by :mod:`app.store.embedded.server`, never imported::

    python -I -S launch.py PARENT_PID UID GID PROGRAM ARGUMENT...

A script between the two costs 20 ms and needs no code in a forked copy of a threaded process. The
order matters: the kernel forgets the death signal when the user changes.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def _step_down(uid: int, gid: int) -> None:
    if os.getuid() != uid:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)


def _die_with_parent(parent_pid: int) -> None:
    """Ask for a fast shutdown when the thread that started this process ends."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit("the process that started the database is gone already")


def _main() -> None:
    parent_pid, uid, gid = (int(text) for text in sys.argv[1:4])
    _step_down(uid, gid)
    _die_with_parent(parent_pid)
    os.chdir("/")
    os.umask(0o077)
    os.execv(sys.argv[4], sys.argv[4:])


if __name__ == "__main__":
    _main()
