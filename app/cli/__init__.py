"""The ``wattline`` command.

``commands`` declares every command with its options; each calls one function of the module that does
the work, imported only then. ``helptext`` answers ``--help`` and ``--version`` before any of that is
imported. ``opening`` finds the database and the site file, ``console`` is all that prints.
"""

from __future__ import annotations

import sys

from app.cli import helptext


def main() -> None:
    """Run the command line; exits 0 (ok), 1 (ran and failed) or 2 (wrong use)."""
    answer = helptext.answer(sys.argv[1:])
    if answer is not None:
        sys.stdout.write(answer)
        sys.exit(0)
    from app.cli.commands import run

    run()
