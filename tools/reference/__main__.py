"""``make reference`` writes the pages; with ``--check`` it only says which are stale, and exits with 1."""

from __future__ import annotations

import sys

from tools.reference import stale, write


def main() -> int:
    """Write or check."""
    if "--check" not in sys.argv[1:]:
        write()
        return 0
    found = stale()
    for path in found:
        print(f"{path}: is not what the code says; run `make reference` and commit the page", file=sys.stderr)
    return 1 if found else 0


try:
    sys.exit(main())
except ValueError as error:
    sys.exit(str(error))
