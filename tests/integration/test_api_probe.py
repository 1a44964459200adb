"""Probing an address over HTTP: what answers, who may ask, how often, and how far it reaches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import sqlalchemy as sa

from app.api.auth import KeyAuthenticator
from app.domain.access import Grant
from app.store import audit, identity
from collectors.profiles.profile import load_profile
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit
from tests.integration.api_helpers import NOW, client, declare
from tests.protocol.dlt645_meter import PLAIN, Bus, Meter, SerialServer
from tests.protocol.test_modbus_probe import plausible


@pytest.fixture
async def meter() -> AsyncIterator[SimulatedModbus]:
    """A meter that answers at unit 1."""
    unit = SimulatedUnit(load_profile("schneider_pm5xxx"), lambda channel, at: plausible(channel))
    async with SimulatedModbus({1: unit}) as server:
        yield server


async def post(http: httpx.Client, body: dict[str, object], **headers: str) -> httpx.Response:
    """The answer to a probe, while the meter is free to answer too."""
    return await asyncio.to_thread(http.post, "/api/v1/probe", json=body, headers=headers)


def asked(meter: SimulatedModbus, **more: object) -> dict[str, object]:
    return {"host": "127.0.0.1", "protocol": "modbus", "port": meter.port, **more}


async def test_a_meter_is_recognised_with_its_configuration(
    engine: sa.Engine, meter: SimulatedModbus
) -> None:
    declare(engine)
    with client(engine) as http:
        answer = await post(http, asked(meter, picks={"power_kw": "cooling"}))
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["recognised"]
    assert found["profile"] == "schneider_pm5xxx"
    assert found["values"]["energy_import_kwh"] == 600.0
    assert "role: cooling" in found["yaml"]
    assert "energy_import_kwh" not in found["yaml"]
    with engine.connect() as connection:
        assert [one.target for one in audit.listing(connection)] == ["127.0.0.1"]


async def test_other_protocols_are_asked_with_their_own_options(engine: sa.Engine) -> None:
    declare(engine)
    async with SerialServer(Bus(Meter("000000000017", dict(PLAIN)))) as server:
        asked = {"host": "127.0.0.1", "protocol": "dlt645", "port": server.port, "timeout_s": 5}
        with client(engine) as http:
            answer = await post(http, {**asked, "options": {"address": "17"}})
            assert answer.status_code == 200, answer.text
            (found,) = answer.json()["recognised"]
            assert 'address: "000000000017"' in found["yaml"]
            for wrong in ({"serial_port": "/dev/ttyS0"}, {"profile": "/etc/passwd.yaml"}):
                refused = await post(http, {**asked, "options": wrong})
                assert refused.status_code == 422
                assert "allowed are address" in refused.text


async def test_a_range_is_answered_with_one_line_for_each_address(
    engine: sa.Engine, meter: SimulatedModbus
) -> None:
    with client(engine) as http:
        answer = await post(http, {**asked(meter), "host": "127.0.0.0/30", "timeout_s": 2})
        assert answer.status_code == 200, answer.text
        (line,) = [one for one in answer.json()["answers"] if one["host"] == "127.0.0.1"]
        assert (line["profile"], line["energy_kwh"]) == ("schneider_pm5xxx", 600.0)
        large = await post(http, {**asked(meter), "host": "127.0.0.0/24"})
        assert (large.status_code, "256 addresses; a range may have 64 here" in large.text) == (422, True)
        assert (await post(http, {**asked(meter), "host": "127.0.0.1/x"})).status_code == 422


async def test_what_does_not_answer_is_a_problem(engine: sa.Engine, meter: SimulatedModbus) -> None:
    with client(engine) as http:
        answer = (await post(http, asked(meter, unit=9))).json()
    assert answer["recognised"] == []
    assert "finds no unit 9" in answer["problems"][0]


@pytest.mark.parametrize(
    "wrong", [{"host": ""}, {"host": "a b"}, {"port": 0}, {"picks": {"a": "b"}}, {"x": 1}]
)
def test_what_is_no_address_is_refused(engine: sa.Engine, wrong: dict[str, object]) -> None:
    with client(engine) as http:
        assert http.post("/api/v1/probe", json={"host": "127.0.0.1", **wrong}).status_code == 422


async def test_viewers_do_not_probe_and_nobody_reaches_this_machine_from_elsewhere(
    engine: sa.Engine, meter: SimulatedModbus
) -> None:
    declare(engine)

    async def probe(http: httpx.Client, *grants: str) -> httpx.Response:
        with engine.begin() as connection:
            key = identity.create(connection, "ann", [Grant.parse(g) for g in grants], created_by="test")
        return await post(http, asked(meter), Authorization=f"Bearer {key}")

    with client(engine, authenticator=KeyAuthenticator(engine, clock=lambda: NOW)) as http:
        assert (await probe(http, "viewer")).status_code == 403
        assert (await probe(http, "operator:site/sh1")).status_code == 403
        refused = (await probe(http, "operator")).json()
    assert refused["recognised"] == []
    assert "WATTLINE_COLLECTOR_NETWORKS" in refused["problems"][0]


async def test_who_probes_too_often_waits(engine: sa.Engine, meter: SimulatedModbus) -> None:
    with client(engine) as http:
        answers = [await post(http, asked(meter)) for _ in range(8)]
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
