"""What travels between edges and a cell through a hub: subjects, seals, and answers.

A hub stores and forwards. What it carries is sealed with HMAC-SHA-256 under what edge and cell know of the
edge's key, and the subject is sealed along, so that a message counts only for the edge that it came from and
the cell that it was for.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from app.errors import ConfigError, SeriesError

_PURPOSE = b"wattline hub "
_SEAL_BYTES = 32
_TOKEN = r"[A-Za-z0-9_-]{1,64}"


class HubAddress(NamedTuple):
    """Where a hub is, and which cell is meant."""

    servers: tuple[str, ...]
    cell: str


def address(url: str, key: str) -> HubAddress:
    """A hub and a cell from ``nats://server,server/cell``.

    Raises
    ------
    ConfigError
        If it is none; `key` is the setting.
    """
    scheme, _, rest = url.partition("://")
    hosts, _, cell = rest.partition("/")
    servers = tuple(f"{scheme}://{host.strip()}" for host in hosts.split(",") if host.strip())
    if scheme not in ("nats", "tls") or not servers or not all(urlsplit(s).hostname for s in servers):
        raise ConfigError(f"{url!r} is no address of a hub; write nats://a,b,c/CELL", key=key)
    if not re.fullmatch(_TOKEN, cell):
        raise ConfigError(
            f"{url!r} does not end in the id of a cell (letters, digits, - and _), as in nats://a,b,c/north",
            key=key,
        )
    return HubAddress(servers, cell)


@dataclass(frozen=True, slots=True)
class Subjects:
    """Subjects of one edge, or with ``*`` those of all edges of a cell."""

    cell: str
    edge: str = "*"
    """Public id of the key of the edge: known before anything else is."""

    @property
    def readings(self) -> str:
        """Batches; kept by the hub until the cell has committed them."""
        return f"readings.{self.cell}.{self.edge}"

    @property
    def answers(self) -> str:
        """What the cell says to batches."""
        return f"answers.{self.cell}.{self.edge}"

    @property
    def poison(self) -> str:
        """Batches that the cell does not understand."""
        return f"poison.{self.cell}.{self.edge}"

    def request(self, what: str) -> str:
        """Questions that are answered at once, or not at all."""
        return f"requests.{self.cell}.{self.edge}.{what}"


def edge_of(subject: str) -> str:
    """Whose a subject is."""
    return subject.split(".")[2]


def public_id(key: str) -> str:
    """The part of a key that is no secret."""
    parts = key.split("_")
    if len(parts) != 3 or not re.fullmatch(_TOKEN, parts[1]):
        raise ConfigError("holds no key; it begins with wl_", key="WATTLINE_CENTRE_KEY_FILE")
    return parts[1]


def seal(body: bytes, subject: str, secret: str) -> bytes:
    """A payload that only counts on this subject.

    Parameters
    ----------
    secret : str
        See :func:`app.domain.signed.secret_of`.
    """
    return _mac(body, subject, secret) + body


def opened(payload: bytes, subject: str, secret: str) -> bytes:
    """What was sealed.

    Raises
    ------
    SeriesError
        If the seal is wrong.
    """
    mac, body = payload[:_SEAL_BYTES], payload[_SEAL_BYTES:]
    if not hmac.compare_digest(mac, _mac(body, subject, secret)):
        raise SeriesError("the seal is wrong: it is of another key, or was changed on the way")
    return body


def _mac(body: bytes, subject: str, secret: str) -> bytes:
    return hmac.new(secret.encode(), _PURPOSE + subject.encode() + b"\0" + body, hashlib.sha256).digest()


@dataclass(frozen=True, slots=True)
class Reply:
    """The cell's answer to a message or a question."""

    id: str
    """Of what is answered."""
    said: Mapping[str, Any] | None = None
    refusal: str = ""
    """What kind of refusal it is, see :data:`REFUSALS`; empty: none."""
    text: str = ""
    retry_after_s: int = 0


REFUSALS = ("replaced", "unknown", "not_understood", "busy", "forbidden", "moved")
"""Another process speaks for the edge; no such edge; the message is none; later; the key opens nothing;
another cell has the sites."""


def encode_reply(reply: Reply) -> bytes:
    """A reply as it travels."""
    return json.dumps(
        [reply.id, reply.said, reply.refusal, reply.text[:500], reply.retry_after_s], separators=(",", ":")
    ).encode()


def decode_reply(body: bytes) -> Reply:
    """A reply from what was received.

    Raises
    ------
    SeriesError
        If it is none.
    """
    try:
        name, said, refusal, text, retry_after_s = json.loads(body)
        if said is not None and not isinstance(said, dict):
            raise TypeError("an answer is a mapping")
        return Reply(str(name), said, str(refusal), str(text), int(retry_after_s))
    except (ValueError, TypeError, RecursionError) as error:
        raise SeriesError(f"not an answer of a cell: {error}") from None
