"""Meters that may measure the same energy: what the site file leaves undecided.

Two stages of one chain see the same energy. Which of them counts must follow from the metering tree
(`fed_by`) or from `it_energy_at`; where neither says so, no figure is given rather than one that may
count a load twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from app.domain.quantity import CATEGORY_OF_IT_ROLE, ENERGY, POWER, Role
from app.domain.site import Meter, Point, Site, Stage

_ORDER = list(Stage)


def undecided(site: Site) -> str | None:
    """Which meters may count the same energy twice, in words; None where the site file decides.

    IT meters of a later stage without any meter above them, beside IT meters of an earlier stage; the same
    for facility meters whose stages differ.

    Examples
    --------
    A UPS with the role `it_ups_output` and two PDUs with `it_pdu_output`, none with `fed_by`: undecided. With
    `fed_by: [ups]` at the PDUs, or `it_energy_at: it_pdu_output` at the site, it is decided.
    """
    return _it_undecided(site) or _facility_undecided(site)


_HOW = ("interval_s", "timeout_s", "retries", "profile", "community", "map", "measures")
"""Settings of a collector that say how a device is read, not which."""


_CHANNEL = defaultdict(str, {ENERGY: "energy_import_kwh", POWER: "power_kw"})
"""Channel of a point that names none."""


def source_of(meter: Meter, point: Point) -> str | None:
    """What a point reads, so that two points with the same one read one value; None: it is not polled.

    Device and channel, or role and kind where the point leaves the channel to the device's profile; of a
    source that is no device, where the channel's value stands.
    """
    if meter.collector is None:
        return None
    if "url" in meter.collector:
        return _of_channel(meter.collector, point)
    if "host" not in meter.collector:
        return None
    device = {key: value for key, value in meter.collector.items() if key not in _HOW}
    channel = point.channel or f"{point.role} {point.kind} {point.direction}"
    return f"{sorted(device.items(), key=str)} {channel}"


def _of_channel(collector: Mapping[str, Any], point: Point) -> str | None:
    """Of a source that is no device: what its channel says of where the value stands, by whatever name."""
    name = point.channel or _CHANNEL[point.quantity]
    listed = [c for c in collector.get("channels") or () if isinstance(c, Mapping)]
    channel = next((c for c in listed if c.get("name") == name), None)
    if channel is None:
        return None
    where = {key: collector.get(key) for key in ("kind", "url", "query")}
    what = {key: value for key, value in channel.items() if key not in ("name", "unit", "scale")}
    return f"{where} {sorted(what.items())}"


def _it_undecided(site: Site) -> str | None:
    carriers = site.it_carriers()
    first = min((CATEGORY_OF_IT_ROLE[p.role] for p in carriers), default=0)
    later = [p for p in carriers if CATEGORY_OF_IT_ROLE[p.role] > first and _stands_alone(site, p)]
    if not later:
        return None
    upper = [p for p in carriers if CATEGORY_OF_IT_ROLE[p.role] == first]
    return (
        f"{_names(later)} ({later[0].role}) may measure the energy of {_names(upper)} ({upper[0].role}) "
        "again; "
        "say what feeds them with fed_by, or which role counts with it_energy_at"
    )


def _facility_undecided(site: Site) -> str | None:
    carriers = site.carriers(Role.FACILITY)
    stages = {p.id: _ORDER.index(site.meter_of[p.id].stage) for p in carriers}
    first = min(stages.values(), default=0)
    later = [p for p in carriers if stages[p.id] > first and _stands_alone(site, p)]
    if not later:
        return None
    upper = [p for p in carriers if stages[p.id] == first]
    return (
        f"{_names(later)} may measure the facility energy of {_names(upper)} again: their stages differ; "
        "say what feeds them with fed_by, or give one of them the role none"
    )


def _stands_alone(site: Site, point: Point) -> bool:
    return not site.meter_of[point.id].fed_by


def _names(points: list[Point]) -> str:
    return ", ".join(p.id for p in points)
