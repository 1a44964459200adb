"""What starting a command imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys

_RUN = """
import json, sys
sys.argv[0] = "wattline"
try:
    import wattline
    wattline.main()
except SystemExit as stop:
    code = stop.code or 0
else:
    code = 0
sys.stdout.flush()
sys.stderr.write("\\f" + json.dumps([code, sorted(sys.modules)]))
"""


def loaded_modules(*words: str, **environment: str) -> tuple[set[str], str]:
    """Every module that ``wattline WORDS...`` has imported by its end, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    said, _, report = done.stderr.rpartition("\f")
    code, modules = json.loads(report)
    assert code == 0, said
    return set(modules), done.stdout
