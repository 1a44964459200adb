"""Dates in the site file, brought into the form that ``domain/site.py`` keeps.

A person writes ``valid_to: 2026-10-12`` and ``multiplier: [{value: 40}, {from: 2026-10-16, value: 80}]``;
the domain keeps instants, first values and ``changes``. A date is the midnight of its site.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from app.domain.period import midnight
from app.domain.site import DATED_METER_KEYS, DATED_POINT_KEYS, DERIVED_KEYS, time_zones
from app.errors import ConfigError
from collectors.yaml_lines import Where, YamlLines

_ENDS = ("valid_from", "valid_to")


class Dates:
    """The data of a site file with every date as an instant.

    Parameters
    ----------
    lines : YamlLines
        The file as it was written.
    """

    def __init__(self, lines: YamlLines) -> None:
        self._lines = lines
        self.problems: list[ConfigError] = []
        """What was not understood, with its line."""
        self._written: dict[Where, Where] = {}
        self.data: dict[str, Any] = {**lines.data}
        sites = lines.data.get("sites")
        if isinstance(sites, list):
            self.data["sites"] = [self._site(s, ("sites", n)) for n, s in enumerate(sites)]

    def written(self, path: Where) -> Where:
        """Where in the file stands what `path` says of :attr:`data`."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._written:
                return (*self._written[path[:length]], *path[length:])
        return path

    def _site(self, site: Any, path: Where) -> Any:
        if not isinstance(site, dict) or not isinstance(site.get("meters"), list):
            return site
        name = site.get("time_zone")
        zone = ZoneInfo(name) if isinstance(name, str) and name in time_zones() else ZoneInfo("UTC")
        meters = [self._meter(m, (*path, "meters", n), zone) for n, m in enumerate(site["meters"])]
        return {**site, "meters": meters}

    def _meter(self, meter: Any, path: Where, zone: ZoneInfo) -> Any:
        if not isinstance(meter, dict):
            return meter
        out = self._dated(meter, path, zone, DATED_METER_KEYS)
        if isinstance(meter.get("points"), list):
            points = enumerate(meter["points"])
            out["points"] = [self._point(p, (*path, "points", n), zone) for n, p in points]
        return out

    def _point(self, point: Any, path: Where, zone: ZoneInfo) -> Any:
        if not isinstance(point, dict):
            return point
        kind = {"kind": "interval_energy"} if "formula" in point and "kind" not in point else {}
        return {**self._dated(point, path, zone, DATED_POINT_KEYS), **kind}

    def _dated(
        self, thing: Mapping[str, Any], path: Where, zone: ZoneInfo, keys: tuple[str, ...]
    ) -> dict[str, Any]:
        out = dict(thing)
        if "changes" in out:
            example = "weight: [{value: 1}, {from: 2026-10-16, value: 2}]"
            self._refuse((*path, "changes"), f"unknown key; write later values as a list, e.g. {example}")
            del out["changes"]
        for key in DERIVED_KEYS:
            if key in out:
                self._refuse((*path, key), "unknown key; it follows from the others")
                del out[key]
        for key in _ENDS:
            if out.get(key) is not None:
                out[key] = self._instant(out[key], (*path, key), zone)
        later: dict[datetime, dict[str, Any]] = {}
        for key in keys:
            if _is_dated(out.get(key)):
                self._unfold(out, key, path, zone, later)
        if later:
            out["changes"] = [self._change(path, n, at, later[at]) for n, at in enumerate(sorted(later))]
        return out

    def _unfold(
        self,
        out: dict[str, Any],
        key: str,
        path: Where,
        zone: ZoneInfo,
        later: dict[datetime, dict[str, Any]],
    ) -> None:
        """Replace a dated list by its first value; the others go into `later`."""
        entries, last = out.pop(key), None
        for n, entry in enumerate(entries):
            where = (*path, key, n)
            if not self._is_entry(entry, where):
                continue
            if "from" not in entry:
                if n:
                    self._refuse(where, "from is missing; only the first value may be without it")
                out[key] = entry["value"]
                self._written[(*path, key)] = (*where, "value")
                continue
            at = self._instant(entry["from"], (*where, "from"), zone)
            if at is None:
                continue
            if last is not None and at <= last:
                self._refuse((*where, "from"), "is not after the one before; list them in order of time")
            last = at
            later.setdefault(at, {})[key] = (entry["value"], (*where, "value"))

    def _change(
        self, path: Where, n: int, at: datetime, values: Mapping[str, tuple[Any, Where]]
    ) -> dict[str, Any]:
        for key, (_, where) in values.items():
            self._written[(*path, "changes", n, key)] = where
        return {"at": at, **{key: value for key, (value, _) in values.items()}}

    def _is_entry(self, entry: Mapping[str, Any], where: Where) -> bool:
        for key in sorted(entry.keys() - {"from", "value"}):
            self._refuse((*where, key), "unknown key; a dated value has the keys from and value")
        if entry.get("value") is None:
            self._refuse(where, "value is missing; write {from: 2026-10-16, value: ...}")
            return False
        return True

    def _instant(self, value: Any, where: Where, zone: ZoneInfo) -> datetime | None:
        at = _parsed(value)
        if isinstance(at, datetime):
            if at.tzinfo is not None:
                return at
            self._refuse(where, f"{value} has no zone; write it like 2026-10-16T14:30:00+08:00")
            return None
        if at is not None:
            return midnight(at, zone)
        problem = f"{value!r} is no date; write 2026-10-16 (the site's midnight) or 2026-10-16T14:30:00+08:00"
        self._refuse(where, problem)
        return None

    def _refuse(self, where: Where, problem: str) -> None:
        self.problems.append(self._lines.error(where, problem))


def _is_dated(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def _parsed(value: Any) -> date | datetime | None:
    if isinstance(value, date):  # also a datetime
        return value
    try:
        text = str(value)
        return date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text)
    except ValueError:
        return None


def with_dates(definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The definitions of the site file's JSON schema with dates as a person writes them."""
    parts = {name: dict(part) for name, part in definitions.items()}
    for name, keys in (("Meter", DATED_METER_KEYS), ("Point", DATED_POINT_KEYS)):
        properties = {
            k: v for k, v in parts[name]["properties"].items() if k not in ("changes", *DERIVED_KEYS)
        }
        for key in keys:
            properties[key] = _dated_property(properties[key])
        for key in _ENDS:
            properties[key] = {k: v for k, v in properties[key].items() if k != "anyOf"} | _INSTANT
        parts[name]["properties"] = properties
    parts["Point"]["required"] = [key for key in parts["Point"]["required"] if key != "kind"]
    gone = ("MeterChange", "PointChange")
    return {name: part for name, part in parts.items() if name not in gone}


_INSTANT = {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]}
_KINDS = ("type", "items", "anyOf", "oneOf", "allOf", "$ref", "enum")
_MAY_CHANGE = (
    "May change on a date: a list of `{from, value}`, the first without `from`, "
    "e.g. `[{value: 40}, {from: 2026-10-16, value: 80}]`."
)


def _dated_property(plain: Mapping[str, Any]) -> dict[str, Any]:
    about = {k: v for k, v in plain.items() if k not in _KINDS}
    value = {k: v for k, v in plain.items() if k in _KINDS}
    entry = {
        "type": "object",
        "properties": {"from": _INSTANT, "value": value},
        "required": ["value"],
        "additionalProperties": False,
    }
    said = f"{plain.get('description', '')}\n\n{_MAY_CHANGE}".strip()
    dated = {"type": "array", "minItems": 1, "items": entry}
    return {**about, "description": said, "anyOf": [value, dated]}
