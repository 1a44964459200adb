"""Licences of everything that is pinned, as SPDX expressions, and which of them we accept.

A licence is read from what the package says of itself: its SPDX expression, else its licence field, else its
classifiers, in words that :data:`_SPDX` knows. What a package leaves open, or what is not installed on this
machine, was looked up once in its licence file and stands in :data:`_LOOKED_UP`. Nothing is guessed: a
package without a known licence, or with one that is not accepted, makes ``make lint`` fail by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from importlib import metadata
from typing import cast

from tools.locked import DEVELOPMENT, ROOT, SHIPPED, Locked, locked

BUILD = ROOT / "requirements-build.txt"

ACCEPTED = {
    "0BSD": "no conditions",
    "Apache-2.0": "keep notices",
    "BSD-2-Clause": "keep the notice",
    "BSD-3-Clause": "keep the notice",
    "CC0-1.0": "no conditions",
    "ISC": "keep the notice",
    "LGPL-3.0-only": "used unchanged as a library of its own, which whoever installs it can replace",
    "LGPL-3.0-or-later": "used unchanged as a library of its own, which whoever installs it can replace",
    "MIT": "keep the notice",
    "MIT-0": "no conditions",
    "MPL-2.0": "used unchanged; changes to its files would have to be published",
    "OFL-1.1": "fonts: used unchanged, not sold by themselves",
    "PSF-2.0": "keep the notice",
    "Zlib": "keep the notice",
}
"""SPDX identifier -> what it asks of us."""

_LOOKED_UP = {
    "aiomqtt": "BSD-3-Clause",
    "axe-playwright-python": "MIT",
    "colorama": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "patsy": "BSD-2-Clause",
    "scipy": "BSD-3-Clause",
    "uvloop": "MIT OR Apache-2.0",
}
"""What the licence file says, where the package's fields leave it open."""

_SPDX = {
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd 2-clause license": "BSD-2-Clause",
    "gnu lesser general public license v3 or later": "LGPL-3.0-or-later",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "psfl": "PSF-2.0",
    "sil open font license 1.1 (ofl-1.1)": "OFL-1.1",
}
"""Other words for the same; SPDX identifiers themselves are understood anyway."""


@dataclass(frozen=True, slots=True)
class Licensed:
    """A pinned package and its licence."""

    name: str
    version: str
    licence: str
    """SPDX expression."""
    is_shipped: bool
    """Whether an installation has it, and not the tests or the build alone."""


def every_licence() -> list[Licensed]:
    """Every package of the lock files, by name.

    Raises
    ------
    ValueError
        If a licence is not known, or not accepted; all such packages are named.
    """
    shipped = {p.name for p in locked(SHIPPED)}
    packages = {(p.name, p.version): p for path in (SHIPPED, DEVELOPMENT, BUILD) for p in locked(path)}
    found = [
        Licensed(p.name, p.version, licence_of(p) or "", p.name in shipped)
        for _, p in sorted(packages.items())
    ]
    if wrong := [problem for one in found if (problem := refusal(one.name, one.licence))]:
        raise ValueError("\n".join(wrong))
    return found


def refusal(name: str, licence: str) -> str | None:
    """Why a package may not be used; None where it may."""
    if not licence:
        return f"{name}: no known licence; read its licence file and enter it in tools/licences.py"
    if not is_accepted(licence):
        return f"{name}: {licence} is not accepted; tools/licences.py lists what is"
    return None


def is_accepted(expression: str) -> bool:
    """Whether one of the alternatives asks for accepted licences only; nothing nested is understood."""
    return any(
        all(part.strip() in ACCEPTED for part in alternative.split(" AND "))
        for alternative in expression.split(" OR ")
    )


def licence_of(package: Locked) -> str | None:
    """SPDX expression of a package, as far as it is known."""
    if package.name in _LOOKED_UP:
        return _LOOKED_UP[package.name]
    try:
        # importlib.metadata promises less than it gives: headers as of a mail.
        about = cast(Message, metadata.metadata(package.name))
    except metadata.PackageNotFoundError:
        return None
    return about["License-Expression"] or next(_known(about), None)


def _known(about: Message) -> Iterator[str]:
    """What the licence field, then the classifiers say, if it is one licence."""
    field = str(about["License"] or "").strip()
    classifiers = [
        c.rpartition(" :: ")[2]
        for c in map(str, about.get_all("Classifier", []))
        if re.match("License :: OSI Approved :: ", c)
    ]
    for text in (field, *(classifiers if len(classifiers) == 1 else ())):
        spdx = {known.lower(): known for known in ACCEPTED} | _SPDX
        if text.lower() in spdx:
            yield spdx[text.lower()]
