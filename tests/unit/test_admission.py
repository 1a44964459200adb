"""Shares of what is scarce: no caller and no institution takes all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack

import anyio
import anyio.lowlevel
import pytest

from app.api.admission import Batches, Places, Turns
from app.domain.access import Grant, Principal
from app.errors import RequestTooLarge, TooBusy


def test_places_of_one_name_and_of_one_group_are_bounded() -> None:
    places = Places(5, 2, 3)
    with ExitStack() as held:
        for name in ("a", "a", "b"):
            held.enter_context(places.taken(name, "busy", group="bank"))
        with pytest.raises(TooBusy), places.taken("c", "busy", group="bank"):
            pass
        with pytest.raises(TooBusy), places.taken("a", "busy", group="other"):
            pass
        held.enter_context(places.taken("c", "busy", group="other"))
        held.enter_context(places.taken("d", "busy"))
        with pytest.raises(TooBusy), places.taken("e", "busy"):
            pass
    with places.taken("c", "busy", group="bank"):
        pass


async def test_one_callers_work_leaves_turns_for_others() -> None:
    """Forty requests of one caller and as many of a colleague: a third one's is worked on at once."""
    turns, at_work, most, done = Turns(3, 5), [0], [0], anyio.Event()

    async def work(name: str, group: str) -> None:
        async with turns.taken(name, group):
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
            await done.wait()
            at_work[0] -= 1

    async with anyio.create_task_group() as tasks:
        for _ in range(40):
            tasks.start_soon(work, "greedy", "bank")
            tasks.start_soon(work, "colleague", "bank")
        await anyio.wait_all_tasks_blocked()
        assert at_work[0] == 5
        tasks.start_soon(work, "somebody", "other")
        await anyio.wait_all_tasks_blocked()
        assert at_work[0] == 6
        done.set()
    assert (at_work[0], most[0]) == (0, 6)


async def test_a_wait_that_is_given_up_takes_no_turn() -> None:
    turns = Turns(1, 1)
    async with turns.taken("a", "bank"):
        with anyio.move_on_after(0):
            async with turns.taken("a", "bank"):
                raise AssertionError("two turns at once")
    with anyio.fail_after(5):
        async with turns.taken("a", "bank"):
            pass
    assert turns._gates == {}


def test_a_tenant_is_what_the_grants_are_about() -> None:
    def tenant(*grants: str) -> str:
        return Principal("p", tuple(Grant.parse(text) for text in grants)).tenant

    assert tenant("viewer:institution/bank", "operator:institution/bank") == "bank"
    assert tenant("viewer:site/sh1", "viewer:institution/bank") == "bank,sh1"
    assert tenant("viewer", "operator:site/sh1") == ""


async def _parts(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def test_batches_that_wait_take_no_more_than_their_room_and_give_it_back() -> None:
    batches = Batches(1, 10)

    async def ran() -> None:
        first = await batches.received(_parts(b"123", b"456"), 8)
        with pytest.raises(TooBusy):
            await batches.received(_parts(b"1234", b"5"), 8)
        with pytest.raises(RequestTooLarge):
            await Batches(1, 100).received(_parts(b"1234", b"56789"), 8)
        async with batches.turn(first):
            second = await batches.received(_parts(b"1234"), 8)
            with pytest.raises(TooBusy):
                await batches.received(_parts(b"1"), 8)
        async with batches.turn(second):
            assert await batches.received(_parts(b"123456"), 8) == b"123456"

    anyio.run(ran)


def test_so_many_batches_are_worked_on_at_once_and_the_others_wait() -> None:
    batches, at_work, most = Batches(2, 100), 0, 0

    async def one() -> None:
        nonlocal at_work, most
        body = await batches.received(_parts(b"1"), 8)
        async with batches.turn(body):
            at_work += 1
            most = max(most, at_work)
            await anyio.lowlevel.checkpoint()
            at_work -= 1

    async def ran() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(9):
                tasks.start_soon(one)

    anyio.run(ran)
    assert most == 2
