"""The table of collector kinds: what it says of each is so; what a kind needs is said in plain words."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest

from app.cli.devices import collector_options
from app.errors import ConfigError
from collectors import registry
from collectors.base import Binding
from collectors.found import Target
from collectors.probe import PROTOCOLS, allowed, probe

KINDS = sorted(registry.KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_settings_and_says_how_it_is_probed(kind: str) -> None:
    entry = registry.KINDS[kind]
    settings = registry.kind_of(kind).config.model_fields
    assert kind in str(settings["kind"].annotation)
    assert set(entry.options) <= {*settings}, "an option of the probe is a key of the site file"
    assert not [key for key in entry.options if key.endswith(("_file", "_port", "_path"))]
    if entry.probe:
        assert entry.port or "serial_port" in settings
        assert callable(importlib.import_module(entry.probe).answers)
    assert bool(entry.packages) == bool(entry.extra)


def test_what_an_absent_package_brings_is_said_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(registry.KINDS["modbus"], packages=("no_such_package",), extra="more")
    monkeypatch.setitem(registry.KINDS, "modbus", entry)
    config = registry.parse({"kind": "modbus", "host": "10.0.0.7", "profile": "schneider_pm5xxx"})
    with pytest.raises(ConfigError, match=r"no_such_package; install it with pip install 'wattline\[more\]'"):
        registry.build(config, Binding("m"))


async def test_a_protocol_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"'telex' is not known; allowed are both, .*modbus"):
        await probe(Target("10.0.0.7", "telex"))


def test_options_from_elsewhere_are_those_of_the_table() -> None:
    assert set(PROTOCOLS) >= {"modbus", "snmp"}
    with pytest.raises(ConfigError, match="not an option of modbus"):
        allowed("modbus", {"serial_port": "/dev/ttyS0"})
    with pytest.raises(ConfigError, match="not an option of both"):
        allowed("both", {"auth_password_file": "/etc/shadow"})


def test_options_of_the_command_keep_their_zeros() -> None:
    found = collector_options(["address=000000000017", "retries = 2", "list=[a, b]"])
    assert found == {"address": "000000000017", "retries": "2", "list": ["a", "b"]}
    for wrong in ("address", "=1", "list=[a"):
        with pytest.raises(ConfigError, match="give "):
            collector_options([wrong])


@pytest.mark.parametrize("url", ["https://10.0.0.1:9090", "telex://x"])
async def test_an_address_of_several_kinds_needs_the_name_of_one(url: str) -> None:
    with pytest.raises(ConfigError, match="name one with --protocol"):
        await probe(Target(url))
