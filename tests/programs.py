"""Programs of other makers that some tests run: skipped where absent, demanded in continuous integration."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

_MORE_PLACES = ("/usr/sbin", "/usr/lib/chromium")


def need_program(name: str, package: str = "") -> Path:
    """Where a program is.

    Without it the test is skipped, or fails where ``WATTLINE_REQUIRE_PROGRAMS`` is set.

    Parameters
    ----------
    name : str
    package : str
        Debian's package that has it; default: of the same name.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), *_MORE_PLACES])
    found = shutil.which(name, path=path)
    if found is not None:
        return Path(found)
    said = f"no program {name}; install it with: apt-get install {package or name}"
    if os.environ.get("WATTLINE_REQUIRE_PROGRAMS"):
        pytest.fail(said)
    pytest.skip(said)
