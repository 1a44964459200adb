"""Topics of a broker as readings: JSON or plain numbers, and metrics of Sparkplug B.

A message with a time of its own is a reading of that time, however late it comes. One without is a reading
of the moment when it arrives, and only if it comes live: a retained one says nothing of now.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from app.domain.reading import Reading
from app.domain.site import Point
from app.errors import CollectError, DecodeError, DeviceUnreachable
from collectors import times
from collectors.base import Binding, Poll
from collectors.http import secret
from collectors.mqtt.broker import Broker, Message, Session, released, shared
from collectors.mqtt.config import MqttChannel, MqttConfig
from collectors.mqtt.payload import at_path, holds, matches
from collectors.mqtt.sparkplug import Known, Metric
from collectors.mqtt.sparkplug import number as number_of_metric
from collectors.registry import CollectorKind
from collectors.source import channel_of, number, reading

MOST_WAITING = 20_000
"""Messages of one meter that wait for its poll."""
MOST_AT_ONCE = 5000
"""Messages that one poll decodes."""
AHEAD = timedelta(minutes=5)
_LOOK_S = 0.05
_Doubts = dict[tuple[str, str], CollectError]
"""What was wrong with messages, by point or topic and reason: each is said once."""


class MqttCollector:
    """Reads the points of one meter; see `collectors.base.Collector`."""

    def __init__(self, config: MqttConfig, binding: Binding) -> None:
        self.device, self._config, self._site = binding.meter, config, binding.site
        self._wants = [(point, channel_of(point, config.channels)) for point in binding.points]
        self._password, self._context = secret(config, "password"), config.context()
        self._zone = ZoneInfo(config.time_zone) if config.time_zone else None
        self.filters = frozenset(one for _, channel in self._wants for one in channel.filters)
        self._metrics: dict[tuple[str, str], list[tuple[Point, MqttChannel]]] = {}
        for point, channel in self._wants:
            if channel.metric:
                self._metrics.setdefault((channel.device, channel.metric), []).append((point, channel))
        self._by_topic: dict[str, list[tuple[Point, MqttChannel]]] = {}
        self._inbox: deque[Message] = deque()
        self._broker: Broker | None = None
        self._dropped = 0

    def takes(self, topic: str) -> bool:
        """Whether messages of a topic concern a point."""
        return topic in self.filters or any(matches(one, topic) for one in self.filters)

    def arrived(self, message: Message) -> None:
        """Hold a message until the next poll."""
        if len(self._inbox) >= MOST_WAITING:
            self._dropped += 1  # not acknowledged: the broker has it still, where it keeps any
            return
        self._inbox.append(message)

    def resume(self, cursor: str) -> None:
        """Join the site's session, before messages of any meter arrive."""
        self._join(self._config.session(self._site))

    def _join(self, session: Session) -> Broker:
        if self._broker is None:
            self._broker = shared(session, self._password, self._context, self._config.rebirth)
            self._broker.join(self)
        return self._broker

    async def poll(self, at: datetime) -> Poll:
        """What arrived since the last poll; acknowledged once it is kept."""
        is_single = self._broker is None  # beside the service: the site's session is not touched
        broker = self._join(self._config.passing_session() if is_single else self._config.session(self._site))
        broker.start()
        if broker.problem:
            await broker.settled(self._config.timeout_s)
        if is_single:
            await self._listen(broker)
        return self._taken(at, broker.problem)

    def _taken(self, at: datetime, problem: str) -> Poll:
        failures: list[CollectError] = [DeviceUnreachable(self.device, problem)] if problem else []
        taken = [self._inbox.popleft() for _ in range(min(len(self._inbox), MOST_AT_ONCE))]
        doubts: _Doubts = {}
        readings = tuple(one for message in taken for one in self._readings(message, doubts))
        failures += doubts.values()
        if self._dropped:
            text = f"{self._dropped} messages were not read: more arrive than {MOST_WAITING} between polls"
            failures.append(CollectError(self.device, text))
            self._dropped = 0

        def kept() -> None:
            for message in taken:
                message.let_go()

        return Poll(at, failures=tuple(failures), dated=readings, kept=kept if taken else None)

    async def _listen(self, broker: Broker) -> None:
        """Wait until something arrived for every topic, no longer than for an answer."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._config.timeout_s
        while not broker.problem and loop.time() < ends and not self._all_seen():
            await asyncio.sleep(_LOOK_S)

    def _all_seen(self) -> bool:
        topics = {message.topic for message in self._inbox}
        return all(any(matches(one, t) for t in topics for one in c.filters) for _, c in self._wants)

    def _readings(self, message: Message, doubts: _Doubts) -> Iterator[Reading]:
        try:
            if message.place is not None:
                yield from self._of_metrics(message, doubts)
            else:
                yield from self._of_payload(message, doubts)
        except _LeftOut as why:
            doubts.setdefault((message.topic, why.reason), DecodeError(self.device, str(why)))

    def _of_payload(self, message: Message, doubts: _Doubts) -> Iterator[Reading]:
        concerned = self._concerned(message.topic)
        if not concerned or not message.payload:  # an empty one ends a retained message
            return
        document = _document(message)
        concerned = [(p, c) for p, c in concerned if holds(document, c.where)]
        at = self._time(message, document) if concerned else None
        if at is None:
            return
        for point, channel in concerned:
            raw = at_path(document, channel.path)
            value = number(raw)
            if value is None:
                text = f"{message.topic}: {channel.path or 'the payload'} is {_short(raw)}, no number"
                doubts.setdefault((point.id, "value"), DecodeError(self.device, text, point=point.id))
            else:
                yield reading(point, at, channel.delivered(value))

    def _concerned(self, topic: str) -> list[tuple[Point, MqttChannel]]:
        """The points that read from a topic."""
        found = self._by_topic.get(topic)
        if found is None:
            found = [(p, c) for p, c in self._wants if c.topic and matches(c.topic, topic)]
            if len(self._by_topic) < MOST_WAITING:
                self._by_topic[topic] = found
        return found

    def _time(self, message: Message, document: Any) -> datetime | None:
        """When the values were measured; None where that is not known."""
        if not self._config.time:
            return None if message.is_retained else message.arrived_at
        raw = at_path(document, self._config.time)
        try:
            at = times.time_of(raw, self._config.time_format, self._zone)
        except times.NotATime as problem:
            raise _LeftOut("time", f"{message.topic}: {self._config.time}: {problem}") from None
        if at.tzinfo is None:
            raise _LeftOut("twice", f"{message.topic}: {raw} is a local time that comes twice: left out")
        return _not_ahead(at, message.topic)

    def _of_metrics(self, message: Message, doubts: _Doubts) -> Iterator[Reading]:
        place = message.place
        assert place is not None
        if place.kind in ("NDEATH", "DDEATH"):
            gone = f"{place.edge}/{place.device}" if place.device else place.edge
            if any(f"{device}/".startswith(f"{gone}/") for device, _ in self._metrics):
                raise _LeftOut("dead", f"{gone} is offline: {place.kind} was published")
        for known, metric in message.metrics:
            if known is None:
                text = f"metric {metric.alias} of {place.edge} is not known before the node's next birth"
                doubts.setdefault((place.edge, "alias"), CollectError(self.device, text))
                continue
            device = f"{place.edge}/{known.device}" if known.device else place.edge
            for point, channel in self._metrics.get((device, known.name), ()):
                yield from self._of_metric(message, known, metric, point, channel, doubts)

    def _of_metric(
        self,
        message: Message,
        known: Known,
        metric: Metric,
        point: Point,
        channel: MqttChannel,
        doubts: _Doubts,
    ) -> Iterator[Reading]:
        at, value = metric.at or message.at, number_of_metric(metric.value, known.datatype)
        if metric.is_null:
            return
        if at is None or value is None:
            text = f"{known.name} is {_short(metric.value)}, no number with a time"
            doubts.setdefault((point.id, "value"), DecodeError(self.device, text, point=point.id))
        else:
            yield reading(point, _not_ahead(at, known.name), channel.delivered(value))

    async def close(self) -> None:
        """Leave the session; harmless when repeated."""
        broker, self._broker = self._broker, None
        if broker is not None:
            await released(broker, self)


class _LeftOut(Exception):
    """Why a whole message is left out."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def _not_ahead(at: datetime, what: str) -> datetime:
    if at > datetime.now(UTC) + AHEAD:
        raise _LeftOut("ahead", f"{what}: {at:%Y-%m-%d %H:%M} UTC lies ahead; check the clock and time_zone")
    return at


def _document(message: Message) -> Any:
    try:
        return json.loads(message.payload)
    except (ValueError, RecursionError):
        text = message.payload[:40].decode("utf-8", "replace")
        raise _LeftOut("payload", f"{message.topic}: {text!r} is neither JSON nor a number") from None


def _short(value: object) -> str:
    return repr(value)[:60]


KIND = CollectorKind(MqttConfig, MqttCollector)
