"""Says which of some files other users may not read: ``python -m app.cli.readable PATH...``.

Compose mounts files of this machine into containers that run as other users; a file that only its owner may
read makes Prometheus or Grafana fail with a message of its own.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from app.cli.console import say


def main(paths: Sequence[str]) -> int:
    """One line for every file or folder that is closed, with the command that opens it; the exit code."""
    closed = [line for path in paths for line in _closed(Path(path))]
    for line in closed:
        say(line)
    return 1 if closed else 0


def _closed(path: Path) -> Iterator[str]:
    try:
        mode = path.stat().st_mode
        is_folder = stat.S_ISDIR(mode)
        needed = stat.S_IROTH | (stat.S_IXOTH if is_folder else 0)
        if mode & needed != needed:
            yield f"{path}: other users may not read it; {_fix(path, is_folder=is_folder)}"
        if is_folder:
            for one in sorted(os.listdir(path)):
                yield from _closed(path / one)
    except FileNotFoundError:
        yield f"{path}: is missing"
    except PermissionError:
        yield f"{path}: user {os.geteuid()} may not look into it; {_fix(path, is_folder=True)}"


def _fix(path: Path, *, is_folder: bool) -> str:
    command = "chmod -R a+rX" if is_folder else "chmod a+r"
    return f"on the machine that it comes from: {command} {path.name}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
