"""Forwarding headers count only from proxies that the operator named."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from app.api.proxies import Proxies

NETWORKS = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))
TRUSTING = Proxies(NETWORKS)


def scope(peer: str, headers: dict[str, str]) -> dict[str, Any]:
    sent = {"host": "inside:8080", **headers}
    return {
        "type": "http",
        "client": (peer, 5000),
        "scheme": "http",
        "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
    }


def resolved(peer: str, headers: dict[str, str], proxies: Proxies = TRUSTING) -> tuple[str, str, str]:
    found = scope(peer, headers)
    proxies.resolve(found)
    return found["client"][0], found["scheme"], dict(found["headers"])[b"host"].decode()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Forwarded-For": "203.0.113.7"}, ("203.0.113.7", "http", "inside:8080")),
        (
            {
                "X-Forwarded-For": "203.0.113.7",
                "X-Forwarded-Proto": "https",
                "X-Forwarded-Host": "pue.bank.example",
            },
            ("203.0.113.7", "https", "pue.bank.example"),
        ),
        ({"X-Forwarded-For": "198.51.100.1, 203.0.113.7, 10.0.0.9"}, ("203.0.113.7", "http", "inside:8080")),
        (
            {"Forwarded": 'for="[2001:db8::7]:4711";proto=https;host=pue.bank.example'},
            ("2001:db8::7", "https", "pue.bank.example"),
        ),
        (
            {"Forwarded": "for=203.0.113.7;proto=https, for=10.0.0.9;proto=http"},
            ("203.0.113.7", "https", "inside:8080"),
        ),
        ({"Forwarded": "for=198.51.100.1, for=unknown"}, ("10.0.0.1", "http", "inside:8080")),
        ({"X-Forwarded-For": "no address"}, ("10.0.0.1", "http", "inside:8080")),
        ({"X-Forwarded-Proto": "gopher", "X-Forwarded-Host": "a b/c"}, ("10.0.0.1", "http", "inside:8080")),
        ({}, ("10.0.0.1", "http", "inside:8080")),
    ],
)
def test_the_last_address_that_is_no_proxy_is_the_client(
    headers: dict[str, str], expected: tuple[str, str, str]
) -> None:
    assert resolved("10.0.0.1", headers) == expected


@pytest.mark.parametrize("proxies", [TRUSTING, Proxies()])
def test_nobody_else_is_believed(proxies: Proxies) -> None:
    headers = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https", "Forwarded": "for=127.0.0.1"}
    assert resolved("203.0.113.9", headers, proxies) == ("203.0.113.9", "http", "inside:8080")


def test_a_public_https_address_means_https_whatever_the_proxy_says() -> None:
    behind = Proxies((), "https://pue.bank.example")
    assert resolved("203.0.113.9", {}, behind)[1] == "https"
    assert behind.public_host == "pue.bank.example"
