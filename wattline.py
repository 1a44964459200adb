"""The ``wattline`` command, behind a guard of the package names.

``app``, ``collectors``, ``migrations`` and ``grafana`` are common names: another distribution may install
one over ours, and a folder on ``PYTHONPATH`` may come first. Only this module is named after the
distribution, so it looks before anything of theirs runs (docs/decisions/package-names.md).
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

PACKAGES = ("app", "collectors", "migrations", "grafana")
_HOME = os.path.dirname(os.path.abspath(__file__))
_MARK = b'__distribution__ = "wattline"'
"""Line in the ``__init__`` of each of our packages."""
_ADVICE = (
    "Install Wattline in an environment of its own: `pipx install wattline`, or `python3 -m venv` and its "
    "pip. If it already is, unset PYTHONPATH and run `pip install --force-reinstall --no-deps wattline`."
)


def main() -> None:
    """Run the command line, or say why what is installed cannot be relied on; exits 0, 1 or 2."""
    foreign = [clash for clash in map(_clash, PACKAGES) if clash]
    if foreign:
        sys.exit("\n".join(["wattline: cannot start.", *foreign, _ADVICE]))
    try:
        from app.cli import main as run

        run()
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in PACKAGES:
            raise
        sys.exit(f"wattline: files of this installation are missing or were replaced: {error}\n{_ADVICE}")


def _clash(name: str) -> str:
    """What is wrong with the package that Python finds under a name of ours; empty where it is ours."""
    ours = os.path.join(_HOME, name, "__init__.py")
    if not os.path.isfile(ours):
        return f"The package `{name}` is missing from {_HOME}, or a part of it."
    spec = find_spec(name)
    found = spec and (
        spec.origin or next(iter(spec.submodule_search_locations or ()), "")
    )  # else a bare folder
    if not found or os.path.realpath(found) != os.path.realpath(ours):
        return f"The package `{name}` that Python finds is {found}, in front of Wattline's in {_HOME}."
    with open(found, "rb") as file:
        if _MARK in file.read():
            return ""
    return f"The package `{name}` in {_HOME} was replaced by that of {_owners(name)}."


def _owners(name: str) -> str:
    """Other distributions that bring a package of that name."""
    from importlib.metadata import packages_distributions

    others = sorted(set(packages_distributions().get(name, ())) - {"wattline"})
    return ", ".join(others) or "another distribution"


if __name__ == "__main__":
    main()
