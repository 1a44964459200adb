"""Where the operator's own profiles lie: one list for the process, set where the environment is read.

Apart from the models of the profiles, so that a command without a device need not load those.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SETTING = "WATTLINE_PROFILES_DIR"
_folders: tuple[Path, ...] = ()


def use(folders: Iterable[Path]) -> None:
    """Look for profiles in these folders from now on, in this order; they need not exist."""
    global _folders
    _folders = tuple(dict.fromkeys(folder.absolute() for folder in folders))


def add(folder: Path) -> None:
    """Look for profiles in this folder too."""
    use((*_folders, folder))


def own_folders() -> tuple[Path, ...]:
    """Folders of own profiles, the first one first."""
    return _folders


def own_files() -> list[Path]:
    """Files of own profiles."""
    return [p for folder in _folders for p in sorted(folder.glob("*.y*ml")) if p.suffix in (".yaml", ".yml")]
