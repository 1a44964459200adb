"""The report as PDF by Typst: tagged, with embedded fonts, the same bytes for the same report."""

from __future__ import annotations

import json
import subprocess
import sys

from app.charts import report as charts
from app.errors import DataError
from app.reports.document import Document
from app.reports.language import Language
from app.reports.layout import Column, Kind, Value, shown
from app.reports.pages import layout_of
from app.reports.render import strings

_LONGEST_S = 120.0


def render(document: Document, language: Language) -> bytes:
    """The PDF in a language; provisional reports say so on every page.

    Raises
    ------
    DataError
        If it could not be set.
    """
    folder = charts.font_folder()
    asked = {
        "data": strings.of(layout_of(document, language), cell=_cell),
        "created_at": document.revision.created_at,
        "font_folder": None if folder is None else str(folder),
    }
    command = [sys.executable, "-m", "app.reports.render.typeset"]
    done = subprocess.run(
        command, input=json.dumps(asked).encode(), capture_output=True, timeout=_LONGEST_S, check=False
    )
    if done.returncode:
        problem = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise DataError(f"the PDF could not be set: {' '.join(problem)}; ask for another form")
    return done.stdout


NO_BREAK = "\u00a0"
_BREAK_AFTER = ("-", ".", ":", "_", "/")


def _cell(language: Language, column: Column, value: Value) -> str:
    """The cell's text; long words without spaces get places at which they may break."""
    text = shown(language, column, value)
    if column.kind in (Kind.DAY, Kind.INSTANT):
        return _whole_day(text, column.kind)
    if column.is_number or len(text) < 12:
        return text
    for mark in _BREAK_AFTER:
        text = text.replace(mark, f"{mark}\u200b")
    return " ".join(_broken(word) for word in text.split(" "))


def _whole_day(text: str, kind: Kind) -> str:
    """A day that does not break, with its time, if any, on the next line where there is no room."""
    day, gap, time = text.rpartition(" ") if kind is Kind.INSTANT else (text, "", "")
    return f"{day.replace(' ', NO_BREAK)}{gap}{time}"


def _broken(word: str) -> str:
    if len(word) <= 40:
        return word
    return "\u200b".join(word[i : i + 20] for i in range(0, len(word), 20))
