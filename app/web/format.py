"""Numbers with their units, and times in the site's zone, for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from markupsafe import Markup

from app.domain.alarms import text
from app.domain.alarms.notification import Language
from app.domain.figure import percentage, utc_offset

UNKNOWN = "–"
_SCALES = ((1e6, "G"), (1e3, "M"))
_UNITS = {"kwh": "kWh", "kw": "kW", "m3": "m³", "m3/h": "m³/h", "c": "°C", "percent": "%", "1": ""}


def number(value: float | None, digits: int = 2) -> str:
    """A number with thousands separated; a dash where it is not known."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:,.{digits}f}".replace("-", "−")  # a minus sign, which screen readers say


def energy(value_kwh: float | None) -> str:
    """Energy in the unit that keeps it short."""
    return _scaled(value_kwh, "Wh")


def power(value_kw: float | None) -> str:
    """Power in the unit that keeps it short."""
    return _scaled(value_kw, "W")


def _scaled(value: float | None, unit: str) -> str:
    if value is None or not math.isfinite(value):
        return UNKNOWN
    for factor, prefix in _SCALES:
        if abs(value) >= factor:
            return f"{number(value / factor, 2)} {prefix}{unit}"
    return f"{number(value, 0 if abs(value) >= 100 else 1)} k{unit}"


def share(ratio: float | None, digits: int = 1, *, sign: str = " %") -> str:
    """A ratio as percent, with the percent `sign` of the language; not rounded up to a hundred."""
    if ratio is None or not math.isfinite(ratio):
        return UNKNOWN
    return f"{number(*percentage(ratio, digits))}{sign}"


def signed(value: float | None, digits: int = 3) -> str:
    """A change, with its sign."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    rounded = round(value, digits) + 0.0  # no minus sign before zero
    return ("+" if rounded > 0 else "") + number(rounded, digits)


def alarm(document: Mapping[str, Any], value: float | None, language: str) -> str:
    """A value of an alarm with this `document`, in the unit of its indicator."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    indicator = str(document.get("indicator", ""))
    return text.number(indicator, value, Language(language)).replace("-", "−")


def drift(document: Mapping[str, Any], language: str) -> str:
    """What an alarm with this `document` says of the plant's drift."""
    return text.drift_sentence(document, Language(language))


def unit(house_unit: str) -> str:
    """The house unit as it is written."""
    return _UNITS.get(house_unit, house_unit)


def local(at: datetime, zone: tzinfo, brackets: str = " ({text})") -> str:
    """An instant in the site's zone, with the offset of the zone in the brackets of the language."""
    here = at.astimezone(zone)
    return f"{here:%Y-%m-%d %H:%M}{brackets.format(text=utc_offset(here))}"


def zone_label(zone: ZoneInfo, at: datetime) -> str:
    """A zone with its offset at an instant, such as ``Asia/Shanghai, UTC+8``."""
    return f"{zone.key}, {utc_offset(at.astimezone(zone))}"


def moment(at: datetime | None, zone: tzinfo, *, seconds: bool = False, brackets: str = "") -> Markup:
    """An instant in the site's zone, with its offset where there are `brackets` for it, and UTC on hover."""
    if at is None:
        return Markup(UNKNOWN)
    pattern = "%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M"
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        utc.isoformat(timespec="seconds").replace("+00:00", "Z"),
        f"{utc:{pattern}}",
        f"{at.astimezone(zone):{pattern}}{brackets.format(text=utc_offset(at.astimezone(zone)))}",
    )


def age(span: timedelta | None) -> tuple[int, str]:
    """A duration as a number and the name of its unit."""
    seconds = 0 if span is None else max(int(span.total_seconds()), 0)
    for size, name in ((86_400, "{n} d"), (3600, "{n} h"), (60, "{n} min")):
        if seconds >= 2 * size:
            return seconds // size, name
    return seconds, "{n} s"
