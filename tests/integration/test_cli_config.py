"""``wattline check-config``, ``config-schema``, help and exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import Wattline

GOOD = """institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: sh1
    institution: bank
    time_zone: Asia/Shanghai
    meters:
      - id: main
        points: [{id: main.kwh, role: facility, kind: register}]
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "    time_zone: Asia/Shanghai\n",
            "    time_zone: Asia/Shanghai\n    colour: red\n",
            r":6: sites\[0\].colour: unknown key",
        ),
        ("role: facility, ", "", r":8: sites\[0\].meters\[0\].points\[0\].role: is missing"),
        (
            "Asia/Shanghai",
            "Asia/Shangri-La",
            r":5: sites\[0\].time_zone: unknown time zone 'Asia/Shangri-La'; use an IANA name",
        ),
        ("role: facility", "role: facilities", r":8: .*role: .*'facilities'"),
        (
            "institution: bank",
            "institution: bnak",
            r":4: sites\[0\].institution: 'bnak' is not known; allowed: bank",
        ),
        (
            "kind: register",
            "kind: register, modulus_kwh: -5",
            r":8: .*modulus_kwh: modulus_kwh must be above 0",
        ),
        ("meters:", "meters: [", r":\d+: not valid YAML"),
        (
            "      - id: main\n",
            "      - id: main\n        collector: {kind: carrier-pigeon}\n",
            r":8: .*collector.kind: 'carrier-pigeon' is not known; allowed are .*modbus",
        ),
    ],
)
def test_every_problem_names_line_key_and_what_is_allowed(
    wattline: Wattline, tmp_path: Path, old: str, new: str, said: str
) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(GOOD.replace(old, new))
    done = wattline("check-config", file)
    assert done.code == 1
    assert done.out == ""
    assert re.match(re.escape(str(file)) + said, done.err), done.err
    assert wattline("pue", "sh1", "--config", file).code == 1


def test_a_good_file_is_summed_up(wattline: Wattline, tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(GOOD)
    assert "no: no point measures IT energy" in wattline("check-config", file).out
    document = wattline("check-config", file, "--json").document
    assert document["ok"]
    assert document["sites"][0]["meters"] == 1


def test_an_absent_file_is_named(wattline: Wattline) -> None:
    done = wattline("check-config", "absent.yaml", "--json")
    assert done.code == 1
    assert done.err.startswith("absent.yaml: cannot be read")
    assert "absent.yaml" in done.document["error"]


def test_the_schema_is_one_json_document(wattline: Wattline) -> None:
    schema = wattline("config-schema").document
    assert "sites" in schema["properties"]


def test_a_variable_of_the_environment_that_is_not_understood(
    wattline: Wattline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATTLINE_DEMO_DAYS", "many")
    done = wattline("db", "status")
    assert done.code == 1
    assert done.err.startswith("WATTLINE_DEMO_DAYS: ")


COMMANDS = [
    *("demo", "serve", "check-config", "config-schema", "import", "probe", "poll", "energy", "pue"),
    *("report", "verify", "meter", "db", "findings"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(wattline: Wattline, command: str) -> None:
    done = wattline(command, "--help")
    assert done.code == 0
    assert "Usage: wattline" in done.out


def test_wrong_use_exits_2(wattline: Wattline) -> None:
    assert wattline("fly").code == 2
    assert wattline("pue").code == 2
    assert wattline("energy", "sh1", "--by", "colour").code == 2
    assert wattline("poll", "main").code == 2


def test_the_installed_program_runs() -> None:
    program = Path(sys.executable).with_name("wattline")
    done = subprocess.run(
        [program, "--help"], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    assert "Measure where a data centre's electricity goes" in done.stdout


def test_missing_ratings_are_asked_for(wattline: Wattline, tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    meter = "{id: %s, points: [{id: %s.kwh, role: cooling, kind: register}]}"
    rated = "{id: rated, rated_power_kw: 50, points: [{id: rated.kwh, role: cooling, kind: register}]}"
    meters = ", ".join([rated, *(meter % (f"m{n}", f"m{n}") for n in range(7))])
    site.write_text(
        "institutions: [{id: b, institution_class: other}]\n"
        f"sites: [{{id: s, institution: b, time_zone: UTC, meters: [{meters}]}}]\n"
    )
    done = wattline("check-config", site)
    assert done.code == 0
    assert "rated_power_kw is missing for m0, m1, m2, m3, m4 and 2 more" in done.err
    assert wattline("check-config", site, "--json").document["advice"]
    site.write_text(
        "institutions: [{id: b, institution_class: other}]\n"
        f"sites: [{{id: s, institution: b, time_zone: UTC, meters: [{rated}]}}]\n"
    )
    assert "rated_power_kw" not in wattline("check-config", site).err
