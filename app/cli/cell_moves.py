"""``wattline cells move``: a site goes to another cell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import NamedTuple

import typer

from app.cli.actor import actor
from app.cli.console import progress, say, show, show_json, show_table
from app.cli.environment import cells_of, settings
from app.cli.opening import engine_at, located
from app.errors import ConfigError
from app.fleet import moves
from app.fleet.cells import Cell
from app.fleet.moves import Checked, Moved, Way
from app.jobs import rollup
from app.store.engine import Engine

_NAME = "wattline cells move"


class _Ends(NamedTuple):
    """Both ends of a move."""

    here: Engine
    there: Engine
    way: Way


def move(site: str, to: str, *, edges_url: str, as_json: bool) -> None:
    """Move a site, or go on with a move that was interrupted.

    Raises
    ------
    ConfigError
        If something stands in the way.
    NotFound
        If this cell has no such site.
    StoreUnavailable
        If either database is away; the same command goes on.
    """
    with _ends(site, to, edges_url) as ends, progress(total_is_bytes=True) as bar:
        task = bar.add_task("move", total=1.0)

        def show_progress(what: str, share: float) -> None:
            bar.update(task, completed=share, description=what[:40])

        done = moves.move(
            ends.here,
            ends.there,
            ends.way,
            actor(),
            work_off=lambda: rollup.run(ends.here),
            progress=show_progress,
        )
    if as_json:
        show_json({"site": site, "from": ends.way.source, "to": to, **asdict(done)})
    else:
        _show_done(ends.way, done)


def _show_done(way: Way, done: Moved) -> None:
    rate = done.copied / done.seconds if done.seconds else 0.0
    show(f"site {way.site} is in cell {way.target} now, compared row by row")
    show(
        f"{done.copied:,} rows brought over in {done.seconds:.1f} s ({rate:,.0f}/s); "
        f"the site was closed for {done.closed_s:.1f} s"
    )
    if done.sent_after:
        show(f"{done.sent_after:,} readings that workers here still had were sent after it")
    say(f"take {way.site} out of the site file here and put it into that of cell {way.target}")
    say(f"its edge goes to {way.url} by itself; other senders get that address as the answer")
    say(f"its rows here stay until: wattline cells move {way.site} --to {way.target} --drop-source")


def check(site: str, to: str, *, as_json: bool) -> None:
    """Print what a move would bring over and what stands in the way; exits 1 where something does.

    Raises
    ------
    NotFound
        If this cell has no such site.
    StoreUnavailable
        If either database is away.
    """
    with _ends(site, to) as ends:
        found = moves.check(ends.here, ends.there, ends.way)
    if as_json:
        show_json({"site": site, "to": to, **asdict(found), "ok": not found.obstacles})
    else:
        _show_checked(found)
    if found.obstacles:
        raise typer.Exit(1)


def _show_checked(found: Checked) -> None:
    rows = [[table, f"{count:,}"] for table, count in found.rows.items() if count]
    show_table(["table", ">rows"], [*rows, ["together", f"{sum(found.rows.values()):,}"]])
    if found.state:
        show(f"the move has begun: {found.state}")
    if found.held:
        show(f"{found.held:,} readings wait to be sent after the site; run the command without --check")
    for note in found.notes:
        show(f"note: {note}")
    for obstacle in found.obstacles:
        show(f"stands in the way: {obstacle}")
    if not found.obstacles:
        show("nothing stands in the way")


def cancel(site: str, to: str, *, as_json: bool) -> None:
    """End a move before the target has the site.

    Raises
    ------
    ConfigError
        If there is none, or the target has the site already.
    StoreUnavailable
        If either database is away.
    """
    with _ends(site, to) as ends:
        moves.cancel(ends.here, ends.there, ends.way, actor())
    if as_json:
        show_json({"site": site, "to": to, "is_cancelled": True})
    else:
        show(f"site {site} stays in cell {ends.way.source}")


def drop_source(site: str, to: str, *, as_json: bool) -> None:
    """Remove the rows of a site that moved.

    Raises
    ------
    ConfigError
        If it has not moved, or something needs its rows yet.
    StoreUnavailable
        If either database is away; the same command goes on.
    """
    with _ends(site, to) as ends, progress() as bar:
        task = bar.add_task("remove", total=None)
        rows = moves.drop_source(
            ends.here, ends.there, ends.way, actor(), lambda what, _: bar.update(task, description=what[:60])
        )
    if as_json:
        show_json({"site": site, "to": to, "removed": rows})
    else:
        show(f"{rows:,} rows of site {site} are removed from cell {ends.way.source}")


@contextmanager
def _ends(site: str, to: str, edges_url: str = "") -> Iterator[_Ends]:
    """The databases of both cells, as their services work with them."""
    environment = settings()
    target = _cell(cells_of(environment), to)
    url = target.database_url()
    with ExitStack() as stack:
        place = stack.enter_context(located(environment))
        here = stack.enter_context(engine_at(place.url, name=_NAME))
        try:
            there = stack.enter_context(engine_at(url, name=_NAME))
        except ConfigError as error:
            key = f"database_url_file of cell {to}"
            raise ConfigError(error.problem, file=str(target.database_url_file), key=key) from None
        way = Way(site, environment.cell_id, to, edges_url or target.url)
        yield _Ends(here, there, way)


def _cell(cells: tuple[Cell, ...], to: str) -> Cell:
    found = next((cell for cell in cells if cell.id == to), None)
    if found is None:
        known = ", ".join(cell.id for cell in cells) or "none; name the file of cells in WATTLINE_CELLS_FILE"
        raise ConfigError(f"there is no cell {to!r}; known are {known}", key="--to")
    return found
