"""The pages under ``docs/reference``, written from the code: ``make reference``.

One function a page; :data:`PAGES` lists them. A unit test and ``make lint`` compare the files with what
would be written now, so that no page says what the code no longer does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tools import sbom
from tools.reference import (
    architecture,
    commands,
    databases,
    devices,
    http,
    layouts,
    licences,
    models,
    regulations,
)

ROOT = Path(__file__).parents[2]
FOLDER = "docs/reference"

PAGES: dict[str, Callable[[], str]] = {
    f"{FOLDER}/site-file.md": models.site_file,
    f"{FOLDER}/csv-mapping.md": models.csv_mapping,
    f"{FOLDER}/layouts.md": layouts.page,
    f"{FOLDER}/device-profile.md": models.device_profile,
    f"{FOLDER}/devices.md": devices.page,
    f"{FOLDER}/settings.md": models.settings,
    f"{FOLDER}/commands.md": commands.page,
    f"{FOLDER}/databases.md": databases.page,
    f"{FOLDER}/http.md": http.page,
    f"{FOLDER}/regulations.md": regulations.page,
    f"{FOLDER}/licences.md": licences.page,
    "deploy/sbom.json": sbom.runtime,
    "docs/architecture.md": architecture.page,
    "docs/decisions/README.md": architecture.decisions_index,
}
"""Path of a page -> its text."""


def write() -> None:
    """Write every page."""
    for path, page in PAGES.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(page(), encoding="utf-8")


def stale() -> list[str]:
    """Pages that are not what the code says now."""
    return [path for path, page in PAGES.items() if not _is_current(ROOT / path, page())]


def _is_current(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8") == text
