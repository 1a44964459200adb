"""A BACnet/IP device on loopback, made with bacpypes3: none of our code answers."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any, Self

from bacpypes3.basetypes import EngineeringUnits, Scale, StatusFlags
from bacpypes3.ipv4.app import NormalApplication
from bacpypes3.local.analog import AnalogInputObject
from bacpypes3.local.device import DeviceObject
from bacpypes3.local.object import Object as LocalObject
from bacpypes3.object import AccumulatorObject, IntegerValueObject, LargeAnalogValueObject
from bacpypes3.pdu import IPv4Address
from bacpypes3.service.cov import ChangeOfValueServices


class LocalAccumulator(LocalObject, AccumulatorObject):
    """An accumulator that can be served."""


class LocalInteger(LocalObject, IntegerValueObject):
    """An integer value that can be served."""


class LocalLarge(LocalObject, LargeAnalogValueObject):
    """A large analog value that can be served."""


class Application(NormalApplication, ChangeOfValueServices):
    """An application with subscriptions."""


class Old(NormalApplication):
    """An application that reads one property at a time and knows no subscriptions."""

    do_ReadPropertyMultipleRequest = None


def free_port() -> int:
    """A UDP port that nobody has."""
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Device:
    """A device with the objects of a power meter."""

    def __init__(self, *, many: int = 0, instance: int = 1234, kind: Any = Application) -> None:
        self.port, self._many, self._instance, self._kind = free_port(), many, instance, kind

    async def __aenter__(self) -> Self:
        device = DeviceObject(
            objectIdentifier=("device", self._instance),
            objectName="meter",
            vendorIdentifier=999,
            vendorName="Nobody",
            modelName="M 3",
        )
        self.app = self._kind(device, IPv4Address(f"127.0.0.1:{self.port}"))
        self.power = self._analog(1, "Main Power", 42_500.0, EngineeringUnits.watts)
        self.energy = LocalAccumulator(
            objectIdentifier=("accumulator", 1),
            objectName="Main Energy",
            presentValue=1_234_567,
            maxPresValue=99_999_999,
            statusFlags=StatusFlags([0, 0, 0, 0]),
            eventState=0,
            outOfService=False,
            units=EngineeringUnits.kilowattHours,
            scale=Scale(floatScale=0.1),
            limitMonitoringInterval=0,
        )
        self.app.add_object(self.energy)
        self.voltage = self._analog(2, "Voltage L1", 230.5, EngineeringUnits.volts)
        self.odd = self._analog(3, "Cooling power", 12.0, EngineeringUnits.tonsRefrigeration)
        self.bare = self._analog(4, "Total energy", 77.0, EngineeringUnits.noUnits)
        for n in range(self._many):
            self._analog(100 + n, f"Feed {n} power", float(n), EngineeringUnits.kilowatts)
        await asyncio.sleep(0.01)
        return self

    def _analog(self, n: int, name: str, value: float, units: Any) -> Any:
        one = AnalogInputObject(
            objectIdentifier=("analog-input", n),
            objectName=name,
            presentValue=value,
            statusFlags=StatusFlags([0, 0, 0, 0]),
            eventState=0,
            outOfService=False,
            units=units,
            covIncrement=0.1,
        )
        self.app.add_object(one)
        return one

    async def __aexit__(self, *_: object) -> None:
        self.app.close()
        await asyncio.sleep(0.01)


async def _serve_for_ever(many: int) -> None:
    async with Device(many=many) as device:
        sys.stdout.write(f"{device.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":  # a process of its own for the bench
    asyncio.run(_serve_for_ever(int(sys.argv[1])))
