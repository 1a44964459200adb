"""``wattline doctor``: what of a deployment can be checked from here, and what to do about it."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from app import __version__
from app.cli import doctor_lines
from app.cli.console import show, show_json, show_table
from app.cli.environment import cells_of, settings
from app.cli.opening import has_database, located
from app.config import Settings
from app.domain import checkup
from app.domain.checkup import Check, Outcome
from app.errors import ConfigError, WattlineError
from app.fleet import state
from app.fleet.cells import Cell
from app.fleet.fanout import DEADLINE_S, Answer
from app.fleet.state import CellState
from app.store import (
    compression,
    deployment,
    edges,
    progress,
    readiness,
    roles,
    site_moves,
    versions,
    workers,
)
from app.store.edges import Edge
from app.store.engine import Connection, Engine, connect, make_engine
from app.store.supported import Server


def doctor(*, as_json: bool) -> bool:
    """Print what was found; False where anything is a fault.

    Raises
    ------
    ConfigError
        If the environment is not understood.
    """
    environment = settings()
    is_edge = bool(environment.centre_url)
    checks = [
        *_machine(environment),
        *(() if is_edge else _database(environment)),
        *(doctor_lines.centre(environment) if is_edge else doctor_lines.hub(environment)),
        *_fleet(environment),
        *_addresses(environment),
    ]
    if as_json:
        show_json({"outcome": checkup.worst(checks), "checks": [asdict(check) for check in checks]})
    else:
        show_table(["", "what", "found", "what to do"], map(_row, checks))
        show(_summary(checks))
    return checkup.worst(checks) is not Outcome.FAULT


def _row(check: Check) -> list[str]:
    return [check.outcome, check.subject, check.found, check.remedy]


def _summary(checks: list[Check]) -> str:
    counts = {outcome: sum(c.outcome is outcome for c in checks) for outcome in Outcome}
    return f"{counts[Outcome.FAULT]} faults, {counts[Outcome.WARNING]} warnings, {counts[Outcome.OK]} ok"


def _machine(environment: Settings) -> Iterator[Check]:
    yield Check("Wattline here", Outcome.OK, __version__)
    folder = environment.data_dir
    if folder.is_dir():
        space = shutil.disk_usage(folder)
        yield checkup.disk(f"disk of {folder}", space.free, space.total)
    else:
        yield Check(f"data folder {folder}", Outcome.WARNING, "does not exist", "`wattline serve` makes it")


# -- database ----------------------------------------------------------------------------------------


def _database(environment: Settings) -> Iterator[Check]:
    if not has_database():
        yield Check("database", Outcome.WARNING, "there is none yet", "`wattline serve` makes one")
        return
    try:
        with located(environment) as place:
            engine = make_engine(place.url, application_name="wattline doctor")
            try:
                yield from _store(engine)
            finally:
                engine.dispose()
    except WattlineError as error:
        yield Check("database", Outcome.FAULT, str(error), "start it, or correct WATTLINE_DATABASE_URL")


def _store(engine: Engine) -> Iterator[Check]:
    ready = readiness.check(engine)
    if ready.revision != ready.needed:
        yield Check("schema", Outcome.FAULT, ready.problem or "", "wattline db upgrade")
        return
    yield Check("schema", Outcome.OK, f"revision {ready.revision}")
    if roles.owns_the_audit_log(engine):
        yield Check(
            "audit log",
            Outcome.WARNING,
            "the service's role owns it, so it could be disarmed",
            "set WATTLINE_DATABASE_OWNER_URL and run `wattline db upgrade`",
        )
    with connect(engine) as connection:
        yield from _server(connection)
        yield from _work(connection)
        yield from _edges(connection)
        yield from _moves(connection)


def _server(connection: Connection) -> Iterator[Check]:
    found = versions.of(connection)
    problem = found.problem
    if problem:
        yield Check("database server", Outcome.FAULT, problem, "upgrade it")
    else:
        yield Check("database server", Outcome.OK, _named(found))
    for warning in found.warnings:
        yield Check("database server", Outcome.WARNING, warning)
    before = datetime.now(UTC)
    theirs = deployment.clock(connection)
    after = datetime.now(UTC)
    doubt_s = (after - before).total_seconds()
    yield checkup.clock("clock of the database", (theirs - after).total_seconds(), doubt_s)
    for one in compression.states(connection):
        outcome = Outcome.FAULT if one.problem else Outcome.OK
        yield Check(f"compression of {one.table}", outcome, one.problem or "keeps up")


def _named(server: Server) -> str:
    own = f"PostgreSQL {_dotted(server.postgresql)}"
    return own if server.timescaledb is None else f"{own}, TimescaleDB {_dotted(server.timescaledb)}"


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _edges(connection: Connection) -> Iterator[Check]:
    for edge in edges.listing(connection):
        if not edge.is_revoked:
            yield from _edge(edge)


def _edge(edge: Edge) -> Iterator[Check]:
    name = f"edge {edge.name}"
    if edge.last_seen_at is None:
        yield Check(name, Outcome.WARNING, "has never connected", "start `wattline serve --role edge` there")
        return
    if not edge.is_online:
        found = f"last heard of at {edge.last_seen_at:%Y-%m-%d %H:%M:%SZ}"
        yield Check(name, Outcome.FAULT, found, "see its page or its log, and the line")
        return
    yield Check(name, Outcome.OK, f"{edge.waiting} readings wait there")
    if edge.version != __version__:
        found = f"{edge.version}, here {__version__}"
        yield Check(f"version of {name}", Outcome.WARNING, found, "upgrade it")
    if edge.clock_offset_s is not None:
        yield checkup.clock(f"clock of {name}", edge.clock_offset_s)
    if edge.newest_revision and not edge.is_current:
        found = edge.problem or f"revision {edge.revision} of {edge.newest_revision}"
        yield Check(f"definitions of {name}", Outcome.WARNING, found, "see its page")
    if edge.unknown_readings:
        found = f"{edge.unknown_readings} readings wait, of {', '.join(edge.unknown_points)}"
        yield Check(f"undeclared points of {name}", Outcome.WARNING, found, "declare them in the site file")


def _moves(connection: Connection) -> Iterator[Check]:
    """Sites that are on their way to another cell, and readings that came after they had gone."""
    held = site_moves.held(connection)
    for move in site_moves.current(connection):
        name, again = f"move of {move.site}", f"run again: wattline cells move {move.site} --to {move.cell}"
        if move.direction == site_moves.IN:
            yield Check(name, Outcome.WARNING, f"comes from cell {move.cell}", "run the command there again")
        elif move.state is not site_moves.State.MOVED:
            outcome = Outcome.WARNING if move.state is site_moves.State.COPYING else Outcome.FAULT
            yield Check(name, outcome, f"to cell {move.cell}, {move.state}", again)
        elif count := held.get(move.site):
            yield Check(name, Outcome.FAULT, f"{count} readings wait to be sent after it", again)
        else:
            yield Check(name, Outcome.OK, f"is in cell {move.cell}")


def _work(connection: Connection) -> Iterator[Check]:
    members = workers.members(connection)
    if members:
        yield Check("workers", Outcome.OK, ", ".join(member.name for member in members))
    else:
        yield Check("workers", Outcome.FAULT, "none is at work", "start `wattline serve`")
    found = progress.look(connection)
    for site, lag_s in found.lag_s.items():
        yield checkup.lag(f"figures of {site}", lag_s)
    for site, months in found.failed_months.items():
        if months:
            what = f"{months} months could not be looked at"
            yield Check(f"findings of {site}", Outcome.FAULT, what, "see the log of the worker")
    for site, files in found.failed_files.items():
        if files:
            what = f"{files} files were set aside"
            yield Check(f"imports of {site}", Outcome.WARNING, what, "correct or remove them")


# -- other machines ----------------------------------------------------------------------------------


def _fleet(environment: Settings) -> Iterator[Check]:
    try:
        cells = cells_of(environment)
    except ConfigError as error:
        yield Check("cells", Outcome.FAULT, str(error), "correct the file of WATTLINE_CELLS_FILE")
        return
    before = datetime.now(UTC)
    for answer in state.ask(cells, deadline_s=DEADLINE_S):
        yield from _cell(answer, before)


def _cell(answer: Answer[CellState], before: datetime) -> Iterator[Check]:
    name = f"cell {answer.cell.id}"
    if answer.said is None:
        yield Check(name, Outcome.FAULT, answer.problem, "`wattline doctor` there says more")
        return
    yield checkup.version(name, answer.said.version, __version__)
    if answer.said.at is not None:
        offset_s = (answer.said.at - before).total_seconds() - answer.took_s / 2
        yield checkup.clock(f"clock of {name}", offset_s, answer.took_s / 2)
    if answer.said.figures_lag_s is not None:
        yield checkup.lag(f"figures of {name}", answer.said.figures_lag_s)


def _addresses(environment: Settings) -> Iterator[Check]:
    """Certificates of the addresses that the settings name."""
    named = {"WATTLINE_PUBLIC_URL": environment.public_url, "WATTLINE_OIDC_ISSUER": environment.oidc_issuer}
    for key, url in named.items():
        if url.startswith("https://"):
            yield doctor_lines.certificate(f"certificate of {key}", url, ssl.create_default_context())
    try:
        cells = cells_of(environment)
    except ConfigError:
        return
    for cell in cells:
        if cell.url.startswith("https://"):
            yield doctor_lines.certificate(f"certificate of cell {cell.id}", cell.url, _trust(cell))


def _trust(cell: Cell) -> ssl.SSLContext:
    found = cell.trust()
    return found if isinstance(found, ssl.SSLContext) else ssl.create_default_context()
