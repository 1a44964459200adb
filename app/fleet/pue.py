"""PUE of all cells together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pandas as pd
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from app.domain.access import Principal
from app.domain.indicators import FleetPue, fleet_pue
from app.domain.limits import LimitProfile
from app.domain.period import Period
from app.fleet import fanout
from app.fleet.cells import Cell
from app.fleet.fanout import Answer, NotUnderstood
from app.store import pue as single
from app.store.engine import Connection
from app.store.sites import Stored

PATH = "/fleet/pue"

_Energy = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _SitePue(BaseModel):
    """What is needed of a site's PUE document."""

    site: str
    pue: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    facility_kwh: _Energy
    it_kwh: _Energy


class _CellPue(BaseModel):
    sites: list[_SitePue]
    institution_of: dict[str, str]


_SHAPE = TypeAdapter(_CellPue)


@dataclass(frozen=True, slots=True)
class SitePue:
    """The PUE of one site, and where it comes from."""

    cell: str
    institution: str
    document: Mapping[str, Any]
    """PUE document of the site, as its cell gave it."""

    @property
    def site(self) -> str:
        """Id of the site."""
        return str(self.document["site"])


@dataclass(frozen=True, slots=True)
class Together:
    """All sites of all cells that answered."""

    sites: tuple[SitePue, ...]
    """A site that two cells have is there twice."""
    figure: FleetPue
    """Of the sites that one cell has; the others are left out, so that nothing counts twice."""
    twice: tuple[str, ...]
    """Sites that more than one cell has."""
    missing: tuple[str, ...]
    """Cells whose sites are not in the figure."""


def understand(cell: Cell, document: Any) -> tuple[SitePue, ...]:
    """What a cell says of its sites.

    Raises
    ------
    NotUnderstood
        If it is not an answer of ``/fleet/pue``.
    """
    try:
        found = _SHAPE.validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise NotUnderstood(f"the answer is of another version: {where}: {first['msg']}") from None
    lost = [one.site for one in found.sites if one.site not in found.institution_of]
    if lost:
        raise NotUnderstood(f"the answer does not say whose site {lost[0]} is")
    owners = found.institution_of
    return tuple(SitePue(cell.id, owners[one["site"]], one) for one in document["sites"])


def own(
    connection: Connection,
    stored: Stored,
    spans: Mapping[str, Period],
    profiles: Mapping[str, LimitProfile],
    cell: str,
) -> list[SitePue]:
    """What this cell says of its own sites, each over its span.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    sites = stored.fleet.site
    return [
        SitePue(cell, sites[s].institution, single.document(connection, stored, s, span, profiles).as_dict())
        for s, span in spans.items()
    ]


def ask(cells: Sequence[Cell], window: str, *, deadline_s: float) -> list[Answer[tuple[SitePue, ...]]]:
    """What each cell says of its sites over a window."""
    return fanout.ask(cells, PATH, {"window": window}, understand, deadline_s=deadline_s)


def visible(sites: Iterable[SitePue], principal: Principal) -> list[SitePue]:
    """Those sites of other cells that somebody may see."""
    return [
        one
        for one in sites
        if any(grant.reaches_ids(one.site, one.institution) for grant in principal.grants)
    ]


def together(sites: Sequence[SitePue], missing: Sequence[str]) -> Together:
    """The fleet's PUE: ratio of sums and weighted mean, over the sites whose PUE can be said.

    Parameters
    ----------
    sites : sequence of SitePue
        Of this cell and of those that answered.
    missing : sequence of str
        Cells that did not.
    """
    counts = Counter(one.site for one in sites)
    twice = tuple(sorted(site for site, n in counts.items() if n > 1))
    documents = {one.site: one.document for one in sites}
    table = pd.DataFrame(
        [_energies(document, is_known=site not in twice) for site, document in documents.items()],
        index=list(documents),
        columns=["facility_kwh", "it_kwh"],
        dtype=float,
    )
    return Together(tuple(sites), fleet_pue(table), twice, tuple(missing))


def _energies(document: Mapping[str, Any], *, is_known: bool) -> tuple[float, float]:
    if not is_known or document["pue"] is None:
        return float("nan"), float("nan")
    return document["facility_kwh"], document["it_kwh"]
