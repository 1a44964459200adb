"""This worker among the workers of one database: which sites it measures, and whether it runs the jobs."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import structlog

from app.errors import StoreUnavailable
from app.store import site_sources, workers
from app.store.engine import Connection, Engine, before_commit, begin, glance
from app.store.workers import LEASE_S, Share, Worker

_log = structlog.get_logger(__name__)


class Membership:
    """Keeps this worker's leases; one thread beats, any may ask.

    As long as the database was never reached, the worker measures what its site file names: nobody can know
    of the others then, and what two of them read is stored once, see :meth:`lost`.

    Parameters
    ----------
    engine : Engine
    sites : frozenset, optional
        Sites that the worker's site file names; None: it has no file and knows every site.
    owner : str
        Whose the site file is; where that is given, the sites it describes now are looked up at every beat.
    worker_id : str
        Made anew at each start, and in the names of the sessions of `engine`; default: any.
    clock : callable
        Seconds that nobody sets.
    """

    def __init__(
        self,
        engine: Engine,
        sites: frozenset[str] | None,
        owner: str = "",
        *,
        worker_id: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        name = f"{socket.gethostname()}:{os.getpid()}"
        self._engine, self._clock, self._owner = engine, clock, owner
        self._worker = Worker(worker_id or secrets.token_hex(8), name, sites)
        self._this_thread = threading.local()
        before_commit(engine, self._check_commit)
        self._share: Share | None = None
        self._beat_s = -LEASE_S

    @property
    def has_jobs(self) -> bool:
        """Whether this worker runs the jobs of all; not where its lease may have ended."""
        is_kept = self._clock() - self._beat_s < LEASE_S
        return self._share is not None and self._share.has_jobs and is_kept

    @contextmanager
    def doing_jobs(self) -> Iterator[None]:
        """Within the block this thread commits nothing once another worker has taken over the jobs."""
        self._this_thread.does_jobs = True
        try:
            yield
        finally:
            self._this_thread.does_jobs = False

    def _check_commit(self, connection: Connection) -> None:
        if getattr(self._this_thread, "does_jobs", False):
            workers.hold_jobs(connection, self._worker)

    def measures(self, site: str) -> bool:
        """Whether a site is this worker's to measure, as far as is known.

        It goes on where the database is away: then nobody else can take the site, or what both read after
        that is stored once.
        """
        return self._share is None or site in self._share.sites

    def beat(self, sites: Sequence[str]) -> bool:
        """Keep and take leases among the `sites` that are declared; whether anything changed.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        began_s, before = self._clock(), self._share
        with begin(self._engine) as connection:
            if self._owner:
                described = frozenset(site_sources.described_by(connection, self._owner))
                self._worker = self._worker._replace(sites=described)
            self._share = workers.beat(connection, self._worker, sites)
        self._beat_s = began_s
        if self._share != before:
            _log.info("this worker measures", sites=len(self._share.sites), jobs=self._share.has_jobs)
        return self._share != before

    def lost(self) -> dict[str, datetime]:
        """Sites that another worker measures, and since when.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        with glance(self._engine) as connection:
            return workers.lost(connection, self._worker)

    def leave(self) -> None:
        """Give everything up, if the database is there."""
        if self._clock() - self._beat_s > LEASE_S:
            return
        try:
            with begin(self._engine) as connection:
                workers.leave(connection, self._worker)
        except StoreUnavailable as error:
            _log.warning("leases end by themselves", after_s=LEASE_S, problem=str(error))
