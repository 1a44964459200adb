"""The fleet: PUE of all cells together, and how each cell is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query

from app import __version__
from app.api import schemas
from app.api.context import Caller, CallerOf, InScope
from app.api.periods import Window
from app.domain import period as periods
from app.domain.access import Role
from app.fleet import pue, state
from app.fleet.cells import Cell
from app.fleet.fanout import DEADLINE_S, SCOPE_ALL, Answer, Scope
from app.fleet.pue import Together
from app.fleet.state import CellState
from app.store import deployment

router = APIRouter(tags=["fleet"])


@router.get("/fleet/pue", response_model=schemas.FleetPueOut)
def get_fleet_pue(
    caller: Caller,
    window: Annotated[Window, Query(description="The same for every site")] = "24h",
    scope: InScope = SCOPE_ALL,
) -> dict[str, Any]:
    """PUE of your sites in all cells together: the ratio of sums, and the mean weighted by facility energy.

    Where a cell does not answer in time, `missing` names it and the totals are without its sites.
    """
    with caller.read() as view:
        profiles = deployment.limit_profiles(view.connection)
        spans = {s.id: periods.window(window, caller.now, s.zone) for s in view.stored.fleet.sites}
        own = pue.own(view.connection, view.stored, spans, profiles, caller.context.cell_id)
    answers = pue.ask(_others(caller, scope), window, deadline_s=DEADLINE_S)
    missing = [answer.cell.id for answer in answers if answer.said is None]
    others = pue.visible((one for answer in answers for one in answer.said or ()), caller.principal)
    return fleet_out(window, pue.together([*own, *others], missing))


def _others(caller: CallerOf, scope: Scope) -> tuple[Cell, ...]:
    return caller.context.cells if scope == SCOPE_ALL else ()


def fleet_out(window: str, found: Together) -> dict[str, Any]:
    """The PUE of a fleet as a document."""
    figure = found.figure
    return {
        "window": window,
        "ratio_of_sums": figure.ratio_of_sums,
        "facility_weighted": figure.facility_weighted,
        "facility_kwh": figure.facility_kwh,
        "it_kwh": figure.it_kwh,
        "sites": [one.document for one in found.sites],
        "counted": figure.sites,
        "left_out": figure.left_out,
        "cell_of": {one.site: one.cell for one in found.sites},
        "institution_of": {one.site: one.institution for one in found.sites},
        "in_two_cells": found.twice,
        "missing": found.missing,
    }


@router.get("/fleet/cells")
def get_fleet_cells(caller: Caller, scope: InScope = SCOPE_ALL) -> schemas.FleetCellsOut:
    """Every cell: whether it answers, its version, its sites, and how far its figures are behind."""
    with caller.read() as view:
        view.require_everywhere(Role.VIEWER)
        here = state.own(view.connection, view.stored, caller.context.cell_id, __version__, caller.now)
    return cells_out(here, state.ask(_others(caller, scope), deadline_s=DEADLINE_S))


def cells_out(here: CellState, answers: Sequence[Answer[CellState]]) -> schemas.FleetCellsOut:
    """The cells of a fleet as a document, the one that is asked first."""
    cells = [_cell(here)]
    for answer in answers:
        found = answer.said or CellState(answer.cell.id)
        cells.append(_cell(found, answer.problem, answer.took_s, answer.cell.url))
    return schemas.FleetCellsOut(cells=cells, missing=[a.cell.id for a in answers if a.said is None])


def _cell(found: CellState, problem: str = "", took_s: float = 0.0, url: str = "") -> schemas.FleetCell:
    return schemas.FleetCell(
        id=found.id,
        url=url,
        problem=problem or None,
        took_s=took_s,
        version=found.version,
        sites=list(found.sites),
        figures_lag_s=found.figures_lag_s,
        at=found.at,
    )
