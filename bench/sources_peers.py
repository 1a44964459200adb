"""The libraries' side of the bench of sources: values one at a time, as their documentation shows it.

Usage: sources_peers.py dlt645|bacnet|opcua PORT SECONDS; run by a Python that has the library. Prints values
and the seconds of processor time that they took.
"""

from __future__ import annotations

import asyncio
import sys
import time

IDENTIFIERS = [
    *(0x00010000 + (rate << 8) for rate in range(5)),
    *(0x02010000 + (phase << 8) for phase in (1, 2, 3)),
    *(0x02020000 + (phase << 8) for phase in (1, 2, 3)),
    *(0x02030000 + (phase << 8) for phase in range(4)),
    0x02800002,
]

OBJECTS = 20


def dlt645(port: int, seconds: float) -> tuple[int, float]:
    """Read the identifiers one after the other with the package `dlt645`."""
    from dlt645 import MeterClientService  # type: ignore[import-not-found]

    client = MeterClientService.new_tcp_client("127.0.0.1", port, 5)
    client.set_address("420000112320")  # 202311000042: it sends the digits in the order given
    client.connect()

    def once() -> None:
        for identifier in IDENTIFIERS:
            read = client.read_00 if identifier >> 24 == 0 else client.read_02
            if read(identifier) is None:
                raise RuntimeError(f"{identifier:08X} was not read")

    once()
    began, processor, values = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        once()
        values += len(IDENTIFIERS)
    return values, time.process_time() - processor


def bacnet(port: int, seconds: float) -> tuple[int, float]:
    """Read present values one after the other with bacpypes3."""
    return asyncio.run(_bacnet(port, seconds))


async def _bacnet(port: int, seconds: float) -> tuple[int, float]:
    from bacpypes3.ipv4.app import NormalApplication
    from bacpypes3.local.device import DeviceObject
    from bacpypes3.pdu import IPv4Address

    device = DeviceObject(objectIdentifier=("device", 1), objectName="bench", vendorIdentifier=999)
    app = NormalApplication(device, IPv4Address("127.0.0.1:0"))
    where = IPv4Address(f"127.0.0.1:{port}")

    async def once() -> None:
        for n in range(OBJECTS):
            await app.read_property(where, f"analog-input,{100 + n}", "present-value")

    await once()
    began, processor, values = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        await once()
        values += OBJECTS
    spent = time.process_time() - processor
    app.close()
    return values, spent


def opcua(port: int, seconds: float) -> tuple[int, float]:
    """Read variables one after the other with asyncua."""
    return asyncio.run(_opcua(port, seconds))


async def _opcua(port: int, seconds: float) -> tuple[int, float]:
    from asyncua import Client

    async with Client(f"opc.tcp://127.0.0.1:{port}/UA/Server") as client:
        nodes = [client.get_node(f"ns=2;s=Main.Feed {n} power") for n in range(OBJECTS)]

        async def once() -> None:
            for node in nodes:
                await node.read_value()

        await once()
        began, processor, values = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - began < seconds:
            await once()
            values += OBJECTS
        return values, time.process_time() - processor


if __name__ == "__main__":
    print(
        *{"dlt645": dlt645, "bacnet": bacnet, "opcua": opcua}[sys.argv[1]](
            int(sys.argv[2]), float(sys.argv[3])
        )
    )
