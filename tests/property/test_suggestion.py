"""The suggested metering tree: from energies, whatever the order; no circle; silent where unclear."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from app.domain.quantity import ReadingKind, Role
from app.domain.suggestion import EXCESS_RATIO, Basis, Unlinked, hourly_kwh, links

HOURS = pd.date_range("2026-11-01", periods=24, freq="h", tz="UTC")


def course(seed: int, mean_kw: float, *, swing: float = 0.5) -> pd.Series[float]:
    """A day of one load, different for every seed."""
    random = np.random.default_rng(seed)
    return pd.Series(mean_kw * (1 + swing * (random.random(len(HOURS)) - 0.5)), index=HOURS)


Plant = tuple[list[Unlinked], dict[str, str]]
QUICK = settings(max_examples=40, deadline=None, phases=(Phase.explicit, Phase.generate))


@st.composite
def plants(draw: st.DrawFn) -> Plant:
    """A supply, one or two UPS with their PDUs, and cooling; with losses, and what feeds what."""
    seed = draw(st.integers(0, 10_000))
    fed_by: dict[str, str] = {}
    meters, top = [], pd.Series(0.0, index=HOURS)
    for n in range(draw(st.integers(1, 2))):
        below = pd.Series(0.0, index=HOURS)
        for k in range(draw(st.integers(2, 3))):
            own = course(seed + 10 * n + k, draw(st.floats(20, 80)))
            meters.append(Unlinked(f"p{n}{k}", f"row {seed % 7}{n}{k}", Role.IT_PDU_OUTPUT, own))
            fed_by[f"p{n}{k}"] = f"u{n}"
            below = below + own
        ups = below * (1 + draw(st.floats(0.0, 0.01)))
        meters.append(Unlinked(f"u{n}", f"ups {n}", Role.IT_UPS_OUTPUT, ups))
        fed_by[f"u{n}"] = "main"
        top = top + ups * 1.06
    cooling = course(seed + 99, draw(st.floats(30, 90)), swing=1.5)
    meters.append(Unlinked("chiller", "chiller", Role.COOLING, cooling))
    fed_by["chiller"] = "main"
    meters.append(Unlinked("main", "incomer", Role.FACILITY, (top + cooling) * 1.01))
    return meters, fed_by


@QUICK
@given(plant=plants(), order=st.randoms())
def test_what_energies_say_is_right_or_nothing(
    plant: tuple[list[Unlinked], dict[str, str]], order: object
) -> None:
    meters, fed_by = plant
    found = links(meters)
    said = {name: link.fed_by for name, link in found.items() if link.basis is Basis.ENERGY}
    assert said.items() <= fed_by.items()
    assert said.get("chiller") == "main" or found["chiller"].basis is Basis.ROLE
    shuffled = list(meters)
    order.shuffle(shuffled)
    assert links(shuffled) == found


@QUICK
@given(
    st.lists(
        st.tuples(st.sampled_from(list(Role)), st.floats(0, 100), st.integers(0, 50)), min_size=1, max_size=7
    )
)
def test_there_is_no_circle_and_no_node_gives_more_than_it_has(rows: list[tuple[Role, float, int]]) -> None:
    meters = [Unlinked(f"m{i}", f"m{i}", role, course(s, kw)) for i, (role, kw, s) in enumerate(rows)]
    found = links(meters)
    energy = {m.id: m.energy_kwh for m in meters}
    for start in found:
        seen, at = {start}, start
        while at in found:
            at = found[at].fed_by
            assert at not in seen
            seen.add(at)
    for node in energy:
        below = [n for n, link in found.items() if link.fed_by == node and link.basis is Basis.ENERGY]
        if below:
            loss = 1 - sum(energy[n] for n in below) / energy[node]
            assert loss.median() >= -EXCESS_RATIO


def test_two_equal_sets_are_told_apart_by_names_or_not_at_all() -> None:
    own = course(1, 50)
    rows = [
        Unlinked("a", "hall1 row1", Role.IT_PDU_OUTPUT, own),
        Unlinked("b", "row9", Role.IT_PDU_OUTPUT, own),
    ]
    ups = Unlinked("u", "hall1", Role.IT_UPS_OUTPUT, own * 1.01)
    assert links([*rows, ups])["a"].fed_by == "u"
    assert "b" not in links([*rows, ups])
    nameless = Unlinked("u", "ups", Role.IT_UPS_OUTPUT, own * 1.01)
    assert links([*rows, nameless]) == {}


def test_without_energies_names_and_the_only_supply_decide() -> None:
    meters = [
        Unlinked("main", "总进线", Role.FACILITY),
        Unlinked("ups-a", "UPS A", Role.IT_UPS_OUTPUT),
        Unlinked("ups-a-1", "UPS A 1", Role.IT_PDU_OUTPUT),
        Unlinked("t", "hall", Role.TEMPERATURE),
    ]
    found = {name: (link.fed_by, link.basis.value) for name, link in links(meters).items()}
    assert found == {"ups-a-1": ("ups-a", "name"), "ups-a": ("main", "role")}


def test_energies_by_hour_of_every_kind() -> None:
    quarters = pd.date_range("2026-11-01", periods=9, freq="15min", tz="UTC")
    register = hourly_kwh(ReadingKind.REGISTER, quarters, [100.0 + i for i in range(9)])
    assert register.tolist() == [4.0, 4.0]
    power = hourly_kwh(ReadingKind.POWER, quarters[:8], [4.0] * 8)
    assert power.tolist() == [4.0, 4.0]
    intervals = hourly_kwh(ReadingKind.INTERVAL_ENERGY, quarters[1:], [1.0] * 8)
    assert intervals.tolist() == [4.0, 4.0]
    assert hourly_kwh(ReadingKind.REGISTER, quarters[:0], []).empty
