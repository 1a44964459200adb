"""``wattline serve --role edge``: everything that runs at a site. Imports no database."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli import logs
from app.cli.console import say
from app.cli.environment import settings
from app.cli.stopping import stop_signal, wait_for
from app.config import Settings, secret_in
from app.edge.following import Following
from app.edge.process import Edge, Setup
from app.edge.transport import Https
from app.edge.web import served
from app.errors import ConfigError
from collectors.spool import Limits

if TYPE_CHECKING:
    from app.edge.hub import Hub

_LEAST_PAGE_KEY = 16


def serve(config_path: Path | None, *, host: str, port: int) -> None:
    """Run until stopped by SIGTERM or SIGINT.

    Raises
    ------
    ConfigError
        If a setting is missing or not understood, or the spool or the address cannot be used.
    """
    logs.configure()
    environment = settings()
    if config_path or environment.config:
        raise ConfigError(
            "an edge gets its definitions from the centre; remove --config and WATTLINE_CONFIG here, and "
            "describe the site in the site file of the centre",
            key="--config",
        )
    key = key_of(environment)
    transport = _transport(environment, key)
    limits = Limits(environment.spool_days * 86_400, environment.spool_max_bytes)
    page_key = (
        secret_in(environment.page_key_file, "WATTLINE_PAGE_KEY_FILE") if environment.page_key_file else ""
    )
    if environment.page_key_file and len(page_key) < 16:
        raise ConfigError(
            "has fewer than 16 characters; try: openssl rand -hex 16", key="WATTLINE_PAGE_KEY_FILE"
        )
    with stop_signal() as stop:
        edge = Edge(Setup(environment.data_dir, lambda: transport.url, key, limits), transport)
        try:
            with served(host, port, edge.facts, page_key) as bound:
                say(f"http://{host}:{bound} edge of {transport.url}")
                edge.start()
                gc.freeze()
                wait_for(stop)
        finally:
            edge.stop()
            transport.close()


def transport_of(environment: Settings) -> Following:
    """The way to the centre, as the settings have it.

    Raises
    ------
    ConfigError
        If a setting is missing or not understood.
    """
    return _transport(environment, key_of(environment))


def _transport(environment: Settings, key: str) -> Following:
    """The way to the centre, and from there to wherever the sites are."""

    def make(url: str) -> Https | Hub:
        return _way(environment, url, key)

    return Following(make, environment.centre_url, environment.data_dir / "edge" / "centre.json")


def _way(environment: Settings, url: str, key: str) -> Https | Hub:
    """The way that an address says."""
    proxy = (
        secret_in(environment.centre_proxy_file, "WATTLINE_CENTRE_PROXY_FILE")
        if environment.centre_proxy_file
        else environment.centre_proxy.get_secret_value()
    )
    if url.startswith(("nats://", "tls://")):
        if proxy:
            raise ConfigError(
                "an HTTP proxy does not lead to a hub, which needs a TCP connection to its port 4222; have "
                "that opened, or send to https://...",
                key="WATTLINE_CENTRE_PROXY",
            )
        from app.edge.hub import Hub

        return Hub(
            url,
            key,
            seed_file=environment.hub_seed_file,
            ca_file=environment.centre_ca_file,
        )
    return Https(
        url,
        key,
        ca_file=environment.centre_ca_file,
        allow_plain=environment.centre_plain_http,
        proxy=proxy,
    )


def _page_key(file: Path | None) -> str:
    """What the page asks for; empty: nothing."""
    if file is None:
        return ""
    key, name = secret_in(file, "WATTLINE_PAGE_KEY_FILE"), "WATTLINE_PAGE_KEY_FILE"
    if len(key) < _LEAST_PAGE_KEY:
        raise ConfigError(f"has fewer than {_LEAST_PAGE_KEY} characters; try: openssl rand -hex 16", key=name)
    return key


def key_of(environment: Settings) -> str:
    """The key by which the centre knows this edge.

    Raises
    ------
    ConfigError
        If it, or the address of the centre, is missing or no such thing.
    """
    if not environment.centre_url:
        raise ConfigError(
            "is missing; write the address of the centre, https://... or nats://.../CELL",
            key="WATTLINE_CENTRE_URL",
        )
    if environment.centre_key_file is None:
        raise ConfigError(
            "is missing; name the file with the key that `wattline edges create` gave",
            key="WATTLINE_CENTRE_KEY_FILE",
        )
    key = secret_in(environment.centre_key_file, "WATTLINE_CENTRE_KEY_FILE")
    if not key.startswith("wl_"):
        raise ConfigError(
            f"{environment.centre_key_file} holds no key; it begins with wl_", key="WATTLINE_CENTRE_KEY_FILE"
        )
    return key
