"""Links are shared by endpoint, and the meters behind a dead gateway share one attempt to open it."""

from __future__ import annotations

import asyncio

import pytest

from app.errors import DeviceUnreachable
from collectors.shared_links import Opening, SharedLinks


class Link:
    def __init__(self, endpoint: str, width: int = 1) -> None:
        self.endpoint, self.width = endpoint, width
        self.users = 0
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


async def test_equal_endpoints_share_a_link_until_the_last_user_gives_it_back() -> None:
    links = SharedLinks(Link)
    first, other, same = links.take("a", width=4), links.take("b"), links.take("a")
    assert first is same
    assert (first.endpoint, first.width, other.endpoint, other.width) == ("a", 4, "b", 1)
    links.release(first)
    assert not first.is_closed
    links.release(same)
    assert first.is_closed
    assert not other.is_closed
    with links.using("a") as anew:
        assert anew is not first
    assert anew.is_closed


async def test_after_a_failure_nobody_tries_again_for_as_long_as_it_took() -> None:
    opening, attempts = Opening("gateway:502"), 0

    async def dead() -> None:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(60)

    for device in ("m1", "m2", "m3"):
        with pytest.raises(DeviceUnreachable, match="gateway:502: no answer within") as error:
            await opening.attempt(device, 0.3, dead)
        assert error.value.device == device
    assert attempts == 1
    await asyncio.sleep(0.35)
    with pytest.raises(DeviceUnreachable):
        await opening.attempt("m1", 0.01, dead)
    assert attempts == 2


async def test_what_opens_is_given_and_a_refusal_says_why() -> None:
    opening = Opening("gateway:502")

    async def alive() -> str:
        return "wire"

    async def refused() -> str:
        raise ConnectionRefusedError("connection refused")

    assert await opening.attempt("m1", 1.0, alive) == "wire"
    with pytest.raises(DeviceUnreachable, match="cannot open gateway:502: connection refused"):
        await opening.attempt("m1", 1.0, refused)
