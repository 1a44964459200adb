"""How good the data is, and what the figures rest on."""

from __future__ import annotations

from app.domain.evidence import PERIOD, Evidence
from app.domain.limits import accuracy_percent
from app.domain.pue import counted_points, every_boundary
from app.domain.quantity import CATEGORY_OF_IT_ROLE, ENERGY_KINDS, SENSOR_ROLES, Role
from app.domain.site import Meter, Point
from app.reports.document import FindingRow, GaugeRow, LedgerRow, Method, PointRow, Quality, TagShare
from app.reports.energies import RATIO
from app.reports.load import local_text
from app.reports.rounding import apportioned, energy_decimals, number, rounded


def quality(e: Evidence) -> Quality:
    """Coverage, how the energy came about, findings, ledger."""
    covered = e.pue[PERIOD].coverage_ratio
    zone = e.site.zone
    return Quality(
        coverage_ratio=number(covered, RATIO),
        missing_h=number((1 - covered) * e.known.duration_s / 3600, 2),
        tags=_tags(e),
        findings=[
            FindingRow(
                kind=f.kind,
                point=f.point,
                start=local_text(f.start, zone) or "",
                end=local_text(f.end, zone) or "",
                severity=f.severity,
                state=f.state,
                effect_kwh=rounded(f.effect_kwh, 3),
            )
            for f in e.findings
        ],
        ledger=[
            LedgerRow(
                kind=d.kind,
                point=d.point,
                start=local_text(d.start, zone) or "",
                end=local_text(d.end, zone) or "",
                author=d.author,
                note=d.note,
                withdrawn=d.withdrawn,
            )
            for d in e.ledger
        ],
        conflicting_readings=e.conflicts,
    )


def _tags(e: Evidence) -> list[TagShare]:
    total = sum(e.tags_kwh.values())
    places = energy_decimals(e.pue[PERIOD].facility_kwh)
    shares = apportioned([v / total if total else 0.0 for v in e.tags_kwh.values()], RATIO)
    return [
        TagShare(tag=tag, energy_kwh=number(kwh, places), share=share)
        for (tag, kwh), share in zip(e.tags_kwh.items(), shares, strict=True)
    ]


def method(e: Evidence) -> Method:
    """Boundary and metering points."""
    parts = every_boundary(e.site)
    counted = {p.id for p in counted_points(e.site)}
    places = energy_decimals(e.pue[PERIOD].facility_kwh)
    return Method(
        facility_is="sum_of_classes" if parts[-1].is_sum else "metered",
        it_energy_at=sorted({p.role.value for limits in parts for p in limits.it}),
        points=[
            _point(e, m, p, p.id in counted, places) for m in e.site.meters for p in m.points if _shows(p)
        ],
        energy_decimals=places,
    )


def _shows(point: Point) -> bool:
    return point.kind in ENERGY_KINDS


def _point(e: Evidence, meter: Meter, point: Point, counts: bool, places: int) -> PointRow:
    found = e.points.get(point.id)
    covered_s = 0.0 if found is None else found.covered_s
    return PointRow(
        point=point.id,
        name=point.name or meter.name or meter.id,
        meter=meter.id,
        room=meter.room,
        stage=meter.stage.value,
        role=point.role.value,
        kind=point.kind.value,
        counts=counts,
        weight=point.weight,
        accuracy_class_percent=accuracy_percent(meter, point),
        category=CATEGORY_OF_IT_ROLE.get(point.role),
        interval_s=point.interval_s,
        energy_kwh=None if found is None or point.role is Role.WATER else number(found.energy_kwh, places),
        coverage_ratio=None
        if point.role is Role.WATER
        else number(min(covered_s / e.known.duration_s, 1.0), RATIO),
    )


def gauges(e: Evidence) -> list[GaugeRow]:
    """Sensors: temperatures, humidities, flows, server utilisation, over the period."""
    rows = []
    for meter in e.site.meters:
        for point in meter.points:
            found = e.gauges.get(point.id)
            if found is not None and point.role in SENSOR_ROLES:
                rows.append(
                    GaugeRow(
                        point=point.id,
                        name=point.name or meter.name or meter.id,
                        room=meter.room,
                        role=point.role.value,
                        unit=point.quantity.house_unit,
                        mean=number(found.mean, 2),
                        lowest=number(found.lowest, 2),
                        highest=number(found.highest, 2),
                    )
                )
    return rows
