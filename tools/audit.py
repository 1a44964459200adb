"""``make audit``: does anybody know of a flaw in what we pinned?

Asks the OSV database through pip-audit about every pin of both lock files. Before it believes that there
is nothing, it asks for an old release that is known to be flawed: a database that finds nothing wrong with
that one is not asked any further.

Where the database cannot be reached, a committed snapshot answers: what the database said about every pin
on one day (``make audit-snapshot``, a JSON document)::

    {"taken_at": "2026-11-30T04:00:00+00:00", "database": "https://...", "control": ["CVE-..."],
     "pins": [["httpx", "0.28.1"]],
     "flaws": [{"name": "...", "version": "...", "ids": ["..."], "fixed_in": ["..."]}]}

``control`` is what it knew of the old release. The snapshot is not believed if it is older than 14 days, of
the future, without a control, or if it was not asked about one of today's pins. Exit codes: 0 nothing is
known, 1 flaws are known, 3 not checked; not checked is not passed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tools.locked import DEVELOPMENT, ROOT, SHIPPED, locked

FLAWED = ("jinja2", "2.4.1")
"""A release with published flaws since 2014 (CVE-2014-1402)."""
DATABASE = "https://api.osv.dev/v1/query"
SNAPSHOT = ROOT / "deploy" / "advisories.json"
"""What the database said, for places without a network."""
OLDEST = timedelta(days=14)
"""A snapshot that is older is not believed: flaws become known every week."""
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
    _control(database)
    return [flaw for group in _without_repeats(pins) for flaw in _ask(group, database)]


def _control(database: str) -> list[Flaw]:
    found = _ask([FLAWED], database)
    if not found:
        raise NotChecked(f"the database at {database} knows no flaw of {' '.join(FLAWED)}, which has some")
    return found


def take(pins: Iterable[Pin], database: str, file: Path, now: datetime) -> list[Flaw]:
    """Ask the database about pins and keep what it says; raises as :func:`flaws`."""
    asked, control = sorted(set(pins)), _control(database)
    found = [flaw for group in _without_repeats(asked) for flaw in _ask(group, database)]
    document = {
        "taken_at": now.isoformat(timespec="seconds"),
        "database": database,
        "control": [name for flaw in control for name in flaw.ids],
        "pins": [list(pin) for pin in asked],
        "flaws": [asdict(flaw) for flaw in found],
    }
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return found


def kept(pins: Iterable[Pin], file: Path, now: datetime) -> tuple[datetime, list[Flaw]]:
    """When a snapshot was taken, and what it knows about pins.

    Raises
    ------
    NotChecked
        If there is none, or it is not to be believed.
    """
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        taken_at, control = datetime.fromisoformat(said["taken_at"]), said["control"]
        answered = {(name, version) for name, version in said["pins"]}
        found = [
            Flaw(one["name"], one["version"], tuple(one["ids"]), tuple(one["fixed_in"]))
            for one in said["flaws"]
        ]
        age = now - taken_at
    except FileNotFoundError:
        raise NotChecked("there is no snapshot; `make audit-snapshot` takes one") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotChecked(f"the snapshot {file.name} is damaged: {error!r}") from None
    if age > OLDEST:
        raise NotChecked(f"the snapshot is {age.days} days old; at most {OLDEST.days} are allowed")
    if age < -timedelta(hours=1):
        raise NotChecked(f"the snapshot was taken in the future, {taken_at.isoformat()}")
    if not control:
        raise NotChecked(f"its database knew no flaw of {' '.join(FLAWED)}, which has some")
    wanted = set(pins)
    if missing := sorted(wanted - answered):
        raise NotChecked(f"the snapshot has no answer about {', '.join(map(' '.join, missing))}")
    return taken_at, [flaw for flaw in found if (flaw.name, flaw.version) in wanted]


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
    parser.add_argument("--snapshot", type=Path, default=SNAPSHOT, help="file with what a database said")
    parser.add_argument("--take", action="store_true", help="ask the database and write the snapshot")
    asked = parser.parse_args()
    pins = {(p.name, p.version) for path in asked.lock or (SHIPPED, DEVELOPMENT) for p in locked(path)}
    now = datetime.now(UTC)
    try:
        found = take(pins, asked.database, asked.snapshot, now) if asked.take else flaws(pins, asked.database)
    except NotChecked as problem:
        if asked.take:
            print(f"NOT CHECKED: {problem}; no snapshot was written")
            return NOT_CHECKED
        try:
            taken_at, found = kept(pins, asked.snapshot, now)
        except NotChecked as second:
            print(
                f"NOT CHECKED: {problem}; {second}. Run `make audit` where {asked.database} can be reached."
            )
            return NOT_CHECKED
        print(f"from the snapshot of {taken_at:%Y-%m-%d}, {(now - taken_at).days} days old: {problem}")
    for flaw in found:
        print(flaw)
    print(f"pins checked: {len(pins)}, known flaws: {len(found)}")
    return FLAWS if found else CLEAN


if __name__ == "__main__":
    sys.exit(main())
