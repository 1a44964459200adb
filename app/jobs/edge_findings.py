"""Findings about edges: clocks that are off, files that could not be read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from app.domain.edge_message import SetAside
from app.domain.quality.finding import Evidence, Finding, FindingKind, Severity
from app.domain.reading import LATEST, OLDEST
from app.store import edges, findings, sites
from app.store.edges import Edge
from app.store.engine import Connection, Engine, begin, glance
from app.store.findings import Scope
from app.store.sites import Stored

_MICROSECOND = timedelta(microseconds=1)


class EdgeFindings:
    """Keeps the findings about edges up to date; one thread runs it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._off: dict[str, tuple[datetime, float]] = {}
        self._aside: dict[str, tuple[SetAside, ...]] = {}

    def run(self, now: datetime) -> None:
        """Look at every edge.

        Raises
        ------
        StoreUnavailable
            If the database is away.
        """
        with glance(self._engine) as connection:
            found = edges.listing(connection)
        if not found:
            return
        with begin(self._engine) as connection:
            stored = sites.load(connection)
            standing = findings.standing_count(connection, FindingKind.IMPORT_FAILED)
            for site, edge in edges.by_site(found):
                if site in stored.site_id:
                    self._judge_clock(connection, stored, site, edge, now)
                    self._tell_files(connection, stored, site, edge, standing.get(site, 0))

    def _judge_clock(
        self, connection: Connection, stored: Stored, site: str, edge: Edge, now: datetime
    ) -> None:
        """A finding over the times that readings state while the clock is off; it grows as long as it is."""
        if not (edge.is_online and edge.is_clock_off) or edge.clock_offset_s is None:
            self._off.pop(site, None)
            return
        since, offset_s = self._off.get(site, (now, edge.clock_offset_s))
        if abs(offset_s - edge.clock_offset_s) > 1:  # set again: what is read now states other times
            since, offset_s = now, edge.clock_offset_s
        self._off[site] = since, offset_s
        shift = timedelta(seconds=offset_s)
        evidence: Evidence = {"edge": edge.name, "clock_offset_s": round(offset_s, 1)}
        start, end = since + shift, now + shift
        finding = Finding(FindingKind.CLOCK_DRIFT, "", start, end, Severity.WARNING, None, evidence)
        scope = Scope(stored.site_id[site], [0], [FindingKind.CLOCK_DRIFT], start, start + _MICROSECOND)
        findings.replace(connection, scope, [finding], {})

    def _tell_files(
        self, connection: Connection, stored: Stored, site: str, edge: Edge, standing: int
    ) -> None:
        files = tuple(file for file in edge.set_aside if file.site == site)
        if self._aside.get(site, ()) == files and standing == len(files):
            return
        scope = Scope(stored.site_id[site], [0], [FindingKind.IMPORT_FAILED], OLDEST, LATEST)
        findings.replace(connection, scope, _failed(files), {})
        self._aside[site] = files


def _failed(files: Sequence[SetAside]) -> list[Finding]:
    """One for each file, oldest first; those of one instant stand a microsecond apart."""
    found: list[Finding] = []
    for file in sorted(files, key=lambda file: (file.at, file.file)):
        at = max(file.at, found[-1].start + _MICROSECOND) if found else file.at
        evidence: Evidence = {"file": file.file, "reason": file.reason}
        found.append(Finding(FindingKind.IMPORT_FAILED, "", at, at, Severity.WARNING, None, evidence))
    return found
