"""The measures ledger: declare a measure, note an adjustment, and take either back."""

from __future__ import annotations

from dataclasses import replace

from app.actions.view import View
from app.domain.access import Role
from app.domain.measure import Adjustment, Measure
from app.store import measures
from app.store.measures import MeasureEntry


def add(view: View, site_id: str, measure: Measure) -> MeasureEntry:
    """Declare a measure of a site.

    Raises
    ------
    NotFound
        If there is no such site, or the caller may not know of it.
    Forbidden
        If the caller is not operator of the site.
    SeriesError
        If the measure cannot be verified, its boundary is none of the site, or its key is taken.
    StoreUnavailable
        If the database is away.
    """
    site = view.site(site_id, Role.OPERATOR)
    measure.check()
    measure.where.check(site)
    number = view.stored.site_id[site_id]
    measures.add(view.connection, number, measure, view.principal.name)
    entry = measures.named(view.connection, number, measure.key)
    view.audit("measure.add", site_id, {"measure": measure.key, "where": str(measure.where)})
    return entry


def withdraw(view: View, site_id: str, key: str) -> MeasureEntry:
    """Take a measure back; it stays in the ledger, marked.

    Raises
    ------
    NotFound
        If there is no such site or measure in force, or the caller may not know of it.
    Forbidden
        If the caller is not operator of the site.
    StoreUnavailable
        If the database is away.
    """
    view.site(site_id, Role.OPERATOR)
    number = view.stored.site_id[site_id]
    entry = measures.withdraw(view.connection, number, key, view.principal.name)
    view.audit("measure.withdraw", site_id, {"measure": entry.measure.key})
    return next(one for one in measures.listing(view.connection, number) if one.id == entry.id)


def adjust(view: View, site_id: str, adjustment: Adjustment) -> MeasureEntry:
    """Note a non-routine adjustment of a measure, in the caller's name.

    Raises
    ------
    NotFound
        If there is no such site or measure in force, or the caller may not know of it.
    Forbidden
        If the caller is not operator of the site.
    SeriesError
        If it does not lie in the reporting period, has no reason, or its energy is no number.
    StoreUnavailable
        If the database is away.
    """
    view.site(site_id, Role.OPERATOR)
    number = view.stored.site_id[site_id]
    entry = measures.named(view.connection, number, adjustment.measure)
    adjustment.check(entry.measure)
    entered = measures.adjust(view.connection, entry, replace(adjustment, author=view.principal.name))
    detail = {"measure": entry.measure.key, "adjustment": entered, "energy_kwh": adjustment.energy_kwh}
    view.audit("measure.adjust", site_id, detail)
    return measures.named(view.connection, number, adjustment.measure)


def withdraw_adjustment(view: View, site_id: str, key: str, number: int) -> MeasureEntry:
    """Take an adjustment back; it stays in the ledger, marked.

    Raises
    ------
    NotFound
        If there is no such site, measure or adjustment in force, or the caller may not know of it.
    Forbidden
        If the caller is not operator of the site.
    StoreUnavailable
        If the database is away.
    """
    view.site(site_id, Role.OPERATOR)
    own = view.stored.site_id[site_id]
    entry = measures.named(view.connection, own, key)
    measures.withdraw_adjustment(view.connection, entry, number, view.principal.name)
    view.audit("measure.adjust.withdraw", site_id, {"measure": entry.measure.key, "adjustment": number})
    return measures.named(view.connection, own, key)
