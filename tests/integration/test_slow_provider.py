"""A sign-in provider that drips: nobody who holds a known key waits for it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from app.api import oidc
from app.api.oidc import KEYS_LIFE_S, MOST_WAITING, KeyRing, fetch
from app.errors import NotAuthenticated


def document(*names: str) -> dict[str, Any]:
    def jwk(name: str) -> dict[str, Any]:
        public = ec.generate_private_key(ec.SECP256R1()).public_key()
        return {**jwt.algorithms.ECAlgorithm.to_jwk(public, as_dict=True), "kid": name, "alg": "ES256"}

    return {"keys": [jwk(name) for name in names]}


class Slow:
    """A provider whose second answer comes only when it is let go."""

    def __init__(self) -> None:
        self.asked, self.go, self.now_s = 0, threading.Event(), 0.0

    def __call__(self) -> Any:
        self.asked += 1
        if self.asked > 1:
            assert self.go.wait(60)
            return document("a", "new")
        return document("a")


def test_a_known_key_never_waits_however_old_it_is() -> None:
    slow = Slow()
    ring = KeyRing(slow, lambda: slow.now_s)
    first = ring.key("a")
    slow.now_s = 10 * KEYS_LIFE_S
    assert ring.key("a") is first  # while the fetch that this began stands still
    assert not slow.go.is_set()
    slow.go.set()
    while ring.key("a") is first:
        time.sleep(0.01)
    assert ring.key("new").algorithm_name == "ES256"


def test_few_wait_for_an_unknown_key_and_one_fetch_serves_them_all() -> None:
    slow = Slow()
    ring = KeyRing(slow, lambda: slow.now_s)
    ring.key("a")
    slow.now_s = KEYS_LIFE_S
    with ThreadPoolExecutor(MOST_WAITING) as pool:
        waiting = [pool.submit(ring.key, "new") for _ in range(MOST_WAITING)]
        while ring._waiting < MOST_WAITING:
            time.sleep(0.01)
        for n in range(50):
            with pytest.raises(NotAuthenticated, match="try again"):
                ring.key(f"guess{n}")
        slow.go.set()
        assert [one.result().algorithm_name for one in waiting] == ["ES256"] * MOST_WAITING
    with pytest.raises(NotAuthenticated, match="does not belong to the provider"):
        ring.key("guess")  # not asked again so soon
    assert slow.asked == 2


@pytest.fixture(params=[b"HTTP/1.1 200 OK\r\nX-Drip: ", b'HTTP/1.1 200 OK\r\n\r\n{"keys": ['])
def dripping(request: pytest.FixtureRequest) -> Iterator[str]:
    """Address of a server that begins an answer and then sends a byte now and then."""
    ended = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(request.param)
            try:
                while not ended.wait(0.02):
                    connection.sendall(b" ")
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/keys"
        ended.set()
        thread.join()


def test_an_answer_that_drips_is_given_up(dripping: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "FETCH_S", 0.3)
    with pytest.raises(ValueError, match=r"longer than 0.3 s"):
        fetch(dripping)
