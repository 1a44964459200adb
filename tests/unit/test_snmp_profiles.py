"""Every shipped SNMP profile: what the simulated agent shows through it is read back the same."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from collectors.profiles.profile import SnmpProfile, find_channel, load_profile, profile_names
from collectors.simulated.snmp_view import View, channels_shown
from collectors.snmp.ber import INTEGER, OCTETS, Span, parse_oid
from collectors.snmp.session import Value
from collectors.snmp.table import survey

AT = datetime(2026, 10, 1, tzinfo=UTC)


class InMemory:
    """Reads a view without a network."""

    def __init__(self, view: View) -> None:
        self._view = view

    async def get(self, oids: Sequence[str]) -> dict[str, Value]:
        values = {oid: self._view.value(parse_oid(oid), AT) for oid in oids}
        return {oid: _decoded(raw) for oid, raw in values.items() if raw is not None}

    async def walk(self, oid: str) -> dict[str, Value]:
        rows: dict[str, Value] = {}
        at = self._view.following(parse_oid(oid))
        while at is not None and (name := ".".join(map(str, at))).startswith(f"{oid}."):
            rows[name[len(oid) + 1 :]] = _decoded(self._view.value(at, AT) or b"")
            at = self._view.following(at)
        return rows


def _decoded(raw: bytes) -> Value:
    tag, content = Span(raw).element()
    if tag == OCTETS:
        return content.octets()
    return int.from_bytes(content.octets(), "big", signed=True) if tag >= INTEGER else 0


def _true_value(channel: str, _: datetime) -> float:
    """Different for every channel, and small enough for every scale."""
    return 100.0 + 10 * (zlib.crc32(channel.encode()) % 90)


def snmp_profile(name: str) -> SnmpProfile:
    profile = load_profile(name)
    assert isinstance(profile, SnmpProfile)
    return profile


@pytest.mark.parametrize("name", profile_names("snmp"))
async def test_what_is_shown_is_read(name: str) -> None:
    profile = snmp_profile(name)
    if any(c.where_text or c.exponent_oid for c in profile.channels):
        pytest.skip("its rows are found by their texts; tests/protocol/test_never_wrong.py reads them")
    shown = channels_shown(profile, most=3)
    values = (await survey(InMemory(View(profile, shown, _true_value)), profile)).readings()
    assert values, name
    for channel in filter(lambda name: _is_single(profile, name), shown):
        if channel in values:
            assert values[channel] == pytest.approx(_true_value(channel, AT), rel=0.006), channel


def _is_single(profile: SnmpProfile, name: str) -> bool:
    """True where one description answers to the name, and no other shows the same rows."""
    described = [c for c in profile.channels if c.indices(name) is not None]
    columns = [c.oid or "" for c in profile.channels]
    rivals = [
        o
        for o in columns
        if f"{described[0].oid}.".startswith(f"{o}.") or o.startswith(f"{described[0].oid}.")
    ]
    return len(described) == 1 and len(rivals) == 1


@pytest.mark.parametrize("name", profile_names("snmp"))
def test_profile_says_where_it_comes_from_and_what_it_gives(name: str) -> None:
    profile = snmp_profile(name)
    assert profile.source
    assert profile.recognise, "a probe must be able to find it"
    powers = [c for c in profile.channels if c.kind in ("power", "register")]
    assert powers or name in ("entity_sensor", "abb_cms700")


@pytest.mark.parametrize("name", [n for n in profile_names("snmp") if n != "entity_sensor"])
def test_registers_say_where_they_wrap(name: str) -> None:
    for channel in snmp_profile(name).channels:
        whole_kwh = name in ("schleifenbauer", "conteg_databus")
        assert channel.kind != "register" or channel.modulus or whole_kwh, channel.name


def test_site_file_names_find_their_channel() -> None:
    channels = snmp_profile("raritan_px").channels
    assert find_channel(channels, "outlet_17_energy_kwh")
    assert find_channel(channels, "unit_2_outlet_17_energy_kwh")
    assert find_channel(channels, "power_kw")
    assert find_channel(channels, "outlet_x_energy_kwh") is None
