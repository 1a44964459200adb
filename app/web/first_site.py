"""A first site from nothing: what a person said and files and devices showed, as the text of a site file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field

from app import config
from app.domain.quantity import POWER, UNITS, ReadingKind, Role
from app.domain.site import Site, time_zones
from app.domain.suggestion import Link, Unlinked, hourly_kwh, links
from app.errors import ConfigError, FileNotUnderstood, SeriesError
from collectors.csv.mapping import Ambiguous, MappingNeeded, parse_mapping
from collectors.csv.proposal import likely_role
from collectors.csv.reader import read, understand
from collectors.csv.units import stated_unit
from collectors.found import Found

UNIT_CHOICES = ("kWh", "MWh", "Wh", "kW", "W", "MW")
KINDS = ("register", "interval_energy", "power")
ROLES = (
    Role.FACILITY,
    Role.IT_UPS_OUTPUT,
    Role.IT_PDU_OUTPUT,
    Role.IT_EQUIPMENT_INPUT,
    Role.COOLING,
    Role.POWER_DISTRIBUTION,
    Role.LIGHTING,
    Role.OTHER,
    Role.NON_DC,
    Role.GENERATOR,
    Role.RENEWABLE,
    Role.NONE,
)
MOST_METERS = 300
_BATCHES = 8
"""Parts of a file that are looked at."""
_SLUG = re.compile(r"[^a-z0-9]+")
_ENERGY_KINDS = {kind.value for kind in ReadingKind if kind is not ReadingKind.GAUGE}


class Meter(BaseModel):
    """A meter in the making."""

    model_config = ConfigDict(extra="forbid")
    id: str = Field(max_length=100)
    name: str = Field(max_length=200)
    role: Role = Role.NONE
    kind: Literal["register", "interval_energy", "power"] = "register"
    unit: str = "kWh"
    interval_s: int = 900
    rated_power_kw: float | None = Field(default=None, gt=0, le=1e6)
    fed_by: str = ""
    column: str = ""
    """Column of the files; empty: a device."""
    probed: str = Field(default="", max_length=20_000)
    """Its part of a site file, as a probe proposes it."""

    @property
    def point(self) -> str:
        """Id of the point that a column fills."""
        return f"{self.id}.{'kw' if self.kind == 'power' else 'kwh'}"


class Plan(BaseModel):
    """What is known so far."""

    model_config = ConfigDict(extra="forbid")
    institution: str = Field(default="", max_length=200)
    institution_class: Literal["state_owned", "joint_stock", "other"] = "other"
    site: str = Field(default="", max_length=200)
    time_zone: str = Field(default="Asia/Shanghai", max_length=60)
    price_per_kwh: float | None = Field(default=None, ge=0, le=1e4)
    it_capacity_kw: float | None = Field(default=None, gt=0, le=1e7)
    ticket: str = Field(default="", max_length=64)
    mapping: str = Field(default="", max_length=100_000)
    """What was answered about the files, as a mapping."""
    meters: list[Meter] = Field(default_factory=list, max_length=MOST_METERS)

    @property
    def site_id(self) -> str:
        """Id of the site."""
        return slug(self.site, "dc1")

    def check(self) -> None:
        """Refuse what no site can have.

        Raises
        ------
        SeriesError
            If a name is missing or the time zone is none.
        """
        if not self.institution.strip() or not self.site.strip():
            raise SeriesError("name the institution and the data centre")
        if self.time_zone not in time_zones():
            raise SeriesError(f"time zone {self.time_zone!r} is not known; write it like Asia/Shanghai")

    def add(self, meters: Sequence[Meter]) -> None:
        """Take meters in, under ids of their own; columns that are known stay as they are."""
        known = {m.column for m in self.meters if m.column}
        for meter in meters:
            if not meter.column or meter.column not in known:
                meter.id = unique(meter.id, {m.id for m in self.meters})
                self.meters.append(meter)


def slug(name: str, otherwise: str) -> str:
    """An id made of a name."""
    return _SLUG.sub("-", name.casefold()).strip("-")[:60] or otherwise


def unique(wanted: str, taken: set[str]) -> str:
    """The id, with a number where it is taken."""
    tried = (f"{wanted}-{n}" if n > 1 else wanted for n in range(1, MOST_METERS + 2))
    return next(one for one in tried if one not in taken)


# -- files -----------------------------------------------------------------------------------------------


@dataclass
class Column:
    """A column of the files that may be a meter."""

    name: str
    unit: str
    at_us: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)

    @property
    def is_power(self) -> bool:
        """Whether its unit is one of power."""
        return UNITS[self.unit.lower()][0] is POWER

    @property
    def kind(self) -> str:
        """What its values look like."""
        steps = np.diff(self.value)
        is_rising = len(steps) > 0 and (steps >= 0).mean() > 0.95 and self.value[-1] > self.value[0]
        return "power" if self.is_power else "register" if is_rising else "interval_energy"

    @property
    def interval_s(self) -> int:
        """Usual time between its values. [s]"""
        steps = np.diff(np.sort(np.array(self.at_us, dtype=np.int64)))
        return int(np.median(steps) / 1e6) if len(steps) else 900

    def meter(self, number: int) -> Meter:
        """A meter with what its name and values say."""
        found = likely_role(self.name)
        role = found if found in ROLES else Role.NONE
        bare = re.sub(rf"[\s_.\[(]*\b{self.unit}\b[\])]*", "", self.name, flags=re.IGNORECASE).strip()
        return Meter(
            id=slug(bare, f"m{number}"),
            name=(bare or self.name)[:200],
            role=role,
            kind=self.kind,  # type: ignore[arg-type]
            unit=self.unit,
            interval_s=max(self.interval_s, 1),
            column=self.name,
        )


@dataclass
class Looked:
    """What the files of an upload hold."""

    columns: dict[str, Column] = field(default_factory=dict)
    mapping: dict[str, Any] = field(default_factory=dict)
    """As it was found out, without its columns."""
    problems: list[str] = field(default_factory=list)
    key: str = ""
    """Where a file can be read in two ways: the key that decides."""
    choices: tuple[tuple[str, str], ...] = ()


def look_at(paths: Mapping[str, Path], plan: Plan) -> Looked:
    """Find the columns of files and read the first parts of each.

    Parameters
    ----------
    paths : mapping of str to Path
        By the name that the sender knows.
    """
    found = Looked()
    for name, path in paths.items():
        try:
            _look_at_one(path, plan, found)
        except Ambiguous as error:
            found.key, found.choices = error.key, error.choices
            found.problems.append(str(error).replace(str(path), name))
        except (FileNotUnderstood, ConfigError) as error:
            found.problems.append(str(error).partition("\n")[0].replace(str(path), name))
    return found


def _look_at_one(path: Path, plan: Plan, found: Looked) -> None:
    answered = yaml.safe_load(plan.mapping) or {}
    try:
        understand(path, _site(plan, []), parse_mapping(plan.mapping) if answered else None)
        return
    except MappingNeeded as error:
        known = yaml.safe_load(error.template) or {}
    names = list(known.pop("columns", {}))[:MOST_METERS]
    columns = {f"c{n}": Column(name, _unit(name)) for n, name in enumerate(names)}
    points = [{"id": f"m{n}", "points": [_sample_point(n, c)]} for n, c in enumerate(columns.values())]
    told = {
        **known,
        **answered,
        "columns": {c.name: {"point": key, "allow_negative": True} for key, c in columns.items()},
    }
    plans = understand(path, _site(plan, points), parse_mapping(yaml.safe_dump(told, allow_unicode=True)))
    for batch in islice(read(path, plans), _BATCHES):
        for row, key in enumerate(batch.points):
            chosen = batch.columns.point_id == row
            columns[key].at_us += batch.columns.at_us[chosen].tolist()
            columns[key].value += batch.columns.value[chosen].tolist()
    found.columns |= {c.name: c for c in columns.values() if c.value}
    found.mapping = {key: value for key, value in told.items() if key != "columns"}


def _unit(name: str) -> str:
    stated = stated_unit(name).unit
    return next((unit for unit in UNIT_CHOICES if unit.lower() == stated), "kWh")


def _sample_point(number: int, column: Column) -> dict[str, Any]:
    kind = "power" if column.is_power else "register"
    return {"id": f"c{number}", "role": "none", "kind": kind, "unit": column.unit}


def _site(plan: Plan, meters: Sequence[Mapping[str, Any]]) -> Site:
    one = {"id": "dc", "institution": "i", "time_zone": plan.time_zone, "meters": list(meters)}
    text = {"institutions": [{"id": "i", "institution_class": "other"}], "sites": [one]}
    return config.parse(yaml.safe_dump(text)).sites[0]


def import_mapping(plan: Plan, looked: Looked) -> str:
    """How the files are imported into the site that the plan describes."""
    taken = [m for m in plan.meters if m.column in looked.columns]
    columns = {m.column: {"point": m.point, "unit": m.unit} for m in taken}
    return str(yaml.safe_dump({**looked.mapping, "columns": columns}, allow_unicode=True, sort_keys=False))


# -- devices ---------------------------------------------------------------------------------------------


def device(found: Found) -> Meter:
    """A meter as a probe recognised it."""
    proposed = yaml.safe_load(found.yaml)[0]
    role = likely_role(f"{found.model} {proposed['id']}")
    return Meter(
        id=str(proposed["id"]),
        name=found.model[:200],
        role=role if role in ROLES else Role.OTHER,
        probed=str(yaml.safe_dump(proposed, allow_unicode=True, sort_keys=False)),
    )


# -- the tree --------------------------------------------------------------------------------------------


def suggested(plan: Plan, looked: Looked) -> dict[str, Link]:
    """What feeds what, by the energies of the files, by names and by roles."""
    return links([_unlinked(meter, looked) for meter in plan.meters if meter.role is not Role.NONE])


def _unlinked(meter: Meter, looked: Looked) -> Unlinked:
    column = looked.columns.get(meter.column)
    if column is None:
        return Unlinked(meter.id, meter.name, meter.role)
    at = pd.DatetimeIndex(pd.to_datetime(pd.Series(column.at_us, dtype="int64"), unit="us", utc=True))
    energy = hourly_kwh(ReadingKind(meter.kind), at, column.value)
    return Unlinked(meter.id, meter.name, meter.role, energy)


# -- the text --------------------------------------------------------------------------------------------


def text(plan: Plan, today: date) -> str:
    """The site file that the plan describes."""
    institution = slug(plan.institution, "institution")
    site: dict[str, Any] = {
        "id": plan.site_id,
        "name": plan.site.strip(),
        "institution": institution,
        "time_zone": plan.time_zone,
    }
    if plan.it_capacity_kw is not None:
        site["design"] = {"it_capacity_kw": plan.it_capacity_kw}
    if plan.price_per_kwh is not None:
        site["tariffs"] = [{"valid_from": date(today.year - 1, 1, 1), "price_per_kwh": plan.price_per_kwh}]
    site["meters"] = [_meter(m) for m in plan.meters if m.role is not Role.NONE or m.probed]
    bank = {
        "id": institution,
        "name": plan.institution.strip(),
        "institution_class": plan.institution_class,
    }
    data = {"institutions": [bank], "sites": [site]}
    return str(yaml.safe_dump(data, allow_unicode=True, sort_keys=False, default_flow_style=None, width=110))


def _meter(meter: Meter) -> dict[str, Any]:
    about: dict[str, Any] = {"id": meter.id, "name": meter.name}
    about |= {"fed_by": [meter.fed_by]} if meter.fed_by else {}
    about |= {"rated_power_kw": meter.rated_power_kw} if meter.rated_power_kw else {}
    if meter.probed:
        proposed = yaml.safe_load(meter.probed)
        rest = {key: value for key, value in proposed.items() if key not in (*about, "points")}
        return {**about, **rest, "points": list(_with_role(proposed["points"], meter.role))}
    point: dict[str, Any] = {"id": meter.point, "role": meter.role.value, "kind": meter.kind}
    point |= {"unit": meter.unit} if meter.unit not in ("kWh", "kW") else {}
    point |= {"interval_s": meter.interval_s} if meter.kind == "interval_energy" else {}
    return {**about, "points": [point]}


def _with_role(points: Sequence[Mapping[str, Any]], role: Role) -> Iterator[dict[str, Any]]:
    """The points of a device: the first register counts, else the first point that carries energy."""
    carrying = [p["id"] for p in points if p["kind"] in _ENERGY_KINDS]
    registers = [p["id"] for p in points if p["kind"] == ReadingKind.REGISTER.value]
    counted = next(iter(registers or carrying), "")
    for point in points:
        if point["id"] == counted:
            yield {**point, "role": role.value}
        elif point["id"] in carrying:
            yield {**point, "role": Role.NONE.value}
        else:
            yield dict(point)
