"""Batches of a file are read while the one before is stored."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from app.jobs.imports import ahead


def test_the_parts_come_in_order_and_the_next_is_made_meanwhile() -> None:
    made = [threading.Event() for _ in range(4)]

    def parts() -> Iterator[int]:
        for n, event in enumerate(made):
            event.set()
            yield n

    taken = []
    for n in ahead(parts()):
        taken.append(n)
        assert all(event.wait(10) for event in made[: n + 2])
    assert taken == [0, 1, 2, 3]
    assert list(ahead([])) == []


def test_an_error_comes_where_it_would_and_ends_it() -> None:
    def parts() -> Iterator[int]:
        yield 1
        raise ValueError("damaged")

    coming = ahead(parts())
    assert next(coming) == 1
    with pytest.raises(ValueError, match="damaged"):
        next(coming)
    assert next(coming, None) is None


def test_nothing_is_read_after_the_end_of_interest() -> None:
    read: list[int] = []

    def parts() -> Iterator[int]:
        for n in range(100):
            read.append(n)
            yield n

    before = threading.active_count()
    coming = ahead(parts())
    assert next(coming) == 0
    coming.close()  # type: ignore[attr-defined]
    assert len(read) <= 2
    assert threading.active_count() == before
