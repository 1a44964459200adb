"""What ``wattline doctor`` can see of the lines: certificates, the hub, and from an edge its centre."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app import hub_link
from app.cli import edge
from app.config import Settings
from app.domain import checkup
from app.domain.checkup import Check, Outcome
from app.domain.hub_message import HubAddress, address
from app.domain.signed import secret_of, verified
from app.edge.transport import Https
from app.errors import ConfigError, WattlineError

_PATIENCE_S = 5.0
_HUB_PORT = 4222


def certificate(subject: str, url: str, context: ssl.SSLContext, port: int = 443) -> Check:
    """The certificate that an address shows."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or port
    try:
        with (
            socket.create_connection((host, port), timeout=_PATIENCE_S) as raw,
            context.wrap_socket(raw, server_hostname=host) as secured,
        ):
            ends = str((secured.getpeercert() or {})["notAfter"])
    except ssl.SSLCertVerificationError as error:
        found = f"{host}:{port}: {error.verify_message}"
        return Check(subject, Outcome.FAULT, found, "renew it, or name the authority that signed it")
    except OSError as error:
        found = f"{host}:{port}: {error}"
        return Check(subject, Outcome.FAULT, found, "see that it runs and that the line to it is open")
    ends_at = datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC)
    return checkup.certificate(subject, ends_at, datetime.now(UTC))


def centre(environment: Settings) -> Iterator[Check]:
    """The centre as this edge reaches it: its certificate, and whether it knows our key."""
    url = environment.centre_url
    try:
        transport = edge.transport_of(environment)
    except ConfigError as error:
        yield Check("settings of the edge", Outcome.FAULT, str(error), "correct them")
        return
    with contextlib.closing(transport):
        try:
            said = verified(transport.definitions(), secret_of(edge.key_of(environment)))
            yield Check(f"centre {url}", Outcome.OK, f"definitions of revision {said.revision}")
        except WattlineError as error:
            remedy = "see the line and the centre; a key comes from `wattline edges create` there"
            yield Check(f"centre {url}", Outcome.FAULT, str(error), remedy)
    ca_file = environment.centre_ca_file
    if url.startswith(("nats://", "tls://")):
        yield from _servers(address(url, "WATTLINE_CENTRE_URL"), environment.hub_seed_file, ca_file, "")
    elif url.startswith("https://") and isinstance(transport, Https) and not transport.is_behind_proxy:
        yield certificate("certificate of the centre", url, ssl.create_default_context(cafile=ca_file))


def hub(environment: Settings) -> Iterator[Check]:
    """The servers of the hub through which edges send to this cell."""
    if not environment.hub_url:
        return
    try:
        at = address(environment.hub_url, "WATTLINE_HUB_URL")
        yield from _servers(at, environment.hub_seed_file, environment.hub_ca_file, f"READINGS_{at.cell}")
    except ConfigError as error:
        yield Check("hub", Outcome.FAULT, str(error), "correct the settings WATTLINE_HUB_*")


def _servers(at: HubAddress, seed: Path | None, ca_file: Path | None, stream: str) -> Iterator[Check]:
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of what nats-py does at the end of TLS
    for server in at.servers:
        name = f"hub {urlsplit(server).hostname}:{urlsplit(server).port or _HUB_PORT}"
        options = hub_link.options(HubAddress((server,), at.cell), seed, ca_file)
        found = hub_link.run_alone(_server(options, stream))
        yield Check(name, *found)
        if "tls" in options:
            yield certificate(f"certificate of {name}", server, options["tls"], _HUB_PORT)


async def _server(options: dict[str, Any], stream: str) -> tuple[Outcome, str, str]:
    """One server alone: whether it lets us in, and how it sees the stream of the cell."""
    import nats
    import nats.errors

    failures: list[str] = []

    async def note(error: Exception) -> None:
        failures.append(str(error) or type(error).__name__)

    once = {"max_reconnect_attempts": 1, "allow_reconnect": False, "error_cb": note}
    try:
        client = await asyncio.wait_for(nats.connect(**{**options, **once}), _PATIENCE_S)
    except (OSError, nats.errors.Error, TimeoutError) as error:
        why = failures[-1] if failures else str(error) or "no answer in time"
        remedy = "add our public key to its users.conf" if "uthorization" in why else "see that it runs"
        return Outcome.FAULT, why, remedy
    try:
        found = client.connected_server_version
        version = f"nats-server {found.major}.{found.minor}.{found.patch}"
        if not stream:
            return Outcome.OK, version, ""
        info = await client.jetstream().stream_info(stream)
        return _of_stream(version, stream, info.cluster, info.config.num_replicas or 1)
    except (OSError, nats.errors.Error, TimeoutError) as error:
        why = f"{stream}: {str(error) or type(error).__name__}"
        return Outcome.FAULT, why, "restore the other servers; until then edges keep what they read"
    finally:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(client.close(), 2.0)


def _of_stream(version: str, stream: str, cluster: Any, wanted: int) -> tuple[Outcome, str, str]:
    """What a server says of the copies of a stream."""
    others = (cluster.replicas or []) if cluster else []
    behind = [one.name for one in others if one.offline or not one.current]
    if behind and 2 * (wanted - len(behind)) <= wanted:  # without a leader all of them are others
        found = f"{stream}: without a majority: {', '.join(behind)} behind"
        return Outcome.FAULT, found, "restore the other servers; until then edges keep what they read"
    if behind:
        return Outcome.WARNING, f"{version}; {', '.join(behind)} behind", "restore that server"
    return Outcome.OK, f"{version}, {min(len(others) + 1, wanted)} of {wanted} copies", ""
