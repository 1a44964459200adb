"""Collectors connect to the operator's networks, and to nothing else, by whatever name."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point
from collectors import network, registry
from collectors.base import Binding, Poll
from tests.integration.conftest import Wattline

SITE = """
institutions: [{{id: bank, institution_class: joint_stock}}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    meters:
      - id: main
        collector: {{kind: {kind}, host: {host}, port: {port}, profile: {profile}, timeout_s: 1}}
        points: [{{id: main.kwh, role: facility, kind: register}}]
"""
PROFILE = {"modbus": "schneider_iem3000", "snmp": "raritan_px"}
_register = partial(Point, id="main.kwh", role=Role.FACILITY, kind=ReadingKind.REGISTER)
POINTS = {
    "modbus": _register(channel="energy_import_kwh"),
    "snmp": _register(channel="unit_1_energy_import_kwh"),
}


@pytest.fixture(autouse=True)
def _rule() -> Iterator[None]:
    yield
    network.allow("")


@pytest.fixture
def inside() -> Iterator[dict[str, socket.socket]]:
    """Listens on loopback, for both protocols, and must not be reached."""
    with (
        socket.socket() as stream,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
    ):
        for one in (stream, datagrams):
            one.bind(("127.0.0.1", 0))
            one.setblocking(False)
        stream.listen()
        yield {"modbus": stream, "snmp": datagrams}


def _untouched(listener: socket.socket) -> bool:
    try:
        if listener.type is socket.SOCK_STREAM:
            listener.accept()[0].close()
        else:
            listener.recv(1)
    except BlockingIOError:
        return True
    return False


def _mapping(kind: str, listener: socket.socket, host: str) -> dict[str, Any]:
    port = listener.getsockname()[1]
    return {"kind": kind, "host": host, "port": port, "profile": PROFILE[kind], "timeout_s": 1, "retries": 0}


async def _polled(mapping: dict[str, Any]) -> Poll:
    collector = registry.build(registry.parse(mapping), Binding("main", (POINTS[mapping["kind"]],)))
    try:
        return await collector.poll(datetime.now(UTC))
    finally:
        await collector.close()


@pytest.mark.parametrize("kind", ["modbus", "snmp"])
def test_a_name_that_leads_inside_is_refused_when_connecting(
    kind: str, inside: dict[str, socket.socket]
) -> None:
    network.allow("10.0.0.0/8")
    outcome = asyncio.run(_polled(_mapping(kind, inside[kind], "localhost")))
    (failure,) = outcome.failures
    assert "localhost" in str(failure)
    assert "WATTLINE_COLLECTOR_NETWORKS" in str(failure)
    assert _untouched(inside[kind])


@pytest.mark.parametrize("kind", ["modbus", "snmp"])
def test_a_name_that_leads_elsewhere_a_moment_later_gains_nothing(
    kind: str, inside: dict[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number that was looked at is the one that is connected to; the name is not asked again."""
    network.allow("192.0.2.0/24")
    asked: list[str] = []

    async def rebinding(host: str, port: int, **kwargs: Any) -> list[Any]:
        asked.append(host)
        number = "192.0.2.1" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, kwargs["type"], 0, "", (number, port))]

    async def poll() -> Poll:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "getaddrinfo", rebinding)
        monkeypatch.setattr(loop, "create_connection", connect)
        return await _polled(_mapping(kind, inside[kind], "meter.example"))

    async def connect(factory: Any, host: str, port: int, **how: Any) -> Any:
        assert host == "192.0.2.1"
        raise ConnectionRefusedError("nobody is there")

    outcome = asyncio.run(poll())
    assert outcome.failures
    assert asked == ["meter.example"]
    assert _untouched(inside[kind])


@pytest.mark.parametrize("kind", ["modbus", "snmp"])
def test_what_is_listed_is_reached(kind: str, inside: dict[str, socket.socket]) -> None:
    network.allow("127.0.0.0/8")
    asyncio.run(_polled(_mapping(kind, inside[kind], "localhost")))
    assert not _untouched(inside[kind])


def test_a_site_file_with_an_address_outside_is_refused_with_its_line(
    wattline: Wattline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(SITE.format(kind="modbus", host="192.168.7.7", port=502, profile=PROFILE["modbus"]))
    assert wattline("check-config", site).code == 0
    monkeypatch.setenv("WATTLINE_COLLECTOR_NETWORKS", "10.20.0.0/16")
    for command in (("check-config", site), ("poll", "--once", "main", "--config", site)):
        done = wattline(*command)
        assert done.code == 1
        assert (
            f"{site}:9: sites[0].meters[0].collector.host: 192.168.7.7 is outside of 10.20.0.0/16" in done.err
        )
    monkeypatch.setenv("WATTLINE_COLLECTOR_NETWORKS", "the meters")
    done = wattline("check-config", site)
    assert done.code == 1
    assert "WATTLINE_COLLECTOR_NETWORKS" in done.err
    assert "write it like 10.20.0.0/16" in done.err


@pytest.mark.parametrize("kind", ["modbus", "snmp"])
def test_a_probe_outside_is_refused(
    wattline: Wattline, inside: dict[str, socket.socket], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATTLINE_COLLECTOR_NETWORKS", "10.20.0.0/16")
    done = wattline("probe", "127.0.0.1", f"--{kind}", inside[kind].getsockname()[1])
    assert done.code == 1
    assert "WATTLINE_COLLECTOR_NETWORKS" in done.err
    assert _untouched(inside[kind])
