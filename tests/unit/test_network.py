"""Which addresses collectors may reach."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.errors import ConfigError
from collectors import network, registry
from collectors.base import Binding
from collectors.network import Rule, parse


@pytest.fixture(autouse=True)
def _rule() -> Iterator[None]:
    yield
    network.allow("")


@pytest.mark.parametrize(
    "address", ["10.1.2.3", "172.16.9.9", "192.168.0.4", "100.64.1.1", "fd12::1", "127.0.0.1", "::1"]
)
def test_without_a_setting_private_networks_and_this_machine_are_reached(address: str) -> None:
    assert Rule().refusal(address) is None


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "2606:4700:4700::1111", "169.254.169.254", "fe80::1%eth0", "100.100.100.200"),
        *(
            "224.0.0.1",
            "ff02::1",
            "0.0.0.0",
            "::",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::101:101",
        ),
    ],
)
def test_without_a_setting_nothing_else_is(address: str) -> None:
    why = Rule().refusal(address)
    assert why is not None
    assert "WATTLINE_COLLECTOR_NETWORKS" in why


def test_with_a_setting_only_what_is_listed_is_reached() -> None:
    rule = Rule(parse("10.20.0.0/16, 2001:db8::/32,"))
    assert rule.refusal("10.20.255.1") is None
    assert rule.refusal("2001:db8::7") is None
    assert rule.refusal("::ffff:10.20.0.1") is None
    for address in ("10.21.0.1", "127.0.0.1", "::1", "192.168.0.1", "169.254.1.1", "::ffff:127.0.0.1"):
        assert "10.20.0.0/16" in (rule.refusal(address) or ""), address
    assert Rule(parse("127.0.0.0/8")).refusal("127.0.0.1") is None, "a gateway on this machine, if listed"


def test_a_setting_that_is_no_network_says_how_to_write_one() -> None:
    with pytest.raises(ValueError, match=r"10\.20\.0\.0/16"):
        parse("10.0.0.0/8, meters")


def test_on_behalf_of_others_this_machine_is_out_of_reach_unless_listed() -> None:
    with network.on_behalf_of_others():
        assert network.refusal("127.0.0.1") is not None
        assert network.refusal("10.0.0.1") is None
    assert network.refusal("127.0.0.1") is None
    network.allow("127.0.0.0/8")
    with network.on_behalf_of_others():
        assert network.refusal("127.0.0.1") is None


@pytest.mark.parametrize(
    "mapping",
    [
        {"kind": "modbus", "profile": "schneider_iem3000"},
        {"kind": "modbus", "profile": "schneider_iem3000", "transport": "rtu_over_tcp"},
        {"kind": "snmp", "profile": "raritan_px"},
    ],
)
def test_a_collector_for_an_address_outside_is_not_built(mapping: dict[str, str]) -> None:
    network.allow("10.0.0.0/8")
    with pytest.raises(ConfigError, match="outside") as refused:
        registry.build(registry.parse({**mapping, "host": "192.168.1.1"}), Binding("main"))
    assert refused.value.key == "host"
    registry.build(registry.parse({**mapping, "host": "10.1.1.1"}), Binding("main"))
    registry.build(registry.parse({**mapping, "host": "meter.example"}), Binding("main"))
