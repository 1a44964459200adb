"""An edge behind an HTTP proxy: tunnels to the centre, credentials, and what each failure is called."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from app.cli.edge import _transport
from app.config import Settings
from app.domain.edge_message import Claim
from app.edge.proxy import parsed
from app.edge.transport import Https
from app.errors import ConfigError, StoreUnavailable
from tests.certificates import Authority
from tests.protocol.test_edge_transport import GOOD, MESSAGE, Peer

CENTRE = "centre.bank.example"
"""A name that the proxy alone resolves."""


class Tunnels:
    """A proxy that knows CONNECT, and leads to one port whatever it is asked for."""

    def __init__(self, port: int, user: str = "", answer: bytes = b"") -> None:
        self.asked: list[str] = []
        self.passed = bytearray()
        self._to, self._answer = port, answer
        self._expected = f"Basic {base64.b64encode(user.encode()).decode()}" if user else ""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.at = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._open: list[socket.socket] = []
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._open:
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                self._start(self._serve, client)

    def _start(self, target: object, *arguments: socket.socket) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _serve(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            part = client.recv(4096)
            if not part:
                return
            head += part
        lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        self.asked.append(lines[0])
        if self._answer or headers.get("Proxy-Authorization", "") != self._expected:
            with contextlib.suppress(OSError):
                client.sendall(self._answer or b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                client.shutdown(socket.SHUT_RDWR)
            return
        centre = socket.create_connection(("127.0.0.1", self._to))
        self._open.append(centre)
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self._start(self._pump, centre, client)
        self._pump(client, centre)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65_536):
                self.passed += part
                sink.sendall(part)
            sink.shutdown(socket.SHUT_RDWR)


class World:
    """A centre that speaks TLS, and certificates that prove it."""

    def __init__(self, folder: Path) -> None:
        authority = Authority("bank")
        certificate, key = authority.issue("centre", folder, [CENTRE])
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_text(authority.pem)
        self.peer = Peer(200, GOOD, {}, hangs_up=False)
        self.server: ThreadingHTTPServer = self.peer.server
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    @contextmanager
    def tunnels(self, user: str = "", answer: bytes = b"") -> Iterator[Tunnels]:
        found = Tunnels(self.server.server_port, user, answer)
        try:
            yield found
        finally:
            found.close()

    @contextmanager
    def edge(self, proxy: str = "", host: str = CENTRE) -> Iterator[Https]:
        transport = Https(f"https://{host}", "wl_key", ca_file=self.ca_file, proxy=proxy)
        try:
            yield transport
        finally:
            transport.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    found.server.shutdown()
    found.server.server_close()
    found.thread.join()


def test_batches_and_files_pass_encrypted_up_to_the_centre(world: World, tmp_path: Path) -> None:
    with world.tunnels() as proxy, world.edge(f"http://{proxy.at}") as edge:
        assert [edge.send(MESSAGE).stored for _ in range(3)] == [1, 1, 1]
        assert proxy.asked == [f"CONNECT {CENTRE}:443 HTTP/1.{proxy.asked[0][-1]}"], "one tunnel for all"
        (tmp_path / "day.csv").write_text("at,kwh\n")
        with pytest.raises(KeyError):  # the peer gives the answer to a batch
            edge.send_file(Claim("p", 1), "main", tmp_path / "day.csv")
        assert len(proxy.asked) == 2
    assert world.peer.requests[:3] == ["/api/v1/edges/readings"] * 3
    assert world.peer.requests[3].startswith("/api/v1/edges/imports?")
    assert b"wl_key" not in proxy.passed, "the proxy reads nothing of it"
    assert b"readings" not in proxy.passed


def test_a_proxy_that_asks_for_a_user_and_a_password(world: World) -> None:
    with world.tunnels("edge@bank:s3cr:t/") as proxy:
        with world.edge(f"http://edge%40bank:s3cr%3At%2F@{proxy.at}") as edge:
            assert edge.send(MESSAGE).stored == 1
        with (
            world.edge(f"http://edge%40bank:wrong@{proxy.at}") as edge,
            pytest.raises(StoreUnavailable, match=rf"{proxy.at} does not accept .*\(407\)") as refused,
        ):
            edge.send(MESSAGE)
        assert "wrong" not in str(refused.value)
        with (
            world.edge(f"http://{proxy.at}") as edge,
            pytest.raises(StoreUnavailable, match=r"asks for .*WATTLINE_CENTRE_PROXY=http://USER:PASSWORD@"),
        ):
            edge.send(MESSAGE)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", r"refuses connections to centre\.bank\.example:443 \(403\)"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", r"does not reach centre\.bank\.example:443 \(502\)"),
        (b"HTTP/1.1 504 Gateway Timeout\r\n\r\n", r"does not reach centre\.bank\.example:443 \(504\)"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "cannot be reached"),
        (b"\r\n", "cannot be reached"),
    ],
)
def test_what_is_wrong_with_the_proxy_is_said(world: World, answer: bytes, said: str) -> None:
    with (
        world.tunnels(answer=answer) as proxy,
        world.edge(f"http://{proxy.at}") as edge,
        pytest.raises(StoreUnavailable, match=f"the proxy {proxy.at} {said}"),
    ):
        edge.send(MESSAGE)


def test_a_proxy_that_is_not_there_and_a_certificate_of_somebody_else_are_told_apart(world: World) -> None:
    with (
        world.tunnels() as proxy,
        world.edge(f"http://{proxy.at}", host="other.bank.example") as edge,
        pytest.raises(StoreUnavailable, match=r"certificate of other\.bank\.example is not accepted"),
    ):
        edge.send(MESSAGE)
    with (
        world.edge(f"http://{proxy.at}") as edge,
        pytest.raises(StoreUnavailable, match=f"the proxy {proxy.at} cannot be reached"),
    ):
        edge.send(MESSAGE)


def test_the_environment_names_the_proxy_and_whom_it_is_not_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with world.tunnels() as proxy:
        monkeypatch.setenv("https_proxy", f"http://{proxy.at}")
        with world.edge() as edge:
            assert edge.send(MESSAGE).stored == 1
        with world.edge(host=f"127.0.0.1:{world.server.server_port}") as edge:
            assert edge.send(MESSAGE).stored == 1
        assert len(proxy.asked) == 1, "this machine itself is reached without it"
        monkeypatch.setenv("no_proxy", ".bank.example")
        with world.edge() as edge, pytest.raises(StoreUnavailable, match="the centre cannot be reached"):
            edge.send(MESSAGE)
        with world.edge(f"http://{proxy.at}") as edge:
            assert edge.send(MESSAGE).stored == 1, "the setting goes before"


def test_a_hub_is_not_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTLINE_CENTRE_URL", "nats://a.bank.example/north")
    monkeypatch.setenv("WATTLINE_CENTRE_PROXY", "http://proxy:3128")
    with pytest.raises(ConfigError, match=r"WATTLINE_CENTRE_PROXY.*port 4222"):
        _transport(Settings(), "wl_key")


def test_the_address_may_stand_in_a_file(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.tunnels("edge:secret") as proxy:
        (tmp_path / "proxy").write_text(f"http://edge:secret@{proxy.at}\n")
        monkeypatch.setenv("WATTLINE_CENTRE_URL", f"https://{CENTRE}")
        monkeypatch.setenv("WATTLINE_CENTRE_CA_FILE", str(world.ca_file))
        monkeypatch.setenv("WATTLINE_CENTRE_PROXY_FILE", str(tmp_path / "proxy"))
        with contextlib.closing(_transport(Settings(), "wl_key")) as edge:
            assert edge.send(MESSAGE).stored == 1


@pytest.mark.parametrize(
    "url",
    ["proxy:3128", "https://proxy:3128", "socks5://proxy", "http://", "http://u:pa55@proxy:x", "http://p/x"],
)
def test_an_address_that_is_none_of_a_proxy_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"WATTLINE_CENTRE_PROXY.*http://HOST:PORT") as refused:
        parsed(url, "WATTLINE_CENTRE_PROXY")
    assert "pa55" not in str(refused.value)
