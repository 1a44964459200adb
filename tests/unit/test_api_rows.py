"""Rows that a point cannot take are refused with a reason."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from app import config
from app.api import rows
from app.domain.access import Grant, Principal, Role

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
