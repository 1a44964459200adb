"""The light semaphore and the shared timer of the hot paths."""

from __future__ import annotations

import asyncio

import pytest

from collectors.deadline import Deadlines
from collectors.fair_semaphore import FairSemaphore


async def test_places_are_given_in_order_of_arrival() -> None:
    gate, order = FairSemaphore(), list[int]()
    assert gate.try_acquire()

    async def visit(number: int) -> None:
        if not gate.try_acquire():
            await gate.wait()
        order.append(number)
        gate.release()

    visitors = [asyncio.create_task(visit(n)) for n in range(3)]
    await asyncio.sleep(0)
    gate.release()
    await asyncio.gather(*visitors)
    assert order == [0, 1, 2]
    assert gate.try_acquire()
    assert not gate.try_acquire()


@pytest.mark.parametrize("granted_first", [False, True])
async def test_a_cancelled_wait_takes_no_place(granted_first: bool) -> None:
    gate = FairSemaphore()
    assert gate.try_acquire()
    waiting = asyncio.create_task(gate.wait())
    await asyncio.sleep(0)
    if granted_first:
        gate.release()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if not granted_first:
        gate.release()
    assert gate.try_acquire()


async def test_only_what_waits_too_long_is_late() -> None:
    late: list[str] = []
    done = asyncio.Event()

    def on_late(key: str) -> None:
        late.append(key)
        if len(late) == 2:
            done.set()

    deadlines = Deadlines(on_late)
    loop = asyncio.get_running_loop()
    deadlines.start("slow", loop.time() + 0.03, loop)
    deadlines.start("quick", loop.time() + 0.01, loop)
    deadlines.start("answered", loop.time() + 0.02, loop)
    deadlines.stop("answered")
    await done.wait()
    assert set(late) == {"quick", "slow"}, "what was answered in time is not"
    deadlines.start("forgotten", loop.time() + 0.01, loop)
    deadlines.close()
    assert deadlines._timer is None
