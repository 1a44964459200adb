"""The meters of the poller bench, in a process of their own.

Prints a port for each, on one line; then every line read says whether every tenth is ``dead`` (accepts
connections, swallows what it is sent and says nothing) or all are ``well``. Ends with its input.

Usage: poller_meters.py COUNT PROFILE
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from collectors.profiles.profile import load_profile
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit


async def main(count: int, profile: str) -> None:
    """Serve until the input ends."""
    units = [SimulatedUnit(load_profile(profile), lambda channel, at: 50.0) for _ in range(count)]
    servers = [await SimulatedModbus({1: unit}).start() for unit in units]
    print(*(server.port for server in servers), flush=True)
    while said := await asyncio.to_thread(sys.stdin.readline):
        for unit in units[::10]:
            unit.faults.half_open = said.strip() == "dead"
        print("done", flush=True)
    await asyncio.gather(*(server.close() for server in servers))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
