"""SunSpec: find the models a device offers.

The map starts with ``SunS`` at one of three addresses; behind it stand models, each with its number,
its length and its registers, up to number 0xFFFF (SunSpec Device Information Model Specification).
"""

from __future__ import annotations

from collections.abc import Iterable

from app.errors import CollectError, DecodeError, DeviceRefused
from collectors.modbus.link import Link, Requester

BASES = (40_000, 50_000, 0)
MARK = b"SunS"
END = 0xFFFF
MOST_MODELS = 100


async def models(link: Link, requester: Requester, bases: Iterable[int] = BASES) -> dict[int, int]:
    """Address of the ID register by model number; the first where a model stands twice.

    Raises
    ------
    DecodeError
        If no base holds ``SunS``, or the chain of models does not end.
    DeviceUnreachable
        If the device is silent.
    """
    return await _chain(link, requester, await _base(link, requester, bases) + 2)


async def _base(link: Link, requester: Requester, bases: Iterable[int]) -> int:
    for base in bases:
        try:
            if await link.read(requester, "holding", base, 2) == MARK:
                return base
        except DeviceRefused:
            continue
    raise DecodeError(
        requester.device, f"no SunSpec map at {', '.join(map(str, bases))}; is the profile right?"
    )


async def _chain(link: Link, requester: Requester, address: int) -> dict[int, int]:
    found: dict[int, int] = {}
    for _ in range(MOST_MODELS):
        head = await link.read(requester, "holding", address, 2)
        number, length = int.from_bytes(head[:2], "big"), int.from_bytes(head[2:], "big")
        if number == END:
            return found
        found.setdefault(number, address)
        address += 2 + length
        if address > 65_534:
            break
    raise DecodeError(requester.device, "the chain of SunSpec models does not end")


async def model_address(link: Link, requester: Requester, wanted: Iterable[int]) -> int:
    """Address of the ID register of the first wanted model the device has.

    Raises
    ------
    CollectError
        As `models`; DecodeError where the device has none of them.
    """
    found = await models(link, requester)
    for number in wanted:
        if number in found:
            return found[number]
    raise _none_of(requester, wanted, found)


def _none_of(requester: Requester, wanted: Iterable[int], found: Iterable[int]) -> CollectError:
    offered, asked = ", ".join(map(str, found)), " or ".join(map(str, wanted))
    return DecodeError(requester.device, f"has SunSpec models {offered}; the profile needs {asked}")
