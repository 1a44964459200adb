"""Modbus/TCP Security on loopback: certificates of both sides, and no way back to plain Modbus."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point
from app.errors import ConfigError
from collectors import registry
from collectors.base import Binding, Poll
from collectors.profiles.profile import load_profile
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit

NOW = datetime.now(UTC)
POINTS = (Point(id="kwh", role=Role.FACILITY, kind=ReadingKind.REGISTER, channel="energy_import_kwh"),)
Key = ec.EllipticCurvePrivateKey


class Authority:
    """Signs certificates and keeps them as files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._signed(name, self._key, is_authority=True)
        self.file = self._written(f"{name}.pem", self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._signed(name, key, is_authority=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        stem = f"{self.name}-{name}"
        return self._written(f"{stem}.pem", pem), self._written(f"{stem}.key", private)

    def _written(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def _signed(self, name: str, key: Key, *, is_authority: bool) -> x509.Certificate:
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names: list[x509.GeneralName] = [x509.DNSName(name)]
        if name == "device":
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("theirs"), "theirs")


class Device:
    """A meter behind TLS that asks for certificates; counts what came through."""

    def __init__(self, inner: int) -> None:
        self._inner = inner
        self.port = 0
        self.received = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass frames between the connection and the meter."""
        down, up = await asyncio.open_connection("127.0.0.1", self._inner)

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError, ssl.SSLError):
                while data := await source.read(1000):
                    self.received += data
                    target.write(data)
                    await target.drain()
            target.close()

        await asyncio.gather(pump(reader, up), pump(down, writer))
        for one in (up, writer):
            with suppress(ConnectionError, ssl.SSLError):
                await one.wait_closed()


@asynccontextmanager
async def device(authority: Authority, *, name: str = "device", tls: bool = True) -> AsyncIterator[Device]:
    """A meter on loopback with a certificate of `authority`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(*authority.issue(name))
    unit = SimulatedUnit(load_profile("schneider_pm5xxx"), lambda channel, at: 1234.0)
    async with SimulatedModbus({1: unit}) as meter:
        found = Device(meter.port)
        server = await asyncio.start_server(found.serve, "127.0.0.1", 0, ssl=context if tls else None)
        found.port = server.sockets[0].getsockname()[1]
        try:
            yield found
        finally:
            server.close()
            while rest := asyncio.all_tasks() - {asyncio.current_task()}:  # handshakes, too
                await asyncio.wait(rest)


def settings(port: int, authority: Authority, *, certificate: bool = True, **more: Any) -> dict[str, Any]:
    cert, key = authority.issue("wattline")
    own = {"cert_file": str(cert), "key_file": str(key)} if certificate else {}
    tls = {"ca_file": str(authority.file), **own, **more}
    mapping = {"kind": "modbus", "host": "127.0.0.1", "port": port, "profile": "schneider_pm5xxx"}
    return {**mapping, "timeout_s": 10, "retries": 0, "tls": tls}


async def polled(mapping: dict[str, Any]) -> Poll:
    collector = registry.build(registry.parse(mapping), Binding("main", POINTS))
    try:
        return await collector.poll(NOW)
    finally:
        await collector.close()


def problem(outcome: Poll) -> str:
    assert not outcome.readings
    return "; ".join(map(str, outcome.failures))


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_meter_is_read_over_tls_with_certificates_of_both_sides(
    ours: Authority, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def read() -> None:
        async with device(ours) as meter:
            outcome = await polled(settings(meter.port, ours))
        assert [r.value for r in outcome.readings] == [1234.0], outcome.failures
        assert meter.received

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(read())


async def test_a_device_of_another_authority_is_not_asked_anything(
    ours: Authority, theirs: Authority
) -> None:
    async with device(theirs) as meter:
        outcome = await polled(settings(meter.port, ours))
    assert "CERTIFICATE_VERIFY_FAILED" in problem(outcome)
    assert meter.received == b""


async def test_a_device_of_another_name_is_not_asked_anything_unless_that_name_is_given(
    ours: Authority,
) -> None:
    async with device(ours, name="elsewhere") as meter:
        outcome = await polled(settings(meter.port, ours))
        assert "CERTIFICATE_VERIFY_FAILED" in problem(outcome)
        assert meter.received == b""
        named = await polled(settings(meter.port, ours, server_name="elsewhere"))
    assert [r.value for r in named.readings] == [1234.0], named.failures


async def test_without_our_certificate_the_device_refuses(ours: Authority) -> None:
    async with device(ours) as meter:
        outcome = await polled(settings(meter.port, ours, certificate=False))
    assert problem(outcome)
    assert meter.received == b""


async def test_there_is_no_way_back_to_plain_modbus(ours: Authority) -> None:
    async with device(ours, tls=False) as meter:
        outcome = await polled({**settings(meter.port, ours), "timeout_s": 1})
    assert problem(outcome)


def test_files_that_are_missing_or_do_not_fit_are_named_before_anything_is_read(
    ours: Authority, theirs: Authority, tmp_path: Path
) -> None:
    good = settings(802, ours)
    registry.build(registry.parse(good), Binding("main", POINTS))
    _, wrong_key = theirs.issue("wattline")
    for change, key, says in (
        ({"ca_file": str(tmp_path / "none.pem")}, "tls.ca_file", "is no file"),
        ({"key_file": str(wrong_key)}, "tls", "do not fit"),
    ):
        with pytest.raises(ConfigError, match=says) as refused:
            registry.build(registry.parse({**good, "tls": good["tls"] | change}), Binding("main", POINTS))
        assert refused.value.key == key
    for wrong, says in (
        ({**good, "tls": {"ca_file": str(ours.file), "cert_file": str(ours.file)}}, "belong together"),
        ({**good, "transport": "rtu_over_tcp"}, "transport tcp"),
    ):
        with pytest.raises(ConfigError, match=says):
            registry.parse(wrong)


def test_the_port_of_modbus_security_is_802_unless_said(ours: Authority) -> None:
    mapping = settings(0, ours)
    del mapping["port"]
    config: Any = registry.parse(mapping)
    assert str(config.endpoint) == "127.0.0.1:802"
