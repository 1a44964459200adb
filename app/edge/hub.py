"""The way from an edge to its cell through a hub of NATS JetStream servers.

The hub's receipt counts for nothing here: `Hub.send` returns when the cell has answered, which it does after
its commit. So a reading leaves the spool only then, and the hub may lose everything it holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import threading
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from app.domain.edge_message import Answer, Claim, Message, decode_answer, encode
from app.domain.hub_message import (
    Reply,
    Subjects,
    address,
    decode_reply,
    opened,
    public_id,
    seal,
)
from app.domain.signed import secret_of
from app.edge.transport import FILE_TIMEOUT_S, TIMEOUT_S, FileAnswer
from app.errors import (
    EdgeReplaced,
    Forbidden,
    NotFound,
    SeriesError,
    SiteMoved,
    StoreUnavailable,
    TooBusy,
    WorkTooLarge,
)
from app.hub_link import Link

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

PART_BYTES = 512 << 10
"""Files travel in parts of so many bytes; a hub carries at most a mebibyte at once. [B]"""

_TAKEN_S = 6.0
"""A hub that has not taken a batch after so long has lost the server that led. [s]"""


class Hub:
    """A :class:`~app.edge.transport.Transport` through a hub.

    Parameters
    ----------
    url : str
        ``nats://server,server/cell``; all servers but those on this machine itself are reached over TLS.
    key : str
        Of the edge.
    seed_file : Path, optional
        NKey seed by which the hub knows us; absent: it asks for none.
    ca_file : Path, optional
        Certificates of the hub's authority; default: those of the system.

    Raises
    ------
    ConfigError
        If the address or a file cannot be used, or the extra ``wattline[hub]`` is not installed.
    """

    def __init__(
        self, url: str, key: str, *, seed_file: Path | None = None, ca_file: Path | None = None
    ) -> None:
        at = address(url, "WATTLINE_CENTRE_URL")
        self._secret = secret_of(key)
        self._subjects = Subjects(at.cell, public_id(key))
        self._link = Link(at, seed_file, ca_file, inbox=f"_INBOX.{self._subjects.edge}")
        self._lock = threading.Lock()
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._listening: Client | None = None  # the connection on which answers are awaited

    @property
    def problem(self) -> str:
        """That the connection to the hub is lost, once it was made."""
        return "the connection to the hub is lost" if self._listening and not self._link.is_connected else ""

    def begin(self, process: str) -> Claim:
        """Speak for the edge from now on."""
        return Claim(process, int(self._ask("begin", {"process": process})["epoch"]))

    def release(self, claim: Claim) -> None:
        """Let another process begin."""
        self._ask("release", {"process": claim.process, "epoch": claim.epoch})

    def definitions(self) -> Mapping[str, Any]:
        """The signed definitions that hold."""
        return self._ask("definitions", {})

    def send(self, message: Message) -> Answer:
        """Send a batch; returns when the cell has committed it."""
        with self._lock:
            return decode_answer(_said(self._link.run(self._send(encode(message)), 2 * TIMEOUT_S)))

    def send_file(self, claim: Claim, meter: str, file: Path) -> FileAnswer:
        """Send a file of a watched folder in parts; returns when the cell has committed it."""
        what, at = "file", 0
        head = {"process": claim.process, "epoch": claim.epoch, "meter": meter, "name": file.name}
        head["upload"] = secrets.token_hex(8)
        with file.open("rb") as source:
            while True:
                part = source.read(PART_BYTES)
                is_last = len(part) < PART_BYTES
                said = self._ask(
                    what,
                    {**head, "at": at, "is_last": is_last},
                    part,
                    timeout_s=FILE_TIMEOUT_S if is_last else TIMEOUT_S,
                )
                if is_last:
                    return FileAnswer(int(said["accepted"]), int(said["rejected"]), str(said["problem"]))
                what, at = f"file.{said['node']}", at + len(part)

    def close(self) -> None:
        """End the connection."""
        self._link.close()

    def _ask(
        self, what: str, document: Mapping[str, Any], more: bytes = b"", *, timeout_s: float = TIMEOUT_S
    ) -> Mapping[str, Any]:
        name, subject = secrets.token_hex(8), self._subjects.request(what)
        head = json.dumps({**document, "id": name}).encode()
        body = len(head).to_bytes(4, "big") + head + more
        payload = seal(body, subject, self._secret)
        reply = self._link.run(self._request(subject, payload, timeout_s), timeout_s)
        if reply.id != name:
            raise StoreUnavailable("the answer is to another question")
        return _said(reply)

    async def _request(self, subject: str, payload: bytes, timeout_s: float) -> Reply:
        client = await self._link.client()
        answer = await client.request(subject, payload, timeout=timeout_s)
        try:
            return decode_reply(zlib.decompress(opened(answer.data, subject, self._secret)))
        except (SeriesError, zlib.error) as error:
            raise StoreUnavailable(f"the answer did not come from the cell: {error}") from None

    async def _send(self, body: bytes) -> Reply:
        """Give a batch to the hub, and wait for the cell."""
        client = await self._link.client()
        if self._listening is not client:
            await client.subscribe(self._subjects.answers, cb=self._on_answer)
            self._listening = client
        name, subject = secrets.token_hex(12), self._subjects.readings
        waiting = self._waiting[name] = asyncio.get_running_loop().create_future()
        try:
            payload = seal(name.encode() + body, subject, self._secret)
            await _publish(client, subject, payload, name)
            return await asyncio.wait_for(waiting, TIMEOUT_S)
        finally:
            del self._waiting[name]

    async def _on_answer(self, message: Msg) -> None:
        """An answer to somebody who waits for it; those that come too late, or are forged, are nobody's."""
        with contextlib.suppress(SeriesError):
            reply = decode_reply(opened(message.data, self._subjects.answers, self._secret))
            waiting = self._waiting.get(reply.id)
            if waiting is not None and not waiting.done():
                waiting.set_result(reply)


async def _publish(client: Client, subject: str, payload: bytes, name: str) -> None:
    from nats.js.errors import NoStreamResponseError

    try:
        stream = client.jetstream()
        await stream.publish(subject, payload, timeout=_TAKEN_S, headers={"Nats-Msg-Id": name})
    except NoStreamResponseError:  # its servers choose another leader, which takes them some seconds
        raise TooBusy("no server of the hub takes readings at this moment", retry_after_s=1) from None


def _said(reply: Reply) -> Mapping[str, Any]:
    if reply.refusal:
        _refuse(reply)
    return reply.said or {}


def _refuse(reply: Reply) -> NoReturn:
    if reply.refusal == "moved" and reply.said:
        raise SiteMoved(*(str(reply.said.get(name, "")) for name in ("site", "cell", "url")))
    if reply.refusal == "busy":
        raise TooBusy(f"the centre says: {reply.text}", retry_after_s=min(max(reply.retry_after_s, 1), 300))
    kinds: dict[str, type[EdgeReplaced | NotFound | SeriesError | Forbidden | WorkTooLarge]] = {
        "replaced": EdgeReplaced,
        "unknown": NotFound,
        "not_understood": SeriesError,
        "forbidden": Forbidden,
        "too_large": WorkTooLarge,
    }
    raise kinds.get(reply.refusal, StoreUnavailable)(reply.text)
