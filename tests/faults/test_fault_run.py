"""Three short fault runs whose seeds are kept; `make faults` is the long one.

Another seed is tried with ``python -m tests.faults --seed N``.
"""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest

from tests.faults.run import KINDS, in_order, run

SEEDS = (1, 5, 16)
FAULTS = 3
"""By seed; together every kind comes."""


def test_the_seeds_break_everything() -> None:
    chosen = [kind for seed in SEEDS for kind in islice(in_order(Random(seed)), FAULTS)]
    assert set(chosen) == set(KINDS)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_acknowledged_is_stored_once_or_in_the_ledger(seed: int) -> None:
    outcome = run(seed, FAULTS)
    assert outcome.holds, str(outcome)
    assert outcome.account.acknowledged > 100, str(outcome)
