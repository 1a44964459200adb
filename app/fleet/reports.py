"""Reports of an institution whose sites several cells have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.errors import WattlineError
from app.fleet import fanout
from app.fleet.cells import Cell
from app.fleet.fanout import Answer, NotUnderstood
from app.reports.canonical import is_intact
from app.reports.document import InstitutionReport, read

DEADLINE_S = 120.0
"""Longest time that a cell has to make its report. [s]"""

Reports = tuple[InstitutionReport, ...]
"""The report of a cell; none where it has no site of the institution."""


def ask(cells: Sequence[Cell], institution: str, period: str) -> list[Answer[Reports]]:
    """The newest report of each cell about its sites of an institution."""
    path = f"/institutions/{institution}/reports/{period}"
    return fanout.ask(cells, path, {"format": "json"}, understand, deadline_s=DEADLINE_S, without=())


def understand(cell: Cell, document: Any) -> Reports:
    """The report that a cell gave.

    Raises
    ------
    NotUnderstood
        If it is none, of another version, or altered on the way.
    """
    if not isinstance(document, dict) or not is_intact(document):
        raise NotUnderstood("the report does not have the hash that it was sealed with")
    try:
        found = read(document)
    except (WattlineError, ValueError, TypeError, KeyError) as error:
        raise NotUnderstood(f"the report is of another version: {str(error)[:200]}") from None
    if not isinstance(found, InstitutionReport):
        raise NotUnderstood("the answer is no report of an institution")
    return (found,)
