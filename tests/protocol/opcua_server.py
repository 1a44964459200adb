"""An OPC UA server on loopback, made with asyncua: none of our code answers."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from pathlib import Path
from typing import Any, Self

from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole

logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # what clients of the tests do wrong is no news


def free_port() -> int:
    """A TCP port that nobody has."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Users:
    """Lets one user in."""

    def get_user(
        self, session: Any, username: Any = None, password: Any = None, certificate: Any = None
    ) -> Any:
        """Called by asyncua."""
        return User(role=UserRole.User) if (username, password) == ("wattline", "right") else None


class Building:
    """A server with a meter and other things."""

    def __init__(
        self, *, many: int = 0, users: bool = False, secure: tuple[Path, Path, Path] | None = None
    ) -> None:
        self.port, self._many, self._users, self._secure = free_port(), many, users, secure
        self.variables: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        self.server = server = Server(user_manager=Users() if self._users else None)
        await server.init()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{self.port}/UA/Server")
        if self._secure:
            await self._lock_up(*self._secure)
        else:
            server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        space = await server.register_namespace("urn:test")
        meter = await server.nodes.objects.add_object(ua.NodeId("Main", space), f"{space}:Main")
        for name, value, unit in (
            ("Power", 42_500.0, "W"),
            ("Energy", 123_456.7, "kWh"),
            ("Voltage", 230.5, "V"),
            ("Cooling power", 12.0, "RT"),
            ("Total energy", 77.0, ""),
        ):
            await self._add(meter, space, name, value, unit)
        await meter.add_variable(ua.NodeId("Main.Name", space), f"{space}:Name", "main power")
        for n in range(self._many):
            await self._add(meter, space, f"Feed {n} power", float(n), "kW")
        await server.start()
        return self

    async def _add(self, meter: Any, space: int, name: str, value: float, unit: str) -> None:
        node = await meter.add_variable(ua.NodeId(f"Main.{name}", space), f"{space}:{name}", value)
        if unit:
            about = ua.EUInformation(DisplayName=ua.LocalizedText(unit))
            await node.add_property(ua.NodeId(f"Main.{name}.unit", space), "0:EngineeringUnits", about)
        self.variables[name] = node

    async def _lock_up(self, certificate: Path, key: Path, client: Path) -> None:
        await self.server.load_certificate(str(certificate))
        await self.server.load_private_key(str(key))
        self.server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])

    async def say(self, name: str, value: Any, **how: Any) -> None:
        """Give a variable another value, with status and time stamp."""
        data = ua.DataValue(ua.Variant(value, ua.VariantType.Double), **how)
        await self.variables[name].write_value(data)

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop()


async def _serve_for_ever(many: int) -> None:
    async with Building(many=many) as building:
        sys.stdout.write(f"{building.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":  # a process of its own for the bench
    asyncio.run(_serve_for_ever(int(sys.argv[1])))
