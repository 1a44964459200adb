"""One fault run of the fleet: fault after fault in the order of a seed, then the reckoning in every cell."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random
from typing import NamedTuple

from app.jobs.ingest import Ingest
from app.jobs.verify import verify
from collectors.spool import Spool
from tests.faults.account import Account, compared, held
from tests.faults.collector import Said, read_journals, read_twice
from tests.faults.fleet.faults import SETTLE_S, Extent, Faults, Measured, Say
from tests.faults.fleet.parts import CELLS, LOOK_S, Cell, Edge, Process, points
from tests.faults.fleet.world import World
from tests.waiting import until

OF_ALL: Mapping[str, Callable[[Faults], None]] = {
    "servers of the hub killed": Faults.hub_servers_killed,
    "disks of the hub lost": Faults.hub_disks_lost,
    "all edges return": Faults.all_return,
}
"""Faults that touch every cell; nothing else is broken meanwhile."""
OF_A_CELL: Mapping[str, Callable[[Faults, Cell], None]] = {
    "line down": Faults.line_down,
    "consumer killed": Faults.consumer_killed,
    "two edges with one key": Faults.two_edges_with_one_key,
    "two workers": Faults.two_workers,
    "site file applied": Faults.site_file_applied,
    "database away": Faults.database_away,
    "primary switched": Faults.primary_switched,
    "clock ahead": Faults.clock_ahead,
    "clock behind": Faults.clock_behind,
}
"""Faults of one cell, or of an edge of it; each cell has another one at the same time."""
_until = partial(until, pause_s=LOOK_S)
WITH_STANDBY = CELLS[-1]
"""The cell whose database has a standby."""


class Round(NamedTuple):
    """One fault of all cells, then one in each cell."""

    of_all: str
    of_cell: Mapping[str, str]

    @property
    def kinds(self) -> list[str]:
        """What breaks."""
        return [self.of_all, *self.of_cell.values()]


def rounds(random: Random) -> Iterator[Round]:
    """Rounds for ever; three have each fault once."""
    while True:
        common, own = list(OF_ALL), [kind for kind in OF_A_CELL if kind != "primary switched"]
        random.shuffle(common)
        random.shuffle(own)
        own.insert(random.randrange(len(common)) * len(CELLS) + CELLS.index(WITH_STANDBY), "primary switched")
        for number, kind in enumerate(common):
            mine = own[number * len(CELLS) :][: len(CELLS)]
            yield Round(kind, dict(zip(CELLS, mine, strict=True)))


@dataclass
class Outcome:
    """What a run showed."""

    seed: int
    kinds: list[str]
    measured: list[Measured]
    accounts: dict[str, Account]
    """By site."""
    wrong: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether everything is as it has to be."""
        return not (self.wrong or any(account.wrong for account in self.accounts.values()))

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {len(self.kinds)} faults: {', '.join(self.kinds)}"]
        lines += [f"{site}: {account}" for site, account in sorted(self.accounts.items())]
        return "\n".join([*lines, *map(str, self.measured), *self.wrong])


def play(
    world: World,
    seed: int,
    most: int,
    extent: Extent,
    say: Say,
    *,
    slowness: float = 1.0,
    recovery_s: float = 120.0,
    is_over: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Break things in a fleet that works, in the order of a seed, and draw up the account.

    Parameters
    ----------
    world : World
    seed : int
    most : int
        How many rounds.
    extent : Extent
    say : callable
        Told what happens.
    slowness : float
        What is measured may be so many times what is asked.
    recovery_s : float
        Longest wait for anything after a fault. [s]
    is_over : callable
        Asked after each three rounds, which have every fault.

    Raises
    ------
    TimeoutError
        If something does not work again after a fault.
    """
    faults = Faults(world, Random(seed), say, extent, slowness=slowness, recovery_s=recovery_s)
    kinds: list[str] = []
    try:
        faults.until_live()
        for number, one in zip(count(), rounds(Random(seed)), strict=False):
            if number >= most or (number and number % len(OF_ALL) == 0 and is_over()):
                break
            kinds += one.kinds
            _play_round(world, faults, one, say)
        say("reckoning")
        accounts, wrong = _reckoned(world, faults, recovery_s)
    except Exception as error:
        error.add_note(last_words(world))
        raise
    return Outcome(seed, kinds, faults.measured, accounts, faults.wrong + wrong)


def _play_round(world: World, faults: Faults, one: Round, say: Say) -> None:
    """One fault of all, then one in each cell at the same time."""
    say(one.of_all)
    OF_ALL[one.of_all](faults)
    say("; ".join(f"{cell}: {kind}" for cell, kind in one.of_cell.items()))
    problems: list[Exception] = []

    def break_it(cell: Cell, kind: str) -> None:
        try:
            OF_A_CELL[kind](faults, cell)
            say(f"    {cell.name}: {kind}: works again")
        except Exception as error:  # noqa: BLE001 - raised below, when all threads have ended
            error.add_note(f"{cell.name}: {kind}")
            problems.append(error)
        finally:
            for cell in world.cells.values():
                cell.forget_connection()

    threads = [
        threading.Thread(target=break_it, args=(world.cells[cell], kind), name=kind)
        for cell, kind in one.of_cell.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


# -- the reckoning -------------------------------------------------------------------------------------


def _reckoned(world: World, faults: Faults, recovery_s: float) -> tuple[dict[str, Account], list[str]]:
    """The account of each site, and what else is wrong; nothing is measured meanwhile."""
    world.meters.silence()
    threading.Event().wait(SETTLE_S)
    try:
        for edge in world.edges.values():
            until(
                lambda edge=edge: edge.waiting() == 0,
                recovery_s,
                f"an empty spool of {edge.site}",
                pause_s=LOOK_S,
            )
        accounts: dict[str, Account] = {}
        wrong: list[str] = []
        for cell in world.cells.values():
            _store_what_is_left(cell)
            accounts |= _accounts(world, cell, faults.kept_back, recovery_s)
            wrong += _breaches(cell, recovery_s)
        wrong += [text for edge in world.edges.values() for text in _left(edge)]
    finally:
        world.meters.silence(silent=False)
    return accounts, wrong


def _store_what_is_left(cell: Cell) -> None:
    """Store what waits in spools of workers that do not run."""
    running = cell.folder / "data-service"
    ingest = Ingest(cell.engine, "poller")
    for path in cell.spools():
        if running not in path.parents:
            with closing(Spool(path)) as spool:
                while (batch := spool.take()).readings:
                    ingest.stow(batch.readings)
                    spool.ack(batch)
                ingest.write_ledger(spool)


def _accounts(world: World, cell: Cell, kept_back: set[Said], recovery_s: float) -> dict[str, Account]:
    """The account of each site of a cell, as soon as it is in order, or at last."""
    found: dict[str, Account] = {}

    def are_in_order() -> bool:
        tried, acknowledged = read_journals(world.journals)
        twice = read_twice(world.journals)
        there = held(cell.engine)
        for site in cell.sites:
            own = points(site)
            said = ({one for one in some | kept_back if one.point in own} for some in (tried, acknowledged))
            found[site] = compared(there.of(own), *said, twice)
        return not any(account.wrong for account in found.values())

    with suppress(TimeoutError):  # what is wrong is in the accounts
        until(are_in_order, recovery_s / 4, pause_s=1.0)
    return found


def _breaches(cell: Cell, recovery_s: float) -> list[str]:
    """What ``wattline verify`` finds, once nothing waits for its rollup."""
    until(
        lambda: cell.rows("SELECT count(*) FROM rollup_queue") == [(0,)],
        recovery_s,
        "the last rollup",
        pause_s=LOOK_S,
    )
    return [f"verify in {cell.name}: {breach}" for breach in verify(cell.engine).breaches]


def _left(edge: Edge) -> Iterator[str]:
    """What lies in spools of an edge whose process does not run."""
    for path in edge.spools():
        if edge.data() not in path.parents:
            with closing(Spool(path)) as spool:
                if len(spool):
                    yield f"{len(spool)} readings lie in {path}"


def verified(cell: Cell) -> list[str]:
    """What the command ``wattline verify`` says, as an operator gives it."""
    done = cell.command("verify", "--json")
    breaches = json.loads(done.stdout)["breaches"] if done.stdout else [done.stderr]
    return [f"wattline verify in {cell.name}: {breach}" for breach in breaches]


def stopped(world: World) -> list[str]:
    """Stop every process as an operator does; those that do not end well."""
    running = [process for process in world.processes() if process.is_running]
    return [
        f"{p.name} of {p.log.parent.name} ended with {code}: {p.last_words()}" for p, code in _codes(running)
    ]


def _codes(processes: list[Process]) -> Iterator[tuple[Process, int]]:
    for process in processes:
        code = process.stop()
        if code:
            yield process, code


def last_words(world: World) -> str:
    """What the processes said last, and how far every site is."""
    said = [f"{p.log}: {p.last_words()}" for p in world.processes() if p.starts]
    far = [str(cell.progress()) for cell in world.cells.values()]
    waits = [f"{edge.site} waits: {edge.waiting()}" for edge in world.edges.values()]
    return "\n".join([*said, *far, *waits])


def whole_run(
    seed: int, most: int, extent: Extent, say: Say, is_over: Callable[[], bool], **options: float
) -> Outcome:
    """A run on a fleet of its own, with what operators do at the end; see :func:`play`."""
    from tests.faults.fleet.world import begun

    with begun() as world:
        say("the fleet is at work")
        outcome = play(world, seed, most, extent, say, is_over=is_over, **options)
        outcome.wrong += [text for cell in world.cells.values() for text in verified(cell)]
        outcome.wrong += stopped(world)
    return outcome
