"""Prometheus on loopback: Debian's own with a written history, and servers that answer badly."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import yaml

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point
from app.errors import ConfigError, DecodeError, DeviceRefused, DeviceUnreachable
from collectors import network, registry
from collectors.base import Binding, Poll, Resuming
from collectors.config import CollectorConfig
from collectors.found import Target
from collectors.poller import Device, Poller, Settings
from collectors.probe import probe
from collectors.prometheus.collector import PrometheusConfig
from collectors.prometheus.server import is_selector
from collectors.spool import Spool
from tests.programs import need_program
from tests.protocol.http_peer import Asked, Said, http_peer
from tests.protocol.test_modbus_tls import Authority
from tests.waiting import until

STEP_S = 60
POWER = Point(id="r1.kw", role=Role.IT_PDU_OUTPUT, kind=ReadingKind.POWER, channel="rack1_kw")
ENERGY = Point(id="r1.kwh", role=Role.IT_PDU_OUTPUT, kind=ReadingKind.REGISTER, channel="rack1_kwh")
CHANNELS = [
    {"name": "rack1_kw", "query": "rack_power_watts", "labels": {"rack": "1"}, "unit": "W"},
    {"name": "rack1_kwh", "query": 'rack_energy_joules_total{rack="1"}', "unit": "J"},
]
PASSWORD = "open sesame"
HASH = "$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy"


def collector_of(url: str, points: tuple[Point, ...] = (POWER, ENERGY), **more: Any) -> Any:
    given = {"kind": "prometheus", "url": url, "channels": CHANNELS, "delay_s": 0, "timeout_s": 5, **more}
    return registry.build(registry.parse(given), Binding("rack-1", points))


async def polled(collector: Any, times: int = 1) -> list[Poll]:
    try:
        return [await collector.poll(datetime.now(UTC)) for _ in range(times)]
    finally:
        await collector.close()


# -- Debian's prometheus -----------------------------------------------------------------------------


class History:
    """What was written into the server: a sample every minute, with a hole and a NaN."""

    def __init__(self) -> None:
        last = int(time.time()) // STEP_S - 15
        self.steps = [step for step in range(last - 120, last) if step not in self.hole(last)]
        self.nan_step = self.steps[3]

    @staticmethod
    def hole(last: int) -> range:
        return range(last - 60, last - 40)

    def watts(self, step: int) -> float:
        return 1000.0 + step % 17

    def joules(self, step: int) -> float:
        return step * 60_000.0

    def text(self) -> str:
        """As OpenMetrics."""
        lines = ["# TYPE rack_power_watts gauge"]
        for rack, factor in (("1", 1), ("2", 2)):
            for step in self.steps:
                value = math.nan if step == self.nan_step and rack == "1" else factor * self.watts(step)
                lines.append(f'rack_power_watts{{rack="{rack}"}} {value} {step * STEP_S - 20}')
        lines.append("# TYPE rack_energy_joules counter")
        lines += [
            f'rack_energy_joules_total{{rack="1"}} {self.joules(s)} {s * STEP_S - 20}' for s in self.steps
        ]
        return "\n".join([*lines, "# EOF", ""])


@pytest.fixture(scope="module")
def history() -> History:
    return History()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def server(
    history: History, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Any]]:
    """Settings of a running Prometheus with TLS and a password."""
    prometheus, promtool = need_program("prometheus"), need_program("promtool", "prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "history.txt").write_text(history.text(), encoding="utf-8")
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", folder / "history.txt", folder / "data"]
    subprocess.run(command, check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    certificate, key = authority.issue("device")
    web = {"tls_server_config": {"cert_file": str(certificate), "key_file": str(key)}}
    web["basic_auth_users"] = {"wattline": HASH}
    (folder / "web.yml").write_text(json.dumps(web), encoding="utf-8")
    (folder / "password").write_text(PASSWORD, encoding="utf-8")
    own = {
        "job_name": "own",
        "scrape_interval": "1s",
        "scheme": "https",
        "basic_auth": {"username": "wattline", "password": PASSWORD},
        "tls_config": {"ca_file": str(authority.file)},
        "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [own]}), encoding="utf-8")
    arguments = [
        prometheus,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.config.file={folder / 'web.yml'}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log)
    try:
        until(lambda: b"ready to receive" in (folder / "log").read_bytes(), name="prometheus")
        yield {
            "url": f"https://127.0.0.1:{port}",
            "user": "wattline",
            "password_file": str(folder / "password"),
            "ca_file": str(authority.file),
        }
    finally:
        process.terminate()
        process.wait(20)


async def test_a_history_is_read_as_it_was_written(history: History, server: Mapping[str, Any]) -> None:
    (poll,) = await polled(collector_of(catch_up_s=3 * 3600, **server))
    read = {(r.point, int(r.at.timestamp()) // STEP_S): r.value for r in poll.dated}
    expected = {("r1.kwh", s): history.joules(s) / 3.6e6 for s in history.steps}
    expected |= {("r1.kw", s): history.watts(s) / 1000 for s in history.steps if s != history.nan_step}
    for edge in (history.steps[-1] + 1, *(s + 1 for s in history.steps if s + 1 not in history.steps)):
        for point in ("r1.kw", "r1.kwh"):  # a sample of 80 s ago still stands for a step
            read.pop((point, edge), None)
    assert read == pytest.approx(expected)
    assert all(r.at.timestamp() % STEP_S == 0 for r in poll.dated)
    assert {f.point for f in poll.failures} == {"r1.kw", "r1.kwh"}, "nothing was written of the last minutes"


async def test_nothing_is_lost_or_doubled_over_restarts(history: History, server: Mapping[str, Any]) -> None:
    whole = (await polled(collector_of(catch_up_s=7200, **server)))[0]
    taken: list[tuple[str, datetime]] = []
    cursor = ""
    for started in range(3):
        collector = collector_of(catch_up_s=7200 if not started else 0, late_s=0, **server)
        assert isinstance(collector, Resuming)
        collector.resume(cursor)
        first, second = await polled(collector, 2)
        assert not set(first.dated) & set(second.dated)
        taken += [(r.point, r.at) for r in (*first.dated, *second.dated)]
        cursor = second.cursor[1] if second.cursor else cursor
    assert len(taken) == len(set(taken))
    assert set(taken) >= {(r.point, r.at) for r in whole.dated}


async def test_a_long_time_is_read_in_pieces(
    history: History, server: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (await polled(collector_of(catch_up_s=7200, **server)))[0]
    monkeypatch.setattr("collectors.prometheus.collector.MOST_STEPS", 7)
    pieces = (await polled(collector_of(catch_up_s=7200, **server)))[0]
    assert set(pieces.dated) == set(whole.dated)


async def test_what_is_scraped_now_arrives(server: Mapping[str, Any]) -> None:
    channel = {"name": "n", "query": "scrape_samples_scraped", "labels": {"job": "own"}, "unit": "1"}
    point = Point(id="n", role=Role.NONE, kind=ReadingKind.GAUGE, channel="n")
    collector = collector_of(points=(point,), channels=[channel], interval_s=1, late_s=5, delay_s=1, **server)
    seen: list[tuple[datetime, float]] = []
    try:
        async with asyncio.timeout(60):
            while len(seen) < 5:
                poll = await collector.poll(datetime.now(UTC))
                seen += [(r.at, r.value) for r in poll.dated]
                await asyncio.sleep(0.3)
    finally:
        await collector.close()
    assert len({at for at, _ in seen}) == len(seen)
    assert all(value > 100 for _, value in seen)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ca_file": None}, "give the authority's certificate as ca_file"),
        ({"ca_file": None, "fingerprint": "ab" * 32}, "another fingerprint"),
    ],
)
async def test_who_is_not_trusted_is_told_nothing(
    server: Mapping[str, Any], changed: dict[str, Any], said: str
) -> None:
    (poll,) = await polled(collector_of(**{**server, **changed}))
    (failure,) = poll.failures
    assert isinstance(failure, DeviceUnreachable)
    assert said in str(failure)


async def test_a_wrong_password_is_said(server: Mapping[str, Any], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong", encoding="utf-8")
    (poll,) = await polled(collector_of(**{**server, "password_file": str(tmp_path / "password")}))
    assert isinstance(poll.failures[0], DeviceRefused)
    assert "check user and password" in str(poll.failures[0])


async def test_a_query_that_is_refused_leaves_the_others(server: Mapping[str, Any]) -> None:
    channels = [{**CHANNELS[0], "query": "rack_power_watts{"}, CHANNELS[1]]
    (poll,) = await polled(collector_of(**{**server, "channels": channels}, catch_up_s=7200))
    assert {r.point for r in poll.dated} == {"r1.kwh"}
    assert any("parse error" in str(f) and f.point == "r1.kw" for f in poll.failures)


async def test_two_series_are_never_taken_for_one(server: Mapping[str, Any]) -> None:
    channels = [{"name": "rack1_kw", "query": "rack_power_watts", "unit": "W"}]
    (poll,) = await polled(collector_of(points=(POWER,), **{**server, "channels": channels}, catch_up_s=7200))
    assert poll.dated == ()
    assert "2 series match" in str(poll.failures[0])


async def test_a_probe_lists_what_looks_like_power(history: History, server: Mapping[str, Any]) -> None:
    async with http_peer(Catalogue()) as port:
        outcome = await probe(Target("127.0.0.1", "prometheus", port))
    (found,) = outcome.found
    assert found.values == pytest.approx(
        {
            "rack_power_watts_1_kw": 1.5,
            "rack_power_watts_2_kw": 2.5,
            "dcgm_fi_dev_total_energy_consumption_1_kwh": 1.0,
        }
    )
    assert any("rPDU2DeviceStatusPower" in note for note in found.notes)
    (meter,) = yaml.safe_load(found.yaml)
    config = registry.parse(meter["collector"])
    assert isinstance(config, PrometheusConfig)
    assert [c.labels for c in config.channels] == [{}, {"rack": "1"}, {"rack": "2"}]
    options = {**server}
    (own,) = (await probe(Target(options.pop("url"), "prometheus", options=options))).problems
    assert "no metric is named like power" in own


class Catalogue:
    """A server that has power, energy and things that are named alike."""

    def __call__(self, asked: Asked) -> Said:
        assert "__name__" in asked.query
        named = [
            ({"__name__": "rack_power_watts", "rack": "1", "job": "pdu"}, 1500),
            ({"__name__": "rack_power_watts", "rack": "2", "job": "pdu"}, 2500),
            ({"__name__": "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "gpu": "0"}, 3.6e9),
            ({"__name__": "rPDU2DeviceStatusPower", "instance": "a"}, 12),
            ({"__name__": "node_powered_on", "instance": "a"}, 1),
        ]
        result = [{"metric": metric, "value": [1, str(value)]} for metric, value in named]
        document = {"status": "success", "data": {"resultType": "vector", "result": result}}
        return Said(200, json.dumps(document).encode())


async def test_through_poller_and_spool_nothing_is_lost_at_kills(tmp_path: Path) -> None:
    """Killed at any moment: the spool has every step. A round that was cancelled while it was written comes
    twice as it is, which the store knows."""
    fake = Fake()
    first = math.floor(fake.now_s / STEP_S)
    fake.samples = {first + n: str(1000 + n) for n in range(100)}
    async with http_peer(fake) as port:
        for turn in range(6):
            spool = Spool(tmp_path / "spool.sqlite")
            collector = collector_of(f"http://127.0.0.1:{port}", points=(POWER,), catch_up_s=0, late_s=0)
            config = CollectorConfig(kind="test", interval_s=0.05)
            settings = Settings(jitter_ratio=0, round_s=0.001)
            poller = Poller(
                [Device(collector, config)], spool.append_polls, settings, cursors=spool.cursors()
            )
            running = asyncio.create_task(poller.run())
            while collector._queries[0].read_up_to != first + 3 * turn:
                await asyncio.sleep(0.01 * turn)
            fake.now_s += 3 * STEP_S
            await asyncio.sleep(0.02 * turn)
            running.cancel()
            await asyncio.wait([running])
            spool.close()
    spool = Spool(tmp_path / "spool.sqlite")
    seen = set(spool.take(10_000).readings)
    spool.close()
    steps = sorted(int(reading.at.timestamp()) // STEP_S - first for reading in seen)
    assert steps == list(range(len(steps)))
    assert len(steps) >= 16


# -- servers that answer badly -----------------------------------------------------------------------


class Fake:
    """A server of one series whose clock, samples and faults a test sets."""

    def __init__(self) -> None:
        self.now_s = time.time()
        self.samples: dict[int, str] = {}
        self.extra: dict[str, Any] = {}
        self.asked: list[dict[str, list[str]]] = []

    def __call__(self, asked: Asked) -> Said:
        query = parse_qs(asked.query)
        self.asked.append(query)
        if asked.path.endswith("/query"):
            data: dict[str, Any] = {"resultType": "scalar", "result": [self.now_s, str(self.now_s)]}
        else:
            start, end = float(query["start"][0]), float(query["end"][0])
            stamped = query["query"][0].startswith("timestamp(")
            values = [
                [s * STEP_S, str(s * STEP_S) if stamped else value]
                for s, value in sorted(self.samples.items())
                if start <= s * STEP_S <= end
            ]
            data = {"resultType": "matrix", "result": [{"metric": {"rack": "1"}, "values": values}]}
        document = {"status": "success", "data": data, **self.extra}
        return Said(200, json.dumps(document).encode())


async def test_late_samples_are_taken_and_given_once() -> None:
    fake = Fake()
    now = math.floor(fake.now_s / STEP_S)
    fake.samples = {now - 3: "1000", now - 2: "1001", now: "1003"}
    async with http_peer(fake) as port:
        collector = collector_of(f"http://127.0.0.1:{port}", points=(POWER,), catch_up_s=180)
        first = await collector.poll(datetime.now(UTC))
        fake.samples[now - 1] = "1002"
        second = await collector.poll(datetime.now(UTC))
        third = await collector.poll(datetime.now(UTC))
        await collector.close()
    assert [r.value for r in first.dated] == pytest.approx([1.0, 1.001, 1.003])
    assert [r.value for r in second.dated] == pytest.approx([1.002])
    assert third.dated == ()


async def test_the_servers_clock_counts() -> None:
    fake = Fake()
    fake.now_s -= 7200
    now = math.floor(fake.now_s / STEP_S)
    fake.samples = {now: "1000", now + 1: "1000"}
    async with http_peer(fake) as port:
        (poll,) = await polled(collector_of(f"http://127.0.0.1:{port}", points=(POWER,)))
    assert [r.at.timestamp() for r in poll.dated] == [now * STEP_S]
    assert "clock is -7200 s from ours" in str(poll.failures[0])


async def test_a_part_of_an_answer_is_not_taken() -> None:
    fake = Fake()
    now = math.floor(fake.now_s / STEP_S)
    fake.samples, fake.extra = {now: "1000"}, {"warnings": ["store 2 is away"]}
    async with http_peer(fake) as port:
        (poll,) = await polled(collector_of(f"http://127.0.0.1:{port}", points=(POWER,)))
    assert poll.dated == ()
    assert isinstance(poll.failures[0], DecodeError)
    assert "store 2 is away" in str(poll.failures[0])


async def test_a_poll_that_was_cancelled_is_read_again() -> None:
    fake = Fake()
    now = math.floor(fake.now_s / STEP_S)
    fake.samples = {now: "1000"}
    hanging = asyncio.Event()

    async def answer(asked: Asked) -> Said:
        if "rack_energy" in asked.query and not hanging.is_set():
            hanging.set()
            await asyncio.Event().wait()
        return fake(asked)

    async with http_peer(answer) as port:
        collector = collector_of(f"http://127.0.0.1:{port}", catch_up_s=0)
        task = asyncio.create_task(collector.poll(datetime.now(UTC)))
        await hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        poll = await collector.poll(datetime.now(UTC))
        await collector.close()
        await collector.close()
    assert {r.point for r in poll.dated} == {"r1.kw", "r1.kwh"}


def _matrix(values: object) -> bytes:
    result = [{"metric": {"rack": "1"}, "values": values}]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (Said(200, b"<html>proxy</html>"), DecodeError),
        (Said(200, b"[" * 100_000), DecodeError),
        (Said(200, b'{"status":"success","data":{"result":["x","x"]}}'), DecodeError),
        (Said(200, b"[]"), DecodeError),
        (Said(503, b'{"status":"error","error":"starting"}'), DeviceUnreachable),
        (Said(404, b"no"), DeviceRefused),
        (Said(302, b"", (("location", "http://127.0.0.1:1/"),)), DeviceRefused),
        (Said(raw=b"SSH-2.0-x\r\n\r\n"), DecodeError),
        (Said(raw=b""), DeviceUnreachable),
        (Said(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{"), DeviceUnreachable),
        (Said(raw=b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 50_000), DecodeError),
    ],
)
async def test_whatever_a_server_answers(said: Said, kind: type[Exception]) -> None:
    async with http_peer(lambda asked: said) as port:
        (poll,) = await polled(collector_of(f"http://127.0.0.1:{port}"))
    assert poll.dated == ()
    assert [type(f) for f in poll.failures] == [kind]


@pytest.mark.parametrize("values", [[[1]], [["x", "1"]], 5, [[1e400, "1"]], [[math.nan, "1"]]])
async def test_values_that_are_none(values: object) -> None:
    fake = Fake()

    def answer(asked: Asked) -> Said:
        return Said(200, _matrix(values)) if asked.path.endswith("range") else fake(asked)

    async with http_peer(answer) as port:
        (poll,) = await polled(collector_of(f"http://127.0.0.1:{port}", points=(POWER,)))
    assert poll.dated == ()
    assert poll.failures


async def test_an_endless_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectors.http.MOST_BYTES", 1000)
    async with http_peer(lambda asked: Said(200, b"x" * 2000)) as port:
        (poll,) = await polled(collector_of(f"http://127.0.0.1:{port}"))
    assert "longer than" in str(poll.failures[0])


async def test_a_silent_server_is_given_up() -> None:
    async def silent(asked: Asked) -> Said:
        await asyncio.Event().wait()
        return Said()

    async with http_peer(silent) as port:
        (poll,) = await polled(collector_of(f"http://127.0.0.1:{port}", timeout_s=0.05))
    assert isinstance(poll.failures[0], DeviceUnreachable)


async def test_other_networks_are_not_reached() -> None:
    with pytest.raises(ConfigError, match="WATTLINE_COLLECTOR_NETWORKS"):
        collector_of("http://169.254.169.254/")
    network.allow("10.0.0.0/8")
    try:
        async with http_peer(Fake()) as port:
            (poll,) = await polled(collector_of(f"http://localhost:{port}"))
    finally:
        network.allow("")
    assert "WATTLINE_COLLECTOR_NETWORKS" in str(poll.failures[0])


parsed = partial(registry.parse)


@pytest.mark.parametrize(
    ("wrong", "key", "said"),
    [
        ({"url": "prometheus:9090"}, "url", "give one such as https"),
        ({"url": "http://u:p@h"}, "url", "keys of their own"),
        ({"fingerprint": "abc"}, "fingerprint", "64 hexadecimal digits"),
        ({"user": "me"}, "", "needs password_file"),
        ({"ca_file": "/x"}, "", "use https"),
        ({"interval_s": 0.1}, "interval_s", "greater than or equal to 1"),
        ({"channels": []}, "channels", "at least 1"),
        ({"channels": [{"name": "a", "unit": "W"}]}, "", "query: is missing"),
        ({"channels": [{"name": "a", "unit": "mW", "query": "x"}]}, "channels[0].unit", "thousandth"),
        ({"channels": [{"name": "a", "unit": "hp", "query": "x"}]}, "channels[0].unit", "unknown unit"),
        ({"channels": CHANNELS[:1] * 2}, "", "described twice"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], key: str, said: str) -> None:
    given = {"kind": "prometheus", "url": "http://h", "channels": CHANNELS, **wrong}
    with pytest.raises(ConfigError, match=said) as caught:
        registry.parse(given)
    assert caught.value.key == key


def test_points_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="allowed are rack1_kw"):
        collector_of("http://127.0.0.1", points=(Point(id="x", role=Role.NONE, kind=ReadingKind.POWER),))
    wrong = Point(id="x", role=Role.IT_PDU_OUTPUT, kind=ReadingKind.POWER, channel="rack1_kwh")
    with pytest.raises(ConfigError, match="takes kw"):
        collector_of("http://127.0.0.1", points=(wrong,))
    with pytest.raises(ConfigError, match="cannot be read"):
        collector_of("https://127.0.0.1", ca_file=str(tmp_path / "none.pem"))


@pytest.mark.parametrize(
    ("query", "yes"),
    [
        ("up", True),
        ("a:b{x=\"}{\",y=~'z'}", True),
        ("sum(up)", False),
        ("up offset 5m", False),
        ("a + b", False),
        ("up[5m]", False),
    ],
)
def test_selectors_are_told_from_expressions(query: str, yes: bool) -> None:
    assert is_selector(query) is yes


async def test_polls_leave_nothing_behind() -> None:
    fake = Fake()
    async with http_peer(fake) as port:
        collector = collector_of(f"http://127.0.0.1:{port}", points=(POWER,))
        await collector.poll(datetime.now(UTC))
        tasks = len(asyncio.all_tasks())
        for _ in range(200):
            fake.now_s += STEP_S
            await collector.poll(datetime.now(UTC) + timedelta(minutes=1))
        assert len(asyncio.all_tasks()) == tasks
        assert all(len(query.sent) < 10 for query in collector._queries)
        await collector.close()
