"""Parts keep adding up; hashes and differences see every figure and nothing else."""

from __future__ import annotations

import math

from hypothesis import example, given
from hypothesis import strategies as st

from app.reports.canonical import canonical, changes, sha256_of
from app.reports.document import Change
from app.reports.rounding import apportioned, number, rounded
from app.reports.safe import cell, line

ENERGIES = st.lists(st.floats(-1e7, 1e7), min_size=1, max_size=40)


@given(ENERGIES, st.integers(0, 3))
@example([0.95], 1)  # 9.5 tenths, and less than 0.95
def test_rounded_parts_sum_to_the_rounded_total(values: list[float], decimals: int) -> None:
    parts = apportioned(values, decimals)
    assert round(math.fsum(parts), decimals) == round(math.fsum(values), decimals)
    assert all(abs(p - v) <= 1.01 * 10**-decimals for p, v in zip(parts, values, strict=True))


def test_there_is_no_negative_zero_and_no_infinity() -> None:
    assert math.copysign(1, number(-0.001, 2)) == 1
    assert rounded(math.inf, 2) is None
    assert rounded(None, 2) is None


def test_the_hash_does_not_depend_on_the_order_of_keys_nor_on_itself() -> None:
    one = {"b": 1.5, "a": ["名", None], "sha256": "x"}
    assert canonical(one) == '{"a":["名",null],"b":1.5}'.encode()
    assert sha256_of(one) == sha256_of({"a": ["名", None], "b": 1.5})


def test_changes_name_the_row_and_leave_the_version_out() -> None:
    before = {
        "sha256": "1",
        "revision": {"number": 1},
        "days": [{"day": "d1", "pue": 1.4}, {"day": "d2", "pue": 1.5}],
    }
    after = {
        "sha256": "2",
        "revision": {"number": 2},
        "days": [{"day": "d1", "pue": 1.4}, {"day": "d2", "pue": 1.6}],
    }
    assert changes(before, after) == [Change(figure="days[d2].pue", before=1.5, after=1.6)]


def test_names_are_made_harmless() -> None:
    assert cell(line("=1\r\n+2")) == "'=1  +2"
    assert line("a\u202eb\u0000c") == "ab c"
    assert cell("-5 volts") == "'-5 volts"
