"""Reports: order one to be made in the background, find an order again."""

from __future__ import annotations

import uuid

from app.actions.view import View
from app.domain.period import month_or_year
from app.errors import NotFound
from app.reports.language import language
from app.store.reports import orders
from app.store.reports.orders import Order, Wanted


def order(view: View, wanted: Wanted) -> Order:
    """Have a report made in the background; one that is ordered already is not ordered twice.

    Raises
    ------
    NotFound
        If there is no such site, institution or language, or the caller may not know of it.
    SeriesError
        If the period is no month or year.
    TooBusy
        If too many orders wait.
    StoreUnavailable
        If the database is away.
    """
    if wanted.site:
        month_or_year(wanted.period, view.site(wanted.site).zone)
    else:
        view.institution(wanted.institution)
    language(wanted.lang)
    made = orders.put(view.connection, wanted, view.principal.name, view.now)
    detail = {"period": wanted.period, "form": wanted.format, "order": str(made.id)}
    view.audit("report.order", wanted.site or wanted.institution, detail)
    return made


def find_order(view: View, order_id: uuid.UUID) -> Order:
    """The order, if the caller may see the report.

    Raises
    ------
    NotFound
        If there is none, or the caller may not know of it.
    StoreUnavailable
        If the database is away.
    """
    found = orders.get(view.connection, order_id)
    try:
        if found.wanted.site:
            view.site(found.wanted.site)
        else:
            view.institution(found.wanted.institution)
    except NotFound:
        raise orders.missing(order_id) from None
    return found
