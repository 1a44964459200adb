"""Which point a column may fill, by resemblance; and one mapping to start from for all files of a command.

A guess is never taken: it stands in a proposal with its confidence, for a person to look at. Resemblance is
that of names, units, of the shape of the values (a register rises) and of their size against the rating.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import numpy.typing as npt

from app.domain.quantity import ENERGY, POWER, UNITS, ReadingKind, Role
from app.domain.site import Meter, Point, Site
from collectors.csv.dialect import normal
from collectors.csv.mapping import ColumnMapping, Mapping, mapping_yaml
from collectors.csv.match import Named
from collectors.csv.units import bare_name

UNKNOWN = "?"
_MOST_COLUMNS = 200
_LEAST = 0.5
"""Guesses below this are left open."""

_ROLE_WORDS: dict[Role, tuple[str, ...]] = {
    Role.FACILITY: (
        "main",
        "incoming",
        "utility",
        "grid",
        "mains",
        "total",
        "总进线",
        "进线",
        "总表",
        "市电",
        "总电",
    ),
    Role.IT_UPS_OUTPUT: ("ups", "不间断"),
    Role.IT_PDU_OUTPUT: ("pdu", "rpp", "列头柜", "机柜", "配电柜"),
    Role.IT_EQUIPMENT_INPUT: ("server", "rack", "it", "服务器", "it设备"),
    Role.COOLING: (
        "chiller",
        "cooling",
        "crac",
        "crah",
        "hvac",
        "pump",
        "冷机",
        "空调",
        "制冷",
        "冷却",
        "水泵",
    ),
    Role.POWER_DISTRIBUTION: ("loss", "transformer", "损耗", "变压器"),
    Role.LIGHTING: ("light", "照明"),
    Role.GENERATOR: ("generator", "genset", "发电机", "柴发"),
    Role.RENEWABLE: ("pv", "solar", "光伏", "太阳能"),
    Role.OUTDOOR_WET_BULB: ("wetbulb", "湿球"),
    Role.OUTDOOR_DRY_BULB: ("drybulb", "干球", "outdoortemp", "outsidetemp", "室外温度"),
    Role.OUTDOOR_RELATIVE_HUMIDITY: ("outdoorhumid", "outsidehumid", "室外湿度", "室外相对湿度"),
    Role.WATER: ("water", "水表", "用水"),
    Role.TEMPERATURE: ("temp", "温度"),
    Role.HUMIDITY: ("humid", "湿度"),
}


def likely_role(name: str) -> Role | None:
    """The role that the words of a name speak of; None where they speak of none."""
    bare = normal(name)
    spoken = (role for role, words in _ROLE_WORDS.items() if any(_speaks(bare, w) for w in words))
    return next(spoken, None)


@dataclass(frozen=True)
class Shape:
    """What a column's numbers look like: n values at instants. [us]"""

    at_us: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]

    @property
    def is_rising(self) -> bool | None:
        """Whether they only rise, as a register does; None where too little is seen."""
        steps = np.diff(self.value)
        if len(steps) < 3:
            return None
        return bool((steps >= 0).mean() > 0.95 and self.value[-1] > self.value[0])

    def power_kw(self, point: Point, factor: float) -> float:
        """The power that they mean if they are the point's; NaN where that is not known."""
        if point.kind is ReadingKind.REGISTER:
            hours = np.diff(self.at_us) / 3.6e9
            good = hours > 0
            with np.errstate(over="ignore", invalid="ignore"):  # whatever a file holds is looked at
                rates = np.diff(self.value)[good] / hours[good]
            return float(np.median(rates)) * factor if len(rates) else math.nan
        if point.kind is ReadingKind.INTERVAL_ENERGY:
            return (
                float(np.median(self.value)) * factor * 3600 / point.interval_s
                if len(self.value)
                else math.nan
            )
        return float(np.median(self.value)) * factor if len(self.value) else math.nan


@dataclass(frozen=True)
class Guess:
    """The point that a column may fill; `point` is a question mark where none stands out."""

    point: str
    confidence: float
    why: str = ""


@dataclass(frozen=True)
class Proposal:
    """A mapping to start from, and how sure each of its columns is (1 for those that are known)."""

    mapping: Mapping
    guesses: dict[str, Guess] = field(default_factory=dict)
    is_long: bool = False

    def text(self, site: Site) -> str:
        """As YAML to save: with the site's points, the confidence of guesses, and what is left open."""
        known = "\n".join(
            f"#   {p.id}: {p.role.value}, {p.kind.value}, {p.source_unit}" for p in site.points()
        )
        texts = "texts of the point column" if self.is_long else "columns"
        decided = {n: c for n, c in self.mapping.columns.items() if c.point != UNKNOWN}
        shown = self.mapping.model_copy(update={"columns": decided}) if decided else self.mapping
        left = [n for n in self.mapping.columns if decided and n not in decided]
        return (
            f"# points of site {site.id}:\n{known}\n"
            f"# columns: which point each of the {texts} fills; check the guesses\n"
            f"{_annotated(mapping_yaml(shown), self.guesses)}{_left_open(left)}"
        )


def _left_open(names: Sequence[str]) -> str:
    """Columns that resemble no point, as comments."""
    if not names:
        return ""
    lines = "\n".join(f"#   {_column_line(n, UNKNOWN).strip()}" for n in names[:50])
    return f"# columns that resemble no point of the site:\n{lines}\n"


def _column_line(name: str, point: str) -> str:
    """The line of a column in a mapping."""
    return mapping_yaml(Mapping(columns={name: ColumnMapping(point=point)})).splitlines()[1]


def _annotated(text: str, guesses: dict[str, Guess]) -> str:
    """The YAML with the confidence of each guess behind its column."""
    shown = {_column_line(n, g.point): g for n, g in guesses.items() if g.point != UNKNOWN}
    heads = {line.rsplit(": ", 1)[0] + ":": guess for line, guess in shown.items()}
    lines = []
    for line in text.splitlines():
        guess = shown.get(line) or heads.get(line)
        lines.append(f"{line}  # {guess.confidence:.0%}: {guess.why}" if guess else line)
    return "\n".join(lines) + "\n"


def propose(
    named: Sequence[Named], shapes: dict[str, Shape], site: Site, mapping: Mapping, *, is_long: bool = False
) -> Proposal:
    """The mapping with the most likely point of each column."""
    found = guesses(named, shapes, site)
    columns = {}
    for one in named[:_MOST_COLUMNS]:
        point = found[one.name].point
        columns[one.name] = ColumnMapping(point=point, unit=None if point == UNKNOWN else one.stated.unit)
    return Proposal(mapping.model_copy(update={"columns": columns}), found, is_long)


def of_plan(mapping: Mapping, *, is_long: bool = False) -> Proposal:
    """The mapping of a file that was understood: nothing in it is a guess."""
    return Proposal(mapping, {}, is_long)


def guesses(named: Sequence[Named], shapes: dict[str, Shape], site: Site) -> dict[str, Guess]:
    """The most likely point of each column; no point twice, the surest first."""
    rated = {p.id: site.effective(m, p).max_power_kw for m in site.meters for p in m.points}
    scored = sorted(
        (
            (_score(n, shapes.get(n.name), m, p, rated[p.id]), n.name, p.id)
            for n in named
            for m in site.meters
            for p in m.points
        ),
        key=lambda s: (-s[0][0], s[1], s[2]),
    )
    found: dict[str, Guess] = {}
    taken: set[str] = set()
    for (score, why), name, point in scored:
        if score >= _LEAST and name not in found and point not in taken:
            found[name] = Guess(point, round(min(score, 0.99), 2), why)
            taken.add(point)
    return {n.name: found.get(n.name, Guess(UNKNOWN, 0.0)) for n in named}


def _score(
    named: Named, shape: Shape | None, meter: Meter, point: Point, rated_kw: float
) -> tuple[float, str]:
    """How well a column fits a point, from 0 to 1, and why."""
    stated = named.stated
    if stated.other or (stated.unit and UNITS[stated.unit][0] is not point.quantity):
        return 0.0, ""
    alike, word = _alike(named, meter, point)
    reasons = [f"name like {word}" if alike >= 0.5 else ""]
    score = 0.75 * alike
    if stated.unit:
        score += 0.15
        reasons.append(f"in {stated.unit}")
    if shape is not None and point.quantity in (ENERGY, POWER):
        rising = shape.is_rising
        if rising is not None:
            fits = rising is (point.kind is ReadingKind.REGISTER)
            score += 0.15 if fits else -0.3
            reasons.append(("rises" if rising else "goes up and down") if fits else "")
        size_kw = shape.power_kw(point, UNITS[stated.unit or point.source_unit][1] * point.multiplier)
        if math.isfinite(rated_kw) and math.isfinite(size_kw):
            fits = 0 <= size_kw <= rated_kw
            score += 0.1 if fits else -0.4
            reasons.append(f"{size_kw:.3g} kW is within the rating" if fits else "")
    return max(score, 0.0), ", ".join(r for r in reasons if r)


def _alike(named: Named, meter: Meter, point: Point) -> tuple[float, str]:
    """Likeness of the names, from 0 to 1, and of what."""
    found = [(0.0, "")]
    for text in (named.name, *named.longer):
        bare = normal(bare_name(text))
        for known in (point.id, point.name, meter.id, meter.name):
            wanted = normal(bare_name(known))
            if bare and wanted:
                found.append((_likeness(bare, wanted), known))
        found += [
            (0.6, f"role {point.role.value}") for w in _ROLE_WORDS.get(point.role, ()) if _speaks(bare, w)
        ]
    return max(found)


def _speaks(bare: str, word: str) -> bool:
    """Whether a name speaks of a role; two letters may stand in any word."""
    return word in bare and (not word.isascii() or len(word) > 2 or bare.startswith(word))


def _likeness(one: str, other: str) -> float:
    if one == other:
        return 1.0
    short, long = sorted((one, other), key=len)
    if len(short) >= 3 and short in long:
        return 0.6 + 0.4 * len(short) / len(long)
    return SequenceMatcher(None, one, other).ratio() * 0.8


# -- one for all files ---------------------------------------------------------------------------------


def merged(parts: Sequence[Proposal]) -> Proposal:
    """One proposal for files of one source: what they share is said, what differs is left to be found out."""
    mapping = Mapping.model_validate(
        {
            **_shared([p.mapping.model_dump(exclude={"columns", "time"}) for p in parts]),
            "time": _time([p.mapping.time.model_dump() for p in parts]),
            "columns": _columns(parts),
        }
    )
    found: dict[str, Guess] = {}
    for name, guess in (item for p in parts for item in p.guesses.items()):
        if name in mapping.columns and guess.confidence >= found.get(name, guess).confidence:
            found[name] = guess
    return Proposal(mapping, found, any(p.is_long for p in parts))


def _shared(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The values that all have alike."""
    return {key: value for key, value in parts[0].items() if all(p[key] == value for p in parts)}


def _time(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    shared = _shared(parts)
    places = {"column", "columns", "start", "end", "range"}
    if places <= set(shared):
        return shared
    names = list(dict.fromkeys(p["column"] for p in parts if p["column"]))
    rest = {k: v for k, v in shared.items() if k not in places | {"also"}}
    is_single = all(p["column"] for p in parts)
    return {**rest, "column": names[0], "also": tuple(names[1:])} if is_single else rest


def _columns(parts: Sequence[Proposal]) -> dict[str, Any]:
    """Every column once; several names of one point as one column that is called so also."""
    count: dict[str, int] = {}
    first: dict[str, ColumnMapping] = {}
    for name, column in (item for p in parts for item in p.mapping.columns.items()):
        count[name] = count.get(name, 0) + 1
        if name not in first or first[name].point == UNKNOWN:
            first[name] = column
    out: dict[str, Any] = {}
    names_of: dict[Any, str] = {}
    for name, column in first.items():
        key = None if column.point == UNKNOWN else tuple(sorted(_rest(column).items(), key=str))
        other = None if key is None else names_of.get(key)
        if other is not None and not _together(parts, name, other):
            out[other]["also"] = (*out[other]["also"], name)
            count[other] += count[name]
            continue
        if key is not None:
            names_of[key] = name
        out[name] = column.model_dump()
    for name, told in out.items():
        told["optional"] = told["optional"] or count[name] < len(parts)
    return out


def _rest(column: ColumnMapping) -> dict[str, Any]:
    return column.model_dump(exclude={"also", "optional"})


def _together(parts: Iterable[Proposal], one: str, other: str) -> bool:
    """Whether some file has both columns: then they are not one that was renamed."""
    return any(one in p.mapping.columns and other in p.mapping.columns for p in parts)
