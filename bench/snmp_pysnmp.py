"""The pysnmp side of the SNMP bench: 100 concurrent loops; run by a Python that has pysnmp.

Usage: snmp_pysnmp.py PORT 2|3 SECONDS OID...
"""

from __future__ import annotations

import asyncio
import sys
import time

from pysnmp.hlapi.v3arch.asyncio import (  # type: ignore[import-not-found]
    CommunityData,
    ContextData,
    ObjectIdentity,
    ObjectType,
    SnmpEngine,
    UdpTransportTarget,
    UsmUserData,
    get_cmd,
    usmAesCfb128Protocol,
    usmHMAC192SHA256AuthProtocol,
)

CONCURRENT = 100


async def main(port: int, version: str, seconds: float, oids: list[str]) -> float:
    """Requests per second."""
    engine = SnmpEngine()
    target = await UdpTransportTarget.create(("127.0.0.1", port), timeout=5, retries=1)
    user = UsmUserData(
        "bench", "benchauth", "benchpriv",
        authProtocol=usmHMAC192SHA256AuthProtocol, privProtocol=usmAesCfb128Protocol,
    )  # fmt: skip
    access = CommunityData("public", mpModel=1) if version == "2" else user
    asked = [ObjectType(ObjectIdentity(oid)) for oid in oids]
    await get_cmd(engine, access, target, ContextData(), *asked)
    start = time.perf_counter()

    async def loop() -> int:
        count = 0
        while time.perf_counter() < start + seconds:
            failed, status, _, values = await get_cmd(engine, access, target, ContextData(), *asked)
            if failed or status or len(values) != len(oids):
                raise RuntimeError(f"{failed or status}")
            count += 1
        return count

    counts = await asyncio.gather(*(loop() for _ in range(CONCURRENT)))
    return sum(counts) / (time.perf_counter() - start)


if __name__ == "__main__":
    print(asyncio.run(main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4:])))
