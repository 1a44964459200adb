"""Readings and ledger entries in any order, with entries withdrawn: always what the whole history gives."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.domain import energy
from app.domain.energy import Event, EventKind, Series
from app.domain.recalculation import recalculation
from app.domain.site import Point
from tests.property.test_energy import POINTS, registers, whole

STEPS = st.sampled_from([-1, 0, 1])


class Ledger(RuleBasedStateMachine):
    """One register: readings arrive, some twice; people declare and withdraw; the rollup follows."""

    @initialize(readings=registers(), point=POINTS)
    def begin(self, readings: Series, point: Point) -> None:
        self.all, self.point = readings, point
        self.present = np.zeros(len(readings), np.bool_)
        self.events: list[Event] = []
        self.cells: dict[int, tuple[float, ...]] = {}

    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        """Some readings, in whatever order; those that are there already change nothing."""
        rows = data.draw(st.lists(st.integers(0, len(self.all) - 1), min_size=1, max_size=12))
        self.present[rows] = True
        at_us = self.all.at_us[rows]
        self._roll_up(int(at_us.min()), int(at_us.max()))

    @rule(data=st.data(), replaced=st.booleans(), known=st.booleans())
    def exchange(self, data: st.DataObject, replaced: bool, known: bool) -> None:
        """The meter was exchanged, or its register restarted, at or between readings."""
        at_us, value = self._somewhere(data)
        kind = EventKind.REPLACED if replaced else EventKind.RESET
        new = data.draw(st.sampled_from([0.0, 1.0, value]))
        self._declare(Event(kind, at_us, at_us, value if known else None, new if known else None))

    @rule(data=st.data(), offset=st.sampled_from([None, -50.0, 0.5, 400.0]))
    def correct(self, data: st.DataObject, offset: float | None) -> None:
        """A reading is void, or was another one."""
        row = data.draw(st.integers(0, len(self.all) - 1))
        at_us, value = int(self.all.at_us[row]), float(self.all.value[row])
        new = None if offset is None else max(value + offset, 0.0)
        self._declare(Event(EventKind.CORRECTION, at_us, at_us, None, new))

    @rule(data=st.data(), minutes=st.sampled_from([7, 15, 200]))
    def estimate(self, data: st.DataObject, minutes: int) -> None:
        """Somebody knows better what flowed for a while."""
        at_us, _ = self._somewhere(data)
        self._declare(Event(EventKind.ESTIMATE, at_us, at_us + minutes * 60_000_000, energy_kwh=3.5))

    @precondition(lambda self: self.events)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        """An entry was wrong."""
        event = self.events.pop(data.draw(st.integers(0, len(self.events) - 1)))
        self._roll_up(event.start_us, event.end_us)

    def _somewhere(self, data: st.DataObject) -> tuple[int, float]:
        row = data.draw(st.integers(0, len(self.all) - 1))
        at_us = int(self.all.at_us[row]) + data.draw(STEPS) * 60_000_000
        return at_us, float(self.all.value[row])

    def _declare(self, event: Event) -> None:
        if all(event.start_us != e.start_us for e in self.events):
            self.events.append(event)
            self._roll_up(event.start_us, event.end_us)

    def _roll_up(self, first_us: int, last_us: int) -> None:
        """What the job does: ask with little context, widen until it is enough, replace the range."""
        have, reach = self.all.take(self.present), 2
        while True:
            lo = max(int(np.searchsorted(have.at_us, first_us)) - reach, 0)
            hi = min(int(np.searchsorted(have.at_us, last_us, "right")) + reach, len(have))
            part = have.take(slice(lo, hi))
            edges = {"is_start": lo == 0, "is_end": hi == len(have)}
            change = recalculation(part, self.point, first_us, last_us, self.events, **edges)
            if change is not None:
                break
            reach *= 2
        known = energy.spans(part.take(slice(change.first_row, None)), self.point, self.events)
        fresh = energy.quarter_hours(known, change.start_us, change.end_us)
        for at in [a for a in self.cells if change.start_us <= a < change.end_us]:
            del self.cells[at]
        self.cells.update(_by_start(fresh))

    @invariant()
    def is_what_the_whole_history_gives(self) -> None:
        expected = _by_start(whole(self.all.take(self.present), self.point, tuple(self.events)))
        assert self.cells.keys() == expected.keys()
        for at, figures in expected.items():
            assert np.allclose(self.cells[at], figures, rtol=1e-9, atol=1e-6), (at, self.cells[at], figures)

    @invariant()
    def nothing_is_negative_or_beyond_the_rating(self) -> None:
        known = energy.spans(self.all.take(self.present), self.point, self.events)
        hours = (known.end_us - known.start_us) / 3.6e9
        manual = known.tag == energy.Tag.MANUAL
        most = self.point.max_power_kw * hours + 1.0 * self.point.multiplier + 1e-6
        assert (known.energy_kwh >= -1.0 * self.point.multiplier - 1e-9).all()
        assert (known.energy_kwh <= np.where(manual, math.inf, most)).all()


def _by_start(cells: energy.QuarterHours) -> dict[int, tuple[float, ...]]:
    return {int(row[0]): tuple(float(x) for x in row[1:]) for row in zip(*cells, strict=True)}


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=40, stateful_step_count=12, deadline=None)
