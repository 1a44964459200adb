"""The whole fleet at work: meters, hub, cells with their databases, edges behind lines."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import yaml

from app.store import migrate
from collectors.simulated.fault_proxy import FaultProxy
from tests.faults.fleet.parts import CELLS, LOOK_S, Cell, Edge, Line, Meters, Process, metric
from tests.faults.world import Background
from tests.hub import Cluster, free_ports
from tests.servers import copy_cluster
from tests.waiting import until

THROUGH_HUB = ("north-a", "middle-a", "middle-b", "south-b")
"""Edges that send through the hub; the others send to their cell over HTTP."""
_START_S = 900.0
_NOMINAL_S = 0.35
"""What :func:`slowness` measures on an idle machine. [s]"""


class World:
    """Everything; :func:`begun` makes one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.journals = folder, folder / "journals"
        self.journals.mkdir()
        self.background, self.meters = Background(), Meters()
        (folder / "hub").mkdir()
        self.hub = Cluster(folder / "hub")
        self.cells = {
            name: Cell(name, folder / name, port, self.journals)
            for name, port in zip(CELLS, free_ports(len(CELLS)), strict=True)
        }
        self.edges: dict[str, Edge] = {}

    def start(self, stack: ExitStack) -> None:
        """Start everything; `stack` ends it."""
        stack.enter_context(self.background)
        self.background.do(self.meters.gateway.start())
        stack.callback(lambda: self.background.do(self.meters.gateway.close()))
        stack.enter_context(self.hub)
        urls = self._start_databases(stack)
        keys = {name: cell.viewer() for name, cell in self.cells.items()}
        for name, cell in self.cells.items():
            more = {"WATTLINE_CELLS_FILE": str(self._list_others(cell, keys))}
            cell.configure(self.meters, self.hub.url, urls[name], more)
            stack.callback(_end, cell.service)
            stack.callback(_end, cell.standby)
            cell.service.start()
        self.keys = keys
        for cell in self.cells.values():
            until(lambda cell=cell: _is_ready(cell), _START_S, f"cell {cell.name}, ready,", pause_s=LOOK_S)
            for site in cell.sites[:2]:
                edge = self.edges[site] = self._edge(stack, cell, site)
                stack.callback(_end, edge.process)
                edge.start()
        for edge in self.edges.values():  # until it begins, workers of the cell measure its site
            until(lambda edge=edge: _delivers(edge), _START_S, f"deliveries of {edge.site}", pause_s=LOOK_S)

    def _start_databases(self, stack: ExitStack) -> dict[str, str]:
        """One is made, the others are copies of it; the last cell's has a standby."""
        first, *others = self.cells.values()
        stack.callback(first.database.stop)
        first.database.start()
        for cell in self.cells.values():
            stack.callback(cell.engine.dispose)
        migrate.upgrade(first.engine)
        for cell in others:
            copy_cluster(first.database, cell.database.data_dir, standby=False)
            stack.callback(lambda cell=cell: cell.database.stop())
            cell.database.start()
        for cell in self.cells.values():
            stack.callback(cell.forget_connection)
        last = others[-1]
        stack.callback(lambda: last.spare and last.spare.stop())
        return {cell.name: cell.database.url for cell in self.cells.values()} | {last.name: last.stand_by()}

    def _list_others(self, cell: Cell, keys: dict[str, str]) -> Path:
        listed = []
        for name, key in keys.items():
            file = cell.folder / f"{name}.key"
            file.write_text(key)
            if name != cell.name:
                listed.append({"id": name, "url": self.cells[name].base, "key_file": str(file)})
        (cell.folder / "cells.yaml").write_text(yaml.safe_dump({"cells": listed}))
        return cell.folder / "cells.yaml"

    def _edge(self, stack: ExitStack, cell: Cell, site: str) -> Edge:
        is_through_hub = site in THROUGH_HUB
        ports = self.hub.ports if is_through_hub else [cell.port]
        proxies = [FaultProxy("127.0.0.1", port) for port in ports]
        for proxy in proxies:
            self.background.do(proxy.start())
            stack.callback(lambda proxy=proxy: self.background.do(proxy.close()))
        places = ",".join(f"127.0.0.1:{proxy.port}" for proxy in proxies)
        url = f"nats://{places}/{cell.name}" if is_through_hub else f"http://{places}"
        line = Line(proxies, self.background)
        return Edge(site, cell, line, url, folder=self.folder / f"edge-{site}", journals=self.journals)

    def cell_of(self, site: str) -> Cell:
        """The cell of a site."""
        return self.cells[site.partition("-")[0]]

    def ask(self, cell: Cell, path: str) -> httpx.Response:
        """What a cell answers to somebody who may see everything."""
        headers = {"Authorization": f"Bearer {self.keys[cell.name]}"}
        return httpx.get(f"{cell.base}/api/v1{path}", headers=headers, timeout=30)

    def processes(self) -> Iterator[Process]:
        """All that are started now and then."""
        for cell in self.cells.values():
            yield cell.service
            yield cell.standby
        for edge in self.edges.values():
            yield edge.process


def _is_ready(cell: Cell) -> bool:
    if not cell.service.is_running:
        raise RuntimeError(f"cell {cell.name} has ended: {cell.service.last_words()}")
    with suppress(httpx.TransportError):
        return httpx.get(f"{cell.base}/readyz", timeout=10).status_code == 200
    return False


def _delivers(edge: Edge) -> bool:
    delivered = metric(edge.process, "wattline_edge_delivered_readings_total")
    return delivered > 0 and edge.cell.edge(edge.site).is_current


def _end(process: Process) -> None:
    if process.is_running:
        process.thaw()
        process.end()


def slowness() -> float:
    """How much slower this machine is now than an idle one: at least 1."""
    began = time.monotonic()
    for _ in range(3):
        subprocess.run(["/bin/true"], check=True)
    total = 0
    for number in range(5_000_000):
        total += number & 7
    return max((time.monotonic() - began) / _NOMINAL_S, 1.0)


@contextmanager
def begun() -> Iterator[World]:
    """A fleet that runs, in folders of its own."""
    with tempfile.TemporaryDirectory(prefix="wattline-fleet-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        world = World(folder)
        world.start(stack)
        yield world
