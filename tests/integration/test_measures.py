"""The measures ledger: declared, adjusted and withdrawn over HTTP and on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from app.api.auth import KeyAuthenticator
from app.domain.access import Grant
from app.store import audit, identity
from tests.integration.api_helpers import client, declare
from tests.integration.conftest import Wattline

FANS = {
    "key": "fans",
    "what": "EC fans in hall 1",
    "where": "class:cooling",
    "implementation_start": "2025-09-15",
    "implementation_end": "2025-09-20",
    "cost": 180000,
    "expected_kwh_per_year": 95000,
    "evidence": "acceptance record 42",
}
ADJUSTED = {
    "start": "2025-10-01",
    "end": "2025-11-01",
    "energy_kwh": 1200,
    "reason": "building works, protocol 7",
}


@pytest.fixture
def http(engine: sa.Engine) -> Iterator[httpx.Client]:
    """The interface with keys, and a fleet."""
    declare(engine)
    with client(engine, authenticator=KeyAuthenticator(engine)) as found:
        yield found


def asked(
    engine: sa.Engine, http: httpx.Client, path: str, body: Any = None, *, grant: str = "operator"
) -> httpx.Response:
    with engine.begin() as connection:
        key = identity.create(connection, "li", [Grant.parse(grant)], created_by="test")
    headers = {"Authorization": f"Bearer {key}"}
    method = "GET" if body is None else "POST"
    return http.request(method, f"/api/v1/sites/sh1/measures{path}", json=body, headers=headers)


def test_a_measure_is_declared_adjusted_and_withdrawn(engine: sa.Engine, http: httpx.Client) -> None:
    declared = asked(engine, http, "", FANS)
    assert declared.status_code == 201, declared.text
    one = declared.json()
    assert (one["ipmvp_option"], one["author"]) == ("B", "li")
    assert (one["baseline_start"], one["baseline_end"]) == ("2024-09-15", "2025-09-15")
    assert (one["reporting_start"], one["reporting_end"]) == ("2025-09-20", None)

    adjusted = asked(engine, http, "/fans/adjustments", ADJUSTED)
    assert adjusted.status_code == 201, adjusted.text
    note = adjusted.json()["adjustments"][0]
    assert (note["energy_kwh"], note["author"], note["withdrawn_at"]) == (1200, "li", None)

    gone = asked(engine, http, f"/fans/adjustments/{note['id']}/withdraw", {})
    assert gone.json()["adjustments"][0]["withdrawn_by"] == "li"
    assert asked(engine, http, "/fans/withdraw", {}).json()["withdrawn_by"] == "li"
    listed = asked(engine, http, "", grant="viewer").json()
    assert [(m["key"], m["withdrawn_by"]) for m in listed["measures"]] == [("fans", "li")]
    with engine.connect() as connection:
        done = [(row.action, json.loads(row.detail)["measure"]) for row in audit.listing(connection)[::-1]]
    assert done[-4:] == [
        ("measure.add", "fans"),
        ("measure.adjust", "fans"),
        ("measure.adjust.withdraw", "fans"),
        ("measure.withdraw", "fans"),
    ]


def test_a_key_is_free_again_after_its_measure_was_withdrawn(engine: sa.Engine, http: httpx.Client) -> None:
    assert asked(engine, http, "", FANS).status_code == 201
    taken = asked(engine, http, "", FANS)
    assert (taken.status_code, "fans is taken" in taken.json()["detail"]) == (422, True)
    assert asked(engine, http, "/fans/withdraw", {}).status_code == 200
    second = asked(engine, http, "", FANS)
    assert second.status_code == 201
    assert asked(engine, http, f"/{second.json()['id']}/withdraw", {}).json()["key"] == "fans"
    assert asked(engine, http, f"/{second.json()['id']}/withdraw", {}).status_code == 404
    again = asked(engine, http, "/fans/withdraw", {})
    assert (again.status_code, "none is declared" in again.json()["detail"]) == (404, True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"where": "class:it"}, "no class of non-IT energy; allowed are cooling"),
        ({"where": "meter:bj.main"}, "site sh1 has no meter 'bj.main'"),
        ({"where": "hall"}, "allowed are facility, class:CLASS and meter:ID"),
        ({"baseline_end": "2025-09-16"}, "baseline_end: must not be after implementation_start"),
        ({"evidence": " "}, "evidence: is empty"),
    ],
)
def test_what_cannot_be_verified_is_refused(
    engine: sa.Engine, http: httpx.Client, change: dict[str, Any], said: str
) -> None:
    answer = asked(engine, http, "", {**FANS, **change})
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert asked(engine, http, "").json()["measures"] == []


def test_only_operators_of_the_site_declare(engine: sa.Engine, http: httpx.Client) -> None:
    for grant, code in (("viewer", 403), ("operator:site/bj1", 404)):
        assert asked(engine, http, "", FANS, grant=grant).status_code == code
    assert asked(engine, http, "", FANS).status_code == 201
    for path, body in (("/fans/withdraw", {}), ("/fans/adjustments", ADJUSTED)):
        assert asked(engine, http, path, body, grant="viewer").status_code == 403


@pytest.mark.parametrize("change", ["UPDATE measures SET what = 'other'", "DELETE FROM measures"])
def test_entries_are_never_changed(engine: sa.Engine, http: httpx.Client, change: str) -> None:
    asked(engine, http, "", FANS)
    with engine.begin() as connection, pytest.raises(sa.exc.DatabaseError, match="never changed or deleted"):
        connection.exec_driver_sql(change)


def test_on_the_command_line(engine: sa.Engine, wattline: Wattline) -> None:
    declare(engine)
    stated = ("--what", "set point 20 to 24 C", "--start", "2026-04-01", "--evidence", "order 7")
    added = wattline("measures", "add", "sh1", "setpoint", *stated)
    assert added.code == 0, added.err
    assert "IPMVP option C" in added.out
    note = ("--start", "2026-05-01", "--end", "2026-05-03", "--energy-kwh", -80, "--reason", "a room left")
    assert wattline("measures", "adjust", "sh1", "setpoint", *note).code == 0
    listed = wattline("measures", "list", "sh1").out
    for text in (
        "set point 20",
        "facility (C)",
        "2025-04-01 .. 2026-04-01",
        "-80.000",
        "a room left",
    ):
        assert text in listed
    assert wattline("measures", "withdraw", "sh1", "setpoint").code == 0
    document = wattline("measures", "list", "sh1", "--json").document
    assert document["measures"][0]["withdrawn_at"] is not None
    wrong = wattline("measures", "add", "sh1", "fans", *stated[:-3], "soon", *stated[-2:])
    assert (wrong.code, "write it like 2026-10-01" in wrong.err) == (2, True)
