"""The mapping file: how one source's export files are to be read, in YAML.

Every key is optional; what is absent is detected where that is safe, and asked for where it is not.
``wattline import --dry-run`` prints the whole mapping as it was understood, ready to be saved.

The texts below the fields are the reference, ``docs/reference/csv-mapping.md``.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping as MappingOf
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from app.domain.quantity import canonical_unit
from app.domain.site import Stamp, time_zones
from app.errors import ConfigError, FileNotUnderstood
from collectors.csv.pattern import Pattern
from collectors.csv.time import time_format
from collectors.yaml_lines import YamlLines

ENCODINGS = ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "gb18030", "big5", "cp1252", "shift_jis")
"""Encodings a mapping may name; ``gbk`` and ``gb2312`` are read as gb18030, ``latin-1`` as cp1252."""

MOST_VALUES = 50_000
"""Values in one mapping; it may come over HTTP."""

SHAPE_NAMES = ("wide", "long", "nem12", "nem13", "espi", "json")
LAYOUT_NAMES = (
    *(
        "schneider_gateway",
        "schneider_pme_long",
        "niagara",
        "pi_web_api",
        "pi_datalink",
        "desigo_cc",
        "gridvis",
    ),
    *("abb_ability", "carlo_gavazzi", "neteco", "infrasuite", "environet", "geist", "acrel", "acrel_log"),
    *("calendar_report", "home_assistant", "home_assistant_statistics", "home_assistant_energy", "influxdb"),
    *("prometheus", "epw"),
)
"""Layouts of ``collectors.csv.layouts``, which a mapping may name."""

_SAME_ENCODING = {
    "utf8": "utf-8",
    "utf-8-sig": "utf-8",
    "utf16": "utf-16",
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "cp936": "gb18030",
    "cp950": "big5",
    "latin-1": "cp1252",
    "latin1": "cp1252",
    "iso-8859-1": "cp1252",
    "windows-1252": "cp1252",
    "ascii": "utf-8",
}

VALID_UNITS_S = {"hours": 3600.0, "minutes": 60.0, "seconds": 1.0, "ratio": 0.0}
"""Unit of a valid part -> seconds; 0 marks a share of the interval."""

_INTERVAL = re.compile(r"(\d+)\s*(s|min|h|d|mo)")
_INTERVAL_S = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
PREVIOUS = "previous"


@dataclass(frozen=True, slots=True)
class Interval:
    """Length of stated intervals: seconds, whole days or months of the local calendar, or row to row."""

    seconds: int = 0
    days: int = 0
    months: int = 0
    from_previous: bool = False


def parse_interval(text: str) -> Interval:
    """``15min``, ``1h``, ``1d``, ``1mo`` or ``previous`` as an interval.

    Raises
    ------
    ValueError
        If it is none of these; the text lists them.
    """
    if text == PREVIOUS:
        return Interval(from_previous=True)
    match = _INTERVAL.fullmatch(text.strip())
    if not match or not 0 < int(match[1]) <= 10_000_000:
        raise ValueError(f"{text!r} is no interval; write e.g. 900s, 15min, 1h, 1d, 1mo or previous")
    count, unit = int(match[1]), match[2]
    if unit == "mo":
        return Interval(months=count)
    return Interval(days=count) if unit == "d" else Interval(seconds=count * _INTERVAL_S[unit])


def interval_of_seconds(interval_s: int) -> Interval:
    """Seconds as an interval; whole days are days of the calendar (23 to 25 hours long)."""
    days, rest = divmod(interval_s, 86_400)
    return Interval(days=days) if days and not rest else Interval(seconds=interval_s)


def interval_text(interval_s: int) -> str:
    """Seconds in the mapping's spelling: 900 is ``15min``."""
    for unit in ("d", "h", "min"):
        count, rest = divmod(interval_s, _INTERVAL_S[unit])
        if count and not rest:
            return f"{count}{unit}"
    return f"{interval_s}s"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class OffsetColumn(_Model):
    """A column that gives each row's difference from UTC (east positive)."""

    column: str
    """Name of the column. E.g. ``UTC Offset``."""
    unit: Literal["minutes", "hours", "seconds"] = "minutes"
    """Unit of its numbers."""


class TimeMapping(_Model):
    """Where the time of a row stands and how it is written."""

    column: str | None = None
    """Column with date and time. E.g. ``Timestamp``."""
    columns: tuple[str, ...] = ()
    """Columns that make up the time together. E.g. ``[Date, Time]``."""
    start: str | None = None
    """Column with the start of each interval; needs `end`. E.g. ``From``."""
    end: str | None = None
    """Column with the end of each interval. E.g. ``To``."""
    range: str | None = None
    """Column with start and end in one text (A to B). E.g. ``Period``."""
    format: tuple[str, ...] = ()
    """Directives of strptime, or ``epoch_s`` (``_ms``, ``_us``, ``_ns``) or ``excel``; may be a list.
    Default: detected. E.g. ``"%Y/%m/%d %H:%M:%S"``."""
    zone: str | None = None
    """IANA name, ``UTC`` or a fixed offset. Default: the site's zone. E.g. ``+08:00``."""
    offset: OffsetColumn | None = None
    """Column that gives each row's difference from UTC."""
    stamp: Stamp | None = None
    """Which end of its interval a time names. Default: as the point says."""
    last_day: Literal["included", "excluded"] | None = None
    """Whether a date that ends an interval is its last day, as on bills, or the day after. Default: as the
    next interval's start tells; a date in a single column is the first day. E.g. ``included``."""
    interval: str | None = None
    """Length of each row's interval: 15min, 1h, 1d, 1mo, or ``previous`` (from the row before). E.g.
    ``15min``."""
    order: Literal["ascending", "descending"] | None = None
    """Order of the rows in the file. Default: detected."""
    also: tuple[str, ...] = ()
    """Other names of `column`, as under `columns`. E.g. ``[时间, "Date*"]``."""

    @field_validator("also")
    @classmethod
    def _patterns_compile(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            name_pattern(text)
        return value

    @field_validator("format", "also", mode="before", json_schema_input_type=str | tuple[str, ...])
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("format")
    @classmethod
    def _known_directives(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            time_format(text)
        return value

    @field_validator("interval")
    @classmethod
    def _known_interval(cls, value: str | None) -> str | None:
        if value is not None:
            parse_interval(value)
        return value

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is None or value in time_zones() or OFFSET.fullmatch(value):
            return value
        raise ValueError(f"unknown time zone {value!r}; use an IANA name such as Asia/Shanghai, or +08:00")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        places = [self.column is not None, bool(self.columns), self.range is not None]
        if sum(places) + (self.start is not None or self.end is not None) > 1:
            raise ValueError("say one of column, columns, range, or start and end")
        if self.start is not None and self.end is None:
            raise ValueError("start needs end; a single time column goes under column, with stamp: start")
        if self.also and self.column is None:
            raise ValueError("also gives other names of column; name that too")
        return self

    @property
    def is_placed(self) -> bool:
        """Whether it says where the time stands."""
        return bool(self.column is not None or self.columns or self.end is not None or self.range)


OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2}):?(\d{2})?")
"""A fixed offset as a zone: ``+08:00``, ``UTC+8``."""


def fits(pattern: str, text: str) -> bool:
    """Whether a text is one of those that a name with ``*`` or ``?``, or between strokes, stands for."""
    found = name_pattern(pattern)
    if isinstance(found, Pattern):
        return found.search(text)
    return found is not None and bool(found.fullmatch(text))


@lru_cache(maxsize=1000)
def name_pattern(text: str) -> Pattern | re.Pattern[str] | None:
    """What a name with ``*`` or ``?``, or between strokes, stands for; None for a plain name.

    Raises
    ------
    ValueError
        If it is no regular expression.
    """
    if len(text) > 2 and text.startswith("/") and text.endswith("/"):
        return Pattern(text[1:-1], ignore_case=True)
    if "*" in text or "?" in text:
        return re.compile(fnmatch.translate(text), re.IGNORECASE)
    return None


class ColumnMapping(_Model):
    """One column (or, in a long file, one text of the point column) and the point it fills."""

    point: str
    """Id of the point. E.g. ``main.kwh``."""
    unit: str | None = None
    """Unit of the column. Default: the point's. E.g. ``MWh``."""
    scale: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    """Factor on the numbers before the unit. E.g. ``0.1``."""
    no_value: tuple[str, ...] = ()
    """Texts in this column that mean nothing was measured. E.g. ``["-1"]``."""
    allow_negative: bool = False
    """Registers count upwards from zero: a negative one is refused unless this says otherwise."""
    also: tuple[str, ...] = ()
    """Other names of the column, as in files from before it was renamed: names, patterns with ``*`` and
    ``?``, or a regular expression (RE2) between strokes. E.g. ``["Main energy", "/^Main .*kWh$/"]``."""
    optional: bool = False
    """Whether files without the column are read all the same."""

    @field_validator("also", mode="before", json_schema_input_type=str | tuple[str, ...])
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | int) else value

    @field_validator("also")
    @classmethod
    def _patterns_compile(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            name_pattern(text)
        return value

    @field_validator("unit")
    @classmethod
    def _known_unit(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return canonical_unit(value)
        except KeyError as error:
            raise ValueError(str(error.args[0])) from None


_MOST_POINT_COLUMNS = 10


class LongMapping(_Model):
    """Columns of a long file: one reading a row."""

    point: str | tuple[str, ...]
    """Column that says which point a row is of, or columns that say it together (their texts are joined by
    ``/``). E.g. ``[Device, Signal]``."""
    value: str
    """Column with the value. E.g. ``Value``."""
    unit: str | None = None
    """Column with the unit. E.g. ``Unit``."""

    @field_validator("point")
    @classmethod
    def _one_at_least(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not 0 < len(value) <= _MOST_POINT_COLUMNS and not isinstance(value, str):
            raise ValueError(f"name one to {_MOST_POINT_COLUMNS} columns")
        return value

    @property
    def points(self) -> tuple[str, ...]:
        """The columns that name the point."""
        return (self.point,) if isinstance(self.point, str) else self.point


class ValidMapping(_Model):
    """The measured part of each row's interval."""

    column: str
    """Name of the column. E.g. ``n_hours``."""
    unit: Literal["hours", "minutes", "seconds", "ratio"]
    """Unit of its numbers; ``ratio`` is a share of the interval."""


class StatusMapping(_Model):
    """A column that says whether the row's values may be used."""

    column: str
    """Name of the column. E.g. ``Status``."""
    good: tuple[str, ...]
    """Texts of rows that may be used; all others have no value. E.g. ``["{ok}"]``."""


class Mapping(_Model):
    """How one source's files are read; every key is optional."""

    encoding: str | None = None
    """Encoding of the text: utf-8, utf-16, utf-16-le, utf-16-be, gb18030, big5, cp1252 or shift_jis; gbk
    and gb2312 are read as gb18030, latin-1 as cp1252. Default: detected. E.g. ``gb18030``."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """One character between cells; ``"\\t"`` for a tab. Default: detected. E.g. ``";"``."""
    decimal: Literal[".", ","] | None = None
    """Decimal mark of numbers. Default: detected."""
    thousands: Literal[".", ",", " ", "'", ""] | None = None
    """Grouping mark of numbers. Default: detected."""
    layout: str | None = None
    """Shape of the file: wide, long, nem12, nem13, espi or json, or a [named layout](layouts.md). Default:
    detected. E.g. ``niagara``."""
    sheet: tuple[str, ...] = ()
    """Sheets of a workbook: a name, a pattern such as ``2024-*``, or a list of them. Default: the only one
    that holds readings. E.g. ``Data``."""
    skip: Annotated[int, Field(ge=0)] | None = None
    """Lines before the column names. Default: detected. E.g. ``10``."""
    header: Annotated[int, Field(ge=0, le=10)] | None = None
    """Rows of column names; 0: columns are called "1", "2", ... Default: detected. E.g. ``1``."""
    time: TimeMapping = TimeMapping()
    """Where the time of a row stands and how it is written."""
    columns: dict[str, ColumnMapping] = Field(default_factory=dict)
    """Column -> point, or -> a mapping with more about it. Absent: columns go to points by id, name, or
    meter and unit. E.g. ``{MMCB.KWH: main.kwh}``."""
    long: LongMapping | None = None
    """Columns of a file with one reading a row; `columns` then maps the texts of the point column to
    points."""
    valid: ValidMapping | None = None
    """A column with the measured part of each row's interval."""
    status: StatusMapping | None = None
    """A column that says whether the row's values may be used."""
    no_value: tuple[str, ...] = ()
    """Further texts that mean nothing was measured. E.g. ``["-9999"]``."""
    footer: str | None = None
    """Regular expression (RE2); rows that begin with it are no readings. E.g. ``"^Total"``."""

    @field_validator("sheet", mode="before", json_schema_input_type=str | tuple[str, ...])
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | int) else value

    @field_validator("layout")
    @classmethod
    def _known_layout(cls, value: str | None) -> str | None:
        if value is None or value in SHAPE_NAMES or value in LAYOUT_NAMES:
            return value
        raise ValueError(f"{value!r} is not known; allowed are {', '.join((*SHAPE_NAMES, *LAYOUT_NAMES))}")

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        name = _SAME_ENCODING.get((value or "").lower(), (value or "").lower())
        if value is not None and name not in ENCODINGS:
            raise ValueError(f"{value!r} is not known; allowed are {', '.join(ENCODINGS)}")
        return name or None

    @field_validator("columns", mode="before", json_schema_input_type=dict[str, ColumnMapping | str])
    @classmethod
    def _bare_point(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {str(k): {"point": v} if isinstance(v, str) else v for k, v in value.items()}

    @field_validator("columns")
    @classmethod
    def _keys_compile(cls, value: dict[str, ColumnMapping]) -> dict[str, ColumnMapping]:
        for key in value:
            name_pattern(key)
        return value

    @field_validator("footer")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        Pattern(value or "")
        return value

    @model_validator(mode="after")
    def _marks_differ(self) -> Self:
        if self.decimal is not None and self.decimal == self.thousands:
            raise ValueError("decimal and thousands are the same mark")
        return self


class MappingNeeded(FileNotUnderstood):
    """The file is a table, but which column fills which point must be said; `template` is a start.

    ``proposal`` is the same as an object (:class:`collectors.csv.proposal.Proposal`), to be merged with
    those of other files.
    """

    def __init__(
        self, problem: str, template: str, *, file: str = "", line: int = 0, proposal: object = None
    ) -> None:
        super().__init__(
            f"{problem}\nSave this as a mapping, correct it and pass it on:\n{template}", file=file, line=line
        )
        self.question, self.template, self.proposal = problem, template, proposal


class Ambiguous(FileNotUnderstood):
    """Two readings of the file are possible; the user chooses. `choices` are (value, preview) of `key`."""

    def __init__(
        self,
        problem: str,
        key: str,
        choices: Sequence[tuple[str, str]],
        *,
        file: str = "",
        line: int = 0,
        column: str = "",
    ) -> None:
        shown = "; or ".join(f"{key}: {value} reads {preview}" for value, preview in choices)
        super().__init__(f"{problem}; choose in the mapping: {shown}", file=file, line=line, column=column)
        self.key, self.choices = key, tuple(choices)


def load_mapping(path: Path) -> Mapping:
    """The mapping in a YAML file.

    Raises
    ------
    ConfigError
        If it cannot be read, with file, line, key and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=str(path)) from None
    return parse_mapping(text, file=str(path))


def parse_mapping(text: str, *, file: str = "mapping") -> Mapping:
    """The mapping in a YAML text; `file` names it in errors.

    Raises
    ------
    ConfigError
        If the text is no mapping, with line, key and what is allowed.
    """
    lines = mapping_lines(text, file)
    try:
        return Mapping.model_validate(lines.data)
    except ValidationError as error:
        first = error.errors()[0]
        where = tuple(part for part in first["loc"] if part not in _OF_TYPES)
        raise lines.error(where, _problem(first["type"], first["msg"], where)) from None


_OF_TYPES = ("function-before", "str", "tuple[str, ...]")
"""Steps of a place in a mapping that are types, not keys."""


def mapping_lines(text: str, file: str = "mapping") -> YamlLines:
    """The YAML of a mapping, whether or not it is a good one.

    Raises
    ------
    ConfigError
        If the text is no YAML mapping.
    """
    return YamlLines(text, file, "keys such as time and columns", most_values=MOST_VALUES)


def _problem(kind: str, message: str, where: tuple[int | str, ...]) -> str:
    if kind == "extra_forbidden":
        model: Any = {
            "time": TimeMapping,
            "long": LongMapping,
            "valid": ValidMapping,
            "status": StatusMapping,
        }
        owner = Mapping if len(where) < 2 else model.get(where[0], ColumnMapping)
        return f"unknown key; allowed are {', '.join(owner.model_fields)}"
    return message.removeprefix("Value error, ")


def mapping_yaml(mapping: Mapping) -> str:
    """The mapping as YAML, without what is empty; :func:`parse_mapping` reads it back."""
    data = _plain(mapping.model_dump(mode="json", exclude_none=True, exclude_defaults=True))
    for name, column in data.get("columns", {}).items():
        if set(column) == {"point"}:
            data["columns"][name] = column["point"]
    for place, key in ((data.get("time", {}), "format"), (data, "sheet")):
        if len(place.get(key, ())) == 1:
            place[key] = place[key][0]
    return str(yaml.safe_dump(data, allow_unicode=True, sort_keys=False, width=100))


def _plain(data: MappingOf[str, Any]) -> dict[str, Any]:
    return {k: _plain(v) if isinstance(v, dict) else v for k, v in data.items() if v not in ({}, [], ())}
