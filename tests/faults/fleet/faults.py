"""What breaks in the fleet, what has to be true then, and what is measured.

Each fault returns when everything works again. What was asked of it is measured and said; it may take longer
where the machine is slower, as the run was told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

import httpx

from app.domain.reading import Reading
from tests.faults.collector import Said, said
from tests.faults.fleet import epochs
from tests.faults.fleet.parts import (
    BACKLOG_PER_S,
    LOOK_S,
    Cell,
    Edge,
    Progress,
    metric,
    page,
    points,
    register_kwh,
)
from tests.faults.fleet.world import THROUGH_HUB, World, slowness
from tests.faults.world import set_clock
from tests.waiting import until

LIVE_S = 5.0
"""Readings that are not older are live. [s]"""
RETURN_S, PAUSE_S, TAKEOVER_S = 60.0, 10.0, 30.0
"""What is asked: live after a line returned, the hub without its leader, another worker's takeover. [s]"""
FIGURES_S = 60.0
"""What is asked of the figures of a day that waited; an hour, to scale. [s]"""
EDGE_TAKEOVER_S = 45.0
"""What is asked of a second process of an edge: its lease, and a try. [s]"""
MORE_MIB = 150.0
"""What a cell may hold more while many edges return. [MiB]"""
SETTLE_S = 3.0
"""After meters went silent, the last readings are in their spool within this time. [s]"""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """Something that was asked of a fault."""

    what: str
    value: float
    asked: float
    unit: str
    is_kept: bool

    def __str__(self) -> str:
        found = f"{self.what}: {self.value:.1f} {self.unit} (asked: at most {self.asked:g} {self.unit})"
        return found if self.is_kept else f"TOO MUCH {found}"


@dataclass(frozen=True)
class Extent:
    """How long a run is."""

    kills: int
    """Of a consumer between commit and acknowledgement."""
    day_minutes: int
    """Readings of so many minutes wait in a spool while the line is down."""
    lasting_s: tuple[float, float]
    """Shortest and longest time for which things are broken. [s]"""


SHORT, LONG = Extent(4, 240, (1.0, 2.0)), Extent(100, 1440, (3.0, 20.0))


@dataclass
class Pauses:
    """The longest time in which nothing of a site was stored, for some sites. [s]"""

    longest_s: dict[str, float] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _since_s: dict[str, float] = field(default_factory=dict)

    def look(self, cells: Sequence[Cell], sites: Sequence[str]) -> None:
        """See what is stored now."""
        stored = {site: p.stored for cell in cells for site, p in cell.progress().items()}
        now = time.monotonic()
        for site in sites:
            since = self._since_s.setdefault(site, now)
            self.longest_s[site] = max(self.longest_s.get(site, 0.0), now - since)
            if stored.get(site, 0) > self._counts.get(site, 0):
                self._counts[site], self._since_s[site] = stored[site], now

    @property
    def most_s(self) -> float:
        """Of all sites. [s]"""
        return max(self.longest_s.values(), default=0.0)


class Faults:
    """Breaks things in a fleet that works, and waits until it works again.

    Parameters
    ----------
    world : World
    random : Random
    say : callable
        Told what is measured.
    extent : Extent
    slowness : float
        What is measured may be so many times what is asked.
    recovery_s : float
        Longest wait for anything. [s]
    """

    def __init__(
        self,
        world: World,
        random: Random,
        say: Say,
        extent: Extent,
        *,
        slowness: float = 1.0,
        recovery_s: float = 120.0,
    ) -> None:
        self._world, self._random, self._say, self._extent = world, random, say, extent
        self._slowness, self._recovery_s = slowness, recovery_s
        self._kills = extent.kills
        self.measured: list[Measured] = []
        self.wrong: list[str] = []
        self.kept_back: set[Said] = set()
        """Readings that were laid into spools."""

    # -- what all share ----------------------------------------------------------------------------------

    def _note(self, what: str, value: float, asked: float, unit: str = "s") -> None:
        slower = self._slowness if value <= asked else max(self._slowness, slowness())
        found = Measured(what, value, asked, unit, value <= asked * slower)
        self.measured.append(found)
        self._say(f"    {found}")
        if not found.is_kept:
            self.wrong.append(str(found))

    def _demand(self, is_so: bool, what: str) -> None:
        if not is_so:
            self.wrong.append(what)
            self._say(f"    WRONG {what}")

    def _until(self, what: Callable[[], object], name: str) -> float:
        """Wait; how long it took. [s]"""
        began = time.monotonic()
        until(what, self._recovery_s, name, pause_s=LOOK_S)
        return time.monotonic() - began

    def _last(self) -> None:
        threading.Event().wait(self._random.uniform(*self._extent.lasting_s))

    def until_live(self, *sites: str) -> float:
        """Wait until new readings of some sites, default all, are stored and live; how long it took. [s]"""
        wanted = sites or tuple(self._world.edges)
        before = self._progress(wanted)

        def are_live() -> bool:
            now = self._progress(wanted)
            return all(
                site in now
                and now[site].age_s <= LIVE_S
                and (site not in before or now[site].stored > before[site].stored)
                for site in wanted
            )

        return self._until(are_live, f"live readings of {', '.join(wanted)}")

    def _progress(self, sites: Sequence[str]) -> dict[str, Progress]:
        cells = {self._world.cell_of(site).name for site in sites}
        return {s: p for name in cells for s, p in self._world.cells[name].progress().items()}

    @contextmanager
    def _pauses(self, cells: Sequence[Cell], sites: Sequence[str]) -> Iterator[Pauses]:
        """Measure, during the block, how long nothing is stored."""
        found, ended = Pauses(), threading.Event()

        def look() -> None:
            while not ended.wait(LOOK_S):
                found.look(cells, sites)
            for cell in cells:
                cell.forget_connection()

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            ended.set()
            thread.join()

    def _until_each_is_stored(self, *sites: str) -> None:
        """Wait until something new of each site is stored."""
        before = self._progress(sites)

        def are_more() -> bool:
            now = self._progress(sites)
            return all(
                site in now and (site not in before or now[site].stored > before[site].stored)
                for site in sites
            )

        self._until(are_more, f"something new of {', '.join(sites)}")

    def _let_wait(self, edge: Edge) -> int:
        """Lay readings of each minute into the spool of an edge that does not run; how many."""
        end = datetime.now(UTC) - timedelta(minutes=1)
        rows = [
            Reading(point, at, register_kwh(point.split(".")[1], at))
            for at in (end - timedelta(minutes=n) for n in range(self._extent.day_minutes))
            for point in points(edge.site)
        ]
        edge.keep_back(rows)
        self.kept_back |= {said(r.point, r.at, r.value) for r in rows}
        return len(rows)

    def _figures_s(self, cell: Cell, sites: Sequence[str], before: datetime) -> float:
        """Wait for the figures of everything before an instant; how long it took. [s]"""
        query = (
            "SELECT count(*) FROM rollup_queue q JOIN points p ON p.id = q.point_id"
            " JOIN sites s ON s.id = p.site_id WHERE s.key = ANY(%s) AND q.start_at < %s"
        )
        return self._until(lambda: cell.rows(query, list(sites), before) == [(0,)], "the figures")

    # -- lines -------------------------------------------------------------------------------------------

    def line_down(self, cell: Cell) -> None:
        """The line of an edge is down for a day, and the edge is killed, and stopped, and started again."""
        edge = self._world.edges[f"{cell.name}-a"]
        edge.line.cut()
        self._last()
        self._until(lambda: edge.waiting() >= 3, "readings that wait")
        edge.process.end()
        day = self._let_wait(edge)
        edge.process.start()
        self._until(lambda: edge.waiting() >= day + 3, "readings of an edge that knows what to read")
        self._demand(edge.process.stop() == 0, f"edge {edge.site} did not end: {edge.process.last_words()}")
        edge.process.start()
        self._until(lambda: edge.waiting() >= day + 6, "readings after the second start")
        waits = edge.waiting()
        began, mended = time.monotonic(), datetime.now(UTC)
        edge.line.mend()
        self.until_live(edge.site)
        self._note(f"{edge.site}: line back, {waits} wait; live after", time.monotonic() - began, RETURN_S)
        self._until(lambda: 0 <= edge.waiting() < 20, "an empty spool")
        self._figures_s(cell, [edge.site], mended)
        self._note(f"{edge.site}: figures of all that waited after", time.monotonic() - began, FIGURES_S)

    def all_return(self) -> None:
        """All edges lose their lines, and have them back at once, each with a backlog."""
        edges = list(self._world.edges.values())
        for edge in edges:
            edge.line.cut()
        self._last()
        if self._extent is LONG:
            for edge in edges:
                edge.process.end()
                self._let_wait(edge)
                edge.process.start()
        self._until(lambda: all(edge.waiting() >= 6 for edge in edges), "readings that wait at each edge")
        waits = {edge.site: edge.waiting() for edge in edges}
        memory = {cell.name: cell.service.memory_mib() for cell in self._world.cells.values()}
        began, mended = time.monotonic(), datetime.now(UTC)
        for edge in edges:
            edge.line.mend()
        self.until_live()
        self._note("all edges back; the last one live after", time.monotonic() - began, RETURN_S)
        self._until(lambda: all(0 <= edge.waiting() < 20 for edge in edges), "empty spools")
        sent_s = time.monotonic() - began
        for cell in self._world.cells.values():
            own = [edge.site for edge in edges if edge.cell is cell]
            pace_per_s = (sum(waits[site] for site in own) - 2 * 2000) / sent_s
            self._note(f"{cell.name}: pace of what waited", max(pace_per_s, 0.0), BACKLOG_PER_S, "1/s")
            self._figures_s(cell, own, mended)
            more = cell.service.memory_mib() - memory[cell.name]
            self._note(f"{cell.name}: more memory", max(more, 0.0), MORE_MIB, "MiB")
        self._note("all edges back; figures of everything after", time.monotonic() - began, 2 * FIGURES_S)

    # -- the hub -----------------------------------------------------------------------------------------

    def hub_servers_killed(self) -> None:
        """The leader of the hub is killed, then a second server; both come back."""
        hub, cells = self._world.hub, list(self._world.cells.values())
        leader = hub.leader(f"READINGS_{self._random.choice(cells).name}")
        with self._pauses(cells, THROUGH_HUB) as pauses:
            self._until_each_is_stored(*THROUGH_HUB)
            hub.kill(leader)
            self._until_each_is_stored(*THROUGH_HUB)
            self._until_each_is_stored(*THROUGH_HUB)
        self._note("leader of the hub killed; longest pause", pauses.most_s, PAUSE_S)
        second = self._random.choice([n for n in range(hub.size) if n != leader])
        hub.kill(second)
        edges = [self._world.edges[site] for site in THROUGH_HUB]
        self._until(lambda: all(edge.waiting() >= 6 for edge in edges), "readings that wait at the edges")
        self._last()
        hub.start(second)
        hub.start(leader)
        self._note("two servers of three back; live after", self.until_live(*THROUGH_HUB), RETURN_S)

    def hub_disks_lost(self) -> None:
        """All servers of the hub lose their disks."""
        hub = self._world.hub
        for n in range(hub.size):
            hub.kill(n)
        for n in range(hub.size):
            hub.lose_disk(n)
        edges = [self._world.edges[site] for site in THROUGH_HUB]
        self._until(lambda: all(edge.waiting() >= 6 for edge in edges), "readings that wait at the edges")
        self._last()
        for n in range(hub.size):
            hub.start(n)
        self._note("a hub that lost its disks back; live after", self.until_live(*THROUGH_HUB), RETURN_S)

    def consumer_killed(self, cell: Cell) -> None:
        """The worker that takes batches from the hub is killed between commit and acknowledgement."""
        kills, self._kills = self._kills, min(self._kills, 10)
        self._demand(cell.service.stop() == 0, f"{cell.name} did not end: {cell.service.last_words()}")
        consumer = cell.consumer(kills)
        consumer.start()
        assert consumer.process is not None
        try:
            code = consumer.process.wait(self._recovery_s + 30 * kills)
        finally:
            if consumer.is_running:
                consumer.stop()
            cell.service.start()
        happened = consumer.log.read_text(errors="replace").count("killed ")
        self._demand(code == 0 and happened == kills, f"{happened} of {kills} kills: {consumer.last_words()}")
        self._say(f"    {cell.name}: killed {happened} times between commit and acknowledgement")
        self.until_live(*cell.sites[:2])

    # -- who speaks --------------------------------------------------------------------------------------

    def two_edges_with_one_key(self, cell: Cell) -> None:
        """A second process has the key of an edge; the first is killed, or stands still for a while."""
        edge = self._world.edges[f"{cell.name}-a"]
        first, second, freezes = edge.process, edge.second(), self._random.random() < 0.5
        second.start()
        try:
            self._until(lambda: "speaks for" in page(second), "a refusal of the second process")
            delivered = metric(second, "wattline_edge_delivered_readings_total")
            self._demand(delivered == 0, f"the second process of {edge.site} delivered {delivered:g}")
            self._until_each_is_stored(edge.site)
            epoch = cell.edge(edge.site).epoch
            first.freeze() if freezes else first.end()
            took_s = self._until(lambda: metric(second, "wattline_edge_delivered_readings_total") > 0, "it")
            how = "stands still" if freezes else "killed"
            self._note(f"{edge.site} {how}; second process delivers after", took_s, EDGE_TAKEOVER_S)
            self._demand(cell.edge(edge.site).epoch == epoch + 1, f"epoch of {edge.site} is not {epoch + 1}")
            if freezes:
                first.thaw()
                self._until(lambda: "speaks for" in page(first), "a refusal of the first process")
            self._world.meters.silence(edge.site)
            threading.Event().wait(SETTLE_S)
            self._until(lambda: metric(second, "wattline_spool_readings") == 0, "an empty second spool")
        finally:
            first.thaw() if first.is_running else first.start()
            code = second.stop()
            self._world.meters.silence(edge.site, silent=False)
        self._demand(code == 0, f"the second process of {edge.site} did not end: {second.last_words()}")
        self.until_live(edge.site)

    def two_workers(self, cell: Cell) -> None:
        """Another worker stands by; the one that has everything is killed, or stands still for a while."""
        own, freezes = cell.sites[-1], self._random.random() < 0.6
        cell.standby.start()
        try:
            self._until(lambda: cell.rows("SELECT count(*) FROM workers") == [(2,)], "both workers")
            self._until_each_is_stored(own)
            with epochs.watched(cell) as seen:
                began = time.monotonic()
                cell.service.freeze() if freezes else cell.service.end()
                self._until(lambda: seen.is_all_of(cell.standby), "the leases of the other worker")
                how = "stands still" if freezes else "killed"
                took_s = time.monotonic() - began
                self._note(f"{cell.name} {how}; standby has its leases after", took_s, TAKEOVER_S)
                self.until_live(own)
                took_s = time.monotonic() - began
                self._note(f"{cell.name} {how}; live readings of its meters after", took_s, TAKEOVER_S + 5)
                self._last()
                cell.service.thaw() if freezes else cell.service.start()
                self._until(lambda: seen.is_member(cell.service), "the first worker among them again")
                self._until_each_is_stored(own)
            self.wrong += seen.problems()
        finally:
            if not cell.service.is_running:
                cell.service.start()
            cell.service.thaw()
            code = cell.standby.stop()
        self._demand(code == 0, f"standby of {cell.name} did not end: {cell.standby.last_words()}")
        self.until_live(*cell.sites)

    def site_file_applied(self, cell: Cell) -> None:
        """The site file changes for a site whose edge cannot be reached; the other's is untouched."""
        other, edge = (self._world.edges[f"{cell.name}-{s}"] for s in "ab")
        self._until(lambda: all(cell.edge(e.site).is_current for e in (other, edge)), "current definitions")
        was, now = cell.edge(other.site), cell.edge(edge.site)
        edge.line.cut()
        cell.change_rating(edge.site)
        done = cell.command("pue", edge.site)
        self._demand(done.returncode == 0, f"site file of {edge.site}: {done.stderr}")
        took_s = self._until(lambda: not cell.edge(edge.site).is_current, "an old revision that is shown")
        self._note(f"{edge.site}: old revision shown after", took_s, RETURN_S)
        older = cell.edge(edge.site)
        self._demand(older.newest_revision == now.newest_revision + 1, f"not the next revision: {older}")
        listed = cell.command("edges", "list").stdout
        shown = f"{older.revision} of {older.newest_revision}"
        self._demand(shown in listed, f"{shown!r} is not shown: {listed}")
        self._until_each_is_stored(other.site)
        edge.line.mend()
        took_s = self._until(lambda: cell.edge(edge.site).is_current, "the new definitions")
        self._note(f"{edge.site}: new definitions in force after", took_s, RETURN_S)
        in_force = metric(other.process, "wattline_edge_definitions_revision")
        self._demand(in_force == was.revision, f"{other.site} has revision {in_force:g}")
        same = cell.edge(other.site)
        self._demand(
            (same.revision, same.newest_revision) == (was.revision, was.newest_revision),
            f"the definitions of {other.site} changed: {same}",
        )
        self.until_live(edge.site, other.site)

    # -- databases ---------------------------------------------------------------------------------------

    def database_away(self, cell: Cell) -> None:
        """The database of a cell is away for a while."""
        with self._others_unaffected(cell):
            cell.database.stop()
            try:
                self._until_named(cell)
                self._last()
            finally:
                cell.database.start()
        self._note(f"{cell.name}: database back; live after", self.until_live(*cell.sites), RETURN_S)

    def primary_switched(self, cell: Cell) -> None:
        """The primary of a cell's database is gone, and its standby is promoted."""
        if cell.spare is None or cell.spare.pid is None:
            cell.stand_by()
        with self._others_unaffected(cell):
            cell.lose_primary()
            self._until_named(cell)
            cell.promote()
            took_s = self.until_live(*cell.sites)
            self._note(f"{cell.name}: standby promoted; live after", took_s, RETURN_S)
        self._until(lambda: cell.name not in self._missing(cell), "a fleet with all cells")

    @contextmanager
    def _others_unaffected(self, cell: Cell) -> Iterator[None]:
        others = [one for one in self._world.cells.values() if one is not cell]
        sites = [site for one in others for site in one.sites[:2]]
        with self._pauses(others, sites) as pauses:
            yield
        self._say(f"    {cell.name} away; longest pause of any other site {pauses.most_s:.1f} s")

    def _missing(self, cell: Cell) -> list[str]:
        """Cells that the fleet's answer names as missing, as the first other cell that answers gives it."""
        for other in self._world.cells.values():
            if other is not cell:
                with suppress(httpx.TransportError):
                    answer = self._world.ask(other, "/fleet/pue?window=1h")
                    if answer.status_code == 200:
                        return list(answer.json()["missing"])
        return []

    def _until_named(self, cell: Cell) -> None:
        took_s = self._until(lambda: cell.name in self._missing(cell), f"an answer that names {cell.name}")
        self._note(f"{cell.name}: named as missing after", took_s, PAUSE_S)

    # -- clocks ------------------------------------------------------------------------------------------

    def clock_ahead(self, cell: Cell) -> None:
        """The clock of an edge is ten minutes ahead."""
        self._clock_off(cell, 600)

    def clock_behind(self, cell: Cell) -> None:
        """The clock of an edge is twelve hours behind."""
        self._clock_off(cell, -43_200)

    def _clock_off(self, cell: Cell, offset_s: int) -> None:
        edge = self._world.edges[f"{cell.name}-b"]
        before = cell.edge(edge.site).clock_off_readings
        set_clock(edge.clock, offset_s)
        took_s = self._until(
            lambda: abs((cell.edge(edge.site).clock_offset_s or 0.0) - offset_s) < LIVE_S, "the offset"
        )
        self._note(f"{edge.site}: clock {offset_s:+d} s; flagged after", took_s, RETURN_S)
        self._demand(cell.edge(edge.site).is_clock_off, f"the clock of {edge.site} is not flagged")
        self._until(lambda: cell.edge(edge.site).clock_off_readings > before, "a count of readings")
        own_s = metric(edge.process, "wattline_edge_clock_offset_seconds")
        self._demand(abs(own_s - offset_s) < LIVE_S, f"{edge.site} says that its clock is off by {own_s} s")
        edge.line.drop_answers()
        self._until(lambda: edge.waiting() >= 6, "readings whose receipt is lost")
        self._last()
        edge.line.mend()
        self._until(lambda: 0 <= edge.waiting() < 6, "readings that were sent again")
        set_clock(edge.clock, 0)
        self._until(lambda: not cell.edge(edge.site).is_clock_off, "the right clock")
        finding = (
            "SELECT count(*) FROM findings f JOIN sites s ON s.id = f.site_id"
            " WHERE s.key = %s AND f.kind = 'clock_drift'"
        )
        self._until(lambda: cell.rows(finding, edge.site) != [(0,)], f"a finding of {edge.site}")
        self.until_live(edge.site)
