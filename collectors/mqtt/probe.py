"""Topics that a broker has numbers under, as channels for the site file."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import ValidationError

from app.errors import DeviceUnreachable
from collectors.found import Found, Outcome, Target
from collectors.http import secret, url_of
from collectors.mqtt.broker import Message, released, shared
from collectors.mqtt.config import MqttAccess
from collectors.mqtt.payload import matches
from collectors.mqtt.sparkplug import number as number_of_metric
from collectors.profiles.profile import config_error, delivered, delivered_unit
from collectors.source import number

LISTEN_S = 10.0
MOST_CHANNELS = 300
MOST_TOPICS = 5000
_DEEPEST = 6
_UNITS = tuple(
    (re.compile(rf"(?i)(^|[^a-z]){unit}$"), unit) for unit in ("kWh", "MWh", "Wh", "kW", "W", "kVA", "V", "A")
)
_NAMED = (("energy", "kWh"), ("power", "W"), ("temperature", "C"), ("humidity", "percent"))


class _Listener:
    """Keeps the newest message of every topic."""

    def __init__(self, topics: tuple[str, ...]) -> None:
        self.filters = topics
        self.newest: dict[str, Message] = {}

    def takes(self, topic: str) -> bool:
        """Whether a topic is listened to."""
        return any(matches(one, topic) for one in self.filters)

    def arrived(self, message: Message) -> None:
        """Keep a message."""
        if message.topic in self.newest or len(self.newest) < MOST_TOPICS:
            self.newest[message.topic] = message


async def answers(target: Target, port: int) -> Outcome:
    """Topics with numbers that are published, or retained, within some seconds (option `seconds`).

    Raises
    ------
    DeviceUnreachable
        If the broker does not take us.
    ConfigError
        If the access is not understood.
    """
    options = dict(target.options)
    seconds, topics = float(options.pop("seconds", LISTEN_S)), str(options.pop("topic", "#"))
    given = {"kind": "mqtt", **options, "url": url_of(target, port, "mqtt")}
    try:
        access = MqttAccess.model_validate({"timeout_s": target.timeout_s or 10.0, **given})
    except ValidationError as error:
        raise config_error(error) from None
    listener = _Listener(tuple(topics.split(",")))
    broker = shared(
        access.passing_session(), secret(access, "password"), access.context(), asks_rebirth=False
    )
    broker.join(listener)
    try:
        broker.start()
        await broker.settled(access.timeout_s)
        if broker.problem:
            raise DeviceUnreachable(access.parts.hostname or "", broker.problem)
        await asyncio.sleep(min(seconds, 25.0))
    finally:
        await released(broker, listener)
    return _outcome(listener, given)


def _outcome(listener: _Listener, given: dict[str, Any]) -> Outcome:
    values: dict[str, float] = {}
    channels: list[dict[str, Any]] = []
    silent = []
    for topic, message in sorted(listener.newest.items()):
        found = list(_channels(message))
        silent += [] if found else [topic]
        for channel, value in found:
            if channel["name"] not in values and len(values) < MOST_CHANNELS:
                values[channel["name"]] = delivered(value, channel["unit"])
                channels.append(channel)
    if not values:
        return Outcome((), (f"MQTT: {len(listener.newest)} topics were seen, none of them with a number",))
    notes = [
        f"{len(listener.newest)} topics were seen",
        "units are guessed from names; compare them with the device",
    ]
    notes += [f"without a number: {', '.join(silent[:20])}"] if silent else []
    retained = [topic for topic, message in listener.newest.items() if message.is_retained]
    notes += [f"only retained messages of {', '.join(retained[:20])}"] if retained else []
    meter = {"id": "mqtt", "collector": {**given, "channels": channels}, "points": []}
    text = yaml.safe_dump([meter], allow_unicode=True, sort_keys=False, default_flow_style=None, width=110)
    return Outcome((Found("", "MQTT", values, tuple(notes), text),))


def _channels(message: Message) -> Iterator[tuple[dict[str, Any], float]]:
    if message.place is not None:
        for known, metric in message.metrics:
            value = number_of_metric(metric.value, known.datatype) if known else None
            if known is not None and value is not None:
                device = "/".join(filter(None, (message.place.edge, known.device)))
                yield _channel(f"{device}/{known.name}", {"metric": known.name, "device": device}), value
        return
    try:
        document = json.loads(message.payload)
    except (ValueError, RecursionError):
        return
    for path, value in _numbers(document, "", _DEEPEST):
        yield _channel(f"{message.topic}/{path}", {"topic": message.topic, "path": path}), value


def _channel(said: str, where: dict[str, str]) -> dict[str, Any]:
    bare = re.sub(r"[^0-9A-Za-z]+", "_", said).strip("_")
    unit = next((u for pattern, u in _UNITS if pattern.search(bare.replace("_", " "))), "")
    unit = unit or next((u for name, u in _NAMED if name in bare.lower()), "1")
    name = re.sub(rf"_{unit}$", "", bare, flags=re.IGNORECASE).lower()
    return {"name": f"{name}_{delivered_unit(unit)}", **{k: v for k, v in where.items() if v}, "unit": unit}


def _numbers(document: Any, path: str, depth: int) -> Iterator[tuple[str, float]]:
    if isinstance(document, dict) and depth:
        for key, inner in list(document.items())[:200]:
            yield from _numbers(inner, f"{path}.{key}" if path else str(key), depth - 1)
    elif isinstance(document, list) and depth:
        for index, inner in enumerate(document[:50]):
            yield from _numbers(inner, f"{path}[{index}]", depth - 1)
    elif not isinstance(document, str) and (value := number(document)) is not None:
        yield path, value
