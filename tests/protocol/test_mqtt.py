"""MQTT on Debian's mosquitto: JSON, Sparkplug B, restarts of everybody, TLS, floods, strangers."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import yaml

from app.domain.quantity import ReadingKind, Role
from app.domain.reading import Reading
from app.domain.site import Point
from app.errors import ConfigError, DeviceUnreachable
from collectors import network, registry
from collectors.base import Binding, Poll
from collectors.found import Target
from collectors.poller import Device, Poller, Settings
from collectors.probe import probe
from collectors.spool import Spool
from tests.programs import need_program
from tests.protocol.test_modbus_tls import Authority
from tests.unit.test_sparkplug import double, integer, metric, payload
from tests.waiting import until

KW = Point(id="a.kw", role=Role.FACILITY, kind=ReadingKind.POWER, channel="a_kw")
DATED = {"time": "ts", "channels": [{"name": "a_kw", "topic": "dc/a", "path": "p.w", "unit": "W"}]}
LIVE = {"channels": [{"name": "a_kw", "topic": "dc/a", "unit": "kW"}]}
SPARKPLUG = {"channels": [{"name": "a_kw", "metric": "Power", "device": "g/n/pm", "unit": "kW"}]}
NOW = datetime.now(UTC).replace(microsecond=0)
SOON_S = 30.0


class Mosquitto:
    """A broker that can be stopped and started again on the same port, with what it holds."""

    def __init__(self, folder: Path, settings: str = "") -> None:
        self.program = need_program("mosquitto")
        self.folder, self.settings = folder, settings
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        lines = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {self.folder}/",
        ]
        lines += ["autosave_interval 1", "autosave_on_changes true", "user root", self.settings]
        if "allow_anonymous" not in self.settings:
            lines.append("allow_anonymous true")
        file = self.folder / "mosquitto.conf"
        file.write_text("\n".join(lines), encoding="utf-8")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([self.program, "-c", file], stdout=log, stderr=log)
        until(self._listens, name="mosquitto")

    def _listens(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    mosquitto = Mosquitto(folder)
    mosquitto.start()
    yield mosquitto
    mosquitto.stop()


def collector_of(broker: Mosquitto | str, points: tuple[Point, ...] = (KW,), **more: Any) -> Any:
    url = broker if isinstance(broker, str) else f"mqtt://127.0.0.1:{broker.port}"
    given = {"kind": "mqtt", "url": url, "timeout_s": 10, **DATED, **more}
    return registry.build(registry.parse(given), Binding("meter", points, site="sh1"))


@asynccontextmanager
async def publisher(broker: Mosquitto) -> AsyncIterator[aiomqtt.Client]:
    async with aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        yield client


def said(at: datetime, watts: object) -> bytes:
    return json.dumps({"ts": at.isoformat(), "p": {"w": watts}}).encode()


async def gathered(collector: Any, enough: Callable[[list[Poll]], bool], *, keep: bool = True) -> list[Poll]:
    """Polls until there is enough; kept as the poller does it once they are on disk."""
    polls: list[Poll] = []
    async with asyncio.timeout(SOON_S):
        while not enough(polls):
            poll = await collector.poll(datetime.now(UTC))
            polls.append(poll)
            if keep and poll.kept is not None:
                poll.kept()
            await asyncio.sleep(0.02)
    return polls


def readings(polls: list[Poll]) -> list[Reading]:
    return [reading for poll in polls for reading in poll.dated]


def failures(polls: list[Poll]) -> str:
    return "; ".join(str(failure) for poll in polls for failure in poll.failures)


async def connected(collector: Any) -> list[Poll]:
    """The first poll of a collector of the service, and what it brought already."""
    collector.resume("")
    poll = await collector.poll(NOW)
    assert not [f for f in poll.failures if isinstance(f, DeviceUnreachable)], poll.failures
    if poll.kept is not None:
        poll.kept()
    return [poll]


# -- JSON --------------------------------------------------------------------------------------------


async def test_what_is_published_is_read_at_its_own_time(broker: Mosquitto) -> None:
    collector = collector_of(broker)
    await connected(collector)
    async with publisher(broker) as client:
        for n in range(5):
            await client.publish("dc/a", said(NOW - timedelta(minutes=n), 1000 * n), qos=1)
    polls = await gathered(collector, lambda polls: len(readings(polls)) >= 5)
    assert readings(polls) == [Reading("a.kw", NOW - timedelta(minutes=n), float(n)) for n in range(5)]
    await collector.close()
    await collector.close()


async def test_what_the_broker_holds_is_not_lost_while_the_worker_is_down(broker: Mosquitto) -> None:
    first = collector_of(broker)
    await connected(first)
    await first.close()
    async with publisher(broker) as client:
        for n in range(50):
            await client.publish("dc/a", said(NOW - timedelta(minutes=n), n), qos=1)
    broker.stop()
    broker.start()
    again = collector_of(broker)
    polls = await connected(again)
    polls += await gathered(again, lambda more: len(readings(polls + more)) >= 50)
    assert {reading.at for reading in readings(polls)} == {NOW - timedelta(minutes=n) for n in range(50)}
    await again.close()
    last = collector_of(broker)
    await connected(last)
    await asyncio.sleep(0.3)
    assert (await last.poll(NOW)).dated == (), "what was kept is acknowledged"
    await last.close()


async def test_what_was_not_kept_comes_again(broker: Mosquitto) -> None:
    first = collector_of(broker)
    await connected(first)
    async with publisher(broker) as client:
        await client.publish("dc/a", said(NOW, 7), qos=1)
    lost = await gathered(first, lambda polls: bool(readings(polls)), keep=False)
    await first.close()
    again = collector_of(broker)
    polls = await connected(again)
    polls += await gathered(again, lambda more: bool(readings(polls + more)))
    assert readings(polls) == readings(lost)
    await again.close()


async def test_a_broker_that_restarts_is_met_again(broker: Mosquitto) -> None:
    collector = collector_of(broker)
    await connected(collector)
    broker.stop()
    polls = await gathered(collector, lambda polls: any(poll.failures for poll in polls))
    assert isinstance(polls[-1].failures[0], DeviceUnreachable)
    broker.start()
    await gathered(collector, lambda polls: bool(polls) and not polls[-1].failures)
    async with publisher(broker) as client:
        await client.publish("dc/a", said(NOW, 7), qos=1)
    assert readings(await gathered(collector, lambda polls: bool(readings(polls))))
    await collector.close()


async def test_retained_values_without_a_time_are_no_readings(broker: Mosquitto) -> None:
    async with publisher(broker) as client:
        await client.publish("dc/a", b"5", retain=True)
        collector = collector_of(broker, **{**LIVE, "time": ""})
        await connected(collector)
        await client.publish("dc/a", b"6.5")
        before = datetime.now(UTC)
        polls = await gathered(collector, lambda polls: bool(readings(polls)))
        (reading,) = readings(polls)
        assert reading.value == 6.5
        assert abs((reading.at - before).total_seconds()) < 60
        await collector.close()


async def test_retained_values_with_a_time_are_of_that_time(broker: Mosquitto) -> None:
    old = NOW - timedelta(days=3)
    async with publisher(broker) as client:
        await client.publish("dc/a", said(old, 2000), retain=True, qos=1)
    collector = collector_of(broker)
    polls = await connected(collector)
    polls += await gathered(collector, lambda more: bool(readings(polls + more)))
    assert readings(polls) == [Reading("a.kw", old, 2.0)]
    await collector.close()


@pytest.mark.parametrize(
    ("published", "said_of_it"),
    [
        (b"{", "neither JSON nor a number"),
        (b"[" * 100_000, "neither JSON nor a number"),
        (said(NOW, None), "p.w is None, no number"),
        (said(NOW, "many"), "no number"),
        (said(NOW, float("nan")), "no number"),
        (said(NOW + timedelta(hours=2), 5), "lies ahead"),
        (b'{"p": {"w": 5}}', "ts: None is no time"),
        (b'{"ts": "2026-11-30 08:00:00", "p": {"w": 5}}', "set time_zone"),
        (b"5", "ts: None is no time"),
        (b"\xff\xfe", "neither JSON"),
    ],
    ids=map(str, range(10)),
)
async def test_what_is_no_reading_is_named_and_acknowledged(
    broker: Mosquitto, published: bytes, said_of_it: str
) -> None:
    collector = collector_of(broker)
    await connected(collector)
    async with publisher(broker) as client:
        await client.publish("dc/a", published[:200_000], qos=1)
        await client.publish("dc/a", said(NOW, 1000), qos=1)
    polls = await gathered(collector, lambda polls: bool(readings(polls)))
    assert [reading.value for reading in readings(polls)] == [1.0]
    assert said_of_it in failures(polls)
    await collector.close()


async def test_messages_of_one_topic_are_distinguished_by_what_they_hold(broker: Mosquitto) -> None:
    channels = [
        {"name": f"{m}_kw", "topic": "dc/+", "path": "w", "where": {"meter": m}, "unit": "W"} for m in "ab"
    ]
    points = tuple(Point(id=m, role=Role.NONE, kind=ReadingKind.POWER, channel=f"{m}_kw") for m in "ab")
    collector = collector_of(broker, points, channels=channels)
    await connected(collector)
    async with publisher(broker) as client:
        for n, meter in enumerate("abc"):
            document = {"ts": NOW.isoformat(), "meter": meter, "w": 1000 * n}
            await client.publish(f"dc/{meter}", json.dumps(document).encode(), qos=1)
    polls = await gathered(collector, lambda polls: len(readings(polls)) >= 2)
    assert {reading.point: reading.value for reading in readings(polls)} == {"a": 0.0, "b": 1.0}
    await collector.close()


async def test_meters_of_a_site_share_a_session_and_none_loses_messages(broker: Mosquitto) -> None:
    def both() -> list[Any]:
        return [
            collector_of(broker, (KW,)),
            collector_of(
                broker,
                (Point(id="b.kw", role=Role.NONE, kind=ReadingKind.POWER, channel="b_kw"),),
                channels=[{"name": "b_kw", "topic": "dc/b", "path": "p.w", "unit": "W"}],
            ),
        ]

    first = both()
    for collector in first:
        collector.resume("")
    for collector in first:
        await connected(collector)
        assert collector._broker is first[0]._broker
    for collector in first:
        await collector.close()
    async with publisher(broker) as client:
        for topic in ("dc/a", "dc/b"):
            await client.publish(topic, said(NOW, 1000), qos=1)
    again = both()
    for collector in again:
        collector.resume("")
    for collector in again:  # the second one is polled much later
        assert readings(await gathered(collector, lambda polls: bool(readings(polls))))
    for collector in again:
        await collector.close()


async def test_a_flood_is_bounded_and_read_in_the_end(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collectors.mqtt.broker.MOST_UNACKNOWLEDGED", 50)
    monkeypatch.setattr("collectors.mqtt.collector.MOST_AT_ONCE", 30)
    collector = collector_of(broker)
    await connected(collector)
    async with publisher(broker) as client:
        for n in range(400):
            await client.publish("dc/a", said(NOW - timedelta(minutes=n), n), qos=1)
    assert len(collector._inbox) <= 50
    polls = await gathered(collector, lambda polls: len({r.at for r in readings(polls)}) >= 400)
    assert max(len(poll.dated) for poll in polls) <= 30
    assert len(readings(polls)) == 400
    await collector.close()


async def test_poller_and_spool_keep_what_is_acknowledged(broker: Mosquitto, tmp_path: Path) -> None:
    """The poller is killed again and again while messages come; the spool has all of them in the end."""
    config = registry.parse({"kind": "mqtt", "url": "mqtt://127.0.0.1:1", "interval_s": 0.1, **DATED})
    path, wanted = tmp_path / "spool.sqlite", {NOW - timedelta(minutes=n) for n in range(120)}

    async def turn(lasts_s: float) -> None:
        spool = Spool(path)
        devices = [Device(collector_of(broker), config)]
        settings = Settings(jitter_ratio=0, round_s=0.001)
        running = asyncio.create_task(
            Poller(devices, spool.append_polls, settings, cursors=spool.cursors()).run()
        )
        await asyncio.sleep(lasts_s)
        running.cancel()
        await asyncio.wait([running])
        spool.close()

    await turn(1.0)
    async with publisher(broker) as client:
        for n in range(120):
            await client.publish("dc/a", said(NOW - timedelta(minutes=n), n), qos=1)
            if n % 40 == 20:
                await turn(0.35)
    await turn(2.0)
    spool = Spool(path)
    found = {reading.at for reading in spool.take(10_000).readings}
    spool.close()
    assert found == wanted


# -- Sparkplug B -------------------------------------------------------------------------------------


def birth(power: float, *, alias: int = 7, seq: int = 1) -> bytes:
    return payload(metric("Power", double(power), alias=alias, datatype=10), seq=seq)


async def test_sparkplug_from_birth_to_death(broker: Mosquitto) -> None:
    collector = collector_of(broker, **{**SPARKPLUG, "time": ""})
    await connected(collector)
    async with publisher(broker) as client:
        await client.publish("spBv1.0/g/NBIRTH/n", payload(metric("bdSeq", integer(1)), seq=0))
        await client.publish("spBv1.0/g/DBIRTH/n/pm", birth(1.0))
        await client.publish("spBv1.0/g/DDATA/n/pm", payload(metric(alias=7, value=double(2.0)), seq=2))
        historical = metric(alias=7, value=double(3.0), more=b"\x28\x01")
        await client.publish("spBv1.0/g/DDATA/n/pm", payload(historical, seq=3))
        null = metric(alias=7, more=b"\x38\x01")
        await client.publish("spBv1.0/g/DDATA/n/pm", payload(null, seq=4))
        await client.publish("spBv1.0/g/NDEATH/n", payload(metric("bdSeq", integer(1)), seq=None))
    polls = await gathered(collector, lambda polls: "NDEATH" in failures(polls))
    assert [reading.value for reading in readings(polls)] == [1.0, 2.0, 3.0]
    assert "g/n is offline" in failures(polls)
    await collector.close()


async def test_an_unknown_alias_is_never_guessed_and_a_birth_is_asked_for(broker: Mosquitto) -> None:
    collector = collector_of(broker, **{**SPARKPLUG, "time": ""})
    await connected(collector)
    async with publisher(broker) as client:
        await client.subscribe("spBv1.0/g/NCMD/n")
        await client.publish("spBv1.0/g/DDATA/n/pm", payload(metric(alias=7, value=double(2.0)), seq=2))
        polls = await gathered(collector, lambda polls: "not known" in failures(polls))
        assert not readings(polls)
        async with asyncio.timeout(SOON_S):
            asked = await anext(client.messages)
        assert b"Node Control/Rebirth" in bytes(asked.payload)  # type: ignore[arg-type]
        await client.publish("spBv1.0/g/NBIRTH/n", payload(seq=0))
        await client.publish("spBv1.0/g/DBIRTH/n/pm", birth(1.5))
        await client.publish("spBv1.0/g/DDATA/n/pm", payload(metric(alias=7, value=double(2.5)), seq=2))
        polls = await gathered(collector, lambda polls: len(readings(polls)) >= 2)
        assert [reading.value for reading in readings(polls)] == [1.5, 2.5]
        await client.publish("spBv1.0/g/DDATA/n/pm", payload(metric(alias=7, value=double(9.0)), seq=9))
        polls = await gathered(collector, lambda polls: "not known" in failures(polls))
        assert not readings(polls), "messages were missed, and the alias may mean something else by now"
        await client.publish("spBv1.0/g/DDATA/n/pm", b"\xff\xff\xff")
    await collector.close()


# -- access ------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Mosquitto, Authority]]:
    """A broker with TLS and a password."""
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("device")
    folder = tmp_path / "guarded"
    folder.mkdir()
    mosquitto = Mosquitto(
        folder,
        f"certfile {certificate}\nkeyfile {key}\nallow_anonymous false\npassword_file {folder}/passwords",
    )
    command = [need_program("mosquitto_passwd", "mosquitto"), "-b", "-c", folder / "passwords", "w", "sesame"]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "password").write_text("sesame\n", encoding="utf-8")
    mosquitto.start()
    yield mosquitto, authority
    mosquitto.stop()


async def test_tls_and_password(guarded: tuple[Mosquitto, Authority], tmp_path: Path) -> None:
    broker, authority = guarded
    password = {"user": "w", "password_file": str(broker.folder / "password")}
    url, trusted = f"mqtts://127.0.0.1:{broker.port}", {"ca_file": str(authority.file)}
    collector = collector_of(url, **password, **trusted)
    await connected(collector)
    context = ssl.create_default_context(cafile=authority.file)
    how = {"username": "w", "password": "sesame", "tls_context": context}
    async with aiomqtt.Client("127.0.0.1", broker.port, **how) as client:
        await client.publish("dc/a", said(NOW, 7), qos=1)
    assert readings(await gathered(collector, lambda polls: bool(readings(polls))))
    await collector.close()
    (tmp_path / "wrong").write_text("wrong", encoding="utf-8")
    for changed, expected in (
        ({**password}, "ca_file"),
        ({**trusted, **password, "password_file": str(tmp_path / "wrong")}, "uthoriz"),
    ):
        collector = collector_of(url, **changed)
        collector.resume("")
        poll = await collector.poll(NOW)
        assert expected in str(poll.failures[0])
        await collector.close()


async def test_version_3_1_1_and_a_single_poll_beside_the_service(broker: Mosquitto) -> None:
    service = collector_of(broker, version="3.1.1")
    await connected(service)
    single = collector_of(broker, version="3.1.1", timeout_s=20)
    asking = asyncio.create_task(single.poll(NOW))
    async with publisher(broker) as client:
        while not asking.done():
            await client.publish("dc/a", said(NOW, 7), qos=1)
            await asyncio.sleep(0.1)
    assert {reading.value for reading in (await asking).dated} == {0.007}
    await single.close()
    polls = await gathered(service, lambda polls: bool(readings(polls)))
    assert not failures(polls), "the single poll did not end the service's session"
    await service.close()


async def test_another_client_of_the_same_name_is_named(broker: Mosquitto) -> None:
    collector = collector_of(broker)
    await connected(collector)
    async with aiomqtt.Client(
        "127.0.0.1", broker.port, identifier="wattline-sh1", protocol=aiomqtt.ProtocolVersion.V5
    ):
        polls = await gathered(collector, lambda polls: any(poll.failures for poll in polls))
    assert "client_id" in failures(polls)
    await collector.close()


async def test_a_broker_that_says_nothing_or_nonsense_is_given_up() -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\xf0\xff\xff\xff\xff\xff" * 100)
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for port in (silent.getsockname()[1], server.sockets[0].getsockname()[1], 1):
            collector = collector_of(f"mqtt://127.0.0.1:{port}", timeout_s=0.5)
            collector.resume("")
            poll = await collector.poll(NOW)
            assert isinstance(poll.failures[0], DeviceUnreachable)
            await collector.close()
    server.close()
    await server.wait_closed()


async def test_other_networks_are_not_reached() -> None:
    with pytest.raises(ConfigError, match="WATTLINE_COLLECTOR_NETWORKS"):
        collector_of("mqtt://169.254.169.254")
    network.allow("10.0.0.0/8")
    try:
        collector = collector_of("mqtt://localhost:1")
        collector.resume("")
        poll = await collector.poll(NOW)
        await collector.close()
    finally:
        network.allow("")
    assert "WATTLINE_COLLECTOR_NETWORKS" in str(poll.failures[0])


async def test_a_probe_lists_topics_with_numbers(broker: Mosquitto) -> None:
    async with publisher(broker) as client:
        await client.publish("dc/a", said(NOW, 1500), retain=True)
        await client.publish("dc/text", b"hello", retain=True)
        options = {"seconds": "1"}
        outcome = await probe(Target(f"mqtt://127.0.0.1:{broker.port}", options=options))
    (found,) = outcome.found
    assert found.values == {"dc_a_p_kw": 1.5}
    assert any("dc/text" in note for note in found.notes)
    (meter,) = yaml.safe_load(found.yaml)
    registry.parse(meter["collector"])


@pytest.mark.parametrize(
    ("wrong", "key", "said_of_it"),
    [
        ({"url": "http://h"}, "url", "mqtts://host:8883"),
        ({"url": "mqtt://u:p@h"}, "url", "its own key"),
        ({"user": "u"}, "", "belong together"),
        ({"ca_file": "/x"}, "", "use mqtts"),
        ({"time_zone": "Mars"}, "time_zone", "IANA"),
        ({"channels": [{"name": "a", "unit": "W"}]}, "channels[0]", "one of topic and metric"),
        ({"channels": [{"name": "a", "unit": "W", "topic": "a/#/b"}]}, "channels[0]", "stand alone"),
        ({"channels": [{"name": "a", "unit": "W", "topic": "a/+"}]}, "channels[0]", "where"),
        (
            {"channels": [{"name": "a", "unit": "W", "metric": "P", "device": "g"}]},
            "channels[0]",
            "group/node",
        ),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], key: str, said_of_it: str) -> None:
    with pytest.raises(ConfigError, match=said_of_it) as caught:
        registry.parse({"kind": "mqtt", "url": "mqtt://h", **DATED, **wrong})
    assert caught.value.key == key
