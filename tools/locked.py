"""The lock files, as data: every package with its version, hashes and who asked for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
RUNTIME = ROOT / "requirements.txt"
"""What an installation has."""
SHIPPED = ROOT / "requirements-extras.txt"
"""The same with every extra: what the container image has."""
DEVELOPMENT = ROOT / "requirements-dev.txt"
"""The same, and what the tests and this folder need."""

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Locked:
    """One package at one version; a package may be there twice, for different Pythons."""

    name: str
    version: str
    marker: str
    """Where it is installed, e.g. ``sys_platform == 'win32'``; empty: everywhere."""
    hashes: tuple[str, ...]
    """SHA-256 of each published file that may be installed, in hexadecimal."""
    wanted_by: tuple[str, ...]
    """Packages that need it, and the project's own name."""


def locked(path: Path) -> tuple[Locked, ...]:
    """Every package of a lock file.

    Raises
    ------
    ValueError
        If a package is not pinned to one version, or has no hash.
    """
    return tuple(_package(block) for block in _blocks(path.read_text(encoding="utf-8")))


def _blocks(text: str) -> Iterator[list[str]]:
    """The lines of each package: the requirement, then hashes and comments, which are indented."""
    block: list[str] = []
    for line in text.splitlines():
        if line and not line[0].isspace() and not line.startswith("#"):
            if block:
                yield block
            block = []
        block.append(line)
    if block:
        yield block


def _package(block: list[str]) -> Locked:
    requirement = Requirement(block[0].partition("--hash")[0].rstrip("\\ "))
    pins = [s.version for s in requirement.specifier if s.operator == "=="]
    hashes = tuple(sorted(h for line in block for h in _HASH.findall(line)))
    if len(pins) != 1 or not hashes:
        raise ValueError(f"{requirement.name} has no single version, or no hash; run `make lock`")
    marker = "" if requirement.marker is None else str(requirement.marker)
    return Locked(canonicalize_name(requirement.name), pins[0], marker, hashes, tuple(_via(block)))


def _via(block: list[str]) -> Iterator[str]:
    for line in block[1:]:
        comment = line.strip().removeprefix("#").strip()
        name = comment.removeprefix("via").strip().partition(" ")[0]
        if line.lstrip().startswith("#") and name:
            yield canonicalize_name(name)
