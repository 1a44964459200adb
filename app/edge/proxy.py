"""An HTTP proxy between an edge and its centre."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from app.errors import ConfigError

KEY = "WATTLINE_CENTRE_PROXY"
_REFUSED = re.compile(r"Tunnel connection failed: (\d+)")


@dataclass(frozen=True)
class Proxy:
    """Where tunnels to the centre begin."""

    host: str
    port: int
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    """By which the proxy knows us."""

    @property
    def name(self) -> str:
        """As messages have it, without its password."""
        return f"{self.host}:{self.port}"

    def problem(self, error: Exception, centre: str) -> str:
        """Why no tunnel came to be, and what to do."""
        refused = _REFUSED.search(str(error))
        if refused is None:
            return f"the proxy {self.name} cannot be reached: {error or type(error).__name__}"
        code = int(refused[1])
        if code == 407:
            told = (
                "does not accept this user and password" if self.headers else "asks for a user and password"
            )
            return f"the proxy {self.name} {told} (407); write {KEY}=http://USER:PASSWORD@HOST:PORT"
        if code in (502, 503, 504):
            return f"the proxy {self.name} does not reach {centre} ({code})"
        return f"the proxy {self.name} refuses connections to {centre} ({code}); have them allowed there"


def proxy_for(host: str, port: int, url: str) -> Proxy | None:
    """The proxy of the settings, else that of ``https_proxy`` unless ``no_proxy`` names the host; None: none.

    Raises
    ------
    ConfigError
        If the address of the proxy is not understood.
    """
    if url:
        return parsed(url, KEY)
    ambient = getproxies_environment().get("https", "")
    if not ambient or proxy_bypass(f"{host}:{port}"):
        return None
    return parsed(ambient if "//" in ambient else f"http://{ambient}", "https_proxy")


def parsed(url: str, key: str) -> Proxy:
    """A proxy from its address, ``http://[USER:PASSWORD@]HOST[:PORT]``.

    Raises
    ------
    ConfigError
        If it is no such address; its password is not repeated.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 3128
    except ValueError:
        host = None
    if host is None or parts.scheme != "http" or parts.path.strip("/"):
        raise ConfigError(
            "is no address of an HTTP proxy; write http://HOST:PORT or http://USER:PASSWORD@HOST:PORT "
            "(http:// is right: what passes through the proxy is encrypted up to the centre)",
            key=key,
        )
    return Proxy(host, port, _credentials(parts.username, parts.password))


def _credentials(user: str | None, password: str | None) -> dict[str, str]:
    if user is None:
        return {}
    told = f"{unquote(user)}:{unquote(password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(told).decode()}"}
