"""``python -m tests.faults.fleet [--seconds S] [--seed N] [--short] [--plant WHAT] ...``.

Exits 1 if anything is wrong. Each fault is played at least once; then again until the time is over.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import time

import structlog

from app.cli.console import show
from tests.faults.fleet.faults import LONG, SHORT
from tests.faults.fleet.process import PLANT, PLANTS
from tests.faults.fleet.run import whole_run
from tests.faults.fleet.world import slowness
from tests.programs import ProgramMissing, find_program


def main() -> int:
    """Run as the arguments say; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fleet", description=__doc__)
    parser.add_argument("--seconds", type=float, default=480.0, help="no other rounds begin after this time")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--recovery", type=float, default=180.0, help="longest wait after a fault [s]")
    parser.add_argument(
        "--slowness",
        type=float,
        help="what is measured may be so many times what is asked; default: measured",
    )
    parser.add_argument("--short", action="store_true", help="one round, as in the tests")
    parser.add_argument("--plant", choices=PLANTS, help="a fault of the product itself: the run has to fail")
    asked = parser.parse_args()
    try:
        find_program("faketime")
    except ProgramMissing as missing:
        show(str(missing))
        return 1
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.getLogger("app").setLevel(logging.CRITICAL)
    if asked.plant:
        os.environ[PLANT] = asked.plant
    slower, began = asked.slowness or slowness(), time.monotonic()
    show(f"seed {asked.seed}; this machine is {slower:.1f} times as slow as an idle one")

    def say(text: str) -> None:
        show(f"{time.monotonic() - began:6.1f} s  {text}")

    outcome = whole_run(
        asked.seed,
        1 if asked.short else sys.maxsize,
        SHORT if asked.short else LONG,
        say,
        lambda: time.monotonic() - began > asked.seconds,
        slowness=slower,
        recovery_s=asked.recovery,
    )
    show(str(outcome))
    show("everything adds up" if outcome.holds else f"WRONG; again with: --seed {asked.seed}")
    return 0 if outcome.holds else 1


if __name__ == "__main__":
    sys.exit(main())
