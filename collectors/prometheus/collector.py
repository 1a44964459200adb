"""Range queries to Prometheus: every step is read once, also those of a time when nobody asked.

The steps are the multiples of ``interval_s`` in UTC, by the server's clock; readings carry the step. Up to
which step a query was read is kept with the readings. Steps that had no value are asked again for
``late_s``, since scrapes and remote writes come late.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from app.domain.reading import Reading
from app.domain.site import Point
from app.errors import CollectError, DecodeError, DeviceRefused
from collectors.base import Binding, Poll
from collectors.http import HttpSession
from collectors.prometheus.server import PrometheusAccess, Series, Server, is_selector, without_old
from collectors.registry import CollectorKind
from collectors.source import SourceChannel, channel_of, reading, refuse_doubles

MOST_STEPS = 1440
"""Steps that are asked at once; Prometheus answers 11,000 at most."""
MOST_READINGS = 50_000
"""A poll that has so many ends; the next one goes on."""
MOST_SKEW_S = 60.0
"""A server whose clock is further off is named. [s]"""


class PrometheusChannel(SourceChannel):
    """One series: a query of its own, or one of the series that the meter's query gives."""

    query: str = ""
    """PromQL, in place of the meter's. E.g. ``sum(ipmi_power_watts{room="a"})``."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels by which one of several series is chosen. E.g. ``{instance: "10.0.4.7:9290"}``."""


class PrometheusConfig(PrometheusAccess):
    """``collector: {kind: prometheus, ...}``: what exporters collect already, by range queries."""

    kind: Literal["prometheus"]
    """A Prometheus server, or one that answers like it."""
    interval_s: Annotated[float, Field(ge=1, le=86_400)] = 60.0
    """Step of the range queries, and time between polls. [s] E.g. ``30``.

    Take the scrape interval of the exporter, or a multiple."""
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """Longest wait for one answer. [s] E.g. ``30``."""
    query: str = ""
    """PromQL whose series the channels choose from by their labels. E.g.
    ``node_hwmon_power_average_watt``."""
    channels: Annotated[tuple[PrometheusChannel, ...], Field(min_length=1)]
    """What points read."""
    delay_s: Annotated[float, Field(ge=0, le=86_400)] = 15.0
    """A step is asked for so long after its instant, when its scrape has arrived. [s] E.g. ``60``."""
    late_s: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    """Steps without a value are asked again for so long. [s] E.g. ``3600``."""
    max_age_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """A sample that is older does not stand for a step (metrics with labels only; Prometheus itself repeats a
    sample for five minutes). [s] Default: `interval_s`, at least 90. E.g. ``120``."""
    catch_up_s: Annotated[float, Field(ge=0, le=400 * 86_400)] = 86_400.0
    """How far back is read the first time; later, reading goes on where it was. [s] E.g. ``604800``."""

    @model_validator(mode="after")
    def _queries_are_there(self) -> Self:
        refuse_doubles(self.channels)
        for channel in self.channels:
            if not (channel.query or self.query):
                raise ValueError(f"query: is missing, for all channels or for {channel.name!r}")
        return self

    @property
    def oldest_sample_s(self) -> float:
        """Age up to which a sample stands for a step. [s]"""
        return self.max_age_s or max(self.interval_s, 90.0)


@dataclass
class _Query:
    """One query and the points that read from it."""

    text: str
    wants: list[tuple[Point, PrometheusChannel]]
    step_s: float
    read_up_to: int | None = None
    """Last step that was asked for; None: none yet."""
    sent: set[tuple[str, int]] = field(default_factory=set)
    """Points and steps that were given within the time in which late ones are waited for."""

    @property
    def key(self) -> str:
        """Name under which is kept up to where it was read; another one where anything of it changed."""
        said = [self.text, self.step_s, [(p.id, sorted(c.labels.items())) for p, c in self.wants]]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]

    def readings(
        self, found: list[Series], last: int, failures: list[CollectError], device: str
    ) -> Iterator[Reading]:
        """What is new; a point without a number at the last step is a failure."""
        for point, channel in self.wants:
            try:
                values = _chosen(device, point, channel, found)
            except CollectError as failure:
                failures.append(failure)
                continue
            if not math.isfinite(values.get(last, math.nan)):
                failures.append(_missing(device, point, values, last, self.step_s))
            for step, value in values.items():
                if math.isfinite(value) and (point.id, step) not in self.sent:
                    self.sent.add((point.id, step))
                    at = datetime.fromtimestamp(step * self.step_s, tz=UTC)
                    yield reading(point, at, channel.delivered(value))


def _missing(device: str, point: Point, values: dict[int, float], last: int, step_s: float) -> CollectError:
    at = datetime.fromtimestamp(last * step_s, tz=UTC)
    if last in values:
        return DecodeError(device, f"the value at {at:%H:%M:%S} UTC is {values[last]}", point=point.id)
    return DeviceRefused(device, f"no sample at {at:%H:%M:%S} UTC", point=point.id)


def _chosen(device: str, point: Point, channel: PrometheusChannel, found: list[Series]) -> dict[int, float]:
    """The values of the one series that a channel means."""
    fitting = [s for s in found if channel.labels.items() <= s.labels.items()]
    if len(fitting) > 1:
        shown = " and ".join(str(dict(s.labels)) for s in fitting[:2])
        problem = f"{len(fitting)} series match, such as {shown}; add labels to channel {channel.name}"
        raise DeviceRefused(device, problem, point=point.id)
    if not fitting:
        raise DeviceRefused(device, f"no series matches channel {channel.name}", point=point.id)
    return fitting[0].values


class PrometheusCollector:
    """Reads the points of one meter; see `collectors.base.Collector`."""

    def __init__(self, config: PrometheusConfig, binding: Binding) -> None:
        config.check()
        self.device, self._config = binding.meter, config
        self._server = Server(HttpSession(binding.meter, config))
        self._queries = _queries(config, binding.points)

    def resume(self, cursor: str) -> None:
        """Go on where an earlier process was."""
        try:
            steps = json.loads(cursor) if cursor else {}
        except ValueError:
            steps = {}
        for query in self._queries:
            step = steps.get(query.key)
            query.read_up_to = step if isinstance(step, int) else query.read_up_to

    async def poll(self, at: datetime) -> Poll:
        """All steps that are due and were not read yet, as many as fit into one poll."""
        before = [(query.read_up_to, set(query.sent)) for query in self._queries]
        try:
            return await self._poll(at)
        except BaseException:  # what was read is not delivered: it is read again
            for query, (read_up_to, sent) in zip(self._queries, before, strict=True):
                query.read_up_to, query.sent = read_up_to, sent
            raise

    async def _poll(self, at: datetime) -> Poll:
        failures: list[CollectError] = []
        readings: list[Reading] = []
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._config.poll_limit_s / 2
        try:
            now_s = await self._server.now_s()
        except CollectError as failure:
            return Poll(at, failures=(failure,))
        if abs(skew_s := now_s - datetime.now(UTC).timestamp()) > MOST_SKEW_S:
            text = f"the server's clock is {skew_s:+.0f} s from ours; readings carry the server's time"
            failures.append(CollectError(self.device, text))
        due = math.floor((now_s - self._config.delay_s) / self._config.interval_s)
        for query in self._queries:
            behind = True
            while behind and len(readings) < MOST_READINGS:
                try:
                    behind = await self._advance(query, due, readings, failures)
                except CollectError as failure:
                    failures += (
                        type(failure)(self.device, failure.problem, point=p.id) for p, _ in query.wants
                    )
                    break
                if loop.time() > ends:
                    break
        cursor = json.dumps({q.key: q.read_up_to for q in self._queries if q.read_up_to is not None})
        return Poll(at, failures=tuple(failures), dated=tuple(readings), cursor=(self.device, cursor))

    async def _advance(
        self, query: _Query, due: int, readings: list[Reading], failures: list[CollectError]
    ) -> bool:
        """Read the next stretch of a query; whether there is more."""
        step_s = query.step_s
        late = math.ceil(self._config.late_s / step_s)
        if query.read_up_to is None:
            query.read_up_to = due - 1 - math.floor(self._config.catch_up_s / step_s)
            first = query.read_up_to + 1
        else:
            first = min(query.read_up_to, due) + 1 - late
        last = min(due, max(query.read_up_to, first) + MOST_STEPS // max(len(query.wants) // 20, 1))
        if last < first:
            return False
        found = await self._server.range(query.text, first, last, step_s)
        if is_selector(query.text):
            sampled = await self._server.range(f"timestamp({query.text})", first, last, step_s)
            found = without_old(found, sampled, step_s, self._config.oldest_sample_s)
        said: list[CollectError] = []
        readings += query.readings(found, last, said, self.device)
        query.read_up_to = max(query.read_up_to, last)
        query.sent = {(point, step) for point, step in query.sent if step > query.read_up_to - late}
        if last < due:
            return True
        failures += said
        return False

    async def close(self) -> None:
        """Release the connections; harmless when repeated."""
        await self._server.session.close()


def _queries(config: PrometheusConfig, points: Iterable[Point]) -> list[_Query]:
    found: dict[str, _Query] = {}
    for point in points:
        channel = channel_of(point, config.channels)
        text = channel.query or config.query
        found.setdefault(text, _Query(text, [], config.interval_s)).wants.append((point, channel))
    return list(found.values())


KIND = CollectorKind(PrometheusConfig, PrometheusCollector)
