"""``python -m tests.faults [--seconds S] [--seed N] [--sites N] [--recovery S]``: exits 1 if any is wrong."""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time

import structlog

from app.cli.console import show
from tests.faults.run import RECOVERY_S, run
from tests.faults.world import SITES
from tests.programs import ProgramMissing, find_program

PROGRAMS = {"faketime": "faketime"}
"""Programs that a run needs, with Debian's package."""


def main() -> int:
    """Run as the arguments say; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seconds", type=float, default=240.0, help="how long things are broken")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--sites", type=int, default=SITES, help="how many sites there are, at least two")
    parser.add_argument(
        "--recovery", type=float, default=RECOVERY_S, help="longest wait for new readings after a fault [s]"
    )
    asked = parser.parse_args()
    try:
        for program, package in PROGRAMS.items():
            find_program(program, package)
    except ProgramMissing as missing:
        show(str(missing))
        return 1
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.getLogger("app").setLevel(logging.ERROR)
    began = time.monotonic()
    show(f"seed {asked.seed}, {asked.sites} sites")

    def say(text: str) -> None:
        show(f"{time.monotonic() - began:6.1f} s  {text}")

    outcome = run(
        asked.seed,
        sys.maxsize,
        asked.seconds,
        say,
        sites=asked.sites,
        patient=True,
        recovery_s=asked.recovery,
    )
    show(str(outcome))
    again = f"--seed {asked.seed} --sites {asked.sites}"
    show("everything adds up" if outcome.holds else f"WRONG; again with: {again}")
    return 0 if outcome.holds else 1


if __name__ == "__main__":
    sys.exit(main())
