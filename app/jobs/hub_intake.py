"""What edges send through a hub, into the store: a batch leaves the hub after the commit, and not before.

The streams of the cell are made here: ``READINGS_<cell>`` keeps batches until they are acknowledged, and
refuses more when it is full, so that edges keep them; ``POISON_<cell>`` keeps what was not understood for a
month.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import tempfile
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from app.domain.edge_message import Claim, decode, encode_answer
from app.domain.hub_message import Reply, Subjects, edge_of, encode_reply, opened, seal
from app.errors import (
    AccessError,
    EdgeReplaced,
    NotFound,
    SeriesError,
    SiteMoved,
    StoreUnavailable,
    TooBusy,
    WorkTooLarge,
)
from app.hub_link import Link
from app.jobs import edge_files, edge_intake
from app.jobs.edge_intake import Intake
from app.store import edges
from app.store.edges import Edge
from app.store.engine import Engine, connect

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

ID_CHARACTERS = 24
"""A batch begins with its id, in hexadecimal digits."""
_AT_ONCE = 4
"""Batches that are stored at the same time."""
_FETCH = 32
_FETCH_S = 2.0
_ACK_WAIT_S = 60.0
_KEPT_S = 120.0
"""A batch that waits longer is gone from the hub: its edge still has it, and has sent it again. [s]"""
_AGAIN_S = 5.0
"""A batch that could not be stored is delivered again after so long. [s]"""
_PAUSE_S = 2.0
_LEADERLESS_S = 1.0
_MOST_FAILURES = 8
"""After so many failures, one a pause, the stream is looked for anew."""
_MOST_DELIVERIES = 20
"""A batch that fails so often for another reason than the database is set aside."""
_STREAM_BYTES = 1 << 30
_DAY_S = 86_400.0
_UPLOADS = 20
"""Most files that are on their way at the same time."""

_log = structlog.get_logger(__name__)


@dataclass
class HubTally:
    """What came through the hub since the start."""

    batches: int = 0
    """Stored and acknowledged."""
    again: int = 0
    """Given back, to be delivered again."""
    poison: int = 0
    """Set aside."""
    is_listening: bool = False
    is_linked: Callable[[], bool] = lambda: True
    """Whether the connection to the hub stands at this moment."""

    @property
    def is_connected(self) -> bool:
        """Whether batches can come."""
        return self.is_listening and self.is_linked()


@dataclass(slots=True)
class _Upload:
    """A file on its way."""

    sent: edge_files.Sent
    size: int = 0


class HubIntake:
    """Takes what edges of a cell send through its hub, in a thread of its own.

    Parameters
    ----------
    link : Link
    cell : str
    engine : Engine
    intake : Intake
    replicas : int
        On how many servers of the hub a batch lies.
    """

    def __init__(self, link: Link, cell: str, engine: Engine, intake: Intake, *, replicas: int = 3) -> None:
        self._link, self._engine, self._intake, self._replicas = link, engine, intake, replicas
        self._of_all, self._cell = Subjects(cell), cell
        self.tally = HubTally(is_linked=lambda: link.is_connected)
        self._node = secrets.token_hex(6)
        self._answering: set[asyncio.Task[None]] = set()
        self._uploads: dict[str, _Upload] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hub-intake", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is not acknowledged is delivered again."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_FETCH_S + 2)
        self._link.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._link.run(self._work(), None)
            except StoreUnavailable as error:
                self._complain(str(error))
            except Exception:  # noqa: BLE001 - a fault must not end it for good
                if not self._ended.is_set():
                    _log.exception("the hub could not be listened to")
            self.tally.is_listening = False
            self._ended.wait(_PAUSE_S)

    def _complain(self, problem: str) -> None:
        if not self._ended.is_set():
            _log.warning("nothing comes through the hub", problem=problem)

    async def _work(self) -> None:
        """Listen until the connection cannot be kept."""
        client = await self._link.client()
        stream = client.jetstream()
        await self._ensure_streams(stream)
        listening = [
            await client.subscribe(self._of_all.request("*"), queue="cell", cb=self._on_request(client)),
            await client.subscribe(self._of_all.request(f"file.{self._node}"), cb=self._on_request(client)),
        ]
        self.tally.is_listening = True
        _log.info("listening to the hub", cell=self._cell, servers=len(client.servers))
        try:
            await self._take_batches(client, stream)
        finally:
            for subscription in listening:
                with contextlib.suppress(Exception):
                    await subscription.unsubscribe()

    async def _ensure_streams(self, stream: JetStreamContext) -> None:
        from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

        common: dict[str, Any] = {
            "storage": StorageType.FILE,
            "num_replicas": self._replicas,
            "max_bytes": _STREAM_BYTES,
        }
        wanted = (
            StreamConfig(
                name=f"READINGS_{self._cell}",
                subjects=[self._of_all.readings],
                retention=RetentionPolicy.WORK_QUEUE,
                discard=DiscardPolicy.NEW,
                max_age=_KEPT_S,
                duplicate_window=_KEPT_S,
                **common,
            ),
            StreamConfig(
                name=f"POISON_{self._cell}",
                subjects=[self._of_all.poison],
                max_age=30 * _DAY_S,
                max_msgs=10_000,
                **common,
            ),
        )
        for config in wanted:
            await _ensure(stream, config)

    async def _take_batches(self, client: Client, stream: JetStreamContext) -> None:
        """Fetch batches and store them, several at a time."""
        import nats.errors
        from nats.js.api import AckPolicy, ConsumerConfig

        config = ConsumerConfig(
            durable_name="cell", ack_policy=AckPolicy.EXPLICIT, ack_wait=_ACK_WAIT_S, max_ack_pending=512
        )
        batches = await stream.pull_subscribe(
            self._of_all.readings, durable="cell", stream=f"READINGS_{self._cell}", config=config
        )
        places, problem, failures = asyncio.Semaphore(_AT_ONCE), "", 0
        async with asyncio.TaskGroup() as tasks:
            while not (self._ended.is_set() or problem):
                try:
                    found = await batches.fetch(_FETCH, timeout=_FETCH_S)
                except TimeoutError:
                    continue
                except nats.errors.Error as error:  # without a leader for some seconds, or without its disk
                    failures += 1
                    problem = (str(error) or type(error).__name__) if failures > _MOST_FAILURES else ""
                    await asyncio.sleep(_LEADERLESS_S)
                    continue
                failures = 0
                for message in found:
                    await places.acquire()
                    task = tasks.create_task(self._take(client, stream, message))
                    task.add_done_callback(lambda _: places.release())
        if problem:
            raise StoreUnavailable(problem)

    async def _take(self, client: Client, stream: JetStreamContext, message: Msg) -> None:
        """Store one batch, answer, acknowledge; whatever fails, the batch is not lost."""
        try:
            secret, reply = await asyncio.to_thread(self._stored, message)
            payload = seal(encode_reply(reply), self._answers_of(message), secret)
            await client.publish(self._answers_of(message), payload)
            await message.ack()
            self.tally.batches += 1
        except StoreUnavailable as error:
            self.tally.again += 1
            _log.warning("a batch from the hub waits", problem=str(error))
            await _safely(message.nak(delay=_AGAIN_S))
        except SeriesError as error:
            await self._set_aside(stream, message, str(error))
        except Exception as error:  # noqa: BLE001 - one batch must not hold up the others
            _log.exception("a batch from the hub could not be stored")
            if message.metadata.num_delivered >= _MOST_DELIVERIES:
                await self._set_aside(stream, message, f"{type(error).__name__}: {error}")
            else:
                self.tally.again += 1
                await _safely(message.nak(delay=_AGAIN_S))

    def _answers_of(self, message: Msg) -> str:
        return Subjects(self._cell, edge_of(message.subject)).answers

    def _stored(self, message: Msg) -> tuple[str, Reply]:
        """The answer to a batch, after the commit.

        Raises
        ------
        SeriesError
            If it is no batch of an edge of this cell.
        StoreUnavailable
            If the database is away.
        """
        edge, secret = self._edge(edge_of(message.subject))
        body = opened(message.data, message.subject, secret)
        name = body[:ID_CHARACTERS].decode("ascii", "replace")
        batch = decode(body[ID_CHARACTERS:])
        try:
            _refuse_revoked(edge)
            return secret, Reply(name, encode_answer(self._intake.take(edge.key_id, batch)))
        except (AccessError, NotFound, SiteMoved, WorkTooLarge) as error:
            return secret, refused(name, error)

    def _edge(self, key_id: str) -> tuple[Edge, str]:
        try:
            with connect(self._engine) as connection:
                edge = edges.of_key(connection, key_id)
                return edge, edges.signing_secret(connection, edge)
        except NotFound as error:
            raise SeriesError(str(error)) from None

    async def _set_aside(self, stream: JetStreamContext, message: Msg, reason: str) -> None:
        """Keep a batch that is none where people can look at it; it is not delivered again."""
        subject = Subjects(self._cell, edge_of(message.subject)).poison
        try:
            await stream.publish(
                subject, message.data, headers={"Wattline-Reason": reason[:200].replace("\n", " ")}
            )
            await message.term()
            self.tally.poison += 1
            _log.warning("a batch from the hub was rejected", edge=edge_of(message.subject), problem=reason)
        except Exception as error:  # noqa: BLE001 - then it stays where it is
            _log.warning("a rejected batch cannot be kept", problem=str(error))
            await _safely(message.nak(delay=_AGAIN_S))

    # -- questions -------------------------------------------------------------------------------------

    def _on_request(self, client: Client) -> Callable[[Msg], Any]:
        async def answer(message: Msg) -> None:
            try:
                payload = await asyncio.to_thread(self._answered, message)
                await client.publish(message.reply, payload)
            except (SeriesError, StoreUnavailable) as error:
                _log.warning("a question from the hub is not answered", problem=str(error))
            except Exception:  # noqa: BLE001 - one question must not end the others
                _log.exception("a question from the hub could not be answered")

        async def begin_answer(message: Msg) -> None:
            tasks = asyncio.get_running_loop()
            task = tasks.create_task(answer(message))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

        return begin_answer

    def _answered(self, message: Msg) -> bytes:
        edge, secret = self._edge(edge_of(message.subject))
        body = opened(message.data, message.subject, secret)
        size = int.from_bytes(body[:4], "big")
        try:
            head = json.loads(body[4 : 4 + size])
            name = str(head["id"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise SeriesError(f"not a question of an edge: {error}") from None
        try:
            _refuse_revoked(edge)
            reply = Reply(name, self._said(edge, message.subject.split(".", 3)[3], head, body[4 + size :]))
        except (
            AccessError,
            NotFound,
            SeriesError,
            SiteMoved,
            StoreUnavailable,
            TooBusy,
            WorkTooLarge,
        ) as error:
            reply = refused(name, error)
        return seal(zlib.compress(encode_reply(reply)), message.subject, secret)

    def _said(self, edge: Edge, what: str, head: Mapping[str, Any], more: bytes) -> Mapping[str, Any]:
        if what == "definitions":
            return edge_intake.definitions(self._engine, edge.key_id)
        if what == "begin":
            return {"epoch": edge_intake.speak(self._engine, edge.key_id, str(head["process"]), "hub").epoch}
        claim = Claim(str(head["process"]), int(head["epoch"]))
        if what == "release":
            edge_intake.release(self._engine, edge.key_id, claim, "hub")
            return {}
        if what == "file" or what == f"file.{self._node}":
            return self._file(edge, claim, head, more)
        raise SeriesError(f"{what!r} is no question of this version")

    def _file(self, edge: Edge, claim: Claim, head: Mapping[str, Any], part: bytes) -> Mapping[str, Any]:
        """A part of a file; with the last one all of it is imported."""
        key, at = f"{edge.key_id}-{head['upload']}", int(head["at"])
        upload = self._uploads.get(key)
        if at == 0:
            upload = self._uploads[key] = self._new_upload(str(head["name"]))
        if upload is None or upload.size != at:
            raise TooBusy("the file came in another order; it is sent again", retry_after_s=5)
        with upload.sent.path.open("ab") as file:
            file.write(part)
        upload.size += len(part)
        if not head["is_last"]:
            return {"node": self._node}
        try:
            done = edge_files.take(
                self._engine, edge.key_id, claim, str(head["meter"]), upload.sent, source="hub"
            )
        finally:
            del self._uploads[key]
            upload.sent.path.unlink(missing_ok=True)
        return {"accepted": done.accepted, "rejected": done.rejected, "problem": done.problem}

    def _new_upload(self, name: str) -> _Upload:
        if len(self._uploads) >= _UPLOADS:
            oldest = next(iter(self._uploads))
            self._uploads.pop(oldest).sent.path.unlink(missing_ok=True)
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="wattline-hub-")
        return _Upload(edge_files.placed(Path(self._folder.name), name))


def refused(name: str, error: Exception) -> Reply:
    """What an error is to an edge."""
    if isinstance(error, SiteMoved):
        said = {"site": error.site, "cell": error.cell, "url": error.url}
        return Reply(name, said, refusal="moved", text=str(error))
    if isinstance(error, EdgeReplaced):
        return Reply(name, refusal="replaced", text=str(error))
    if isinstance(error, AccessError):
        return Reply(name, refusal="forbidden", text=str(error))
    if isinstance(error, NotFound):
        return Reply(name, refusal="unknown", text=str(error))
    if isinstance(error, TooBusy):
        return Reply(name, refusal="busy", text=str(error), retry_after_s=error.retry_after_s)
    if isinstance(error, StoreUnavailable):
        return Reply(name, refusal="busy", text=str(error), retry_after_s=5)
    if isinstance(error, WorkTooLarge):
        return Reply(name, refusal="too_large", text=str(error))
    return Reply(name, refusal="not_understood", text=str(error))


def _refuse_revoked(edge: Edge) -> None:
    if edge.is_revoked:
        raise AccessError(f"the key of edge {edge.name!r} was revoked; make a new edge at the centre")


async def _ensure(stream: JetStreamContext, config: Any) -> None:
    """A stream as it should be: made, or changed where an earlier version made it."""
    from nats.js.errors import NotFoundError

    try:
        await stream.stream_info(config.name)
    except NotFoundError:
        await stream.add_stream(config)
        return
    await stream.update_stream(config)


async def _safely(work: Any) -> None:
    """Tell the hub; where that fails it delivers again anyway, after a while."""
    with contextlib.suppress(Exception):
        await work
