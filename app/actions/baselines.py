"""Freezing a baseline: what savings and drift are measured against, never changed afterwards."""

from __future__ import annotations

from app.actions.view import View
from app.domain.access import Role
from app.domain.baseline import NoBaseline, Resolution, fit, used_rows
from app.domain.period import Period
from app.errors import SeriesError
from app.store import baselines, conditions
from app.store.baselines import Frozen


def freeze(view: View, site_id: str, period: Period, resolution: Resolution = Resolution.DAY) -> Frozen:
    """Fit a baseline to a period and freeze it; one that is not accepted as well, with its reasons.

    Raises
    ------
    NotFound
        If there is no such site, or the caller may not know of it.
    Forbidden
        If the caller is not operator of the site.
    SeriesError
        If there is no baseline of the period, with the reasons.
    StoreUnavailable
        If the database is away.
    """
    site = view.site(site_id, Role.OPERATOR)
    rows = conditions.of_site(view.connection, view.stored, site, period, resolution=resolution)
    found = fit(rows)
    if isinstance(found, NoBaseline):
        raise SeriesError(f"no baseline to freeze: {'; '.join(r.text() for r in found.reasons)}")
    number = view.stored.site_id[site_id]
    version = baselines.save(view.connection, number, found, used_rows(rows), view.principal.name)
    view.audit("baseline.freeze", site_id, {"version": version, "sha256": found.digest})
    return baselines.load(view.connection, number, version)
