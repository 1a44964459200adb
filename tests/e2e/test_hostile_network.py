"""Strangers against a real ``wattline serve``: whoever holds a key is served all the while."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.processes import Running, running
from tests.e2e.test_serve import SITE
from tests.waiting import until

STRANGERS = 135
HALF_SENT = (
    b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 1000\r\n\r\na"
)
HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: x\r\nX-More: "


@pytest.fixture(scope="module")
def service(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Running, httpx.Client]]:
    """The service, asking for keys, and a caller with the administrator's key."""
    tmp_path = tmp_path_factory.mktemp("hostile")
    site = tmp_path / "site.yaml"
    site.write_text(SITE)
    environment = {
        "WATTLINE_CONFIG": str(site),
        "WATTLINE_DATA_DIR": str(tmp_path / "data"),
        "WATTLINE_DATABASE_URL": module_database_url,
        "WATTLINE_REQUIRE_KEYS": "true",
    }
    with running(["serve", "--port", "0", "--role", "api"], environment, tmp_path) as service:
        service.until_status("/readyz", 200)
        key = until(lambda: re.search(r"wl_\S+(?=;)", service.log.read_text()), name="the first key")[0]
        own = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=service.base, headers=own, timeout=60) as http:
            yield service, http


def connected(stack: ExitStack, base: str, sent: bytes) -> socket.socket:
    parts = urlsplit(base)
    connection = stack.enter_context(socket.create_connection((parts.hostname, parts.port), timeout=60))
    connection.sendall(sent)
    return connection


@pytest.mark.parametrize("sent", [HALF_SENT, HALF_A_HEAD, b""])
def test_half_sent_requests_of_strangers_slow_nobody_with_a_key(
    service: tuple[Running, httpx.Client], sent: bytes
) -> None:
    process, http = service
    with ExitStack() as stack:
        strangers = [connected(stack, process.base, sent) for _ in range(STRANGERS)]
        time.sleep(0.5)  # until they have all arrived; a shorter time would only make the test easier
        row = {"point": "main.kwh", "at": "2026-11-01T00:00:00Z", "value": 1.0}
        codes = [
            http.get("/api/v1/sites").status_code,
            http.post("/api/v1/readings", json={"readings": [row]}).status_code,
            http.get("/healthz").status_code,
        ]
        assert codes == [200, 200, 200]
        for stranger in strangers:
            while stranger.recv(65536):
                pass  # answered or not, each is ended by the server, which is what this waits for


def test_a_strangers_body_is_not_read(service: tuple[Running, httpx.Client]) -> None:
    process, _ = service
    head = b"POST /api/v1/readings HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n"
    with ExitStack() as stack:
        answer = connected(stack, process.base, head).recv(65536)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer.lower()


def test_an_origin_that_is_no_address_is_refused(service: tuple[Running, httpx.Client]) -> None:
    _, http = service
    answer = http.post("/api/v1/readings", json={"readings": []}, headers={"Origin": "http://[::"})
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert answer.headers["x-content-type-options"] == "nosniff"
