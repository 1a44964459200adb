"""The sizes of fleets follow from what was measured, and the page says what follows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import sizing
from bench.sizing import Fleet, Ledger

COSTS = Ledger(
    edge_us=300.0,
    edge_mb=80.0,
    line_bytes=20.0,
    hub_us=60.0,
    hub_written_bytes=600.0,
    hub_batches_per_s=10_000.0,
    cell_us=500.0,
    cell_database_us=200.0,
    base_mib=256.0,
    point_mib=0.03,
    plain_bytes=135.0,
)
MANY = Fleet(660, 500, 60)


def test_the_page_says_what_follows_from_the_results() -> None:
    """Where this fails: python -m bench.sizing."""
    page, results = sizing.PAGE.read_text(encoding="utf-8"), sizing.RESULTS.read_text(encoding="utf-8")
    assert sizing.with_chapter(page, results) == page
    assert sizing.chapter(results) in page


def test_a_size_by_hand() -> None:
    size = sizing.sized(COSTS, MANY)
    assert MANY.readings_per_s == 5500.0
    assert size.cell_cores == pytest.approx(2.75)
    assert size.cells == 4  # 0.8 cores / 500 us = 1,600 readings/s
    assert size.breaks_first == "processor"
    assert size.hubs == 1
    assert size.hub_cores == pytest.approx(5500 * 20e-6)
    assert size.hub_writes_bytes_per_s == pytest.approx(5500 * 200)
    assert size.memory_gib == pytest.approx((4 * 256 + 330_000 * 0.03) / 1024)
    assert size.site_bits_per_s == pytest.approx(500 / 60 * 20 * 8)
    assert size.centre_bits_per_s == pytest.approx(660 * size.site_bits_per_s)


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"cell_us": 900.0}, "Python of one process"),
        ({"point_mib": 0.2}, "memory"),
        ({"cell_us": 2000.0, "cell_database_us": 1500.0}, "processor"),
    ],
)
def test_what_is_scarce_is_said_and_takes_more_cells(change: dict[str, float], first: str) -> None:
    costs = replace(COSTS, **change)
    size = sizing.sized(costs, MANY)
    assert size.breaks_first == first
    assert size.cells > sizing.sized(COSTS, MANY).cells


def test_few_sites_need_no_hub_and_very_many_need_several() -> None:
    assert sizing.sized(COSTS, Fleet(29, 500, 60)).hubs == 0
    assert sizing.sized(COSTS, Fleet(30, 500, 60)).hubs == 1
    assert sizing.sized(COSTS, Fleet(5000, 500, 60)).hubs == 2  # 0.8 cores / 20 us = 40,000 readings/s
    slow = replace(COSTS, hub_batches_per_s=200.0)  # 40 % of them with 50 readings each: 4,000 readings/s
    assert sizing.sized(slow, MANY).hubs == 2


def test_a_bench_that_was_not_run_is_named() -> None:
    with pytest.raises(ValueError, match="python -m bench capacity"):
        sizing.ledger("nothing")
