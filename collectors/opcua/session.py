"""Asks one OPC UA server through asyncua; the only module that knows it, and imports it when first used.

The address is looked up and checked here, and the library connects to the number. A session that broke is
thrown away and made anew with the next request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from app.errors import DecodeError, DeviceRefused, DeviceUnreachable
from collectors import network

MOST_NODES = 200
"""Nodes of one request. Servers take at least 100 and say how many more; few take less."""
CURRENT_TIME = "i=2258"
"""Server_ServerStatus_CurrentTime."""
POLICIES = ("Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")


@dataclass(frozen=True, slots=True)
class Access:
    """Where a server is, and who asks."""

    device: str
    """Name for errors."""
    host: str
    port: int
    path: str
    timeout_s: float
    policy: str = ""
    """Empty: without security."""
    mode: str = "SignAndEncrypt"
    certificate_file: Path | None = None
    key_file: Path | None = None
    server_certificate_file: Path | None = None
    user: str = ""
    password: str | None = None
    application_uri: str = ""


class Given(NamedTuple):
    """A variable as the server gives it."""

    value: object
    status: str
    """Name of the status code; empty where it is good."""
    at: datetime | None
    """Source time stamp."""


class Found(NamedTuple):
    """A variable of the server's address space."""

    node: str
    path: str
    """Names from the Objects folder on, with dots between."""
    unit: str
    """Text of its EngineeringUnits; empty where it has none."""


class Session:
    """One server; connects when first used. Use from one event loop, one request at a time."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.requests = 0
        """Requests for values."""
        self.connections = 0
        self._client: Any = None
        self._lock = asyncio.Lock()
        self._given: dict[str, Given] = {}
        self._subscribed: set[str] = set()
        self._ids: dict[str, Any] = {}

    async def read(self, nodes: Sequence[str]) -> dict[str, Given]:
        """Values of nodes, many in a request.

        Raises
        ------
        DeviceUnreachable
            If the server cannot be reached, or is silent.
        DeviceRefused
            If it does not let us in.
        DecodeError
            If it answers nonsense.
        """
        async with self._asking() as client:
            from asyncua import ua

            found: dict[str, Given] = {}
            for start in range(0, len(nodes), MOST_NODES):
                part = nodes[start : start + MOST_NODES]
                ids = [self._id(node) for node in part]
                self.requests += 1
                values = await client.uaclient.read_attributes(ids, ua.AttributeIds.Value)
                found |= dict(zip(part, map(given, values), strict=True))
            return found

    async def told(self, nodes: Sequence[str], every_ms: float) -> dict[str, Given]:
        """Newest values that the server notified; nodes without a notification are missing.

        A request for the server's clock goes with it, so that a dead connection does not pass for steady
        values. Raises as `read`.
        """
        async with self._asking() as client:
            from asyncua import ua

            wanted = [node for node in nodes if node not in self._subscribed]
            if wanted:
                subscription = await client.create_subscription(every_ms, _Handler(self._given))
                asked = [client.get_node(node) for node in wanted]
                await subscription.subscribe_data_change(asked)
                self._subscribed.update(wanted)
            await client.uaclient.read_attributes(
                [ua.NodeId.from_string(CURRENT_TIME)], ua.AttributeIds.Value
            )
            return {node: self._given[node] for node in nodes if node in self._given}

    async def units(self, nodes: Sequence[str]) -> dict[str, str]:
        """Texts of the EngineeringUnits of nodes that have them. Raises as `read`."""
        async with self._asking() as client:
            texts = [await _unit(client.get_node(node)) for node in nodes]
            return {node: text for node, text in zip(nodes, texts, strict=True) if text}

    async def variables(self, most: int, *, depth: int = 8) -> list[Found]:
        """Variables with a number below the Objects folder, except those of the server itself.

        Raises as `read`.
        """
        async with self._asking() as client:
            return [found async for found in _walk(client, most, depth)]

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[Any]:
        """The connected client; what goes wrong with it is raised, and it is thrown away."""
        from asyncua import ua

        async with self._lock:
            whole = False
            try:
                async with asyncio.timeout(10 * self.access.timeout_s):
                    yield self._client or await self._connect()
                whole = True
            except (TimeoutError, OSError) as error:
                raise DeviceUnreachable(self.access.device, self._said(error, "gave no answer")) from None
            except ua.UaError as error:
                kind = DeviceRefused if isinstance(error, ua.UaStatusCodeError) else DeviceUnreachable
                raise kind(self.access.device, self._said(error, "refused")) from None
            except (ValueError, TypeError, AttributeError, KeyError, IndexError, AssertionError) as error:
                problem = self._said(error, f"answered nonsense ({type(error).__name__})")
                raise DecodeError(self.access.device, problem) from None
            finally:
                if not whole:
                    await self._drop()

    def _said(self, error: BaseException, otherwise: str) -> str:
        text = str(error).strip().splitlines()[0] if str(error).strip() else otherwise
        return f"{self.access.host}:{self.access.port}: {text[:300]}"

    async def _connect(self) -> Any:
        client = await self._made()
        self._client = client  # before it is connected: what fails half-way has to be cleared away
        await client.connect()
        self.connections += 1
        self._subscribed.clear()
        self._given.clear()
        return client

    async def _made(self) -> Any:
        from asyncua import Client, ua
        from asyncua.crypto import security_policies

        logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # failures are the meter's, with its name
        access = self.access
        number = (await network.addresses(access.host, access.port, socket.SOCK_STREAM))[0]
        where = f"[{number}]" if ":" in number else number
        client = Client(f"opc.tcp://{where}:{access.port}/{quote(access.path)}", timeout=access.timeout_s)
        client.name = client.description = "Wattline"
        client.session_timeout = 600_000
        client.application_uri = access.application_uri or client.application_uri
        if access.user:
            client.set_user(access.user)
            client.set_password(access.password or "")
        if access.policy:
            self._client = client
            await client.set_security(
                getattr(security_policies, f"SecurityPolicy{access.policy}"),
                _file(access.certificate_file),
                _file(access.key_file),
                server_certificate=_file(access.server_certificate_file),
                mode=getattr(ua.MessageSecurityMode, access.mode),
            )
        return client

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        with contextlib.suppress(Exception):
            async with asyncio.timeout(self.access.timeout_s):
                await client.disconnect()
        with contextlib.suppress(Exception):
            client.disconnect_socket()

    def _id(self, node: str) -> Any:
        """A NodeId, taken apart once."""
        found = self._ids.get(node)
        if found is None:
            from asyncua import ua

            found = self._ids[node] = ua.NodeId.from_string(node)
        return found

    async def close(self) -> None:
        """Leave the server; a later read connects again."""
        await self._drop()


def _file(path: Path | None) -> Any:
    """A file of a certificate or key with its form, which asyncua takes from the name otherwise."""
    from asyncua.crypto.uacrypto import CertProperties

    content = b"" if path is None else path.read_bytes()
    return CertProperties(content, extension="pem" if content.lstrip().startswith(b"-----") else "der")


class _Handler:
    """Keeps the newest value of every node."""

    def __init__(self, given_: dict[str, Given]) -> None:
        self._given = given_

    def datachange_notification(self, node: Any, value: object, data: Any) -> None:
        """Called by asyncua."""
        self._given[node.nodeid.to_string()] = given(data.monitored_item.Value)


def given(value: Any) -> Given:
    """What a data value says."""
    status = value.StatusCode
    is_good = status is None or status.is_good()
    at = value.SourceTimestamp
    if at is not None and at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    held = None if value.Value is None else value.Value.Value
    return Given(held, "" if is_good else str(status.name), at)


async def _unit(node: Any) -> str:
    from asyncua import ua

    try:
        found = await node.get_child("0:EngineeringUnits")
        said = await found.read_value()
    except ua.UaStatusCodeError:
        return ""
    return str(getattr(getattr(said, "DisplayName", None), "Text", "") or "")


async def _walk(client: Any, most: int, depth: int) -> AsyncIterator[Found]:
    """Variables, nearest to the Objects folder first."""
    from asyncua import ua

    server = ua.NodeId(ua.ObjectIds.Server)
    level: list[tuple[Any, str]] = [(client.get_objects_node(), "")]
    seen, count = {server, ua.NodeId(ua.ObjectIds.Aliases)}, 0
    for _ in range(depth):
        below: list[tuple[Any, str]] = []
        for node, path in level:
            for one in await node.get_children_descriptions():
                if one.NodeId in seen:
                    continue
                seen.add(one.NodeId)
                name = f"{path}.{one.DisplayName.Text or one.BrowseName.Name}".lstrip(".")
                child = client.get_node(one.NodeId)
                if one.NodeClass == ua.NodeClass.Variable:
                    if await _is_number(child):
                        yield Found(one.NodeId.to_string(), name, await _unit(child))
                        count += 1
                elif one.NodeClass == ua.NodeClass.Object:
                    below.append((child, name))
                if count >= most or len(seen) > 20 * most:
                    return
        level = below


async def _is_number(node: Any) -> bool:
    from asyncua import ua

    try:
        kind = await node.read_data_type()
    except ua.UaStatusCodeError:
        return False
    return kind.NamespaceIndex == 0 and kind.Identifier in _NUMBERS


_NUMBERS = frozenset(range(2, 12)) | {26, 27, 28, 50}
"""SByte to Double, and the abstract types of numbers."""
