"""One SNMP agent behind a lock: GET of many OIDs, walks, and an end to every wait.

The only module that knows the SNMP library. What the library does not do is done here: requests of
one session never overlap, a lost answer is asked again, a session that failed is thrown away (an
SNMPv3 agent that rebooted or forgot its boots counter is met afresh), answers of a lower security
level than configured are dropped before they are decoded, and walks are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from gufo.snmp import SnmpAuthError, SnmpError, SnmpVersion
from gufo.snmp.aio import SnmpSession as GufoSession
from gufo.snmp.user import (
    Aes128Key,
    Aes192Key,
    Aes256Key,
    BaseAuthKey,
    BasePrivKey,
    DesKey,
    KeyExpansion,
    KeyType,
    Md5Key,
    Sha1Key,
    Sha224Key,
    Sha256Key,
    Sha384Key,
    Sha512Key,
    User,
)
from pydantic import Field, SecretStr, field_validator, model_validator

from app.errors import ConfigError, DecodeError, DeviceRefused, DeviceUnreachable
from collectors import network
from collectors.config import NetworkConfig, Port
from collectors.snmp.ber import float_in_opaque, require_nested
from collectors.snmp.usm import AnswerGuard, error_status

Value = int | float | bytes | str
_T = TypeVar("_T")

MOST_ROWS = 20_000
"""A walk that returns more rows than this is not one of a meter."""
_WALK_ANSWERS = 40
"""A walk may take as long as this many lost answers."""
MOST_OIDS = 24
"""OIDs asked in one PDU: the answer still fits an unfragmented datagram."""

AUTH_KEYS: dict[str, type[BaseAuthKey]] = {
    "md5": Md5Key,
    "sha": Sha1Key,
    "sha224": Sha224Key,
    "sha256": Sha256Key,
    "sha384": Sha384Key,
    "sha512": Sha512Key,
}
PRIV_KEYS: dict[str, tuple[type[BasePrivKey], KeyExpansion]] = {
    "des": (DesKey, KeyExpansion.Blumenthal),
    "aes": (Aes128Key, KeyExpansion.Blumenthal),
    "aes192": (Aes192Key, KeyExpansion.Blumenthal),
    "aes256": (Aes256Key, KeyExpansion.Blumenthal),
    "aes192c": (Aes192Key, KeyExpansion.Cisco),
    "aes256c": (Aes256Key, KeyExpansion.Cisco),
}
"""``c``: with the key expansion that Cisco and others use."""

AuthProtocol = Literal["md5", "sha", "sha224", "sha256", "sha384", "sha512"]
PrivProtocol = Literal["des", "aes", "aes192", "aes256", "aes192c", "aes256c"]


class SnmpAccess(NetworkConfig):
    """Where an agent is and how it is asked: address, version, secrets."""

    port: Port = 161
    """UDP port of the agent. E.g. ``161``."""
    version: Literal["1", "2c", "3"] = "2c"
    """SNMP version."""
    community: SecretStr | None = None
    """Community of versions 1 and 2c, which grants reading; better in a file. Default: public. E.g.
    ``public``."""
    community_file: Path | None = None
    """File that holds the community, so that the site file need not. E.g. ``/run/secrets/community``."""
    user: str = ""
    """User of version 3. E.g. ``wattline``."""
    auth_protocol: AuthProtocol = "sha256"
    """Digest by which version 3 authenticates."""
    auth_password: SecretStr | None = None
    """Password of authentication; better in a file. E.g. ``auth-secret``."""
    auth_password_file: Path | None = None
    """File that holds the password of authentication. E.g. ``/run/secrets/snmp_auth``."""
    priv_protocol: PrivProtocol = "aes"
    """Cipher of version 3; `aes` is AES-128, a final ``c`` the key expansion that Cisco and others use."""
    priv_password: SecretStr | None = None
    """Password of encryption; better in a file. E.g. ``priv-secret``."""
    priv_password_file: Path | None = None
    """File that holds the password of encryption. E.g. ``/run/secrets/snmp_priv``."""
    retries: Annotated[int, Field(ge=0, le=10)] = 1
    """How often a lost answer is asked again. E.g. ``2``."""
    max_oids: Annotated[int, Field(ge=1, le=128)] = MOST_OIDS
    """OIDs asked in one PDU; fewer for agents with small buffers. E.g. ``8``."""

    @field_validator("version", mode="before", json_schema_input_type=Literal["1", "2c", "3", 1, 3])
    @classmethod
    def _version_as_text(cls, version: object) -> object:
        return str(version) if isinstance(version, int) else version

    @model_validator(mode="after")
    def _secrets_fit_version(self) -> Self:
        if self.version == "3" and not self.user:
            raise ValueError("user: is missing; SNMPv3 needs one")
        if self.version != "3" and (
            self.user or self._given("auth_password") or self._given("priv_password")
        ):
            raise ValueError(f"user and passwords are of SNMPv3, version is {self.version}; set version: 3")
        if self.version == "3" and self._given("community"):
            raise ValueError("SNMPv3 has no community; leave it out")
        if self._given("priv_password") and not self._given("auth_password"):
            raise ValueError("auth_password: is missing; there is no privacy without authentication")
        return self

    def _given(self, name: str) -> bool:
        return getattr(self, name) is not None or getattr(self, f"{name}_file") is not None

    def secret(self, name: str) -> str | None:
        """The community or password of that name, from the mapping or its file; None where not given.

        Raises
        ------
        ConfigError
            If the file cannot be read.
        """
        file: Path | None = getattr(self, f"{name}_file")
        if file is None:
            text: SecretStr | None = getattr(self, name)
            return text.get_secret_value() if text else None
        try:
            return file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} cannot be read: {error}", key=f"{name}_file") from None

    @property
    def poll_limit_s(self) -> float:
        """Longest time one whole poll may take before it is cancelled. [s]"""
        return max(self.interval_s, 3 * self.timeout_s * (self.retries + 1))


_LARGEST_ANSWER = 65_535
_TOO_BIG, _NO_SUCH_NAME = 1, 2
_VERSIONS = {"1": SnmpVersion.v1, "2c": SnmpVersion.v2c, "3": SnmpVersion.v3}
_HINT = "check address, port and community; devices do not answer a wrong community or privacy password"


class _Session(GufoSession):
    """The library's session, with its waiting done here and answers looked at before they are decoded.

    The socket is watched for as long as the session lives, not anew for every answer.
    """

    def __init__(self, guard: AnswerGuard, **settings: Any) -> None:
        super().__init__(**settings)
        self._guard = guard
        self.status: int | None = None
        """Error status of the last answer, kept while it is not None; the library hides it."""
        self._peer = socket.socket(fileno=os.dup(self._fd))
        self._peer.setblocking(False)
        self._waiter: asyncio.Future[None] | None = None
        self._expired = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._arrived)

    def close(self) -> None:
        """Stop watching the socket and release the second handle of it; the library drops its own."""
        self._loop.remove_reader(self._fd)
        self._peer.close()

    async def _recv(self, receiver: Callable[[], _T]) -> _T:
        self._expired = False
        deadline = self._loop.call_later(self._timeout, self._expire)
        try:
            while not self._expired:
                self._waiter = self._loop.create_future()
                await self._waiter
                self._raise_refusal()
                with contextlib.suppress(BlockingIOError):
                    if self._may_decode():
                        return receiver()
        finally:
            deadline.cancel()
            self._waiter = None
        raise TimeoutError

    def _arrived(self) -> None:
        if self._waiter is None:
            self._discard()  # nobody waits: an answer that came too late
        elif not self._waiter.done():
            self._waiter.set_result(None)

    def _expire(self) -> None:
        self._expired = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TimeoutError())

    def _may_decode(self) -> bool:
        """Look at the next answer without taking it; throw it away where it is refused."""
        if not self._guard.level and self.status is None and not self._guard.is_wary:
            return True
        answer = self._peer.recv(_LARGEST_ANSWER, socket.MSG_PEEK)
        if self._guard.is_wary:
            require_nested(answer)
        good = self._guard.passes(answer)
        if not good:
            self._discard()
        elif self.status is not None:
            self.status = error_status(answer)
        return good

    def _discard(self) -> None:
        with contextlib.suppress(OSError):
            self._peer.recv(1)

    def _raise_refusal(self) -> None:
        """Raise what the network said of the address, which the library would take for "nothing yet"."""
        code = self._peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))


class _WalkBroken(Exception):
    """The agent ended a walk with an error: what came so far is not the table."""


class Agent:
    """One SNMP agent, asked one thing at a time.

    Its methods raise ``DeviceUnreachable`` where no answer came in time, ``DeviceRefused`` where the
    agent turned the user or key down, and ``DecodeError`` where it talked nonsense.
    """

    def __init__(self, access: SnmpAccess, device: str) -> None:
        self.device = device
        self._access = access
        self._lock = asyncio.Lock()
        self._session: _Session | None = None
        self._user, self._guard = _credentials(access)
        self._community = access.secret("community") or "public"

    def close(self) -> None:
        """Release the socket; the next request opens a new one."""
        if self._session is not None:
            self._session.close()
            self._session = None

    async def get(self, oids: Sequence[str]) -> dict[str, Value]:
        """Values of those OIDs that exist, as many asked in one PDU as the settings allow."""
        values: dict[str, Value] = {}
        await self.get_into(values, oids)
        return values

    async def get_into(self, values: dict[str, Value], oids: Sequence[str]) -> None:
        """As :meth:`get`, into a mapping that keeps what was read before a failure."""
        step = self._access.max_oids
        for start in range(0, len(oids), step):
            values.update(await self._get_some(list(oids[start : start + step])))

    async def _get_some(self, oids: list[str]) -> dict[str, Value]:
        answer: dict[str, Value] = await self._ask(lambda session: _get_many(session, oids))
        if answer or len(oids) == 1:
            return answer
        # SNMPv1 answers nothing where one OID is missing, any version where the PDU is too big.
        middle = len(oids) // 2
        return await self._get_some(oids[:middle]) | await self._get_some(oids[middle:])

    async def walk(self, oid: str, *, most: int = MOST_ROWS) -> dict[str, Value]:
        """Every value under `oid`, by what follows it in the OID; empty where there is nothing."""
        limit_s = _WALK_ANSWERS * self._access.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._ask(lambda session: _walk(session, oid, most))
        except TimeoutError:
            text = f"the walk of {oid} does not end within {limit_s:g} s"
            raise DeviceUnreachable(self.device, text) from None

    async def has(self, oid: str) -> bool:
        """True where the agent has `oid` or anything under it: one safe read."""
        return bool(await self._ask(lambda session: _first(session, oid))) or bool(await self.get([oid]))

    async def _ask(self, question: Callable[[_Session], Awaitable[_T]]) -> _T:
        """Put one question, on a fresh session as often again as the settings allow."""
        async with self._lock:
            for _ in range(self._access.retries):
                try:
                    return await self._attempt(question)
                except (DeviceUnreachable, DeviceRefused):
                    continue
            return await self._attempt(question)

    async def _attempt(self, question: Callable[[_Session], Awaitable[_T]]) -> _T:
        dropped = self._guard.refused
        try:
            return await question(self._session or await self._open())
        except BaseException as error:
            # Whatever went wrong, a new session cannot be poisoned by it: late answers find no socket.
            self.close()
            if not isinstance(error, Exception) and not _is_panic(error):
                raise
            # Every panic writes to the log by itself, in some environments with a trace that takes long.
            self._guard.is_wary |= _is_panic(error)
            raise self._translated(error, below=self._guard.refused > dropped) from None

    async def _open(self) -> _Session:
        host, *_ = await network.addresses(self._access.host, self._access.port, socket.SOCK_DGRAM)
        self._session = session = _Session(
            self._guard,
            addr=host,
            port=self._access.port,
            community=self._community,
            user=self._user,
            version=_VERSIONS[self._access.version],
            timeout=self._access.timeout_s,
        )
        await session.refresh()
        return session

    def _translated(self, error: BaseException, *, below: bool) -> BaseException:
        where = f"{self._access.host}:{self._access.port}"
        if isinstance(error, TimeoutError) and below:
            text = f"{where}: answers are not of the configured security level or not genuine; refused"
            return DeviceRefused(self.device, text)
        if isinstance(error, TimeoutError):
            wait_s = self._access.timeout_s
            return DeviceUnreachable(self.device, f"{where}: no answer within {wait_s:g} s; {_HINT}")
        if isinstance(error, _WalkBroken):
            return DeviceRefused(self.device, f"{where}: {error}")
        if isinstance(error, SnmpAuthError):
            text = f"{where}: refuses user, key or security level; check user, protocols and passwords"
            return DeviceRefused(self.device, text)
        if isinstance(error, network.TargetRefused):
            return DeviceUnreachable(self.device, f"{where}: {error}")
        if isinstance(error, OSError):
            text = f"{where}: {error.strerror or error}; check host and port, and that SNMP is switched on"
            return DeviceUnreachable(self.device, text)
        if isinstance(error, SnmpError | ValueError | RuntimeError) or _is_panic(error):
            return DecodeError(self.device, f"{where}: invalid SNMP response: {error!r}")
        return error


def _is_panic(error: BaseException) -> bool:
    """True where an answer made the library's Rust part panic: that is outside of Python's ``Exception``."""
    return type(error).__name__ == "PanicException"


async def _get_many(session: _Session, oids: list[str]) -> dict[str, Value]:
    answer = await session.get_many(oids)
    asked = set(oids)
    return {oid: raw if type(raw) is int else _value(raw) for oid, raw in answer.items() if oid in asked}


async def _walk(session: _Session, oid: str, most: int) -> dict[str, Value]:
    """All rows of a table; never a part of it taken for the whole."""
    rows, status = await _rows(session, session.fetch(oid), oid, most)
    if status == _TOO_BIG:
        rows, status = await _rows(session, session.getnext(oid), oid, most)
    if status not in (0, _NO_SUCH_NAME):
        raise _WalkBroken(f"the agent broke off the walk of {oid} with error {status}")
    return rows


async def _rows(
    session: _Session, found: AsyncIterator[tuple[str, Any]], oid: str, most: int
) -> tuple[dict[str, Value], int]:
    """Rows that a walk finds, and the error status it ended with."""
    rows: dict[str, Value] = {}
    skip, session.status = len(oid) + 1, 0
    try:
        async for name, raw in found:
            if name[skip:] in rows or len(rows) == most:
                raise ValueError(f"the walk of {oid} does not end")
            rows[name[skip:]] = _value(raw)
        return rows, session.status
    finally:
        session.status = None


async def _first(session: _Session, oid: str) -> bool:
    async for _ in session.getnext(oid):
        return True
    return False


def _value(raw: Any) -> Value:
    if isinstance(raw, bytes):
        wrapped = float_in_opaque(raw)
        return raw if wrapped is None else wrapped
    return raw if isinstance(raw, int | float) else str(raw)


def _credentials(access: SnmpAccess) -> tuple[User | None, AnswerGuard]:
    """The library's user, and the guard that holds its level."""
    if access.version != "3":
        return None, AnswerGuard()
    auth, priv = access.secret("auth_password"), access.secret("priv_password")
    if auth is None:
        return User(access.user), AnswerGuard()
    key = AUTH_KEYS[access.auth_protocol]
    # Hashing a password takes milliseconds: once here, not with every new session.
    master = key.get_master_key(auth.encode())
    priv_key, expansion = PRIV_KEYS[access.priv_protocol]
    private = priv_key(key.get_master_key(priv.encode()), KeyType.Master) if priv is not None else None
    user = User(access.user, auth_key=key(master, KeyType.Master), priv_key=private, key_expansion=expansion)
    return user, AnswerGuard(protocol=access.auth_protocol, master=master, private=private is not None)
