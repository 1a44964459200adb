"""What an SNMP device that no profile fits says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import ConfigError
from collectors.profiles.profile import SnmpProfile, read_profile
from collectors.snmp import recording
from collectors.snmp.recording import RecordedAgent
from collectors.snmp.session import Value
from collectors.snmp.unknown import MOST_COLUMNS, describe, nearest

TABLE = "1.3.6.1.4.1.99999.7.1"
LOADS = {1: (2301, 100, 2200), 2: (2299, 450, 9900), 3: (2310, 0, 0), 4: (2305, 1200, 26_500)}
"""Tenths of volts, hundredths of amperes and tenths of watts of four outlets."""


def device(**more: Value) -> RecordedAgent:
    objects: dict[str, Value] = {"1.3.6.1.4.1.99999.3.1.0": b"B-12", "1.3.6.1.4.1.99999.3.2.0": 0}
    for outlet, columns in LOADS.items():
        objects |= {f"{TABLE}.{n}.{outlet}": value for n, value in enumerate(columns, 4)}
        objects[f"{TABLE}.2.{outlet}"] = outlet
    return RecordedAgent({**objects, **more})


async def test_columns_of_volts_amperes_and_watts_are_found_by_their_rows() -> None:
    found = await describe(device(), "A PDU of nobody", "1.3.6.1.4.1.99999.1")
    meant = {column.oid: column.looks_like for column in found.columns if column.looks_like}
    assert meant == {
        f"{TABLE}.4": "V x 0.1",
        f"{TABLE}.5": "A x 0.01 or 0.001",
        f"{TABLE}.6": "W x 0.1 or 0.01",
    }
    assert found.columns[2].values == (2200, 9900, 0, 26_500)
    assert found.nearest == ()
    assert (found.sys_descr, found.sys_object_id) == ("A PDU of nobody", "1.3.6.1.4.1.99999.1")


async def test_the_description_is_a_profile_that_reads_the_device() -> None:
    found = await describe(device(), "A PDU: of 'nobody'\n", "1.3.6.1.4.1.99999.1")
    assert len(found.description.strip().splitlines()) == 5
    assert "scale may be 0.01: compare with the panel" in found.description
    profile = read_profile(found.description)
    assert isinstance(profile, SnmpProfile)
    assert profile.recognise[0].present == (f"{TABLE}.6",)
    assert [(c.name, c.scale) for c in profile.channels] == [("outlet_{n}_power_kw", 0.1), ("power_kw", 1)]


async def test_rows_named_by_two_numbers_are_rows_too() -> None:
    objects: dict[str, Value] = {
        f"{TABLE}.{column}.1.{outlet}": value
        for outlet, columns in LOADS.items()
        for column, value in enumerate(columns, 4)
    }
    found = await describe(RecordedAgent(objects), "", "1.3.6.1.4.1.99999")
    assert [c.looks_like for c in found.columns] == ["V x 0.1", "A x 0.01 or 0.001", "W x 0.1 or 0.01"]


@pytest.mark.parametrize(
    "watts",
    [(2200, 2250, 0, 2200), (2200, 9900, 0, 90), (2200, 9900, 9000, 26_500), (2200, 9900, 0, 0)],
    ids=["alike", "other", "without current", "two"],
)
async def test_what_agrees_by_chance_is_not_called_power(watts: tuple[int, ...]) -> None:
    changed = {f"{TABLE}.6.{outlet}": value for outlet, value in enumerate(watts, 1)}
    if watts[1] == 2250:
        changed |= {f"{TABLE}.5.{outlet}": 100 for outlet in (1, 2, 4)}
    found = await describe(device(**changed), "", "1.3.6.1.4.1.99999")
    assert [c.looks_like for c in found.columns if c.oid == f"{TABLE}.6"] == [""]
    assert "VENDOR" in found.description


async def test_a_device_with_many_numbers_is_told_within_bounds() -> None:
    many: dict[str, Value] = {f"{TABLE}.9.{n}.{m}": n * m for n in range(1, 60) for m in range(1, 30)}
    found = await describe(device(**many), "", "1.3.6.1.4.1.99999")
    assert len(found.columns) == MOST_COLUMNS
    assert all(len(column.values) <= 6 for column in found.columns)


def test_the_nearest_profiles_are_of_the_same_vendor() -> None:
    assert "raritan_px" in nearest("something", "1.3.6.1.4.1.13742.9.9")
    assert "raritan_px" in nearest("Raritan of a new kind", "1.3.6.1.4.1.8072.3.2.10")
    assert nearest("Linux", "1.3.6.1.4.1.8072.3.2.10") == ()
    assert nearest("", "") == ()


def test_a_recording_is_read_and_a_broken_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.snmprec"
    file.write_bytes(
        b"# made by hand\n1.3.6.1.2.1.1.1.0|4|a|b\r\n.1.3.6.1.2.1.1.2.0|6|.1.3.6.1.4.1.9\n"
        b"1.2.3|4x|00ff\n1.2.4|65|7\n"
    )
    agent = recording.read(file)
    assert agent._objects == {
        "1.3.6.1.2.1.1.1.0": b"a|b",
        "1.3.6.1.2.1.1.2.0": "1.3.6.1.4.1.9",
        "1.2.3": b"\x00\xff",
        "1.2.4": 7,
    }
    file.write_bytes(b"1.2.3|4|x\n1.2.4|65|seven\n")
    with pytest.raises(
        ConfigError, match=r"a\.snmprec:2: is no line of a recording; expected OID\|tag\|value"
    ):
        recording.read(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        recording.read(tmp_path / "none.snmprec")


@pytest.mark.parametrize("object_id", ["1.3.6.1.4.1.8072.3.2.10", "1.3.6.1.4.1.0", "0.10.43.6.1.4.1", ""])
async def test_an_agent_without_a_number_of_a_vendor_is_looked_through_whole(object_id: str) -> None:
    found = await describe(device(), "Linux", object_id)
    assert [c.looks_like for c in found.columns[:3]] == ["V x 0.1", "A x 0.01 or 0.001", "W x 0.1 or 0.01"]


async def test_units_in_texts_tell_what_a_column_is() -> None:
    texts: dict[str, Value] = {
        f"{TABLE}.1.1": b"232.6V",
        f"{TABLE}.2.1": b"0.30A",
        f"{TABLE}.3.1": b"0.061kW",
    }
    texts |= {f"{TABLE}.4.1": b"2.28kWh", f"{TABLE}.5.1": b"Normal", f"{TABLE}.6.1": b"0.856"}
    found = await describe(RecordedAgent(texts), "", "1.3.6.1.4.1.99999")
    meant = {column.oid.rpartition(".")[2]: column.looks_like for column in found.columns}
    assert meant == {"1": "V x 1", "2": "A x 1", "3": "kW x 1", "4": "kWh x 1", "6": ""}
    assert f"unit: kw, scale: 1, oid: {TABLE}.3" in found.description


async def test_columns_of_a_standard_are_what_it_says_and_are_not_guessed() -> None:
    output = "1.3.6.1.2.1.33.1.4.4.1"
    columns = {2: (230, 230, 230), 3: (70, 180, 50), 5: (6, 16, 4)}
    rows: dict[str, Value] = {
        f"{output}.{c}.{n}": v for c, cells in columns.items() for n, v in enumerate(cells, 1)
    }
    found = await describe(RecordedAgent(rows), "a UPS", "1.3.6.1.4.1.8072.3.2.10")
    meant = {column.oid: column.looks_like for column in found.columns}
    assert meant == {f"{output}.2": "V x 1", f"{output}.3": "A x 0.1", f"{output}.5": ""}
