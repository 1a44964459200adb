"""The site file: what is refused, and what it is completed with."""

from __future__ import annotations

import pytest

from app import config
from app.errors import ConfigError

HEAD = "institutions: [{id: b, institution_class: joint_stock}]\nsites:\n  - id: s\n    institution: b\n"


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "site.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("    time_zone: Mars/Base\n", "site.yaml:5: sites[0].time_zone: unknown time zone 'Mars/Base'"),
        ("    time_zone: UTC\n    colour: red\n", "site.yaml:6: sites[0].colour: unknown key"),
        (
            "    time_zone: UTC\n    profiles: [nope]\n",
            "unknown limit profile 'nope'; known are",
        ),
        ("    time_zone: UTC\n    limit: {pue: 1.9}\n", "site.yaml:6: sites[0].limit: limit 1.9 is laxer"),
        (
            "    time_zone: UTC\n    meters:\n      - id: m\n        points: [{id: p, kind: register}]\n",
            "site.yaml:8: sites[0].meters[0].points[0].role: is missing; add it",
        ),
        (
            "    time_zone: UTC\n    time_zone: UTC\n",
            "site.yaml:6: sites[0].time_zone: stands twice; keep one",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_line(lines: str, message: str) -> None:
    assert message in refused(HEAD + lines)


def test_every_problem_is_listed_at_once() -> None:
    text = refused(HEAD + "    time_zone: UTC\n    meters:\n      - {id: m, points: [{id: p, rolle: x}]}\n")
    assert len(text.splitlines()) == 3


def test_an_id_used_twice_is_refused() -> None:
    meters = "    meters:\n      - {id: m, points: []}\n      - {id: m, points: []}\n"
    assert "'m' is used twice" in refused(HEAD + "    time_zone: UTC\n" + meters)


POLLED = (
    HEAD
    + """    time_zone: UTC
    meters:
      - id: m
        collector: {kind: snmp, host: 127.0.0.1, community: public, profile: eaton_epdu_g3, interval_s: 20}
        points:
          - {id: p, role: it_pdu_output, kind: register, channel: energy_import_kwh}
          - {id: q, role: it_pdu_output, kind: power, channel: power_kw, interval_s: 60}
"""
)


def test_points_learn_modulus_and_interval_from_their_collector() -> None:
    register, power = config.parse(POLLED).sites[0].meters[0].points
    assert register.modulus_kwh == pytest.approx(2**32 / 1000)
    assert (register.interval_s, power.interval_s) == (20, 60)


def test_what_the_file_says_itself_stays() -> None:
    stated = POLLED.replace("channel: energy_import_kwh", "channel: energy_import_kwh, modulus_kwh: 1000")
    assert config.parse(stated).sites[0].meters[0].points[0].modulus_kwh == 1000


def test_a_nest_of_aliases_is_refused() -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 9))
    assert "more than" in refused(f"l0: &l0 [x, x, x, x, x, x, x, x, x]\n{levels}\n")


def test_dated_data_of_the_operator_needs_a_source() -> None:
    text = HEAD + "    time_zone: UTC\nemission_factors:\n  - {region: CN, year: 2024, basis: grid_average"
    file = config.parse(text + ", kg_per_kwh: 0.52, source: announcement}\n")
    assert file.reference.emission_factors[0].kg_per_kwh == 0.52
    assert "site.yaml:7: emission_factors[0].source: is missing" in refused(text + ", kg_per_kwh: 0.52}\n")
    assert "allowed is a number from 0" in refused(text + ", kg_per_kwh: -1, source: x}\n")


def test_targets_and_bands_of_the_operator() -> None:
    text = HEAD + "    time_zone: UTC\n"
    target = "indicator_targets:\n  - {indicator: wue, at_most: 1.6, valid_from: 2026-01-01, source: group}\n"
    band = "scoring_bands:\n  - {indicator: pue, none_at: 1, full_at: 1, valid_from: 2026-01-01, source: x}\n"
    assert config.parse(text + target).reference.indicator_targets[0].at_most == 1.6
    assert "none_at and full_at must differ" in refused(text + band)
