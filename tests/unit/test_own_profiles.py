"""Own profiles lie in a folder of their own; a fault in one is named with its file, line and key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app import config
from app.errors import ConfigError
from collectors.profiles import folders
from collectors.profiles.profile import broken_profiles, load_profile, profile_file, profile_names
from collectors.snmp.probe import probe_agent
from collectors.snmp.recording import RecordedAgent

OWN = """\
model: Y 7
vendor: Nobody
protocol: snmp
source: MIB of Nobody
recognise: [{present: [1.3.6.1.4.1.99999.5.1]}]
channels:
  - {name: power_kw, unit: w, oid: 1.3.6.1.4.1.99999.5.1.0}
"""
SITE = """\
institutions: [{id: b, institution_class: other}]
sites:
  - id: s
    institution: b
    time_zone: UTC
    meters:
      - id: m
        collector: {kind: snmp, host: 127.0.0.1, profile: PROFILE}
        points: [{id: m.kw, role: facility, kind: power, channel: power_kw}]
"""


@pytest.fixture(autouse=True)
def none_else() -> Iterator[None]:
    before = folders.own_folders()
    folders.use([])
    yield
    folders.use(before)


def own(folder: Path, text: str = OWN, name: str = "nobody_y7.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    folders.use([folder])
    return folder / name


async def test_an_own_profile_is_listed_loaded_and_found_by_a_probe(tmp_path: Path) -> None:
    file = own(tmp_path / "own")
    assert "nobody_y7" in profile_names()
    assert "nobody_y7" in profile_names("snmp")
    assert "nobody_y7" not in profile_names("modbus")
    assert profile_file("nobody_y7") == file
    agent = RecordedAgent({"1.3.6.1.2.1.1.1.0": b"y", "1.3.6.1.4.1.99999.5.1.0": 4200})
    (found,) = await probe_agent(agent, {"host": "192.0.2.1"})
    assert (found.profile, found.values) == ("nobody_y7", {"power_kw": 4.2})


def test_an_own_profile_takes_the_place_of_the_shipped_one_of_its_name(tmp_path: Path) -> None:
    own(tmp_path / "own", name="apc_rpdu2.yaml")
    assert load_profile("apc_rpdu2").vendor == "Nobody"
    folders.use([])
    assert load_profile("apc_rpdu2").vendor != "Nobody"


def test_a_broken_own_profile_is_left_out_and_named(tmp_path: Path) -> None:
    file = own(tmp_path / "own", OWN.replace("unit: w", "unit: watt-ish"))
    assert "nobody_y7" not in profile_names()
    (error,) = broken_profiles()
    assert str(error).startswith(f"{file}:7: channels[0]")
    with pytest.raises(ConfigError, match=r"nobody_y7\.yaml:7: channels\[0\].*unknown unit 'watt-ish'"):
        load_profile("nobody_y7")


@pytest.mark.parametrize("name", ["nobody_y7", "nobody_y7.yaml", "profiles/nobody_y7.yaml"])
def test_the_folder_beside_the_site_file_is_looked_through(tmp_path: Path, name: str) -> None:
    own(tmp_path / "profiles")
    folders.use([])
    (tmp_path / "site.yaml").write_text(SITE.replace("PROFILE", name))
    assert config.load(tmp_path / "site.yaml").fleet.meter["m"][1].collector is not None


def test_a_fault_of_the_profile_is_not_laid_at_the_site_files_door(tmp_path: Path) -> None:
    own(tmp_path / "profiles", OWN.replace("oid: 1.3.6.1.4.1.99999.5.1.0", "oid: power"))
    (tmp_path / "site.yaml").write_text(SITE.replace("PROFILE", "nobody_y7"))
    with pytest.raises(ConfigError) as refused:
        config.load(tmp_path / "site.yaml")
    assert str(refused.value).startswith(f"{tmp_path}/profiles/nobody_y7.yaml:7: channels[0].oid: ")
    (tmp_path / "site.yaml").write_text(SITE.replace("PROFILE", "nothing"))
    with pytest.raises(ConfigError, match=r"site\.yaml:8: .*there is no profile 'nothing'"):
        config.load(tmp_path / "site.yaml")
