"""Packages of npm for tests, beside the other build results; skipped where there is no Node.js."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def need_packages(folder: str, *packages: str) -> Path:
    """Folder ``node_modules`` with the packages, each a name with its version; installed once.

    Without Node.js, or where they cannot be fetched, the test is skipped with the reason.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no Node.js: Grafana's own packages do not run here")
    place = ROOT / "build" / folder
    place.mkdir(parents=True, exist_ok=True)
    found = place / "node_modules"
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((found / name.rsplit("@", 1)[0] / "package.json").exists() for name in packages):
            _install(place, *packages)
    return found


def _install(place: Path, *packages: str) -> None:
    options = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts")
    command = ["npm", "install", "--prefix", str(place), *options, *packages]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install {', '.join(packages)}: {done.stderr.strip()[-300:]}")
