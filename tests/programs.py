"""Programs of other makers that some tests run: skipped where absent, demanded in continuous integration."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

_MORE_PLACES = ("/usr/sbin", "/usr/lib/chromium")


class ProgramMissing(Exception):
    """A program is not on this machine; the text says how to get it."""


def find_program(name: str, package: str = "") -> Path:
    """Where a program is.

    Parameters
    ----------
    name : str
    package : str
        Debian's package that has it; default: of the same name.

    Raises
    ------
    ProgramMissing
        If it is nowhere.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), *_MORE_PLACES])
    found = shutil.which(name, path=path)
    if found is None:
        raise ProgramMissing(f"no program {name}; install it with: apt-get install {package or name}")
    return Path(found)


def need_program(name: str, package: str = "") -> Path:
    """Where a program is, for a test: without it the test is skipped.

    It fails instead where ``WATTLINE_REQUIRE_PROGRAMS`` is set.
    """
    try:
        return find_program(name, package)
    except ProgramMissing as missing:
        said = str(missing)
    if os.environ.get("WATTLINE_REQUIRE_PROGRAMS"):
        pytest.fail(said)
    pytest.skip(said)
