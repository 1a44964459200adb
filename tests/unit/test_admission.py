"""Shares of what is scarce: no caller and no institution takes all of it."""

from __future__ import annotations

from contextlib import ExitStack

import anyio
import pytest

from app.api.admission import Places, Turns
from app.domain.access import Grant, Principal
from app.errors import TooBusy


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
