"""Three short fault runs of one fleet whose seeds are kept; `make faults-fleet` is the long one.

Another seed is tried with ``python -m tests.faults.fleet --seed N``. What is measured is not judged here: the
machine may be busy with something else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random

import pytest

from app.cli.console import show
from tests.faults.fleet.faults import SHORT
from tests.faults.fleet.run import OF_A_CELL, OF_ALL, Outcome, play, rounds, stopped
from tests.faults.fleet.world import World, begun
from tests.programs import need_program

SEEDS = (0, 8, 18)
"""The first round of each; together every fault comes."""
RECOVERY_S = 240.0


@pytest.fixture(scope="module")
def fleet() -> Iterator[World]:
    """A fleet that runs, for all seeds."""
    need_program("faketime")
    with begun() as world:
        yield world


def test_the_seeds_break_everything() -> None:
    chosen = [kind for seed in SEEDS for kind in next(rounds(Random(seed))).kinds]
    assert set(chosen) == {*OF_ALL, *OF_A_CELL}


def short_run(fleet: World, seed: int) -> Outcome:
    return play(fleet, seed, 1, SHORT, show, slowness=math.inf, recovery_s=RECOVERY_S)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
def test_what_an_edge_acknowledged_is_stored_once_or_in_the_ledger(fleet: World, seed: int) -> None:
    outcome = short_run(fleet, seed)
    assert outcome.holds, str(outcome)
    assert all(account.acknowledged > 20 for account in outcome.accounts.values()), str(outcome)


@pytest.mark.timeout(300)
def test_every_process_ends_well(fleet: World) -> None:
    assert stopped(fleet) == []
