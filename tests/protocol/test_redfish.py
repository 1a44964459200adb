"""Redfish on loopback: a service with sessions, chassis and PDUs, written after the DMTF's schemas."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point
from app.errors import ConfigError, DecodeError, DeviceRefused, DeviceUnreachable
from collectors import network, registry
from collectors.base import Binding, Poll
from collectors.found import Target
from collectors.probe import probe
from tests.protocol.http_peer import Asked, Said, http_peer
from tests.protocol.test_modbus_tls import Authority

NOW = datetime(2026, 11, 30, 5, 0, tzinfo=UTC)
PDU = "/redfish/v1/PowerEquipment/RackPDUs/1"
OUTLETS = 48
BASIC = "Basic d2F0dGxpbmU6c2VzYW1l"


def _link(path: str) -> dict[str, str]:
    return {"@odata.id": path}


def _collection(path: str, names: list[str]) -> dict[str, Any]:
    return {
        "@odata.id": path,
        "Members": [_link(f"{path}/{n}") for n in names],
        "Members@odata.count": len(names),
    }


def resources() -> dict[str, dict[str, Any]]:
    """A chassis as a server has it, and a rack PDU with mains and outlets."""
    chassis, outlets = "/redfish/v1/Chassis/1", [f"A{n}" for n in range(1, OUTLETS + 1)]
    found: dict[str, dict[str, Any]] = {
        "/redfish/v1": {
            "Product": "Simulated",
            "Chassis": _link("/redfish/v1/Chassis"),
            "PowerEquipment": _link("/redfish/v1/PowerEquipment"),
            "ProtocolFeaturesSupported": {"ExpandQuery": {"NoLinks": True, "Levels": True, "MaxLevels": 1}},
        },
        "/redfish/v1/Chassis": _collection("/redfish/v1/Chassis", ["1"]),
        chassis: {
            "Manufacturer": "Contoso",
            "Model": "3500",
            "Power": _link(f"{chassis}/Power"),
            "EnvironmentMetrics": _link(f"{chassis}/EnvironmentMetrics"),
            "Sensors": _link(f"{chassis}/Sensors"),
            "Other": _link("https://elsewhere.example/redfish/v1/x"),
        },
        f"{chassis}/Power": {"PowerControl": [{"MemberId": "0", "PowerConsumedWatts": 500}]},
        f"{chassis}/EnvironmentMetrics": {"PowerWatts": {"Reading": 350.5}, "EnergykWh": {"Reading": 1234.5}},
        f"{chassis}/Sensors": _collection(f"{chassis}/Sensors", ["Inlet", "Gone"]),
        f"{chassis}/Sensors/Inlet": {"ReadingType": "Temperature", "Reading": 21.5, "ReadingUnits": "Cel"},
        f"{chassis}/Sensors/Gone": {"ReadingType": "Power", "Reading": 0, "Status": {"State": "Absent"}},
        "/redfish/v1/PowerEquipment": {"RackPDUs": _link("/redfish/v1/PowerEquipment/RackPDUs")},
        "/redfish/v1/PowerEquipment/RackPDUs": _collection("/redfish/v1/PowerEquipment/RackPDUs", ["1"]),
        PDU: {
            "Manufacturer": "Contoso",
            "Model": "ZAP4000",
            "Metrics": _link(f"{PDU}/Metrics"),
            "Mains": _link(f"{PDU}/Mains"),
            "Outlets": _link(f"{PDU}/Outlets"),
        },
        f"{PDU}/Metrics": {"PowerWatts": {"Reading": 6438}, "EnergykWh": {"Reading": 56438}},
        f"{PDU}/Mains": _collection(f"{PDU}/Mains", ["AC1"]),
        f"{PDU}/Mains/AC1": {
            "PowerWatts": {"Reading": 937.4},
            "EnergykWh": {"Reading": 325675},
            "FrequencyHz": {"Reading": 60},
        },
        f"{PDU}/Outlets": _collection(f"{PDU}/Outlets", outlets),
    }
    for n, name in enumerate(outlets):
        found[f"{PDU}/Outlets/{name}"] = {
            "PowerState": "On",
            "Status": {"State": "Enabled"},
            "PowerWatts": {"Reading": 10.0 * n},
            "EnergykWh": {"Reading": 100.0 + n},
        }
    return found


class Bmc:
    """A management controller of which a test sets what it has, and how well it behaves."""

    def __init__(self) -> None:
        self.resources = resources()
        self.asked: list[tuple[str, str]] = []
        self.sessions: dict[str, str] = {}
        self.logins = 0
        self.password = "sesame"
        self.said: dict[str, Said] = {}
        self.delay: set[str] = set()

    async def __call__(self, asked: Asked) -> Said:
        path = asked.path.rstrip("/")
        self.asked.append((asked.method, path))
        if path in self.delay:
            await asyncio.Event().wait()
        if path in self.said:
            return self.said[path]
        if asked.method == "POST":
            return self._login(asked)
        if asked.method == "DELETE":
            self.sessions.pop(path, None)
            return Said(204)
        token, basic = (asked.headers.get(name) for name in ("x-auth-token", "authorization"))
        if path != "/redfish/v1" and token not in self.sessions.values() and basic != BASIC:
            return _error(401, "No valid session was given.")
        return self._resource(path, asked.query)

    def _login(self, asked: Asked) -> Said:
        self.logins += 1
        assert "authorization" not in asked.headers
        if json.loads(asked.body) != {"UserName": "wattline", "Password": self.password}:
            return _error(401, "Wrong.")
        place, token = f"/redfish/v1/SessionService/Sessions/{self.logins}", f"token-{self.logins}"
        self.sessions[place] = token
        return Said(201, b"{}", (("x-auth-token", token), ("location", f"https://127.0.0.1{place}")))

    def _resource(self, path: str, query: str) -> Said:
        if path not in self.resources:
            return _error(404, f"The resource at {path} was not found.")
        found = self.resources[path]
        if "Members" in found and query:
            assert query == "$expand=.($levels=1)"
            found = {**found, "Members": [self.resources[m["@odata.id"]] | m for m in found["Members"]]}
        return Said(200, json.dumps(found).encode())


def _error(status: int, text: str) -> Said:
    error = {"code": "Base.1.0.Error", "@Message.ExtendedInfo": [{"Message": text}]}
    return Said(status, json.dumps({"error": error}).encode())


CHANNELS = [
    {
        "name": "chassis_kw",
        "path": "/redfish/v1/Chassis/1/Power",
        "value": "PowerControl/0/PowerConsumedWatts",
        "unit": "W",
    },
    {"name": "mains_kwh", "path": f"{PDU}/Mains/AC1", "value": "EnergykWh/Reading", "unit": "kWh"},
    *(
        {"name": f"outlet_{n}_kw", "path": f"{PDU}/Outlets/A{n}", "value": "PowerWatts/Reading", "unit": "W"}
        for n in range(1, OUTLETS + 1)
    ),
]
CHASSIS = Point(id="chassis", role=Role.IT_EQUIPMENT_INPUT, kind=ReadingKind.POWER, channel="chassis_kw")
MAINS = Point(id="mains", role=Role.IT_PDU_OUTPUT, kind=ReadingKind.REGISTER, channel="mains_kwh")
SOCKETS = tuple(
    Point(id=f"o{n}", role=Role.NONE, kind=ReadingKind.POWER, channel=f"outlet_{n}_kw")
    for n in range(1, OUTLETS + 1)
)
ALL = (CHASSIS, MAINS, *SOCKETS)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def tls(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("device"))
    return context


@pytest.fixture(scope="module")
def fingerprint(authority: Authority) -> str:
    pem = (authority.folder / "authority-device.pem").read_text(encoding="utf-8")
    return sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


@pytest.fixture(scope="module")
def access(authority: Authority) -> dict[str, Any]:
    file = authority.folder / "password"
    file.write_text("sesame\n", encoding="utf-8")
    return {"user": "wattline", "password_file": str(file), "ca_file": str(authority.file)}


@asynccontextmanager
async def connected(
    bmc: Bmc, tls: ssl.SSLContext, access: dict[str, Any], points: tuple[Point, ...] = ALL, **more: Any
) -> AsyncIterator[Any]:
    async with http_peer(bmc, tls) as port:
        given = {"kind": "redfish", "url": f"https://127.0.0.1:{port}", "channels": CHANNELS, "timeout_s": 5}
        config = registry.parse({**given, **access, **more})
        collector = registry.build(config, Binding("rack", points))
        try:
            yield collector
        finally:
            await collector.close()
            await collector.close()


def values(poll: Poll) -> dict[str, float]:
    return dict(zip(poll.points, poll.values, strict=True))


async def test_everything_is_read_and_collections_with_one_request(
    tls: ssl.SSLContext, access: dict[str, Any]
) -> None:
    bmc = Bmc()
    async with connected(bmc, tls, access) as collector:
        poll = await collector.poll(NOW)
        assert poll.failures == ()
        assert poll.at == NOW
        expected = {f"o{n}": (n - 1) / 100 for n in range(1, OUTLETS + 1)}
        assert values(poll) == pytest.approx({"chassis": 0.5, "mains": 325675.0, **expected})
        bmc.asked.clear()
        await collector.poll(NOW)
        assert len(bmc.asked) == 3, "chassis, mains, all outlets"
    assert not bmc.sessions, "the session is ended"
    assert bmc.logins == 1


@pytest.mark.parametrize("how", ["not offered", "refused", "ignored"])
async def test_without_expansion_members_are_read_one_by_one(
    how: str, tls: ssl.SSLContext, access: dict[str, Any]
) -> None:
    bmc = Bmc()
    if how == "not offered":
        bmc.resources["/redfish/v1"].pop("ProtocolFeaturesSupported")
    plain = bmc._resource

    def answer(path: str, query: str) -> Said:
        if how == "refused" and query:
            return _error(400, "no $expand")
        return plain(path, "")

    bmc._resource = answer  # type: ignore[method-assign]
    async with connected(bmc, tls, access, SOCKETS[:3]) as collector:
        for _ in range(2):
            poll = await collector.poll(NOW)
            assert values(poll) == pytest.approx({"o1": 0.0, "o2": 0.01, "o3": 0.02})
            assert poll.failures == ()


async def test_a_session_that_was_ended_is_renewed(tls: ssl.SSLContext, access: dict[str, Any]) -> None:
    bmc = Bmc()
    async with connected(bmc, tls, access, (CHASSIS,)) as collector:
        await collector.poll(NOW)
        bmc.sessions.clear()
        poll = await collector.poll(NOW)
        assert values(poll) == {"chassis": 0.5}
        assert bmc.logins == 2
    assert not bmc.sessions


async def test_a_refused_password_is_not_tried_again_and_again(
    tls: ssl.SSLContext, access: dict[str, Any]
) -> None:
    bmc = Bmc()
    bmc.password = "changed"
    async with connected(bmc, tls, access) as collector:
        for _ in range(3):
            poll = await collector.poll(NOW)
            assert {type(failure) for failure in poll.failures} == {DeviceRefused}
            assert "check user and password" in str(poll.failures[0])
    assert bmc.logins == 1


async def test_meters_behind_one_service_share_a_session(tls: ssl.SSLContext, access: dict[str, Any]) -> None:
    bmc = Bmc()
    async with connected(bmc, tls, access, (CHASSIS,)) as first:
        second = registry.build(first._config, Binding("other", (MAINS,)))
        await first.poll(NOW)
        assert values(await second.poll(NOW)) == {"mains": 325675.0}
        assert bmc.logins == 1
        await second.close()
        assert bmc.sessions
        assert values(await first.poll(NOW))
    assert not bmc.sessions


async def test_basic_access_for_services_without_sessions(
    tls: ssl.SSLContext, access: dict[str, Any]
) -> None:
    bmc = Bmc()
    bmc.said["/redfish/v1/SessionService/Sessions"] = Said(404)
    async with connected(bmc, tls, access, (CHASSIS,)) as collector:
        assert "set auth: basic" in str((await collector.poll(NOW)).failures[0])
    async with connected(bmc, tls, access, (CHASSIS,), auth="basic") as collector:
        assert values(await collector.poll(NOW)) == {"chassis": 0.5}


@pytest.mark.parametrize(
    ("resource", "kind", "said"),
    [
        ({"EnergykWh": {"Reading": None}}, DecodeError, "is None, no number"),
        ({"EnergykWh": {"Reading": "many"}}, DecodeError, "no number"),
        ({"EnergykWh": {"Reading": True}}, DecodeError, "no number"),
        ({"EnergykWh": [], "Name": "x"}, DeviceRefused, "has no EnergykWh/Reading, but EnergykWh, Name"),
        ({"EnergykWh": {"Reading": 0}, "Status": {"State": "Absent"}}, DecodeError, "is Absent"),
        ({"EnergykWh": {"Reading": 0}, "Status": {"State": "UnavailableOffline"}}, DecodeError, "Offline"),
    ],
)
async def test_what_is_no_number_is_a_failure_and_the_rest_is_read(
    resource: dict[str, Any], kind: type[Exception], said: str, tls: ssl.SSLContext, access: dict[str, Any]
) -> None:
    bmc = Bmc()
    bmc.resources[f"{PDU}/Mains/AC1"] = resource
    async with connected(bmc, tls, access, (CHASSIS, MAINS)) as collector:
        poll = await collector.poll(NOW)
    assert values(poll) == {"chassis": 0.5}
    (failure,) = poll.failures
    assert type(failure) is kind
    assert said in str(failure)
    assert failure.point == "mains"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (Said(200, b"<html>"), DecodeError),
        (Said(200, b"[1]"), DecodeError),
        (Said(200, b"[" * 50_000), DecodeError),
        (Said(500, b"{"), DeviceUnreachable),
        (Said(503), DeviceUnreachable),
        (Said(404), DeviceRefused),
        (Said(403), DeviceRefused),
        (Said(302, b"", (("location", "https://elsewhere.example/"),)), DeviceRefused),
        (Said(raw=b"\x00" * 100), DecodeError),
        (Said(raw=b""), DeviceUnreachable),
    ],
)
async def test_whatever_a_service_answers_for_one_resource(
    said: Said, kind: type[Exception], tls: ssl.SSLContext, access: dict[str, Any]
) -> None:
    bmc = Bmc()
    bmc.said["/redfish/v1/Chassis/1/Power"] = said
    async with connected(bmc, tls, access, (CHASSIS, MAINS)) as collector:
        poll = await collector.poll(NOW)
        assert values(poll) == {"mains": 325675.0}
        assert [type(failure) for failure in poll.failures] == [kind]
        bmc.said.clear()
        assert len(values(await collector.poll(NOW))) == 2


async def test_a_slow_resource_costs_its_own_time_only(tls: ssl.SSLContext, access: dict[str, Any]) -> None:
    bmc = Bmc()
    async with connected(bmc, tls, access, (CHASSIS, MAINS), timeout_s=0.5) as collector:
        await collector.poll(NOW)
        bmc.delay.add("/redfish/v1/Chassis/1/Power")
        poll = await collector.poll(NOW)
        assert values(poll) == {"mains": 325675.0}
        assert isinstance(poll.failures[0], DeviceUnreachable)
        bmc.delay |= set(bmc.resources)
        bmc.asked.clear()
        poll = await collector.poll(NOW)
        assert len(poll.failures) == 2
        assert len(bmc.asked) <= 2


async def test_a_poll_that_is_cancelled_leaves_nothing(tls: ssl.SSLContext, access: dict[str, Any]) -> None:
    bmc = Bmc()
    bmc.delay.add("/redfish/v1/Chassis/1/Power")
    async with connected(bmc, tls, access, (CHASSIS,)) as collector:
        task = asyncio.create_task(collector.poll(NOW))
        while ("GET", "/redfish/v1/Chassis/1/Power") not in bmc.asked:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        bmc.delay.clear()
        assert values(await collector.poll(NOW)) == {"chassis": 0.5}
    assert not bmc.sessions


async def test_who_is_not_trusted_is_told_no_password(
    tls: ssl.SSLContext, access: dict[str, Any], fingerprint: str
) -> None:
    bmc = Bmc()
    for trust, said in (
        ({"ca_file": None}, "fingerprint"),
        ({"ca_file": None, "fingerprint": "ab" * 32}, f"another fingerprint: {fingerprint}"),
    ):
        async with connected(bmc, tls, {**access, **trust}, (CHASSIS,)) as collector:
            poll = await collector.poll(NOW)
        assert said in str(poll.failures[0])
    assert bmc.asked == []
    colons = ":".join(fingerprint[n : n + 2] for n in range(0, 64, 2)).upper()
    pinned = {**access, "ca_file": None, "fingerprint": colons}
    async with connected(bmc, tls, pinned, (CHASSIS,)) as collector:
        assert values(await collector.poll(NOW)) == {"chassis": 0.5}


async def test_other_networks_are_not_reached(access: dict[str, Any]) -> None:
    given = {"kind": "redfish", "channels": CHANNELS, **access}
    with pytest.raises(ConfigError, match="WATTLINE_COLLECTOR_NETWORKS"):
        registry.build(registry.parse({**given, "url": "https://169.254.169.254"}), Binding("rack", ALL))
    network.allow("10.0.0.0/8")
    try:
        config = registry.parse({**given, "url": "https://localhost:1"})
        collector = registry.build(config, Binding("rack", (CHASSIS,)))
        poll = await collector.poll(NOW)
        await collector.close()
    finally:
        network.allow("")
    assert "WATTLINE_COLLECTOR_NETWORKS" in str(poll.failures[0])


async def test_a_probe_lists_what_a_service_measures(tls: ssl.SSLContext, access: dict[str, Any]) -> None:
    bmc = Bmc()
    async with http_peer(bmc, tls) as port:
        outcome = await probe(Target("127.0.0.1", "redfish", port, options=access))
    (found,) = outcome.found
    assert found.model == "Redfish Simulated"
    assert len(found.values) == 2 * OUTLETS + 3 + 2 + 1 + 2 + 1
    expected = {
        "rackpdus_1_outlets_a2_power_kw": 0.01,
        "rackpdus_1_outlets_a2_energy_kwh": 101.0,
        "rackpdus_1_mains_ac1_frequency_hz": 60.0,
        "chassis_1_sensors_inlet_c": 21.5,
        "chassis_1_environmentmetrics_energy_kwh": 1234.5,
    }
    assert {name: found.values[name] for name in expected} == pytest.approx(expected)
    assert not bmc.sessions
    (meter,) = yaml.safe_load(found.yaml)
    config = registry.parse(meter["collector"])
    point = Point(id="x", role=Role.NONE, kind=ReadingKind.POWER, channel="rackpdus_1_outlets_a2_power_kw")
    registry.build(config, Binding("rack", (point,)))


async def test_polls_leave_nothing_behind(tls: ssl.SSLContext, access: dict[str, Any]) -> None:
    bmc = Bmc()
    async with connected(bmc, tls, access, (CHASSIS,)) as collector:
        await collector.poll(NOW)
        tasks = len(asyncio.all_tasks())
        for _ in range(200):
            await collector.poll(NOW)
        assert len(asyncio.all_tasks()) == tasks
    assert bmc.logins == 1


@pytest.mark.parametrize(
    ("wrong", "key", "said"),
    [
        ({"url": "bmc"}, "url", "https://"),
        (
            {"channels": [{"name": "a", "path": "/x", "value": "v", "unit": "W"}]},
            "channels[0].path",
            "pattern",
        ),
        (
            {"channels": [{"name": "a", "path": "/redfish/v1/../x", "value": "v", "unit": "W"}]},
            "channels[0].path",
            "own path",
        ),
        ({"channels": CHANNELS[:1] * 2}, "", "described twice"),
        ({"auth": "none"}, "auth", "session"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        registry.parse({"kind": "redfish", "url": "https://h", "channels": CHANNELS, **wrong})
    assert caught.value.key == key


def test_a_password_that_cannot_be_read_is_said_at_the_start(tmp_path: Path) -> None:
    given = {"kind": "redfish", "url": "https://10.0.0.1", "channels": CHANNELS, "user": "u"}
    config = registry.parse({**given, "password_file": str(tmp_path / "none")})
    with pytest.raises(ConfigError, match="cannot be read"):
        registry.build(config, Binding("rack", ALL))
