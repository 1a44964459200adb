"""What holds for any readings: no false alarms on clean meters, and every planted fault is found."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.energy import Series
from app.domain.quality.detect import meter_findings
from app.domain.quality.finding import FindingKind
from app.domain.quality.registers import register_findings
from app.domain.quantity import ReadingKind, Role
from app.domain.site import Meter, Point

START_US = 1_772_409_600_000_000
MODULUS_KWH = 100_000.0
REGISTER = Point(
    id="r", role=Role.COOLING, kind=ReadingKind.REGISTER, max_power_kw=400, modulus_kwh=MODULUS_KWH
)
POWER = Point(id="p", role=Role.COOLING, kind=ReadingKind.POWER, max_power_kw=400)
METER = Meter(id="m", points=(REGISTER, POWER))
_READINGS = 400


def series(values: np.ndarray) -> Series:
    none = np.zeros(len(values), np.int32)
    return Series(START_US + np.arange(len(values)) * 900_000_000, values.astype(np.float64), none, none)


@st.composite
def loads_kw(draw: st.DrawFn) -> np.ndarray:
    """Power of a load with a daily course and noise, perhaps off at night."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    hours = np.arange(_READINGS) / 4
    mean, swing = draw(st.floats(5, 150)), draw(st.floats(0, 0.8))
    power = mean * (1 + swing * np.sin(2 * np.pi * hours / 24)) * rng.uniform(0.9, 1.1, _READINGS)
    return np.where(hours % 24 < draw(st.integers(0, 8)), 0.0, power)


def register_of(power_kw: np.ndarray, first_kwh: float, count_kwh: float) -> np.ndarray:
    energy = np.concatenate([[0.0], np.cumsum((power_kw[:-1] + power_kw[1:]) / 8)])
    return np.floor((first_kwh + energy) / count_kwh) * count_kwh % MODULUS_KWH


@settings(max_examples=60, deadline=None)
@given(loads_kw(), st.floats(1000, 60_000), st.sampled_from([0.01, 0.1, 1.0]))
def test_a_clean_meter_has_no_findings(power: np.ndarray, first_kwh: float, count_kwh: float) -> None:
    readings = {"r": series(register_of(power, first_kwh, count_kwh)), "p": series(power)}
    assert meter_findings(METER, readings) == []


_FAULTS = st.sampled_from(
    [FindingKind.RESET, FindingKind.TRANSIENT_ZERO, FindingKind.SPIKE, FindingKind.ROLLOVER]
)


@settings(max_examples=80, deadline=None)
@given(loads_kw(), _FAULTS, st.integers(40, _READINGS - 40))
def test_a_planted_register_fault_is_found_where_it_is(
    power: np.ndarray, fault: FindingKind, row: int
) -> None:
    power = np.maximum(power, 4.0)
    values = register_of(power, 30_000.0, 0.01)
    if fault is FindingKind.RESET:
        values[row:] -= values[row]
    elif fault is FindingKind.TRANSIENT_ZERO:
        values[row] = 0
    elif fault is FindingKind.SPIKE:
        values[row] += 20_000
    else:
        values = (values + MODULUS_KWH - values[row]) % MODULUS_KWH
    (found,) = register_findings(REGISTER, series(values))
    assert found.kind is fault
    at_us = START_US + row * 900_000_000
    assert round(found.start.timestamp() * 1e6) <= at_us <= round(found.end.timestamp() * 1e6)


@settings(max_examples=30, deadline=None)
@given(loads_kw(), st.integers(50, 300), st.integers(30, 60))
def test_a_planted_stuck_time_is_found(power: np.ndarray, row: int, readings: int) -> None:
    power = np.maximum(power, np.linspace(4, 4.4, _READINGS))
    power[row : row + readings] = power[row]
    found = [f for f in meter_findings(METER, {"p": series(power)}) if f.kind is FindingKind.STUCK]
    assert [f.evidence["readings"] for f in found] == [readings]
