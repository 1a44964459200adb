"""Rows that a point cannot take are refused with a reason."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import config
from app.actions.view import View
from app.api import rows
from app.domain.access import Grant, Principal, Role
from app.domain.reading import Reading
from app.store.readings import from_us
from app.store.sites import Stored

SITE = """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: s
    institution: bank
    time_zone: UTC
    meters:
      - {id: main, points: [{id: main.kwh, role: facility, kind: register}]}
      - {id: rest, points: [{id: rest.kwh, role: cooling, formula: "main.kwh * 0.5"}]}
"""


def test_a_point_with_a_formula_takes_no_readings() -> None:
    fleet = config.parse(SITE).fleet
    view: Any = SimpleNamespace(
        stored=SimpleNamespace(fleet=fleet), principal=Principal("anna", (Grant(Role.OPERATOR),))
    )
    assert rows._point(view, "main.kwh").id == "main.kwh"
    with pytest.raises(rows.Refused, match="computed by its formula"):
        rows._point(view, "rest.kwh")


# -- many at once, and one by one --------------------------------------------------------------------

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
KINDS = """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: s
    institution: bank
    time_zone: UTC
    meters:
      - id: main
        points:
          - {id: main.kwh, role: facility, kind: register, unit: MWh}
          - {id: main.kw, role: facility, kind: power, unit: W}
          - {id: main.e, role: none, kind: interval_energy, interval_s: 900, stamp: start}
          - {id: main.t, role: temperature, kind: gauge, unit: degF}
      - {id: rest, points: [{id: rest.kwh, role: cooling, formula: "main.kwh * 0.5"}]}
  - id: other
    institution: bank
    time_zone: UTC
    meters: [{id: there, points: [{id: there.kwh, role: facility, kind: register}]}]
"""
FLEET = config.parse(KINDS).fleet
STORED = Stored(
    FLEET,
    {key: n for n, key in enumerate(FLEET.site, 1)},
    {key: n for n, key in enumerate(FLEET.meter, 1)},
    {key: n for n, key in enumerate(FLEET.point, 1)},
)
_connection: Any = None
VIEW = View(_connection, STORED, Principal("anna", (Grant(Role.OPERATOR, "s"),)), "", NOW)
ATS = ("2026-11-30T00:15:00Z", "2026-11-30T00:15:00+08:00", "2026-11-30T00:15:00.1234567Z")
ODD_ATS = ("2026-11-30", "9999-12-31T23:59:59Z", "1960-01-01T00:00:00Z", "2027-01-01T00:00:00Z", "", None, 5)
ROWS = st.one_of(
    st.fixed_dictionaries(
        {
            "point": st.sampled_from([*FLEET.point, "unknown", None, ["main.kwh"]]),
            "at": st.sampled_from([*ATS, *ATS, *ODD_ATS]),
            "value": st.one_of(
                st.floats(), st.integers(), st.sampled_from([10**400, True, "1", None, 1e6, 5, -3])
            ),
        },
        optional={"interval_s": st.sampled_from([None, 0, 900, 60]), "more": st.just(1)},
    ),
    st.none(),
    st.lists(st.integers()),
)


@given(st.lists(ROWS, max_size=8))
def test_rows_looked_at_together_become_what_each_becomes_alone(given_rows: list[Any]) -> None:
    numbered = list(enumerate(given_rows, 7))
    good, rest = rows._usual(VIEW, numbered, NOW)
    assert sorted([*(good.number - 7).tolist(), *rest]) == list(range(len(given_rows)))
    for n, number in enumerate(good.number.tolist()):
        alone = rows._reading(VIEW, given_rows[number - 7], NOW)
        key = next(k for k, v in STORED.point_id.items() if v == good.columns.point_id[n])
        at, value = from_us(good.columns.at_us[n]), float(good.columns.value[n])
        interval_s, valid_s = int(good.columns.interval_s[n]), int(good.columns.valid_s[n])
        assert Reading(key, at, value, interval_s, valid_s) == alone
        assert STORED.site_key[int(good.site_id[n])] == FLEET.point[key][0].id
    for place in rest:
        _is_odd(given_rows[place])


def _is_odd(row: Any) -> None:
    """What is looked at alone is refused, or states an interval."""
    with suppress(rows.Refused, TypeError):
        assert "interval_s" in row or rows._reading(VIEW, row, NOW).interval_s


def test_usual_rows_are_looked_at_together() -> None:
    sent = [{"point": key, "at": ATS[0], "value": 20} for key in ("main.kwh", "main.kw", "main.e", "main.t")]
    good, rest = rows._usual(VIEW, list(enumerate(sent)), NOW)
    assert (good.number.tolist(), rest) == ([0, 1, 2, 3], [])
    assert good.columns.interval_s.tolist() == [0, 0, 900, 0]


LINES = (
    b'{"point":"a","at":"b","value":1}',
    b' {"point":"a"}\r',
    b"1",
    b"",
    b'{"a":1},{"b":2}',
    b'{"x":[{}',
    b"{}]}",
    b'{"p":1,"a}',
    b'{x":1}',
    b'{"a":1},5}',
    b'{"a":"}"}',
    b'{"a":{}}',
    b"[1",
    b"2]",
    b"{}",
    b'{"a":"\xff"}',
    b'\xef\xbb\xbf{"a":1}',
)


@given(st.lists(st.sampled_from(LINES), max_size=6))
def test_lines_parsed_together_say_what_each_says_alone(lines: list[bytes]) -> None:
    def alone(line: bytes) -> Any:
        try:
            return json.loads(line)
        except ValueError:
            return None

    assert rows.parsed_lines(lines) == [alone(line) for line in lines]
