"""HTTP to a source: to the operator's networks only, verified, bounded in size and time.

Names are resolved here and the connection goes to the number that was looked at. Certificates are verified
against the system's authorities, those of ``ca_file``, or by the fingerprint of the certificate itself; what
fails is not asked anything, so that no password reaches it. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn, Self
from urllib.parse import SplitResult, urlencode, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from app.errors import ConfigError, DecodeError, DeviceRefused, DeviceUnreachable
from collectors.config import CollectorConfig
from collectors.found import Target

if TYPE_CHECKING:
    import httpcore

MOST_BYTES = 32 * 2**20
"""An answer that is longer is not read. [B]"""
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class HttpAccess(CollectorConfig):
    """Where an HTTP source is and how we show who we are."""

    url: Annotated[str, Field(min_length=1, max_length=2000)]
    """Address of the source, with ``https://`` or ``http://``. E.g. ``https://prometheus.dc.example:9090``."""
    user: str = ""
    """User, with `password`. E.g. ``wattline``."""
    password: SecretStr | None = None
    """Password of the user; better in a file. E.g. ``user-secret``."""
    password_file: Path | None = None
    """File that holds the password. E.g. ``/run/secrets/source_password``."""
    ca_file: Path | None = None
    """Certificates of the authorities that are trusted, in PEM, in place of the system's. E.g.
    ``/etc/wattline/ca.pem``."""
    fingerprint: str = ""
    """SHA-256 of the server's certificate in hexadecimal, for self-signed ones: this certificate and no other
    is trusted, whatever its name. E.g. ``5e:2a:...``."""

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        parts = urlsplit(url)
        try:
            ok = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            ok = False
        if not ok:
            raise ValueError("is no address; give one such as https://host:9090")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("give host, port and path only; user and password have keys of their own")
        return url.rstrip("/")

    @field_validator("fingerprint")
    @classmethod
    def _is_fingerprint(cls, text: str) -> str:
        plain = text.replace(":", "").strip().lower()
        if plain and not _FINGERPRINT.fullmatch(plain):
            raise ValueError("is no SHA-256 fingerprint; give 64 hexadecimal digits, colons allowed")
        return plain

    @model_validator(mode="after")
    def _access_fits(self) -> Self:
        if self.user and not (self.password or self.password_file):
            raise ValueError("user: needs password_file")
        if (self.password or self.password_file) and not self.user:
            raise ValueError("password_file: needs user")
        if self.parts.scheme == "http" and (self.ca_file or self.fingerprint):
            raise ValueError("url: is without TLS, so nothing is verified; use https://")
        return self

    @property
    def parts(self) -> SplitResult:
        """The parts of the address."""
        return urlsplit(self.url)

    @property
    def host(self) -> str:
        """Name or number of the server."""
        return self.parts.hostname or ""

    @property
    def hosts(self) -> dict[str, str]:
        """The server."""
        return {"url": self.host}

    def check(self) -> None:
        """See that secrets and certificates can be read.

        Raises
        ------
        ConfigError
            If not.
        """
        self.authorization()
        self.context()

    def authorization(self) -> str:
        """Value of the header of that name; empty where we do not say who we are.

        Raises
        ------
        ConfigError
            If a file cannot be read.
        """
        if not self.user:
            return ""
        pair = f"{self.user}:{secret(self, 'password')}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"

    def context(self) -> ssl.SSLContext | None:
        """How certificates are verified; None without TLS. Files are read anew, so they may be renewed.

        Raises
        ------
        ConfigError
            If the file of authorities cannot be read.
        """
        if self.parts.scheme == "http":
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            problem = f"{self.ca_file} cannot be read: {error}; give certificates in PEM"
            raise ConfigError(problem, key="ca_file") from None
        if self.fingerprint:  # compared before anything is sent, see http_connection
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


def secret(config: CollectorConfig, name: str) -> str:
    """The secret of that name, from the mapping or its file; empty where not given.

    Raises
    ------
    ConfigError
        If the file cannot be read.
    """
    file: Path | None = getattr(config, f"{name}_file")
    if file is None:
        text: SecretStr | None = getattr(config, name)
        return text.get_secret_value() if text else ""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}", key=f"{name}_file") from None


class Answer(NamedTuple):
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def json(self, device: str) -> Any:
        """The body as JSON.

        Raises
        ------
        DecodeError
            If it is none.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            start = self.body[:60].decode("utf-8", "replace")
            raise DecodeError(device, f"answered with HTTP {self.status}, but no JSON: {start!r}") from None


@dataclass
class HttpSession:
    """Connections to one source; they are kept between polls.

    Parameters
    ----------
    device : str
        Name of the meter, for messages.
    config : HttpAccess
    at_once : int
        Requests that the source is asked at the same time.
    """

    device: str
    config: HttpAccess
    at_once: int = 4
    requests: int = field(default=0, init=False)
    """Made so far."""
    _pool: httpcore.AsyncConnectionPool | None = field(default=None, init=False)

    async def get(self, path: str, query: Sequence[tuple[str, str]] = (), **headers: str) -> Answer:
        """GET below the source's address; see `ask`."""
        target = path + ("?" + urlencode(query) if query else "")
        return await self.ask("GET", target, headers=headers)

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        anonymous: bool = False,
    ) -> Answer:
        """One request and its whole answer, of any status.

        Parameters
        ----------
        anonymous : bool
            Without user and password; they stay out as well where the headers have a session's token.

        Raises
        ------
        DeviceUnreachable
            If there is none in time, the address may not be reached, or the certificate is not trusted.
        DecodeError
            If it is too long, or no HTTP.
        """
        import httpcore

        self.requests += 1
        try:
            async with asyncio.timeout(self.config.timeout_s):
                return await self._ask(method, path, body, dict(headers or {}), anonymous)
        except TimeoutError:
            raise DeviceUnreachable(self.device, f"no answer within {self.config.timeout_s:g} s") from None
        except httpcore.ProtocolError as error:
            await self.close()
            if "disconnected" in str(error) or "peer closed" in str(error):
                raise DeviceUnreachable(self.device, f"the connection was closed: {error}") from None
            raise DecodeError(self.device, f"the answer is no HTTP: {error}") from None
        except (
            httpcore.NetworkError,
            httpcore.TimeoutException,
            httpcore.UnsupportedProtocol,
            OSError,
        ) as error:
            await self._explain(error)

    async def _explain(self, error: BaseException) -> NoReturn:
        await self.close()
        text = str(error) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in text:
            text += "; give the authority's certificate as ca_file, or the server's fingerprint"
        raise DeviceUnreachable(self.device, text) from None

    async def _ask(
        self, method: str, path: str, body: bytes, headers: dict[str, str], anonymous: bool
    ) -> Answer:
        url = f"{self.config.parts.scheme}://{self.config.parts.netloc}{path}"
        sent = [("accept", "application/json"), ("accept-encoding", "identity"), *headers.items()]
        if not anonymous and (authorization := self._authorization(headers)):
            sent.append(("authorization", authorization))
        if body:
            sent.append(("content-type", "application/json"))
        async with self._connections().stream(
            method, url, headers=[("host", self.config.parts.netloc), *sent], content=body or None
        ) as response:
            read = await self._bounded(response.aiter_stream())
            got = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in response.headers}
            return Answer(response.status, got, read)

    def _authorization(self, headers: Mapping[str, str]) -> str:
        return "" if "x-auth-token" in headers else self.config.authorization()

    async def _bounded(self, chunks: AsyncIterator[bytes]) -> bytes:
        parts, length = [], 0
        async for chunk in chunks:
            length += len(chunk)
            if length > MOST_BYTES:
                raise DecodeError(self.device, f"the answer is longer than {MOST_BYTES // 2**20} MB")
            parts.append(chunk)
        return b"".join(parts)

    def _connections(self) -> httpcore.AsyncConnectionPool:
        if self._pool is None:
            import httpcore

            from collectors.http_connection import ReachableNetworks

            self._pool = httpcore.AsyncConnectionPool(
                ssl_context=self.config.context(),
                max_connections=self.at_once,
                keepalive_expiry=120.0,
                network_backend=ReachableNetworks(self.config.fingerprint),
            )
        return self._pool

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            with contextlib.suppress(Exception):
                await pool.aclose()


def url_of(target: Target, port: int, scheme: str) -> str:
    """Address of a probe's target: the one it names, or host and port."""
    if "url" in target.options:
        return str(target.options["url"])
    if "://" in target.host:
        return target.host
    host = f"[{target.host}]" if ":" in target.host else target.host
    return f"{scheme}://{host}:{target.port or port}"


def refuse_status(device: str, answer: Answer, said: str = "") -> None:
    """Raise where a server did not do as it was asked.

    Raises
    ------
    DeviceUnreachable
        If it cannot just now (429, 5xx).
    DeviceRefused
        If it will not.
    """
    if 200 <= answer.status < 300:
        return
    text = f"HTTP {answer.status}{': ' + said[:300] if said else ''}"
    if answer.status == 429 or answer.status >= 500:
        raise DeviceUnreachable(device, text)
    hint = {401: "; check user and password or token", 403: "; the account may not read this"}
    raise DeviceRefused(device, text + hint.get(answer.status, ""))
