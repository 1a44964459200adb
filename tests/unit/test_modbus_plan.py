"""Planning of requests: as few as the device allows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collectors.modbus.plan import Block, Field, plan, split
from collectors.profiles.profile import Blocks


def shape(blocks: list[Block]) -> list[tuple[str, int, int]]:
    return [(b.table, b.address, b.count) for b in blocks]


TWENTY = [Field("holding", 100 + 2 * i, 2) for i in range(20)]


def test_twenty_adjacent_values_are_one_request() -> None:
    assert shape(plan(TWENTY, Blocks())) == [("holding", 100, 40)]


def test_single_register_mode_asks_for_each_value() -> None:
    assert len(plan(TWENTY, Blocks(single=True))) == 20


def test_the_largest_block_is_kept_and_no_value_is_cut_in_two() -> None:
    assert shape(plan(TWENTY, Blocks(max_registers=15))) == [
        ("holding", 100, 14),
        ("holding", 114, 14),
        ("holding", 128, 12),
    ]


def test_holes_are_read_along_up_to_the_limit() -> None:
    fields = [Field("holding", 0, 2), Field("holding", 10, 2), Field("holding", 30, 2)]
    assert shape(plan(fields, Blocks(max_hole=8))) == [("holding", 0, 12), ("holding", 30, 2)]


def test_a_forbidden_hole_is_never_touched() -> None:
    fields = [Field("holding", 0, 2), Field("holding", 10, 2)]
    assert shape(plan(fields, Blocks(holes=((5, 5),)))) == [("holding", 0, 2), ("holding", 10, 2)]


def test_tables_are_not_mixed() -> None:
    fields = [Field("holding", 0, 2), Field("input", 2, 2)]
    assert len(plan(fields, Blocks())) == 2


def test_a_refused_block_is_split_at_its_holes_then_into_single_values() -> None:
    whole = plan([Field("holding", 0, 2), Field("holding", 2, 2), Field("holding", 6, 2)], Blocks())[0]
    halves = split(whole)
    assert shape(halves) == [("holding", 0, 4), ("holding", 6, 2)]
    assert shape(split(halves[0])) == [("holding", 0, 2), ("holding", 2, 2)]


@given(
    fields=st.lists(
        st.builds(
            Field, st.sampled_from(["holding", "input"]), st.integers(0, 400), st.sampled_from([1, 2, 4])
        ),
        min_size=1,
    ),
    most=st.integers(4, 125),
    hole=st.integers(0, 124),
)
def test_every_value_is_read_whole_within_the_limits(fields: list[Field], most: int, hole: int) -> None:
    blocks = plan(fields, Blocks(max_registers=most, max_hole=hole))
    assert {f for b in blocks for f in b.fields} == set(fields)
    for block in blocks:
        assert block.count <= most
        assert all(block.address <= f.address and f.end <= block.address + block.count for f in block.fields)
