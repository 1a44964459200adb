"""Which address a request came from, behind reverse proxies that the operator named.

``Forwarded`` (RFC 7239) and ``X-Forwarded-For/-Proto/-Host`` are what any client may write; they count only
from a peer in ``WATTLINE_TRUSTED_PROXIES``. Of the addresses they list, the last one that is no trusted
proxy itself is the client. The same holds for ``Client-Cert`` (RFC 9440), which has the certificate that
the nearest proxy has verified.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from app.domain import address
from app.domain.address import Network
from app.domain.certificate import fingerprint_of_header

CERTIFICATE = "client_certificate_sha256"
"""Name in the scope of a request of the fingerprint that a trusted proxy has verified."""
_CERTIFICATE_HEADER = "client-cert"
NAMES = ("forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")
_PAIR = re.compile(r'\s*(?P<name>[A-Za-z]+)=("(?P<quoted>[^"\\]*)"|(?P<plain>[^;,"\s]*))\s*')


def is_forwarded(headers: Headers) -> bool:
    """Whether somebody between client and service, or the client itself, wrote forwarding headers."""
    return any(name in headers for name in NAMES)


@dataclass(frozen=True)
class Proxies:
    """The trusted reverse proxies.

    Parameters
    ----------
    networks : tuple of networks
        Empty: none; forwarding headers are then not looked at.
    public_url : str
        Address under which browsers reach the service; empty: the one they ask for.
    """

    networks: tuple[Network, ...] = ()
    public_url: str = ""

    @property
    def public_host(self) -> str:
        """Host and port of the public address; empty where none is configured."""
        return urlsplit(self.public_url).netloc

    def resolve(self, scope: MutableMapping[str, Any]) -> None:
        """Write the client's own address, scheme and host into an ASGI scope that came through a proxy."""
        self._resolve_hops(scope)
        if self.public_url.startswith("https://"):
            scope["scheme"] = "https"

    def _resolve_hops(self, scope: MutableMapping[str, Any]) -> None:
        peer = scope["client"][0] if scope.get("client") else ""
        if not self._trusts(peer):
            return
        headers = Headers(scope=scope)
        certificates = headers.getlist(_CERTIFICATE_HEADER)
        if len(certificates) == 1:
            scope[CERTIFICATE] = fingerprint_of_header(certificates[0])
        hops = _hops(headers)
        index, client = self._client(peer, hops)
        scope["client"] = (client, 0)
        proto, host = _said(hops[index:], "proto"), _said(hops[index:], "host")
        if proto in ("http", "https"):
            scope["scheme"] = proto
        if _HOST.fullmatch(host):
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope["headers"] = [*others, (b"host", host.encode("ascii"))]

    def _client(self, peer: str, hops: Sequence[dict[str, str]]) -> tuple[int, str]:
        """The last address that is no proxy of ours, and its hop; nothing before a hidden name counts."""
        index, client = max(len(hops) - 1, 0), peer
        for index in range(len(hops) - 1, -1, -1):
            found = _address(hops[index].get("for", ""))
            if not found:
                break
            client = found
            if not self._trusts(client):
                break
        return index, client

    def _trusts(self, text: str) -> bool:
        try:
            return address.is_in(address.plain(text), self.networks)
        except ValueError:
            return False


def _said(hops: Sequence[dict[str, str]], name: str) -> str:
    return next((hop[name] for hop in hops if hop.get(name)), "")


def _hops(headers: Headers) -> list[dict[str, str]]:
    """What each proxy says of the one it was asked by, the nearest proxy last."""
    standard = ",".join(headers.getlist("forwarded"))
    if standard:
        return [dict(_pairs(part)) for part in standard.split(",") if part.strip()]
    clients = _listed(headers, "x-forwarded-for")
    hops: list[dict[str, str]] = [{"for": client} for client in clients]
    nearest = {
        key: values[-1]
        for key, name in (("proto", "x-forwarded-proto"), ("host", "x-forwarded-host"))
        if (values := _listed(headers, name))
    }
    if nearest:
        hops = [*hops[:-1], {**(hops[-1] if hops else {}), **nearest}]
    return hops


def _listed(headers: Headers, name: str) -> list[str]:
    return [text.strip() for line in headers.getlist(name) for text in line.split(",") if text.strip()]


def _pairs(part: str) -> Iterator[tuple[str, str]]:
    for found in _PAIR.finditer(part):
        quoted = found["quoted"]
        yield found["name"].lower(), found["plain"] if quoted is None else quoted


def _address(text: str) -> str:
    """The address of a node, without brackets and port; empty for ``unknown`` and hidden names."""
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        return str(address.plain(bare))
    except ValueError:
        return ""
