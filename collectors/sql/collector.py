"""Rows of a database as readings: each is read once, in pages, from where reading stands.

``:since`` of the query lies ``late_s`` before the newest row that was read (for whole numbers so many
numbers), so that rows that are committed late, or have the same time as the last one, are not missed; what
was read already is known by point, instant and value.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, field_validator, model_validator

from app.domain.quantity import ReadingKind
from app.domain.reading import OLDEST, Reading
from app.domain.site import Point
from app.errors import CollectError, DecodeError, DeviceRefused
from collectors import times
from collectors.base import Binding, Poll
from collectors.config import CollectorConfig
from collectors.http import secret
from collectors.registry import CollectorKind
from collectors.source import SourceChannel, channel_of, number, reading, refuse_doubles
from collectors.sql import database
from collectors.sql.database import Database, Rows
from collectors.sql.statement import refusal
from collectors.times import Zone

if TYPE_CHECKING:
    import sqlalchemy as sa

MOST_READINGS = 50_000
"""A poll that has so many ends; the next one goes on."""
OVERLAP = 1000
"""Whole numbers of a watermark that are read again: transactions end in another order than they begin."""
AHEAD = timedelta(minutes=5)
"""Rows further ahead of our clock are not taken: their zone is wrong."""
_MOST_SAID = 3
_Mark = int | datetime
"""A watermark."""


class SqlChannel(SourceChannel):
    """One value: a column of its own (wide), or the rows that hold certain values (long)."""

    column: Annotated[str, Field(min_length=1)] = "value"
    """Column of the result that holds the value. E.g. ``total_kw``."""
    where: dict[str, str | int | float] = Field(default_factory=dict)
    """Column -> value by which the rows of this channel are told from others. E.g. ``{meter: PM-7}``."""

    @cached_property
    def condition(self) -> tuple[tuple[str, str], ...]:
        """Columns in lower case and what they must hold, as text."""
        return tuple(sorted((column.lower(), str(value)) for column, value in self.where.items()))


class SqlConfig(CollectorConfig):
    """``collector: {kind: sql, ...}``: readings that a database has already, by a query."""

    kind: Literal["sql"]
    """A database."""
    url: Annotated[str, Field(min_length=1, max_length=2000)]
    """The database, as SQLAlchemy writes it, without a password. E.g.
    ``postgresql://reader@pme.dc.example/ION_Data``.

    PostgreSQL and SQLite are there; for others install the driver beside Wattline (`mssql+pymssql`,
    `mssql+pyodbc`, `mysql+pymysql`, `oracle+oracledb`). PostgreSQL is reached with verified TLS
    (`sslmode=verify-full`) unless the URL says otherwise. Use an account that may only read."""
    password: SecretStr | None = None
    """Password of the user in the URL; better in a file. E.g. ``user-secret``."""
    password_file: Path | None = None
    """File that holds the password. E.g. ``/run/secrets/historian_password``."""
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """Longest time of a connection and of one query. [s] E.g. ``60``."""
    query: Annotated[str, Field(min_length=1, max_length=20_000)]
    """A single SELECT with `:since` (and `:until`), ordered by the watermark. E.g.
    ``SELECT ts, kwh FROM meters WHERE ts > :since ORDER BY ts``."""
    time_column: Annotated[str, Field(min_length=1)] = "ts"
    """Column of the result that holds the time of the row. E.g. ``TimestampUTC``."""
    watermark: str = ""
    """Column by which rows are ordered and compared with `:since`: a time, or a whole number that only grows.
    Default: `time_column`. E.g. ``id``."""
    time_zone: Zone = ""
    """Zone of times that have none themselves, needed for those. E.g. ``Asia/Shanghai``.

    Where the clock is put back, an hour comes twice: its rows are told apart by their order and values where
    that is certain, and are named and left out where it is not."""
    time_format: str = ""
    """How times are written that are no database times: `epoch_s`, `epoch_ms`, `epoch_us`, or a pattern of
    strptime. E.g. ``"%Y-%m-%dT%H:%M:%S"``."""
    channels: Annotated[tuple[SqlChannel, ...], Field(min_length=1)]
    """What points read."""
    page_rows: Annotated[int, Field(ge=10, le=100_000)] = 5000
    """Rows that are read at once. E.g. ``20000``."""
    late_s: Annotated[float, Field(ge=0, le=31 * 86_400)] = 900.0
    """Rows that appear up to so long after newer ones are still read. [s] E.g. ``3600``."""
    catch_up_s: Annotated[float, Field(ge=0, le=400 * 86_400)] = 86_400.0
    """How far back is read the first time; later, reading goes on where it was. [s] E.g. ``604800``."""

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        database.parsed(url)
        return url

    @field_validator("query")
    @classmethod
    def _only_reads(cls, query: str) -> str:
        if why := refusal(query):
            raise ValueError(why)
        return query

    @model_validator(mode="after")
    def _whole(self) -> Self:
        refuse_doubles(self.channels)
        return self

    @property
    def stamps_polls(self) -> bool:
        """The rows say when they were measured."""
        return False

    @property
    def hosts(self) -> dict[str, str]:
        """The database's server; a socket of this machine counts as this machine."""
        if self.parts.get_backend_name() == "sqlite":
            return {}
        return {"url": self.parts.host or "127.0.0.1"}

    @property
    def parts(self) -> sa.URL:
        """The URL."""
        return database.parsed(self.url)

    @property
    def zone(self) -> ZoneInfo | None:
        """Zone of times without one."""
        return ZoneInfo(self.time_zone) if self.time_zone else None

    @property
    def ordered_by(self) -> str:
        """The watermark's column, in lower case."""
        return (self.watermark or self.time_column).lower()

    @property
    def is_by_time(self) -> bool:
        """Whether the watermark is the time."""
        return self.ordered_by == self.time_column.lower()


@dataclass
class _State:
    """Up to where rows were read."""

    mark: _Mark | None = None
    """Newest watermark; None: nothing was read yet."""
    sent: dict[str, dict[datetime, tuple[float, _Mark]]] = field(default_factory=dict)
    """Value and watermark by point and instant, as far back as is read again."""

    def copy(self) -> _State:
        return _State(self.mark, {point: dict(sent) for point, sent in self.sent.items()})

    def forget(self, before: _Mark) -> None:
        for point, sent in self.sent.items():
            self.sent[point] = {at: one for at, one in sent.items() if one[1] >= before}  # type: ignore[operator]


@dataclass
class _Doubts:
    """What was wrong with rows, said once for each point and reason."""

    device: str
    failures: list[CollectError] = field(default_factory=list)
    _said: set[tuple[str, str]] = field(default_factory=set)

    def add(self, kind: type[CollectError], reason: str, text: str, point: str = "") -> None:
        if (point, reason) not in self._said and len(self.failures) < 100:
            self._said.add((point, reason))
            self.failures.append(kind(self.device, text, point=point))


class SqlCollector:
    """Reads the points of one meter; see `collectors.base.Collector`."""

    def __init__(self, config: SqlConfig, binding: Binding) -> None:
        self.device, self._config = binding.meter, config
        self._wants = [(point, channel_of(point, config.channels)) for point in binding.points]
        self._by_condition: dict[tuple[str, ...], dict[tuple[str, ...], list[int]]] = {}
        for index, (_, channel) in enumerate(self._wants):
            columns, held = (tuple(part[n] for part in channel.condition) for n in (0, 1))
            self._by_condition.setdefault(columns, {}).setdefault(held, []).append(index)
        self._database = Database(binding.meter, config.parts, secret(config, "password"), config.timeout_s)
        self._database.check()
        said = [config.url, config.query, config.ordered_by, config.time_zone, config.time_format]
        said += [f"{point.id} {channel!r}" for point, channel in self._wants]
        self._key = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
        self._state = _State()
        self._oldest = datetime.now(UTC) - timedelta(seconds=config.catch_up_s)

    def resume(self, cursor: str) -> None:
        """Go on where an earlier process was; what was read by another query is read again."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            kept = json.loads(cursor) if cursor else {}
            if kept.get("key") == self._key:
                mark = kept["mark"]
                self._state.mark = mark if isinstance(mark, int) else datetime.fromisoformat(mark)
                self._oldest = OLDEST

    async def poll(self, at: datetime) -> Poll:
        """The rows that are new, as many pages as fit into one poll."""
        before = self._state.copy()
        doubts, readings = _Doubts(self.device), list[Reading]()
        try:
            await self._read(readings, doubts)
        except CollectError as failure:
            doubts.failures.append(failure)
        except BaseException:  # what was read is not delivered: it is read again
            self._state = before
            raise
        mark = self._state.mark
        stands = mark.isoformat() if isinstance(mark, datetime) else mark
        text = json.dumps({"key": self._key, "mark": stands})
        cursor = None if mark is None else (self.device, text)
        return Poll(at, failures=tuple(doubts.failures), dated=tuple(readings), cursor=cursor)

    async def _read(self, readings: list[Reading], doubts: _Doubts) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._config.poll_limit_s / 2
        since, more = self._since(), True
        while more and loop.time() < ends and len(readings) < MOST_READINGS:
            now = datetime.now(UTC)
            rows, more = await self._database.rows(
                self._config.query,
                self._bounds(since, now),
                self._config.page_rows,
                self._config.ordered_by,
            )
            reached = self._take(rows, now, readings, doubts)
            if reached is None or reached == since:
                break
            since = reached
        self._state.forget(self._since())

    def _since(self) -> _Mark:
        """From where rows are asked for."""
        mark = self._state.mark
        if isinstance(mark, int):
            return mark - OVERLAP
        if mark is not None:
            return mark - timedelta(seconds=self._config.late_s)
        return datetime.now(UTC) - timedelta(seconds=self._config.catch_up_s)

    def _bounds(self, since: _Mark, now: datetime) -> dict[str, object]:
        """What stands for ``:since`` and ``:until``."""
        zone, form = self._config.zone, self._config.time_format
        if isinstance(since, int) or not self._config.is_by_time:
            return {"since": since if isinstance(since, int) else 0, "until": 2**62}
        span = times.span(since, now, zone)
        return {"since": times.bound(span[0], form, zone), "until": times.bound(span[1], form, zone)}

    def _take(self, rows: Rows, now: datetime, readings: list[Reading], doubts: _Doubts) -> _Mark | None:
        """Readings of a page; the state moves on. Returns up to where the page goes."""
        dated = self._dated(rows, now, doubts)
        series: dict[int, list[times.Row]] = {}
        for row, at in dated:
            for index in self._concerned(row):
                value = self._value(row, *self._wants[index], doubts)
                if value is not None:
                    series.setdefault(index, []).append(times.Row(at, value))
        reached = self._reached(rows, dated)
        for index, found in series.items():
            readings += self._new(self._wants[index][0], found, now, reached, doubts)
        if reached is not None and (self._state.mark is None or reached > self._state.mark):  # type: ignore[operator]
            self._state.mark = reached
        return reached

    def _concerned(self, row: Mapping[str, Any]) -> Iterator[int]:
        """The points whose channel a row is of."""
        for columns, by_value in self._by_condition.items():
            yield from by_value.get(tuple(str(row.get(column)) for column in columns), ())

    def _dated(self, rows: Rows, now: datetime, doubts: _Doubts) -> list[tuple[Mapping[str, Any], datetime]]:
        column, found = self._config.time_column.lower(), []
        for row in rows:
            if column not in row:
                raise DeviceRefused(self.device, f"the result has no column {column}, but {', '.join(row)}")
            try:
                at = times.time_of(row[column], self._config.time_format, self._config.zone)
            except times.NotATime as problem:
                doubts.add(DecodeError, "time", str(problem))
                continue
            if at.tzinfo is not None and at > now + AHEAD:
                text = f"a row of {at:%Y-%m-%d %H:%M} UTC lies ahead; check time_zone"
                doubts.add(DecodeError, "ahead", text)
            elif at.tzinfo is None or self._config.is_by_time or at >= self._oldest:
                found.append((row, at))
        return found

    def _value(
        self, row: Mapping[str, Any], point: Point, channel: SqlChannel, doubts: _Doubts
    ) -> float | None:
        column = channel.column.lower()
        if column not in row:
            text = f"the result has no column {channel.column}, but {', '.join(row)}"
            doubts.add(DeviceRefused, "column", text, point.id)
            return None
        if row[column] is None:
            return None
        value = number(row[column])
        if value is None:
            doubts.add(DecodeError, "value", f"{channel.column} is {row[column]!r}, no number", point.id)
            return None
        return channel.delivered(value)

    def _reached(self, rows: Rows, dated: list[tuple[Mapping[str, Any], datetime]]) -> _Mark | None:
        """The newest watermark of a page; None where it has none."""
        if self._config.is_by_time:
            zone = self._config.zone
            instants = (at if at.tzinfo else at.replace(tzinfo=zone).astimezone(UTC) for _, at in dated)
            return max(instants, default=None)
        newest = rows[-1][self._config.ordered_by] if rows else None
        if newest is not None and not isinstance(newest, int):
            text = f"watermark {newest!r} is no whole number; leave watermark out to use the time"
            raise DeviceRefused(self.device, text)
        return newest

    def _new(
        self, point: Point, rows: list[times.Row], now: datetime, reached: _Mark | None, doubts: _Doubts
    ) -> list[Reading]:
        """Readings of one point that were not given yet."""
        sent = self._state.sent.setdefault(point.id, {})
        known = {at: value for at, (value, _) in sent.items()}
        rises = point.kind is ReadingKind.REGISTER
        zone, in_order = self._config.zone, not self._config.is_by_time
        sure, doubtful = times.placed(rows, zone, now, known, rises=rises, in_order=in_order)
        if doubtful:
            shown = ", ".join(f"{at:%Y-%m-%d %H:%M}" for at in doubtful[:_MOST_SAID])
            text = f"{len(doubtful)} rows come at a local time that comes twice, such as {shown}: left out"
            doubts.add(DecodeError, "twice", f"{text}; select a time with zone", point.id)
        found = []
        for at, value in sure:
            if known.get(at) != value:
                found.append(reading(point, at, value))
                sent[at] = (value, reached if isinstance(reached, int) else at)
        return found

    async def close(self) -> None:
        """Release the connection; harmless when repeated."""
        self._database.close()


KIND = CollectorKind(SqlConfig, SqlCollector)
