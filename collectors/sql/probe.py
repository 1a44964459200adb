"""The first rows of a query, and how its columns are understood."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml
from pydantic import ValidationError

from app.errors import ConfigError, DecodeError
from collectors import times
from collectors.found import Found, Outcome, Target
from collectors.http import secret
from collectors.profiles.profile import config_error, delivered, delivered_unit
from collectors.source import number
from collectors.sql.collector import SqlConfig
from collectors.sql.database import Database, Rows

ROWS = 200
MOST_CHANNELS = 100
_SHOWN = 3
_UNITS = {
    "kwh": "kWh",
    "mwh": "MWh",
    "wh": "Wh",
    "kw": "kW",
    "mw": "MW",
    "w": "W",
    "kva": "kVA",
    "a": "A",
    "v": "V",
}
_NAMED = {"power": "kW", "energy": "kWh", "有功功率": "kW", "电量": "kWh", "电能": "kWh"}


async def answers(target: Target, port: int) -> Outcome:
    """The columns of a query as channels, the newest of the first rows as values.

    Raises
    ------
    CollectError
        If the database does not answer, or refuses.
    ConfigError
        If no URL or query is named, or one is not understood.
    """
    url = target.options.get("url") or (target.host if "://" in target.host else "")
    for key, value in (("url", url), ("query", target.options.get("query"))):
        if not value:
            how = "ask with `wattline probe postgresql://USER@HOST/DATABASE --option query='SELECT ...'`"
            raise ConfigError(f"is missing; {how}", key=key)
    given = {"kind": "sql", **target.options, "url": url}
    try:
        settings = {
            "channels": [{"name": "any", "unit": "1"}],
            "timeout_s": target.timeout_s or 30.0,
            **given,
        }
        config = SqlConfig.model_validate(settings)
    except ValidationError as error:
        raise config_error(error) from None
    database = Database(
        config.parts.database or "sql", config.parts, secret(config, "password"), config.timeout_s
    )
    database.check()
    now = datetime.now(UTC)
    since = times.bound(now - timedelta(seconds=config.catch_up_s), config.time_format, config.zone)
    bounds = {
        "since": since if config.is_by_time else 0,
        "until": times.bound(now, config.time_format, config.zone),
    }
    try:
        rows, _ = await database.rows(config.query, bounds, ROWS, config.ordered_by)
    finally:
        database.close()
    if not rows:
        return Outcome(
            (), (f"SQL: no rows of the last {config.catch_up_s:g} s; set catch_up_s for older ones",)
        )
    return Outcome((_found(config, given, rows),))


def _found(config: SqlConfig, given: Mapping[str, Any], rows: Rows) -> Found:
    time = config.time_column.lower()
    others = [column for column in rows[0] if column not in (time, config.ordered_by)]
    numbers = [column for column in others if _all(rows, column, _is_number)]
    keys = [column for column in others if column not in numbers and _all(rows, column, _is_key)]
    notes = [_time_note(config, rows, time), f"numbers: {', '.join(numbers) or 'none'}"]
    notes += [f"rows are told apart by: {', '.join(keys)}"] if keys else []
    notes += [f"row: {', '.join(f'{k}={v}' for k, v in row.items())}" for row in rows[:_SHOWN]]
    values: dict[str, float] = {}
    channels: list[dict[str, Any]] = []
    for row in rows:
        where = {key: str(row[key]) for key in keys}
        for column in numbers:
            said = " ".join([column, *where.values()])
            unit, value = _unit(said), number(row[column])
            name = f"{re.sub(r'[^0-9A-Za-z一-鿿]+', '_', said).strip('_').lower()}_{delivered_unit(unit)}"
            if value is None or (name not in values and len(values) >= MOST_CHANNELS):
                continue
            if name not in values:
                channels.append({"name": name, "column": column, "where": where, "unit": unit})
            values[name] = delivered(value, unit)
    notes.append("units are guessed from names; compare them with what the database's documents say")
    meter = {"id": "historian", "collector": {**given, "channels": channels}, "points": []}
    text = yaml.safe_dump([meter], allow_unicode=True, sort_keys=False, default_flow_style=None, width=110)
    return Found("", f"SQL ({config.parts.get_backend_name()})", values, tuple(notes), text)


def _time_note(config: SqlConfig, rows: Rows, column: str) -> str:
    if column not in rows[0]:
        raise DecodeError(
            "query", f"the result has no column {column}, but {', '.join(rows[0])}; set time_column"
        )
    raw = rows[-1][column]
    try:
        at = times.time_of(raw, config.time_format, config.zone)
    except times.NotATime as problem:
        return f"{column}: {problem}"
    zone = f", taken as {config.time_zone}" if config.time_zone else ""
    twice = " (comes twice)" if at.tzinfo is None else f" is {at:%Y-%m-%dT%H:%M:%SZ}"
    return f"{column}: {raw}{zone}{twice}"


def _all(rows: Rows, column: str, fits: Any) -> bool:
    return all(fits(row[column]) for row in rows if row[column] is not None)


def _is_number(value: object) -> bool:
    return not isinstance(value, str) and number(value) is not None


def _is_key(value: object) -> bool:
    return isinstance(value, str | int) and len(str(value)) <= 100


def _unit(said: str) -> str:
    """What names say of the unit; ``1`` where they do not."""
    words: Sequence[str] = re.split(r"[^0-9a-z]+", said.lower())
    known = next((_UNITS[word] for word in reversed(words) if word in _UNITS), "")
    return known or next((unit for name, unit in _NAMED.items() if name in said.lower()), "1")
