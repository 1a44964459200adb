"""``python -m tools.install LOCK...``: install what lock files pin, and show how far it is.

Runs before anything is installed: standard library only.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

COMMAND = ("-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--require-hashes")
"""What is run, with ``-r`` and each lock after it."""
_FETCHED = ("Collecting ", "Processing ", "Requirement already satisfied: ")


def main(locks: list[str]) -> int:
    """Install; pip's exit code. What pip says is shown only where it fails."""
    text = "".join(Path(lock).read_text("utf-8") for lock in locks)
    total = len(re.findall(r"^[a-z0-9].*==", text, re.MULTILINE))
    began, said = time.monotonic(), list[str]()
    _show(f"installing up to {total} packages of {' and '.join(locks)}, once; this may take some minutes")
    command = [sys.executable, *COMMAND, *(word for lock in locks for word in ("-r", lock))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        for line in steps(_kept(pip.stdout or (), said), total):
            _show(line)
    if pip.returncode:
        sys.stderr.writelines(said)
    else:
        _show(f"installed in {time.monotonic() - began:.0f} s")
    return pip.returncode


def steps(lines: Iterable[str], total: int) -> Iterator[str]:
    """What there is to say while pip prints `lines`: every tenth package, and that it unpacks them."""
    fetched = 0
    for line in lines:
        if line.startswith(_FETCHED):
            fetched += 1
            if fetched % 10 == 0 or fetched == total:
                yield f"  {fetched} of {total}"
        elif line.startswith("Installing collected packages"):
            yield "  all fetched; unpacking them"


def _kept(lines: Iterable[str], said: list[str]) -> Iterator[str]:
    for line in lines:
        said.append(line)
        yield line


def _show(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
