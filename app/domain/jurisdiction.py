"""Where a site lies in law: a country (ISO 3166-1) or a part of one (ISO 3166-2), and what holds there."""

from __future__ import annotations

import re
from collections.abc import Iterable

_CODE = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")

EUROPEAN_UNION = "EU"
"""Code that stands for every member state."""
_MEMBERS = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
MEMBER_STATES = frozenset(_MEMBERS[n : n + 2] for n in range(0, len(_MEMBERS), 3))


def check_jurisdiction(text: str) -> None:
    """Raise ValueError unless `text` is a code of a country or of a part of one, or empty."""
    if text and not _CODE.fullmatch(text):
        raise ValueError(
            f"jurisdiction {text!r}; write a country (ISO 3166-1) or a part of one (ISO 3166-2), "
            "such as CN, CN-BJ or DE"
        )


def lies_in(jurisdiction: str, places: Iterable[str]) -> bool | None:
    """Whether a site lies in one of some places.

    Parameters
    ----------
    jurisdiction : str
        Of the site, such as ``CN-BJ``; empty: not stated.
    places : iterable of str
        Countries, parts of countries, or ``EU``; none: everywhere.

    Returns
    -------
    bool or None
        None: it cannot be said, because the site states no place, or only the country of a part.
    """
    wanted = set(places)
    if not wanted:
        return True
    if not jurisdiction:
        return None
    country = jurisdiction[:2]
    own = {jurisdiction, country} | ({EUROPEAN_UNION} if country in MEMBER_STATES else set())
    if own & wanted:
        return True
    is_country_only = jurisdiction == country and any(p.startswith(f"{country}-") for p in wanted)
    return None if is_country_only else False
