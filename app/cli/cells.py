"""``wattline cells``: the cells of the fleet."""

from __future__ import annotations

from datetime import UTC, datetime

from app import __version__
from app.api.routes.fleet import cells_out
from app.api.schemas import FleetCell
from app.cli.console import show_json, show_table
from app.cli.environment import cells_of, settings
from app.cli.opening import database
from app.fleet import state
from app.fleet.fanout import DEADLINE_S
from app.store import sites
from app.store.engine import connect


def listing(*, as_json: bool) -> bool:
    """Print this cell and every other one; False where one does not answer.

    Raises
    ------
    ConfigError
        If the file of cells is not understood.
    StoreUnavailable
        If the database is away.
    """
    environment = settings()
    others = cells_of(environment)
    with database() as engine, connect(engine) as connection:
        here = state.own(
            connection, sites.load(connection), environment.cell_id, __version__, datetime.now(UTC)
        )
    found = cells_out(here, state.ask(others, deadline_s=DEADLINE_S))
    if as_json:
        show_json(found.model_dump(mode="json"))
    else:
        show_table(["cell", "address", "version", ">sites", ">figures behind", ""], map(_row, found.cells))
    return not found.missing


def _row(cell: FleetCell) -> list[str]:
    behind = "-" if cell.figures_lag_s is None else f"{cell.figures_lag_s:.0f} s"
    count = "-" if cell.problem else str(len(cell.sites))
    return [cell.id, cell.url or "here", cell.version or "-", count, behind, cell.problem or ""]
