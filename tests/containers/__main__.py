"""Build the image for the tests, or say why that is not possible here: ``python -m tests.containers``.

Exit code 0: it is there; 3: not possible on this machine, with the reason; 1: the build failed.
"""

from __future__ import annotations

import subprocess
import sys
import time

from tests.containers.engine import IMAGE, NotPossible, built, engine, fetchable, ready

NOT_POSSIBLE = 3


def main() -> int:
    """Build it."""
    began_s = time.monotonic()
    try:
        with engine() as found:
            fetchable()
            ready(found)
            try:
                built(found)
            except AssertionError as error:
                sys.stdout.write(f"{error}\nthe Dockerfile, or what it copies, is at fault\n")
                return 1
    except (NotPossible, OSError, subprocess.SubprocessError) as why:
        sys.stdout.write(f"container tests are skipped: {why}\n")
        return NOT_POSSIBLE
    sys.stdout.write(f"{IMAGE} is built, {time.monotonic() - began_s:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
