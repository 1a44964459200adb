"""The HTTP way of an edge to its cell: what each answer means, and connections that end."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.domain.edge_message import Answer, Claim, Message, State, encode_answer
from app.edge.transport import TIMEOUT_S, Https
from app.errors import ConfigError, EdgeReplaced, NotAuthenticated, SeriesError, StoreUnavailable, TooBusy

NOW = datetime(2026, 3, 1, tzinfo=UTC)
GOOD = json.dumps(encode_answer(Answer(NOW, 3, 50.0, 1))).encode()
MESSAGE = Message(Claim("p", 1), State("s", NOW))


class Peer:
    """Answers every request the same way; ends a connection after an answer, unasked, where it `hangs_up`."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str], *, hangs_up: bool) -> None:
        self.requests: list[str] = []
        self.connections = 0
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                peer.connections += 1
                super().setup()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                peer.requests.append(self.path)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
                self.close_connection = hangs_up

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@contextmanager
def peer(
    status: int = 200, body: bytes = GOOD, headers: dict[str, str] | None = None, *, hangs_up: bool = False
) -> Iterator[tuple[Peer, Https]]:
    found = Peer(status, body, headers or {}, hangs_up=hangs_up)
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    transport = Https(f"http://127.0.0.1:{found.server.server_port}/base", "wl_key")
    try:
        yield found, transport
    finally:
        transport.close()
        found.server.shutdown()
        found.server.server_close()
        thread.join()


def test_one_connection_serves_all_batches() -> None:
    with peer() as (found, transport):
        assert [transport.send(MESSAGE).stored for _ in range(3)] == [1, 1, 1]
        assert found.connections == 1
        assert found.requests == ["/base/api/v1/edges/readings"] * 3


def test_a_connection_that_was_closed_while_it_lay_idle_is_replaced_at_once() -> None:
    with peer(hangs_up=True) as (found, transport):
        assert [transport.send(MESSAGE).revision for _ in range(4)] == [3] * 4
        assert found.connections == 4
        assert len(found.requests) == 4


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, NotAuthenticated), (409, EdgeReplaced), (422, SeriesError), (500, StoreUnavailable)],
)
def test_what_the_cell_says_is_understood(status: int, kind: type[Exception]) -> None:
    body = json.dumps({"detail": "why"}).encode()
    with peer(status, body) as (_, transport), pytest.raises(kind, match="why"):
        transport.send(MESSAGE)


@pytest.mark.parametrize("status", [401, 403, 404, 409, 422])
def test_what_a_proxy_says_in_its_own_words_is_no_reason_to_give_up(status: int) -> None:
    refused = pytest.raises(StoreUnavailable, match=f"status {status}")
    with peer(status, b"<html>nginx</html>") as (_, transport), refused:
        transport.send(MESSAGE)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("said", "waits_s"), [("7", 7), ("", 5), ("99999999", 5), ("9999", 300)])
def test_the_cell_says_when_to_try_again(status: int, said: str, waits_s: int) -> None:
    with peer(status, b"{}", {"Retry-After": said}) as (_, transport):
        with pytest.raises(TooBusy) as raised:
            transport.send(MESSAGE)
        assert raised.value.retry_after_s == waits_s


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"cell_at": 5}', GOOD[:20]])
def test_an_answer_that_is_none_acknowledges_nothing(body: bytes) -> None:
    with peer(200, body) as (_, transport), pytest.raises((StoreUnavailable, SeriesError)):
        transport.send(MESSAGE)


def test_nobody_there_is_said() -> None:
    with peer() as (found, transport):
        port = found.server.server_port
    transport = Https(f"http://127.0.0.1:{port}", "wl_key")
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        transport.send(MESSAGE)


def test_plain_http_to_others_is_an_explicit_choice() -> None:
    with pytest.raises(ConfigError, match="WATTLINE_CENTRE_PLAIN_HTTP"):
        Https("http://centre.example", "wl_key")
    Https("http://centre.example", "wl_key", allow_plain=True)
    Https("http://[::1]:8080", "wl_key")


def test_closing_ends_what_waits_for_an_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as pool:
        transport = Https(f"http://127.0.0.1:{silent.getsockname()[1]}", "wl_key")
        waiting = pool.submit(transport.send, MESSAGE)
        connection, _ = silent.accept()
        connection.recv(1)
        transport.close()
        with pytest.raises(StoreUnavailable):
            waiting.result(timeout=TIMEOUT_S / 2)
        with pytest.raises(StoreUnavailable, match="stopping"):
            transport.send(MESSAGE)
        connection.close()
