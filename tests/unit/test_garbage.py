"""While a fleet is built nothing is searched for garbage, and it is searched again afterwards."""

from __future__ import annotations

import gc
from contextlib import suppress

import pytest

from app.garbage import unsearched


@pytest.fixture(autouse=True)
def searched() -> None:
    assert gc.isenabled()


def test_it_is_searched_again_whatever_happens() -> None:
    with suppress(RuntimeError), unsearched():
        assert not gc.isenabled()
        raise RuntimeError
    assert gc.isenabled()


def test_blocks_that_overlap_end_with_a_search() -> None:
    first, second = unsearched(), unsearched()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_what_is_not_searched_at_all_stays_so() -> None:
    gc.disable()
    try:
        with unsearched():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
