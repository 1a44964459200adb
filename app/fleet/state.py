"""How each cell is: its version, its sites, how far its figures are behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter, ValidationError

from app.fleet import fanout
from app.fleet.cells import Cell
from app.fleet.fanout import Answer, NotUnderstood
from app.store import progress
from app.store.engine import Connection
from app.store.sites import Stored

PATH = "/fleet/cells"


@dataclass(frozen=True, slots=True)
class CellState:
    """What a cell says of itself."""

    id: str
    version: str | None = None
    sites: tuple[str, ...] = ()
    figures_lag_s: float | None = None
    """Of the site that is furthest behind. [s]"""
    at: datetime | None = None
    """Its clock when it answered."""


class _One(BaseModel):
    id: str
    version: str | None
    sites: tuple[str, ...]
    figures_lag_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    at: AwareDatetime | None


class _Said(BaseModel):
    cells: Annotated[list[_One], Field(min_length=1, max_length=1)]


_SHAPE = TypeAdapter(_Said)


def own(connection: Connection, stored: Stored, cell: str, version: str, now: datetime) -> CellState:
    """What this cell says of itself.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    lag_s = progress.oldest_s(connection)
    return CellState(cell, version, tuple(sorted(stored.fleet.site)), lag_s, now)


def ask(cells: Sequence[Cell], *, deadline_s: float) -> list[Answer[CellState]]:
    """What each of the other cells says of itself."""
    return fanout.ask(cells, PATH, {}, understand, deadline_s=deadline_s)


def understand(cell: Cell, document: Any) -> CellState:
    """What a cell says of itself.

    Raises
    ------
    NotUnderstood
        If it is no answer of ``/fleet/cells``, or that of another cell.
    """
    try:
        one = _SHAPE.validate_python(document).cells[0]
    except ValidationError as error:
        raise NotUnderstood(f"the answer is of another version: {error.errors()[0]['msg']}") from None
    if one.id != cell.id:
        raise NotUnderstood(f"it calls itself {one.id!r}; correct WATTLINE_CELL_ID there, or the url here")
    return CellState(one.id, one.version, one.sites, one.figures_lag_s, one.at)
