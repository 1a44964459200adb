"""``deploy``: a hub of three servers, a cell and an edge, each as its compose file has it, over TLS.

They run on one network of this machine, each with an address of its own, where an operator has a machine for
each: so `podman` gives them their addresses, and publishes no ports. The files themselves are as they stand.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import ssl
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.certificates import Authority
from tests.containers import stand_ins
from tests.containers.engine import IMAGE, ROOT, Engine, NotPossible, machine
from tests.waiting import until

DEPLOY = ROOT / "deploy"
NETWORK = "wattline-deploy"
SUBNET = "10.213.77"
HOSTS = {  # numbers of their addresses
    "a.bank.example": 11,
    "b.bank.example": 12,
    "c.bank.example": 13,
    "timescaledb": 21,
    "setup": 22,
    "wattline": 23,
    "north.wattline.bank.example": 24,
    "edge": 31,
    "meter": 41,
}
CONTAINERS = {
    **{f"{name}_hub_1": f"{name}.bank.example" for name in "abc"},
    "north_timescaledb_1": "timescaledb",
    "north_setup_1": "setup",
    "north_wattline_1": "wattline",
    "north_proxy_1": "north.wattline.bank.example",
    "sh1_edge_1": "edge",
}
HUB = "nats://a.bank.example,b.bank.example,c.bank.example/north"
SITE = """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: sh1
    name: 上海数据中心
    institution: bank
    time_zone: Asia/Shanghai
    meters:
      - id: main
        rated_power_kw: 1000
        collector: {kind: modbus, host: meter, port: 5020, device_id: 1, interval_s: 1, channels:
                    [{name: energy_kwh, kind: register, unit: kWh, address: 0, type: uint32}]}
        points: [{id: main.kwh, role: facility, kind: register, channel: energy_kwh}]
"""
METER = """
import asyncio, pathlib
from collectors.profiles.profile import read_profile
from collectors.simulated.modbus_server import SimulatedModbus, SimulatedUnit

PROFILE = '''
model: counted
vendor: test
protocol: modbus
source: made up for the tests
channels: [{name: energy_kwh, kind: register, unit: kWh, address: 0, type: uint32}]
'''

class Open(SimulatedModbus):
    async def start(self):
        self._server = await asyncio.start_server(self._accept, "0.0.0.0", 5020)
        return self

async def main():
    unit = SimulatedUnit(read_profile(PROFILE), lambda channel, at: at.timestamp() % 1e6)
    async with Open({1: unit}):
        await asyncio.Event().wait()

asyncio.run(main())
"""
USER = 10001
PODMAN = f"""#!{sys.executable} -S
import os, sys

words = sys.argv[1:]
if words[0] == "network":
    sys.exit(0)
if words[0] in ("run", "create"):
    (name,) = (w.removeprefix("--name=") for w in words if w.startswith("--name="))
    number = int(CONTAINERS[name].rpartition(".")[2])
    # The same device after a restart: the others would look for the old one for half a minute.
    network = [f"--network={NETWORK}", "--ip=" + CONTAINERS[name]]
    network.append(f"--mac-address=02:00:00:00:00:{{number:02x}}")
    network += [f"--add-host={{host}}:{{address}}" for host, address in HOSTS.items()]
    keep, at = [], 0
    while at < len(words):
        if words[at] in ("-p", "--net", "--network-alias"):
            at += 1
        else:
            keep.append(words[at])
        at += 1
    words = [keep[0], *network, *keep[1:]]
os.execvp("podman", ["podman", *words])
"""
"""Stands between podman-compose and Podman."""

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not os.environ.get("WATTLINE_CONTAINERS"), reason="containers: make container-test"),
]


def address(host: str) -> str:
    return f"{SUBNET}.{HOSTS[host]}"


@dataclass
class Machine:
    """A folder with a compose file as an operator has it, on a machine of his."""

    podman: Engine
    folder: Path
    project: str

    @classmethod
    def made(cls, podman: Engine, folder: Path, part: str, project: str) -> Machine:
        shutil.copytree(DEPLOY / part, folder)
        return cls(podman, folder, project)

    def compose(self, *words: str) -> str:
        options = ("--podman-path", self.folder.parent / "podman", "-p", self.project)
        file = self.folder / "compose.yaml"
        return self.podman.run("podman-compose", *options, "-f", file, *words, timeout_s=120)

    def container(self, service: str) -> str:
        return f"{self.project}_{service}_1"

    def set(self, file: str, **values: str) -> None:
        """Settings in place of those of a file of settings."""
        path = self.folder / file
        text = path.read_text("utf-8")
        for name, value in values.items():
            text = re.sub(rf"^#?{name}=.*\n", "", text, flags=re.MULTILINE) + f"{name}={value}\n"
        path.write_text(text)

    def secret(self, name: str, text: str, owner: int = USER) -> None:
        """A file for the user of a container alone."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        os.chown(path.parent, owner, owner)
        path.write_text(text)
        path.chmod(0o400)
        os.chown(path, owner, owner)


@pytest.fixture(scope="module")
def ready(podman: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine with the other images and a network; skipped where this machine makes none."""
    try:
        with machine("this machine has no network of containers"):
            podman.podman("network", "rm", "--force", NETWORK, check=False)
            podman.podman("network", "create", f"--subnet={SUBNET}.0/24", NETWORK)
            options = ("--rm", f"--network={NETWORK}", f"--ip={SUBNET}.99", "--add-host=x:127.0.0.1")
            said = podman.podman("run", *options, stand_ins.BASE, "cat", "/proc/net/dev")
            assert "eth0" in said, "a container has no network device"
    except NotPossible as why:
        if os.environ["WATTLINE_CONTAINERS"] == "1":
            raise
        pytest.skip(f"container tests are skipped: {why}")
    stand_ins.make(podman, tmp_path_factory.mktemp("images"))
    yield podman
    podman.podman("container", "rm", "--all", "--force", "--time=0")
    podman.podman("network", "rm", "--force", NETWORK)
    podman.podman("image", "rm", "--force", *stand_ins.names())


@dataclass
class Fleet:
    """The hub, the cell and the edge."""

    hubs: list[Machine]
    cell: Machine
    edge: Machine
    ca: str

    @property
    def all(self) -> list[tuple[Machine, str]]:
        """Every container that an operator may have to restart."""
        hubs = [(one, "hub") for one in self.hubs]
        return [*hubs, (self.cell, "timescaledb"), (self.cell, "wattline"), (self.edge, "edge")]

    def connection(self) -> psycopg.Connection[tuple[Any, ...]]:
        password = (self.cell.folder / "keys" / "database_password").read_text()
        return psycopg.connect(
            host=address("timescaledb"),
            user="wattline",
            dbname="wattline",
            password=password,
            connect_timeout=3,
        )

    def seconds(self) -> list[float]:
        """When the readings that the cell has were taken."""
        with self.connection() as connection:
            rows = connection.execute("SELECT EXTRACT(EPOCH FROM at)::float8 FROM readings ORDER BY at")
            return [at for (at,) in rows]


@pytest.fixture
def fleet(ready: Engine, tmp_path: Path) -> Iterator[Fleet]:
    authority = Authority("bank")
    for part in (tmp_path, *tmp_path.parents):
        if part.is_relative_to(Path("/tmp")) and part != Path("/tmp"):
            part.chmod(0o755)
    tables = {"CONTAINERS": {name: address(host) for name, host in CONTAINERS.items()}}
    tables["HOSTS"] = {host: address(host) for host in HOSTS}
    (tmp_path / "podman").write_text(
        PODMAN.replace("words = ", "".join(f"{name} = {t!r}\n" for name, t in tables.items()) + "words = ", 1)
    )
    (tmp_path / "podman").chmod(0o755)
    hubs = [Machine.made(ready, tmp_path / name, "hub", name) for name in "abc"]
    cell = Machine.made(ready, tmp_path / "cell", "cell", "north")
    edge = Machine.made(ready, tmp_path / "edge", "edge", "sh1")
    everything = Fleet(hubs, cell, edge, authority.pem)
    for one in hubs:
        certificates(one, authority, f"{one.project}.bank.example", USER)
        others = [f"nats-route://{o}.bank.example:6222" for o in "abc" if o != one.project]
        own = {"HUB_NAME": one.project, "HUB_ADDRESS": f"{one.project}.bank.example:6222"}
        one.set("hub.env", HUB_ROUTES=f"[{', '.join(others)}]", **own)
        (one.folder / "data").mkdir()
        os.chown(one.folder / "data", USER, USER)
    certificates(cell, authority, "north.wattline.bank.example", 101)
    ready.podman(
        "run", "--detach", "--name=meter", f"--network={NETWORK}", f"--ip={address('meter')}",
        "--entrypoint=python", IMAGE, "-c", METER,
    )  # fmt: skip
    yield everything
    ready.podman("container", "rm", "--all", "--force", "--time=0")
    ready.podman("volume", "rm", "--all", "--force")


def certificates(one: Machine, authority: Authority, host: str, owner: int) -> None:
    certificate, key = authority.issue(host, one.folder, (host,))
    for name, text in (("cert", certificate.read_text()), ("key", key.read_text()), ("ca", authority.pem)):
        one.secret(f"certs/{name}.pem", text, owner)


def start(fleet: Fleet, podman: Engine) -> str:
    """Everything as the how-to has it; the administrator's key."""
    cell, edge = fleet.cell, fleet.edge
    password, service = secrets.token_hex(12), secrets.token_hex(12)
    cell.secret("keys/database_password", password)
    (cell.folder / "keys" / "database_password").chmod(0o444)
    cell.secret("keys/database_url", f"postgresql://service:{service}@timescaledb/wattline?sslmode=disable")
    owner = f"postgresql://wattline:{password}@timescaledb/wattline?sslmode=disable"
    cell.secret("owner/database_owner_url", owner)
    cell.secret("keys/audit_key", secrets.token_hex(32))
    (cell.folder / "site.yaml").write_text(SITE)
    of_cell = hub_key(podman, cell)
    cell.secret("keys/ca.pem", fleet.ca)
    cell.set("cell.env", WATTLINE_HUB_URL=HUB, WATTLINE_HUB_CA_FILE="/etc/wattline/keys/ca.pem")
    users(fleet, of_cell, of_cell, "0" * 12)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda one: one.compose("up", "--detach"), [cell, *fleet.hubs]))
    until(lambda: is_ready(f"http://{address('wattline')}:8080"), 120, "the cell")
    inside = ("exec", cell.container("wattline"))
    key = podman.podman(*inside, "wattline", "edges", "create", "sh1-box", "--site", "sh1").strip()
    edge.secret("keys/edge_key", key)
    edge.secret("keys/page_key", secrets.token_hex(16))
    edge.secret("keys/ca.pem", fleet.ca)
    users(fleet, of_cell, hub_key(podman, edge), key.split("_")[1])
    for one in fleet.hubs:
        podman.podman("kill", "--signal=HUP", one.container("hub"))
    edge.set("edge.env", WATTLINE_CENTRE_URL=HUB, WATTLINE_CENTRE_CA_FILE="/etc/wattline/keys/ca.pem")
    edge.compose("up", "--detach")
    return podman.podman(*inside, "cat", "/data/first_key").strip()


def hub_key(podman: Engine, one: Machine) -> str:
    """A seed for a machine; the public key."""
    place = f"--volume={one.folder / 'keys'}:/keys"
    (one.folder / "keys").mkdir(exist_ok=True)
    os.chown(one.folder / "keys", USER, USER)
    return podman.podman("run", "--rm", place, IMAGE, "hub", "key", "/keys/hub.seed").split()[0]


def users(fleet: Fleet, of_cell: str, of_edge: str, edge_id: str) -> None:
    text = (DEPLOY / "hub" / "users.conf").read_text("utf-8")
    if of_edge == of_cell:  # there is no edge yet
        text = text[: text.index("    # Edge of site sh1")] + "  ]\n}\n"
    text = text.replace("UCELLNORTH", of_cell).replace("UEDGESH1", of_edge).replace("0123456789ab", edge_id)
    for one in fleet.hubs:
        (one.folder / "users.conf").write_text(text)


def is_ready(base: str) -> bool:
    try:
        return httpx.get(f"{base}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_readings_of_a_meter_arrive_and_no_restart_loses_one(fleet: Fleet, ready: Engine) -> None:
    key = start(fleet, ready)
    until(lambda: count(fleet) > 2, 90, "readings in the cell")
    for one, service in fleet.all:
        ready.podman("restart", "--time=10", one.container(service))
        more = partial(has_more_than, fleet, count(fleet) + 2)
        until(more, 90, f"readings after a restart of {service}")
    seconds = fleet.seconds()
    gaps = sorted(later - first for first, later in pairwise(seconds))
    assert gaps[-2] < 3, "the edge goes on reading while the others are away"
    assert gaps[-1] < 30, "and while it restarts itself it reads nothing"
    with fleet.connection() as connection:
        dropped = connection.execute("SELECT count(*) FROM dropped_readings").fetchone()
    assert dropped == (0,)
    trusted = ssl.create_default_context(cadata=fleet.ca)
    host = "north.wattline.bank.example"
    with httpx.Client(verify=trusted, headers={"Authorization": f"Bearer {key}", "Host": host}) as http:
        url = f"https://{address(host)}:8443/api/v1/fleet/edges"
        (edge,) = http.get(url, extensions={"sni_hostname": host}).json()["edges"]
    assert edge["name"] == "sh1-box"
    for one, service in fleet.all:
        status = ready.podman("exec", one.container(service), "cat", "/proc/1/status")
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        assert not re.search(r"^Uid:\t0", status, re.MULTILINE)


def count(fleet: Fleet) -> int:
    """Readings that the cell has; none while its database is away."""
    try:
        return len(fleet.seconds())
    except psycopg.Error:
        return 0


def has_more_than(fleet: Fleet, readings: int) -> bool:
    return count(fleet) > readings
