"""PUE of several sites together."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import sqlalchemy as sa

from app.domain.indicators import FleetPue, fleet_pue
from app.domain.limits import LimitProfile
from app.domain.period import Period
from app.domain.pue import PueDocument
from app.store import pue as single
from app.store.sites import Stored


def pue(
    connection: sa.Connection,
    stored: Stored,
    spans: Mapping[str, Period],
    profiles: Mapping[str, LimitProfile],
) -> tuple[list[PueDocument], FleetPue]:
    """The document of each site over its span, and the figure of all whose PUE can be said.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    documents = [single.document(connection, stored, s, span, profiles) for s, span in spans.items()]
    said = [d.pue is not None for d in documents]
    sums = {
        "facility_kwh": [
            d.facility_kwh if ok else float("nan") for d, ok in zip(documents, said, strict=True)
        ],
        "it_kwh": [d.it_kwh if ok else float("nan") for d, ok in zip(documents, said, strict=True)],
    }
    return documents, fleet_pue(pd.DataFrame(sums, index=[d.site for d in documents], dtype=float))
