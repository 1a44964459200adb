"""``make audit``: does anybody know of a flaw in what we pinned?

Asks the OSV database through pip-audit about every pin of both lock files. Before it believes that there
is nothing, it asks for an old release that is known to be flawed: a database that finds nothing wrong with
that one is not asked any further. Exit codes: 0 nothing is known, 1 flaws are known, 3 not checked (the
database cannot be reached, or does not know the old flaw); not checked is not passed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.locked import DEVELOPMENT, SHIPPED, locked

FLAWED = ("jinja2", "2.4.1")
"""A release with published flaws since 2014 (CVE-2014-1402)."""
DATABASE = "https://api.osv.dev/v1/query"
CLEAN, FLAWS, NOT_CHECKED = 0, 1, 3
_TIMEOUT_S = 15

Pin = tuple[str, str]
"""Name and version."""


class NotChecked(Exception):
    """The question could not be asked, or the answer is not believed."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """A known flaw of a pin."""

    name: str
    version: str
    ids: tuple[str, ...]
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        remedy = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no release mends it yet"
        return f"{self.name} {self.version}: {', '.join(self.ids)}; {remedy}"


def flaws(pins: Iterable[Pin], database: str = DATABASE) -> list[Flaw]:
    """Known flaws of pins.

    Raises
    ------
    NotChecked
        If the database cannot be reached, leaves a pin out, or does not know an old flaw.
    """
    if not _ask([FLAWED], database):
        raise NotChecked(f"the database at {database} knows no flaw of {' '.join(FLAWED)}, which has some")
    return [flaw for group in _without_repeats(pins) for flaw in _ask(group, database)]


def _without_repeats(pins: Iterable[Pin]) -> list[list[Pin]]:
    """The pins in groups that name each package once, as pip-audit wants it."""
    groups: list[dict[str, str]] = []
    for name, version in sorted(set(pins)):
        group = next((g for g in groups if name not in g), None)
        if group is None:
            groups.append(group := {})
        group[name] = version
    return [list(group.items()) for group in groups]


def _ask(pins: Sequence[Pin], database: str) -> list[Flaw]:
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "pins.txt")
        listed.write_text("".join(f"{name}=={version}\n" for name, version in pins), encoding="utf-8")
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(listed), "--no-deps"]
        command += [
            "--disable-pip",
            "--vulnerability-service",
            "osv",
            "--osv-url",
            database,
            "--format",
            "json",
        ]
        command += ["--progress-spinner", "off", "--timeout", str(_TIMEOUT_S), "--cache-dir", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return _flaws_in(done, pins)


def _flaws_in(done: subprocess.CompletedProcess[str], pins: Sequence[Pin]) -> list[Flaw]:
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        raise NotChecked(f"the database gave no answer: {reason[:200]}") from None
    answered = {(one["name"], one.get("version")) for one in found}
    if unanswered := sorted(set(pins) - answered):
        raise NotChecked(f"no answer about {', '.join(' '.join(pin) for pin in unanswered)}")
    return [
        Flaw(one["name"], one["version"], (flaw["id"], *flaw["aliases"]), tuple(flaw["fix_versions"]))
        for one in found
        for flaw in one["vulns"]
    ]


def main() -> int:
    """Ask, print what is known, and say by the exit code what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tools.audit", description=__doc__)
    parser.add_argument("--lock", type=Path, action="append", help="lock file; default: both")
    parser.add_argument("--database", default=DATABASE, help="address that answers as OSV does")
    asked = parser.parse_args()
    pins = {(p.name, p.version) for path in asked.lock or (SHIPPED, DEVELOPMENT) for p in locked(path)}
    try:
        found = flaws(pins, asked.database)
    except NotChecked as problem:
        print(f"NOT CHECKED: {problem}. Run `make audit` where {asked.database} can be reached.")
        return NOT_CHECKED
    for flaw in found:
        print(flaw)
    print(f"pins checked: {len(pins)}, known flaws: {len(found)}")
    return FLAWS if found else CLEAN


if __name__ == "__main__":
    sys.exit(main())
