"""The ``wattline`` command.

``commands`` declares every command with its options; each calls one function of the module that does
the work, imported only then so that ``wattline --help`` is quick. ``opening`` finds the database and
the site file, ``console`` is all that prints.
"""

from app.cli.commands import main

__all__ = ["main"]
