"""Real receivers on loopback: a mail server, an HTTP server, an Alertmanager."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from aiosmtpd.controller import Controller

from tests.programs import need_program
from tests.waiting import until


class Mailbox:
    """Takes every mail, unless it is told to refuse."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.refuses = False
        self.port = 0

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.refuses:
            return "451 try again later"
        self.mails.append(message_from_bytes(envelope.content))
        return "250 taken"

    @property
    def subjects(self) -> list[str]:
        """What the mails are about."""
        return [str(make_header(decode_header(str(m["Subject"])))) for m in self.mails]

    @property
    def texts(self) -> list[str]:
        """What the mails say."""
        return [_payload(m) for m in self.mails]


def _payload(mail: Message) -> str:
    part = next(p for p in mail.walk() if p.get_content_type() == "text/plain")
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content.decode()


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """A mail server on a free port."""
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=0, ready_timeout=30)
    _start(controller)
    try:
        assert controller.server is not None
        box.port = controller.server.sockets[0].getsockname()[1]
        yield box
    finally:
        controller.stop()


def _start(controller: Controller) -> None:
    """Start on a port of the system's choice; the controller connects to its own port to be sure."""
    trigger = controller._trigger_server
    controller._trigger_server = lambda: _with_port(controller, trigger)  # type: ignore[method-assign]
    controller.start()


def _with_port(controller: Controller, trigger: Callable[[], None]) -> None:
    assert controller.server is not None
    controller.port = controller.server.sockets[0].getsockname()[1]
    trigger()


@dataclass
class Request:
    """What an HTTP receiver got."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Receiver:
    """An HTTP server that keeps what it gets and answers as told."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    status: int = 200
    answer: dict[str, Any] = field(default_factory=dict)
    location: str = ""


@contextmanager
def receiver() -> Iterator[Receiver]:
    """An HTTP server on a free port."""
    told = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            told.requests.append(Request(self.path, dict(self.headers), self.rfile.read(length)))
            content = json.dumps(told.answer).encode()
            self.send_response(told.status)
            if told.location:
                self.send_header("Location", told.location)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_port}/hook"
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def alertmanager() -> Iterator[str]:
    """The address of a real Alertmanager on a free port; the test is skipped where there is none."""
    program = need_program("prometheus-alertmanager")
    with tempfile.TemporaryDirectory() as folder:
        file, log = Path(folder) / "am.yml", Path(folder) / "log"
        file.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
        arguments = [f"--config.file={file}", f"--storage.path={folder}/data", "--cluster.listen-address="]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [program, *arguments, "--web.listen-address=127.0.0.1:0", "--log.format=json"],
                stderr=out,
                stdout=out,
            )
        try:
            yield f"http://{until(lambda: _address(log), name='Alertmanager')}"
        finally:
            process.kill()
            process.wait()


def _address(log: Path) -> str:
    """Where it says that it listens."""
    for line in log.read_text().splitlines():
        address = json.loads(line).get("address") if line.startswith("{") else None
        if address and not str(address).endswith(":0"):
            return str(address)
    return ""


def active_alerts(base: str) -> list[dict[str, Any]]:
    """Alerts that Alertmanager holds as active."""
    found: list[dict[str, Any]] = httpx.get(f"{base}/api/v2/alerts").raise_for_status().json()
    return found
