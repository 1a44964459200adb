"""One connection to a broker for all meters of a site, kept up by itself.

The only module that knows the MQTT library. Messages are held until every meter that they concern lets go of
them, and are acknowledged then; what was not acknowledged the broker sends again after a reconnect.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from collectors import network
from collectors.mqtt.sparkplug import Broken, Known, Metric, Node, Place, decoded, place, rebirth

if TYPE_CHECKING:
    import aiomqtt

MOST_UNACKNOWLEDGED = 10_000
"""Messages that the broker sends before the first of them is acknowledged."""
MOST_BYTES = 2**20
"""Larger messages are not taken. [B]"""
KEEP_ALIVE_S = 15
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
REBIRTH_EVERY_S = 60.0
_AT_ONCE = 100
"""Topics in one subscription."""
_SILENT = logging.getLogger("collectors.mqtt")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class Session(NamedTuple):
    """What a connection is made with; meters for which it is the same share it."""

    host: str
    port: int
    user: str
    client_id: str
    """Empty: a session of this moment, of which the broker keeps nothing."""
    version: str
    expiry_s: int


@dataclass
class Message:
    """A message, and who still holds it."""

    topic: str
    payload: bytes
    is_retained: bool
    arrived_at: datetime
    place: Place | None = None
    """Of a Sparkplug message."""
    at: datetime | None = None
    metrics: list[tuple[Known | None, Metric]] = field(default_factory=list)
    """Of a Sparkplug message, with what is known of each."""
    holders: int = 0
    acknowledge: Callable[[], None] | None = None

    def let_go(self) -> None:
        """One of the holders needs it no more."""
        self.holders -= 1
        if self.holders <= 0 and self.acknowledge is not None:
            acknowledge, self.acknowledge = self.acknowledge, None
            acknowledge()


class Subscriber(Protocol):
    """A meter that reads from the broker."""

    @property
    def filters(self) -> Iterable[str]:
        """Topics that are subscribed to."""

    def takes(self, topic: str) -> bool:
        """Whether messages of a topic concern it."""

    def arrived(self, message: Message) -> None:
        """Hold a message."""


@dataclass
class Broker:
    """A connection; meters join before it is started."""

    session: Session
    password: str = field(repr=False)
    context: Context | None
    asks_rebirth: bool
    problem: str = "not connected yet"
    """Empty while connected."""
    nodes: dict[str, Node] = field(default_factory=dict)
    _subscribers: list[Subscriber] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None
    _takers: dict[str, list[Subscriber]] = field(default_factory=dict)
    _asked_s: dict[str, float] = field(default_factory=dict)
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    def join(self, subscriber: Subscriber) -> None:
        """Messages go to this meter as well."""
        self._subscribers.append(subscriber)
        self._takers.clear()

    async def leave(self, subscriber: Subscriber) -> bool:
        """No more messages; whether that was the last one, with which the connection ends."""
        if subscriber in self._subscribers:
            self._subscribers.remove(subscriber)
            self._takers.clear()
        if self._subscribers:
            return False
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return True

    def start(self) -> None:
        """Connect, and again whenever the connection ends."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"mqtt: {self.session.host}")

    async def settled(self, within_s: float) -> None:
        """Wait until the first connection stands or failed, so long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._settled.wait()

    async def _run(self) -> None:
        import aiomqtt

        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async with self._client(await self._number()) as client:
                    await self._subscribe(client)
                    pause_s, self.problem = FIRST_PAUSE_S, ""
                    self._settled.set()
                    await asyncio.shield(client._disconnected)
                self.problem = "the broker ended the connection"
            except (aiomqtt.MqttError, OSError, ValueError) as error:
                self.problem = _said(error, was_connected=not self.problem)
                if self.context is not None:
                    self.context.abandon()
            self.nodes.clear()  # births may be missed now
            self._settled.set()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _number(self) -> str:
        found = await network.addresses(self.session.host, self.session.port, socket.SOCK_STREAM)
        return found[0]

    def _client(self, number: str) -> aiomqtt.Client:
        import aiomqtt

        session, broker = self.session, self

        class Inbox(asyncio.Queue[aiomqtt.Message]):
            """Passes messages on at once; nothing waits in it."""

            def put_nowait(self, item: aiomqtt.Message) -> None:
                broker._arrived(client, item)

        client = aiomqtt.Client(
            number,
            session.port,
            username=session.user or None,
            password=self.password or None,
            identifier=session.client_id or None,
            logger=_SILENT,
            queue_type=Inbox,
            keepalive=KEEP_ALIVE_S,
            tls_context=self.context,
            **_version(session),
        )
        client._client.manual_ack_set(True)
        return client

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        wanted = sorted({one for subscriber in self._subscribers for one in subscriber.filters})
        qos = 1 if self.session.client_id else 0
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start : start + _AT_ONCE]
            granted = await client.subscribe([(one, qos) for one in part])
            for topic, code in zip(part, granted, strict=False):
                refused: Any = getattr(code, "value", code)
                if refused >= 0x80:
                    raise ValueError(f"the broker refuses the subscription to {topic}: {code}")

    def _arrived(self, client: aiomqtt.Client, item: aiomqtt.Message) -> None:
        """Give a message to those whom it concerns; one that concerns nobody is acknowledged."""
        topic, payload = str(item.topic), bytes(item.payload or b"")
        takers = self._takers.get(topic)
        if takers is None:
            takers = [one for one in self._subscribers if one.takes(topic)]
            if len(self._takers) < MOST_UNACKNOWLEDGED:
                self._takers[topic] = takers
        message = Message(topic, payload, bool(item.retain), datetime.now(UTC))
        if item.qos:
            message.acknowledge = _acknowledgement(client, item.mid, item.qos)
        if len(payload) > MOST_BYTES:
            takers = []
        elif (found := place(topic)) is not None:
            self._read_sparkplug(client, message, found)
        if not takers:
            message.let_go()
        message.holders = len(takers)
        for one in takers:
            one.arrived(message)

    def _read_sparkplug(self, client: aiomqtt.Client, message: Message, found: Place) -> None:
        try:
            payload = decoded(message.payload)
        except Broken:
            return
        node = self.nodes.setdefault(found.edge, Node())
        if node.take(found.kind, found.device, payload):
            message.place, message.at = found, payload.at
            message.metrics = [(node.known(found.device, metric), metric) for metric in payload.metrics]
        if self.asks_rebirth and any(known is None for known, _ in message.metrics):
            self._ask_rebirth(client, found)

    def _ask_rebirth(self, client: aiomqtt.Client, found: Place) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._asked_s.get(found.edge, -REBIRTH_EVERY_S) >= REBIRTH_EVERY_S:
            self._asked_s[found.edge] = now_s
            client._client.publish(f"spBv1.0/{found.group}/NCMD/{found.node}", rebirth(datetime.now(UTC)))


def _version(session: Session) -> dict[str, Any]:
    """Arguments of the client that depend on the version of MQTT."""
    import aiomqtt
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    passing = not session.client_id
    if session.version != "5":
        return {"protocol": aiomqtt.ProtocolVersion.V311, "clean_session": passing}
    properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.ReceiveMaximum = MOST_UNACKNOWLEDGED
    properties.MaximumPacketSize = MOST_BYTES
    properties.SessionExpiryInterval = 0 if passing else session.expiry_s
    return {"protocol": aiomqtt.ProtocolVersion.V5, "clean_start": passing, "properties": properties}


def _acknowledgement(client: aiomqtt.Client, mid: int, qos: int) -> Callable[[], None]:
    """Acknowledges on the connection that brought the message; on another one the number is another's."""

    def acknowledge() -> None:
        if not client._disconnected.done():
            client._client.ack(mid, qos)

    return acknowledge


class Context(ssl.SSLContext):
    """Verifies the name that the site file has, not the number that is connected to."""

    peer = ""
    _made: ssl.SSLSocket | None = None

    def wrap_socket(self, sock: Any, *args: Any, **settings: Any) -> ssl.SSLSocket:
        """A socket for the name."""
        self._made = super().wrap_socket(sock, *args, **{**settings, "server_hostname": self.peer})
        return self._made

    def abandon(self) -> None:
        """Close the socket of a connection that failed; the library leaves it open."""
        if self._made is not None:
            self._made.close()


def _said(error: BaseException, *, was_connected: bool) -> str:
    text = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        text += "; give the authority's certificate as ca_file"
    if was_connected:
        text = f"the broker ended the connection ({text}); if it does so often, choose another client_id"
    return text


_brokers: dict[tuple[Session, int], Broker] = {}


def shared(session: Session, password: str, context: Context | None, asks_rebirth: bool) -> Broker:
    """The connection of a session, made where there is none."""
    key = (session, id(asyncio.get_running_loop()))
    if key not in _brokers:
        _brokers[key] = Broker(session, password, context, asks_rebirth)
    return _brokers[key]


async def released(broker: Broker, subscriber: Subscriber) -> None:
    """Give a connection back; it ends with the last of its meters."""
    key = (broker.session, id(asyncio.get_running_loop()))
    if await broker.leave(subscriber) and _brokers.get(key) is broker:
        del _brokers[key]
