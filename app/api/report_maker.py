"""The thread that makes ordered reports, one at a time, beside the requests.

Orders lie in the database: whichever process is free makes the next, one that dies leaves its order to
another, and any process can serve the file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

import structlog

from app.api import reports
from app.errors import NotFound, StoreUnavailable, WattlineError
from app.reports import output
from app.reports.document import Document
from app.store import sites
from app.store.engine import Connection, Engine, begin, connect, unhurried
from app.store.reports import orders
from app.store.reports.orders import FAILED, Order

LOOK_EVERY_S = 30.0
"""Orders of other processes are found by looking; one's own by a bell."""

_log = structlog.get_logger(__name__)


STOP_S = 1.0
"""Longest wait for a step of a report when the process stops. [s]"""


class _Stopped(Exception):
    """The process is stopping; the order waits for another."""


class Maker:
    """Makes ordered reports until stopped."""

    def __init__(self, engine: Engine, clock: Callable[[], datetime]) -> None:
        self._engine, self._clock = engine, clock
        self._bell, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="report maker", daemon=True)

    def start(self) -> None:
        """Start looking for orders."""
        self._thread.start()

    def ring(self) -> None:
        """There is something to do."""
        self._bell.set()

    def stop(self) -> None:
        """Stop; an order in the making is left to whoever comes next, here or after the next start."""
        self._stopping.set()
        self._bell.set()
        self._thread.join(STOP_S)

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._bell.wait(LOOK_EVERY_S)
            self._bell.clear()
            try:
                self._make_all()
            except StoreUnavailable:
                continue
            except Exception:  # noqa: BLE001 - one order's fault must not end the others
                _log.exception("ordered reports failed; retrying")

    def _make_all(self) -> None:
        with begin(self._engine) as connection:
            orders.forget(connection, self._clock())
        while not self._stopping.is_set():
            with begin(self._engine) as connection:
                order = orders.claim(connection, self._clock())
            if order is None:
                return
            if order.state != FAILED:
                self._make(order)

    def _make(self, order: Order) -> None:
        try:
            document, made = self._made(order)
        except _Stopped:
            with begin(self._engine) as connection:
                orders.release(connection, order, self._clock())
        except StoreUnavailable:
            raise
        except WattlineError as error:
            self._fail(order, str(error))
        except Exception:
            self._fail(order, "an unexpected error, see the log; order it again")
            raise
        else:
            form = output.FORMS[order.wanted.format]
            name = output.file_name(document, order.wanted.format, order.wanted.lang)
            with begin(self._engine) as connection:
                orders.finish(connection, order, name, form.media_type, made, self._clock())

    def _fail(self, order: Order, problem: str) -> None:
        with begin(self._engine) as connection:
            orders.fail(connection, order, problem, self._clock())

    def _made(self, order: Order) -> tuple[Document, bytes]:
        wanted = order.wanted
        with connect(self._engine) as connection, unhurried(connection):
            document = self._document(connection, order)
        return document, output.render(document, wanted.format, wanted.lang)

    def _document(self, connection: Connection, order: Order) -> Document:
        """The report, telling how far it is: a step for every site, and one for setting it."""
        stored, wanted = sites.load(connection), order.wanted
        if wanted.site:
            site = stored.fleet.site.get(wanted.site)
            if site is None:
                raise NotFound(f"there is no site {wanted.site!r} any more")
            self._step(order, 0, 2)
            one = reports.of_site(connection, stored, site, wanted.period, wanted.revision, self._clock())
            self._step(order, 1, 2)
            return one
        bank = stored.fleet.institution.get(wanted.institution)
        if bank is None:
            raise NotFound(f"there is no institution {wanted.institution!r} any more")
        total = len(reports.sites_of(stored, bank)) + 1
        self._step(order, 0, total)
        return reports.of_institution(
            connection,
            stored,
            bank,
            wanted.period,
            wanted.revision,
            self._clock(),
            on_site=lambda done: self._step(order, done, total),
        )

    def _step(self, order: Order, done: int, total: int) -> None:
        if self._stopping.is_set():
            raise _Stopped
        with begin(self._engine) as connection:
            orders.touch(connection, order, done, total, self._clock())
