"""What is wrong, or remarkable, with the readings: all detectors together.

A detector takes what it needs and returns findings; it never changes a reading. To add one: a kind in
:class:`app.domain.quality.finding.FindingKind`, a function that returns findings of that kind in one of the
``quality_*`` modules, and its place in :func:`point_findings`, :func:`meter_findings` or
:func:`site_findings`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from app.domain.energy import Event, Series, corrected
from app.domain.quality.clock import clock_drift, interval_too_long
from app.domain.quality.finding import Finding, FindingKind, Severity, finite, outside
from app.domain.quality.pairs import dead_register, measured_quarters, unit_suspected
from app.domain.quality.registers import cross_talk, known_gaps, register_findings
from app.domain.quality.units import unit_changes
from app.domain.quality.values import gaps, negative_power, power_spikes, stuck
from app.domain.quantity import ENERGY_KINDS, ReadingKind, Role
from app.domain.site import Meter, Point, Sampling, Site
from app.domain.tree import BalanceState, FeedBalance


def point_findings(
    point: Point, series: Series, events: Sequence[Event] = (), *, is_whole: bool = True
) -> list[Finding]:
    """Everything that the readings of one point tell by themselves, in order of time.

    `is_whole` says that the series is the point's whole history: some causes are known only from that.
    """
    found: list[Finding] = []
    if (
        point.sampling is Sampling.PERIODIC
    ):  # a log that is written on change has no beat, and repeats nothing
        found += [*stuck(point, series, events), *clock_drift(point, series)]
    missing = gaps(point, series)
    if point.kind is ReadingKind.REGISTER:
        missing = known_gaps(point, series, events, missing)
        found += register_findings(point, series, events, is_whole=is_whole)
    elif point.kind is not ReadingKind.GAUGE:
        changed = unit_changes(point, finite(corrected(series, events))) if is_whole else []
        found += outside(power_spikes(point, series, events), changed) + changed
    return _in_order(found + missing)


def meter_findings(
    meter: Meter,
    series: Mapping[str, Series],
    events: Mapping[str, Sequence[Event]] | None = None,
    *,
    is_whole: bool = True,
) -> list[Finding]:
    """Everything about the points of one meter, by themselves and against each other.

    Parameters
    ----------
    meter : Meter
        With its points.
    series : mapping of point id to Series
        Their readings; a point that is absent has none.
    events : mapping of point id to sequence of Event, optional
        The ledger.
    is_whole : bool
        Whether the series are the whole history; causes that only that shows are else not looked for.
    """
    ledger = events or {}
    found: list[Finding] = []
    for point in meter.points:
        if point.id in series:
            declared = ledger.get(point.id, ())
            found += point_findings(point, series[point.id], declared, is_whole=is_whole)
    for point in meter.carriers():
        if point.id in series:
            found += interval_too_long(point, series[point.id])
    for point in meter.points:
        if point.kind is ReadingKind.INTERVAL_ENERGY and point.id in series:
            found += negative_power(point, series[point.id], is_whole=is_whole)
    for power, register in _partners(meter, series):
        partner = None if register is None else (register, series[register.id])
        found += negative_power(power, series[power.id], partner, is_whole=is_whole)
        if partner is not None:
            flowed = measured_quarters(power, series[power.id])
            found += unit_suspected(partner, power, flowed)
            found = _better_founded(found, dead_register(partner, flowed))
    return _in_order(found)


def _better_founded(found: list[Finding], dead: list[Finding]) -> list[Finding]:
    """With the findings that the power proves in place of those of the register alone."""
    proved = {(f.point, f.start) for f in dead}
    return [f for f in found if f.kind is not FindingKind.STUCK or (f.point, f.start) not in proved] + dead


def site_findings(
    site: Site, series: Mapping[str, Series], events: Mapping[str, Sequence[Event]] | None = None
) -> list[Finding]:
    """Everything about the meters of a site; see :func:`negative_remainders` for its tree."""
    found = [f for meter in site.meters for f in meter_findings(meter, series, events)]
    registers = {p.id: p for p in site.points() if p.kind is ReadingKind.REGISTER and p.id in series}
    mixed = {f.point for f in found if f.kind is FindingKind.CROSS_TALK}
    found = [f for f in found if f.kind is not FindingKind.CROSS_TALK]
    for point in sorted(mixed):
        others = {name: series[name] for name in registers if name != point}
        found += cross_talk(registers[point], series[point], others)
    return _in_order(found)


def _partners(meter: Meter, series: Mapping[str, Series]) -> Iterator[tuple[Point, Point | None]]:
    """Power points with the register of the same flow, where the meter has exactly one of each."""
    present = [p for p in meter.points if p.id in series and p.kind in ENERGY_KINDS]
    for power in present:
        if (
            power.kind not in (ReadingKind.POWER, ReadingKind.INTERVAL_MEAN_POWER)
            or power.role is Role.RENEWABLE
        ):
            continue
        same = [p for p in present if p.role is power.role]
        registers = [p for p in same if p.kind is ReadingKind.REGISTER]
        if power.role is Role.NONE:  # shown beside the register that counts, which has another role
            others = [p for p in present if p.kind is ReadingKind.REGISTER and p.role is not Role.EXPORT]
            registers = [p for p in others if p.role is not Role.NONE] or others
        alone = len(registers) == 1 and sum(p.kind is power.kind for p in same) == 1
        yield power, registers[0] if alone else None


def _in_order(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda f: (f.start, f.point, f.kind))


def negative_remainders(found: Iterable[FeedBalance], start: datetime, end: datetime) -> list[Finding]:
    """Feeds whose children take more than goes in, beyond the accuracy of the meters."""
    return [
        Finding(
            FindingKind.NEGATIVE_REMAINDER,
            "",
            start,
            end,
            Severity.ERROR,
            balance.remainder.remainder_kwh,
            {
                "meters": ", ".join(balance.feed.meters),
                "children": ", ".join(balance.feed.children),
                "in_kwh": balance.remainder.in_kwh,
                "out_kwh": balance.remainder.out_kwh,
                "tolerance_kwh": balance.remainder.tolerance_kwh,
            },
        )
        for balance in found
        if balance.remainder.state is BalanceState.NEGATIVE
    ]
