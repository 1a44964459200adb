"""The demo's devices, polled over the real protocols, say to the last bit what the model says."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import collectors.simulated
from app import config
from app.domain.quantity import ReadingKind
from app.domain.register import StepKind, walk
from app.domain.site import Fleet, Meter, Point
from app.errors import NotFound
from collectors import registry
from collectors.base import Binding, Poll
from collectors.modbus.probe import probe
from collectors.simulated.devices import SimulatedDevices, accelerated
from collectors.simulated.history import Simulation
from collectors.simulated.meters import channel_of

NOW = datetime(2026, 11, 23, 16, 20, tzinfo=UTC)


ROUNDED = {ReadingKind.REGISTER: 0.0, ReadingKind.POWER: 0.011, ReadingKind.GAUGE: 0.6}
"""What devices may round off; registers nothing."""


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return config.load(Path(collectors.simulated.__file__).parent / "demo_site.yaml").fleet


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return Simulation(NOW)


@pytest.fixture
async def devices(fleet: Fleet, simulation: Simulation) -> AsyncIterator[SimulatedDevices]:
    async with SimulatedDevices(fleet, simulation, lambda: NOW) as running:
        yield running


async def poll(meter: Meter, at: datetime = NOW) -> Poll:
    assert meter.collector is not None
    collector = registry.build(registry.parse(meter.collector), Binding(meter.id, meter.points))
    try:
        return await collector.poll(at)
    finally:
        await collector.close()


def polled(devices: SimulatedDevices, fleet: Fleet) -> list[Meter]:
    return [m for s in devices.patched(fleet).sites for m in s.meters if m.id in devices.ports]


async def test_every_polled_point_reads_what_the_model_says(
    fleet: Fleet, simulation: Simulation, devices: SimulatedDevices
) -> None:
    meters = polled(devices, fleet)
    polls = await asyncio.gather(*(poll(meter) for meter in meters))
    assert [p.failures for p in polls] == [()] * len(meters)
    values = {r.point: r.value for p in polls for r in p.readings}
    assert set(values) == {p.id for m in meters for p in m.points}
    for point_id, value in values.items():
        site, meter, point = fleet.point[point_id]
        said = simulation.meter(site.id, meter).value(channel_of(point), NOW)
        assert value == pytest.approx(said, rel=1e-3, abs=ROUNDED[point.kind]), point_id
        assert point.kind is not ReadingKind.REGISTER or value == said, point_id


async def test_every_modbus_meter_of_the_demo_is_recognised_by_a_probe(
    fleet: Fleet, devices: SimulatedDevices
) -> None:
    meters = [m.collector for m in polled(devices, fleet) if m.collector and m.collector["kind"] == "modbus"]
    for meter in meters:
        found = await probe(meter["host"], meter["port"], [meter["device_id"]], timeout_s=30)
        assert [one.profile for one in found] == [meter["profile"]]


async def test_polls_continue_the_history_without_a_step(fleet: Fleet, simulation: Simulation) -> None:
    clock = [NOW]
    readings = []
    async with SimulatedDevices(fleet, simulation, lambda: clock[0]) as devices:
        for _ in range(20):
            polls = await asyncio.gather(*(poll(m, clock[0]) for m in polled(devices, fleet)))
            readings += [r for p in polls for r in p.readings]
            clock[0] += timedelta(seconds=15)
    past = last_hour(fleet, simulation)
    for _, _, point in fleet.point.values():
        live = [(r.at, r.value) for r in readings if r.point == point.id]
        if point.kind is ReadingKind.REGISTER and live:
            assert steps(point, past[point.id] + live) <= {StepKind.FIRST, StepKind.NORMAL}, point.id


def steps(point: Point, readings: list[tuple[datetime, float]]) -> set[int]:
    at_us = np.array([int(at.timestamp() * 1e6) for at, _ in readings])
    values = np.array([value for _, value in readings])
    return set(walk(at_us, values, max_power=point.max_power_kw, modulus=point.modulus_kwh).kind.tolist())


def last_hour(fleet: Fleet, simulation: Simulation) -> dict[str, list[tuple[datetime, float]]]:
    past: dict[str, list[tuple[datetime, float]]] = {p: [] for p in fleet.point}
    for site in fleet.sites:
        for ids, columns in simulation.history(site, NOW - timedelta(hours=1), NOW):
            for i, at_us, value in zip(columns.point_id, columns.at_us, columns.value, strict=True):
                past[ids[i]].append((datetime.fromtimestamp(int(at_us) / 1e6, UTC), float(value)))
    return past


BOTH_PROTOCOLS = pytest.mark.parametrize("id_", ["sh1-pdu-a1", "sh1-rack-102"])


async def polled_in_haste(meter: Meter) -> Poll:
    """A poll that waits for a silent meter no longer than a moment."""
    return await poll(dataclasses.replace(meter, collector={**(meter.collector or {}), "timeout_s": 0.1}))


@BOTH_PROTOCOLS
async def test_a_fault_on_demand_silences_one_meter_only(
    fleet: Fleet, devices: SimulatedDevices, id_: str
) -> None:
    devices.faults(id_).silent = True
    meters = {m.id: m for m in polled(devices, fleet)}
    assert (await poll(meters["sh1-pdu-b1"])).failures == ()
    assert not (await polled_in_haste(meters[id_])).readings


@BOTH_PROTOCOLS
async def test_a_meter_can_answer_too_late_or_without_a_value(
    fleet: Fleet, devices: SimulatedDevices, id_: str
) -> None:
    meter = next(m for m in polled(devices, fleet) if m.id == id_)
    faults = devices.faults(id_)
    faults.slow_s = 1.0
    assert not (await polled_in_haste(meter)).readings
    faults.slow_s, faults.no_value = 0.0, True
    without = await poll(meter)
    assert without.readings == ()
    assert len(without.failures) == len(meter.points)


@BOTH_PROTOCOLS
async def test_the_values_of_a_meter_can_stand_still(fleet: Fleet, simulation: Simulation, id_: str) -> None:
    clock = [NOW]
    async with SimulatedDevices(fleet, simulation, lambda: clock[0]) as devices:
        meter = next(m for m in polled(devices, fleet) if m.id == id_)
        before = await poll(meter)
        devices.faults(id_).stale = True
        await poll(meter)
        clock[0] += timedelta(hours=3)
        assert (await poll(meter)).values == before.values
        devices.faults(id_).stale = False
        assert (await poll(meter)).values != before.values


async def test_an_agent_that_reboots_is_read_again(fleet: Fleet, devices: SimulatedDevices) -> None:
    (rack,) = (m for m in polled(devices, fleet) if m.id == "sh1-rack-102")
    collector = registry.build(registry.parse(rack.collector or {}), Binding(rack.id, rack.points))
    before = await collector.poll(NOW)
    devices.agent("sh1-rack-102").reboot()
    after = [await collector.poll(NOW), await collector.poll(NOW)][-1]
    await collector.close()
    assert after.readings == before.readings != ()


async def test_cooling_can_fail_on_demand(fleet: Fleet, simulation: Simulation) -> None:
    clock = [NOW]
    async with SimulatedDevices(fleet, simulation, lambda: clock[0]) as devices:
        (chiller,) = (m for m in polled(devices, fleet) if m.id == "sh1-chiller-1")
        before = {r.point: r.value for r in (await poll(chiller)).readings}
        event = devices.fail_cooling("sh1", timedelta(hours=1))
        same = {r.point: r.value for r in (await poll(chiller)).readings}
        clock[0] = event.start + timedelta(minutes=40)
        during = {r.point: r.value for r in (await poll(chiller)).readings}
    assert same == before
    assert during["sh1-chiller-1.kw"] > before["sh1-chiller-1.kw"] + 100
    assert during["sh1-chiller-1.kwh"] > before["sh1-chiller-1.kwh"] + 100 * 40 / 60


def test_an_accelerated_clock_starts_where_it_is_told() -> None:
    real = [NOW]
    fast = accelerated(NOW - timedelta(days=2), 60, lambda: real[0])
    assert fast() == NOW - timedelta(days=2)
    real[0] += timedelta(minutes=1)
    assert fast() == NOW - timedelta(days=2) + timedelta(hours=1)


async def test_faults_of_an_unknown_meter_are_refused(devices: SimulatedDevices) -> None:
    with pytest.raises(NotFound, match="served are"):
        devices.faults("sh1-pdu-z9")
    with pytest.raises(NotFound, match="served are"):
        devices.agent("sh1-pdu-a1")
