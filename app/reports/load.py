"""Use of the capacities, and when the IT load reaches its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from app.domain.capacity import FeedLoad, Load, stranded_kw
from app.domain.evidence import Evidence, Loads
from app.domain.forecast import exhaustion
from app.reports.document import Exhausted, LoadRow
from app.reports.energies import KW, RATIO
from app.reports.rounding import number, rounded


def loads(e: Evidence) -> list[LoadRow]:
    """IT load of the site and its rooms, and the load of every feed, over the period."""
    parts = e.loads
    zone = e.site.zone
    rows = [_row("", "it", "", merged(parts, [p.it for p in parts]), zone)]
    rooms = sorted({room for p in parts for room in p.rooms})
    rows += [_row(r, "room", "", merged(parts, [p.rooms[r] for p in parts]), zone) for r in rooms]
    feeds = list(zip(*(p.feeds for p in parts), strict=True))
    whole = [merged(parts, [f.load for f in one]) for one in feeds]
    of_meter = {m: load for one, load in zip(feeds, whole, strict=True) for m in one[0].feed.meters}
    rows += [_feed(one[0], of_meter, zone) for one in feeds]
    return rows


def merged(parts: Sequence[Loads], each: Sequence[Load]) -> Load:
    """The load over several stretches of time: mean over the covered time, the highest peak."""
    spans_s = [p.span.duration_s for p in parts]
    covered = [load.coverage_ratio * s for load, s in zip(each, spans_s, strict=True)]
    known = [(load, s) for load, s in zip(each, covered, strict=True) if load.mean_kw is not None and s > 0]
    coverage = sum(covered) / sum(spans_s)
    if not known:
        return Load(each[0].capacity_kw, None, None, None, coverage)
    mean = sum((load.mean_kw or 0.0) * s for load, s in known) / sum(s for _, s in known)
    top = max((load for load, _ in known), key=lambda load: load.peak_kw or 0.0)
    return Load(each[0].capacity_kw, mean, top.peak_kw, top.peak_at, coverage)


def _feed(one: FeedLoad, of_meter: Mapping[str, Load], zone: ZoneInfo) -> LoadRow:
    whole = of_meter[one.feed.meters[0]]
    figure = FeedLoad(one.feed, one.redundancy, one.rated_kw, whole, stranded_kw(one.feed, of_meter))
    name = " + ".join(one.feed.meters)
    return _row(
        name, one.feed.stage.value, one.redundancy, whole, zone, figure.stranded_kw, figure.state.value
    )


def _row(
    name: str,
    kind: str,
    redundancy: str,
    load: Load,
    zone: ZoneInfo,
    stranded_kw: float | None = None,
    state: str | None = None,
) -> LoadRow:
    return LoadRow(
        name=name,
        kind=kind,
        redundancy=redundancy,
        capacity_kw=rounded(load.capacity_kw, KW),
        mean_kw=rounded(load.mean_kw, KW),
        peak_kw=rounded(load.peak_kw, KW),
        peak_at=local_text(load.peak_at, zone),
        mean_ratio=rounded(load.mean_ratio, RATIO),
        peak_ratio=rounded(load.peak_ratio, RATIO),
        stranded_kw=rounded(stranded_kw, KW),
        state=state or load.state.value,
        coverage_ratio=number(load.coverage_ratio, RATIO),
    )


def local_text(at: datetime | None, zone: ZoneInfo) -> str | None:
    """An instant in the site's own time, to the second."""
    return None if at is None else at.astimezone(zone).isoformat(timespec="seconds")


def exhausted(e: Evidence) -> Exhausted | None:
    """When the IT load reaches the design capacity; None without one or without history."""
    capacity_kw = e.site.design.it_capacity_kw
    if capacity_kw is None or e.peak_kw.empty:
        return None
    found = exhaustion(e.peak_kw, capacity_kw)
    on, earliest, latest = (
        None if d is None else d.isoformat() for d in (found.on, found.earliest, found.latest)
    )
    return Exhausted(
        capacity_kw=number(capacity_kw, KW),
        on=on,
        earliest=earliest,
        latest=latest,
        reached=found.on is not None and bool((e.peak_kw >= capacity_kw).any()),
    )
