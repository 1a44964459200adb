"""Which column fills which point: by the mapping, else by names that can mean one point only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.domain.quantity import ENERGY, NUMBER, POWER, UNITS, VOLUME, Role
from app.domain.site import Meter, Point, Site, Stamp
from app.errors import FileNotUnderstood
from collectors.csv.dialect import normal
from collectors.csv.mapping import (
    PREVIOUS,
    Ambiguous,
    ColumnMapping,
    Interval,
    Mapping,
    fits,
    interval_of_seconds,
    interval_text,
    parse_interval,
)
from collectors.csv.number import NumberStyle
from collectors.csv.plan import INTERVAL_KINDS, ColumnPlan
from collectors.csv.units import Stated, bare_name, known_or_none, stated_unit


@dataclass(frozen=True)
class Named:
    """Something that carries values: a column, or in a long file one text of the point column."""

    index: int
    name: str
    unit: str | None = None
    is_empty: bool = False
    """Whether no cell of the sample says anything."""
    longer: tuple[str, ...] = ()
    """The name with what stands above it, or with the name of the sheet."""
    other_unit: str = ""
    """Unit that is stated and none of ours."""
    sheet_unit: str = ""
    """Unit that a line above the table states for all of it."""

    @property
    def stated(self) -> Stated:
        """The unit that is stated, by the column itself or by its name."""
        if self.unit or self.other_unit:
            return Stated(self.unit, self.other_unit)
        return stated_unit(self.name)


_RATIOS = ("pue", "dcie", "ere", "wue", "cue")
"""Columns of figures that somebody computed; they measure nothing."""


def match_columns(
    named: Sequence[Named], site: Site, mapping: Mapping, *, file: str
) -> dict[Named, ColumnMapping]:
    """The point of each column. Mapped columns come first; a mapping with columns leaves out all others.

    Raises
    ------
    FileNotUnderstood
        If the mapping names an unknown point, or two columns fill the same one.
    """
    if mapping.columns:
        return _mapped(named, site, mapping, file)
    found = {n: ColumnMapping(point=p.id) for n in named for p in [only_point(n, site)] if p is not None}
    _refuse_twice(found, file)
    return found


def _mapped(named: Sequence[Named], site: Site, mapping: Mapping, file: str) -> dict[Named, ColumnMapping]:
    known = {p.id for p in site.points()}
    found = {}
    for key, column in mapping.columns.items():
        if column.point not in known:
            shown = ", ".join(sorted(known)[:40])
            raise FileNotUnderstood(
                f"the mapping fills point {column.point!r}; site {site.id} has no such point, it has {shown}",
                file=file,
                column=key,
            )
        found.update({n: column for n in named if _is_meant(n.name, key, column)})
    return found


def _is_meant(name: str, key: str, column: ColumnMapping) -> bool:
    """Whether a name, or a text of a long file's point column, is one of those the mapping gives."""
    if name == key or name in column.also:
        return True
    return any(fits(pattern, name) for pattern in (key, *column.also))


def _refuse_twice(found: dict[Named, ColumnMapping], file: str) -> None:
    by_point: dict[str, str] = {}
    for named, column in found.items():
        other = by_point.setdefault(column.point, named.name)
        if other != named.name:
            raise FileNotUnderstood(
                f"columns {other!r} and {named.name!r} both fit point {column.point!r}; map one of them",
                file=file,
                column=named.name,
            )


def only_point(named: Named, site: Site) -> Point | None:
    """The one point the name can mean; None if there is none or more than one."""
    stated = named.stated
    if stated.other:
        return None
    unit = stated.unit
    for name in (named.name, *named.longer):
        by_name = (_by_name(name, site), _by_name(bare_name(name), site), _by_meter(name, site))
        for candidates in (*by_name, _of_weather(bare_name(name), site)):
            fitting = [p for p in candidates if unit is None or UNITS[unit][0] is p.quantity]
            if len(fitting) == 1:
                return fitting[0]
    return None


def _by_name(name: str, site: Site) -> list[Point]:
    wanted = normal(name)
    return [p for p in site.points() if wanted and wanted in (normal(p.id), normal(p.name))]


_WEATHER = {
    Role.OUTDOOR_DRY_BULB: ("drybulbc", "drybulb", "temperature2m", "temp", "tmpc", "airtemperature", "气温"),
    Role.OUTDOOR_WET_BULB: ("wetbulbc", "wetbulb", "wetbulbtemperature2m", "湿球温度"),
    Role.OUTDOOR_RELATIVE_HUMIDITY: (
        *("relativehumiditypercent", "relativehumidity", "relativehumidity2m", "rhum", "relh"),
        "相对湿度",
    ),
}
"""Names of columns in hourly weather files, as they are compared."""


def _of_weather(name: str, site: Site) -> list[Point]:
    """Points of imported weather whose role the name is, or one that weather files use for it."""
    wanted = normal(name)
    roles = [role for role, names in _WEATHER.items() if wanted in (normal(role.value), *names)]
    return [p for m in site.meters if m.imported_from for p in m.points if p.role in roles]


def _by_meter(name: str, site: Site) -> list[Point]:
    """Points of the meter the name begins with: ``MMCB.KWH``, ``main energy``, ``main register``."""
    bare, whole = normal(bare_name(name)), normal(name)
    found = []
    for meter in site.meters:
        ids = {normal(meter.id), normal(meter.name)} - {""}
        found += [p for p in meter.points if ids & {bare, whole} or whole in _names(meter, p, ids)]
    return found


def _names(meter: Meter, point: Point, ids: Iterable[str]) -> set[str]:
    words = {point.kind.value, point.channel, point.quantity.house_unit}
    words |= {"energy"} if point.quantity is ENERGY else {"power"} if point.quantity is POWER else set()
    return {i + normal(w) for i in ids for w in words if w}


def column_plan(
    named: Named,
    column: ColumnMapping,
    site: Site,
    mapping: Mapping,
    numbers: NumberStyle,
    step: Interval | None,
    *,
    file: str,
) -> tuple[ColumnPlan, list[str]]:
    """How the cells of a matched column become readings, and what was assumed.

    `step` is the regular distance of the rows, if they have one.

    Raises
    ------
    FileNotUnderstood
        If unit and point do not go together, or could be meant in two ways.
    """
    point = next(p for p in site.points() if p.id == column.point)
    unit = _unit(named, column, point, file)
    _, factor, offset = UNITS[unit]
    interval, warnings = _interval(point, mapping, step)
    style = NumberStyle(
        numbers.decimal, numbers.thousands, numbers.no_value | frozenset(column.no_value), unit
    )
    plan = ColumnPlan(
        named.index,
        named.name,
        point,
        unit,
        factor * column.scale,
        offset,
        style,
        Stamp.END,
        interval,
        column.allow_negative,
    )
    return plan, warnings


def _unit(named: Named, column: ColumnMapping, point: Point, file: str) -> str:
    """The unit of the cells: given, else stated by the column or above the table, else the point's."""
    if column.unit:
        return _checked_unit(column.unit, named, point, file)
    stated = named.stated
    if stated.other and point.quantity in (ENERGY, POWER, VOLUME):
        raise _other_unit(named, stated.other, point, file)
    unit = stated.unit or _unit_of_sheet(named, point, file) or point.source_unit
    if point.quantity is NUMBER:
        unit = point.source_unit
    if point.unit and unit != point.source_unit and UNITS[unit][0] is point.quantity:
        raise _two_units(named, unit, point, file)
    return _checked_unit(unit, named, point, file)


def _checked_unit(unit: str, named: Named, point: Point, file: str) -> str:
    if UNITS[unit][0] is not point.quantity:
        raise FileNotUnderstood(
            f"{unit} is {UNITS[unit][0].name}, but point {point.id} ({point.role}, {point.kind}) needs "
            f"{point.quantity.name}",
            file=file,
            column=named.name,
        )
    return unit


def _unit_of_sheet(named: Named, point: Point, file: str) -> str | None:
    """The unit stated above the table, where it is one of the point's quantity."""
    if not named.sheet_unit:
        return None
    unit = known_or_none(named.sheet_unit)
    if unit is None and point.quantity in (ENERGY, POWER, VOLUME):
        raise _other_unit(named, named.sheet_unit, point, file)
    return unit if unit and UNITS[unit][0] is point.quantity else None


def _other_unit(named: Named, other: str, point: Point, file: str) -> FileNotUnderstood:
    house = point.quantity.house_unit
    return FileNotUnderstood(
        f"the column states {other}, which is no {point.quantity.name} as point {point.id} needs it, or no "
        f"known unit; map the column in {house}, or say what its numbers are: "
        f"columns: {{{named.name}: {{point: {point.id}, unit: {house}, scale: 1}}}}",
        file=file,
        column=named.name,
    )


def _two_units(named: Named, stated: str, point: Point, file: str) -> Ambiguous:
    house = point.quantity.house_unit
    return Ambiguous(
        f"the column states {stated}, the site file says {point.source_unit} for point {point.id}",
        f"columns: {named.name}: unit",
        [(unit, f"1 as {UNITS[unit][1]:g} {house}") for unit in (stated, point.source_unit)],
        file=file,
        column=named.name,
    )


def _interval(point: Point, mapping: Mapping, step: Interval | None) -> tuple[Interval, list[str]]:
    if mapping.time.interval is not None:
        return parse_interval(mapping.time.interval), []
    given = interval_of_seconds(point.interval_s)
    if point.kind not in INTERVAL_KINDS or step is None or step == given:
        return given, []
    stated = interval_key(step)
    return step, [
        f"point {point.id}: rows are {stated} apart, so each is taken to state {stated}, not the "
        f"{interval_key(given)} of the site file; say time: interval if that is wrong"
    ]


def interval_key(interval: Interval) -> str:
    """The interval in the mapping's spelling."""
    if interval.months or interval.days:
        return f"{interval.months}mo" if interval.months else f"{interval.days}d"
    return PREVIOUS if interval.from_previous else interval_text(interval.seconds)


def may_fill(named: Named, point: Point) -> bool:
    """Whether the unit that the column states, if any, is one of the point's quantity."""
    stated = named.stated
    if stated.other:
        return False
    if stated.unit is None:
        return normal(named.name) not in _RATIOS
    return UNITS[stated.unit][0] is point.quantity


def nothing_matches(named: Sequence[Named], site: Site) -> str:
    """Why no column could be matched, with what each is called."""
    shown = ", ".join(repr(n.name) for n in named[:20])
    ratio = [n.name for n in named if normal(n.name) in _RATIOS]
    problem = f"none of {shown} is the id or name of exactly one point of site {site.id}"
    if ratio:
        problem += f"; {', '.join(ratio)}: a ratio that somebody computed is no meter reading"
    return problem
