"""The image built from the Dockerfile as it stands and run as compose runs it; `make container-test`."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml
from psycopg import conninfo

from app.store.migrate import head
from tests.containers.engine import BASE, HARDENED, IMAGE, ROOT, Engine
from tests.paper import pages_of
from tests.programs import need_program
from tests.waiting import until

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
MOST_MB = 465
"""Of what stands on the base (it was 971). Python's own slim base has about 125 MB: 590 in all."""
SITE = """
institutions: [{id: bank, institution_class: joint_stock}]
sites:
  - id: sh1
    name: 上海数据中心
    institution: bank
    time_zone: Asia/Shanghai
    meters:
      - {id: main, rated_power_kw: 1000, points: [{id: main.kwh, role: facility, kind: register}]}
      - {id: ups, rated_power_kw: 800, points: [{id: ups.kwh, role: it_ups_output, kind: register}]}
"""

pytestmark = [
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not os.environ.get("WATTLINE_CONTAINERS"), reason="containers: make container-test"),
]


def test_the_image_is_small(podman: Engine) -> None:
    """By what stands on the base: the one made here is larger than Python's own."""
    layers = podman.podman("image", "inspect", "--format", "{{.Size}}", IMAGE, BASE).split()
    assert (int(layers[0]) - int(layers[1])) / 1e6 < MOST_MB


@dataclass
class World:
    """What compose would have beside it, in a folder, with a database of this test."""

    podman: Engine
    folder: Path
    database: str
    """As the superuser."""
    names: list[str] = field(default_factory=list)

    def options(self, service: str) -> list[str]:
        """Environment, secrets and volumes of a service of compose.yaml, as Podman takes them."""
        described = COMPOSE["services"][service]
        found = [*HARDENED, "--network=host"]
        assert described["read_only"]
        assert described["cap_drop"] == ["ALL"]
        for name, value in described["environment"].items():
            plain = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
            found.append(f"--env={name}={plain}")
        secret_files = self.folder / "secrets"
        found += [f"--volume={secret_files / name}:/run/secrets/{name}:ro" for name in described["secrets"]]
        for volume in described["volumes"]:
            source, _, rest = volume.partition(":")
            place = self.folder / source if source.startswith("./") and source != "./grafana" else source
            found.append(f"--volume={ROOT / source if source == './grafana' else place}:{rest}")
        return found

    def run(self, service: str, *, check: bool = True) -> str:
        """Run a service of compose.yaml to its end; what it says."""
        described = COMPOSE["services"][service]
        entry = described.get("entrypoint")
        first = [f"--entrypoint={json.dumps(list(map(str, entry)))}"] if entry else []
        words = [str(word) for word in described["command"]]
        return self.podman.podman("run", "--rm", *first, *self.options(service), IMAGE, *words, check=check)

    @contextmanager
    def running(self, service: str) -> Iterator[str]:
        """Base address of a service that runs until the end of the block, and then stops as asked."""
        name, port = f"{service}-{secrets.token_hex(4)}", free_port()
        words = [
            str(port) if word == "8080" else str(word) for word in COMPOSE["services"][service]["command"]
        ]
        self.podman.podman("run", "--detach", f"--name={name}", *self.options(service), IMAGE, *words)
        self.names.append(name)
        base = f"http://127.0.0.1:{port}"
        try:
            until(lambda: answers(f"{base}/healthz"), timeout_s=180, name=self.podman.podman("logs", name))
            yield base
        finally:
            # Podman kills what has not ended within the time; its exit code is then not 0.
            self.podman.podman("stop", "--time=10", name)
        assert self.podman.podman("inspect", "--format", "{{.State.ExitCode}}", name).strip() == "0"

    def inside(self, *words: str, check: bool = True) -> str:
        """Run something in the newest container."""
        return self.podman.podman("exec", self.names[-1], *words, check=check)

    @property
    def logs(self) -> str:
        """What the newest container wrote."""
        done = subprocess.run(
            ["podman", "logs", self.names[-1]],
            env=self.podman.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout + done.stderr


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def world(podman: Engine, superuser_url: str, tmp_path: Path) -> Iterator[World]:
    name = f"wattline_containers_{secrets.token_hex(4)}"
    owner = conninfo.conninfo_to_dict(superuser_url) | {"dbname": name}
    with psycopg.connect(superuser_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    role = f"service_{secrets.token_hex(4)}"
    folder = tmp_path / "beside"
    (folder / "secrets").mkdir(parents=True)
    kept = {
        "database_owner_url": url_of(owner),
        "database_url": url_of(owner | {"user": role, "password": secrets.token_hex(12)}),
        "audit_key": secrets.token_hex(32),
        "reader_password": secrets.token_hex(12),
        "first_key": "",
    }
    for file, text in kept.items():
        (folder / "secrets" / file).write_text(text)
        (folder / "secrets" / file).chmod(0o666 if file == "first_key" else 0o644)
    (folder / "site.yaml").write_text(SITE)
    (folder / "site.yaml").chmod(0o644)
    for part in (tmp_path, folder, folder / "secrets", *tmp_path.parents):
        if part.is_relative_to(Path("/tmp")) and part != Path("/tmp"):
            part.chmod(0o755)
    yield World(podman, folder, conninfo.make_conninfo("", **owner))
    podman.podman("container", "rm", "--all", "--force", "--time=0")
    podman.podman("volume", "rm", "--all", "--force")
    with psycopg.connect(superuser_url, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        admin.execute(f"DROP ROLE IF EXISTS {role}")


def url_of(parts: dict[str, Any]) -> str:
    host = f"{parts['user']}:{parts['password']}@{parts['host']}:{parts['port']}"
    return f"postgresql://{host}/{parts['dbname']}?sslmode=disable"


def test_compose_on_this_machine(world: World) -> None:
    assert world.run("files") == ""
    world.run("setup")
    with psycopg.connect(world.database) as connection:
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
        assert revision == head()
        roles = connection.execute(
            "SELECT count(*) FROM pg_roles WHERE rolname = 'wattline_reader'"
        ).fetchone()
        assert roles == (1,)
    key_file = world.folder / "secrets" / "first_key"
    with world.running("wattline-worker") as worker:
        until(lambda: answers(f"{worker}/readyz"), timeout_s=120, name="the worker")
        key = key_file.read_text().strip()
        assert key.startswith("wl_")
        assert key not in world.logs, "the administrator's key stands in the file alone"
        assert "first_key" in world.logs
        status = dict(re.findall(r"^(\w+):\s+(\S+)", world.inside("cat", "/proc/1/status"), re.MULTILINE))
        assert (int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"]) == (0, 0, "1")
        assert status["Uid"] == "10001"
        assert "Read-only file system" in world.inside("touch", "/opt/wattline/x", check=False)
        with (
            world.running("wattline-api") as api,
            httpx.Client(base_url=api, headers={"Authorization": f"Bearer {key}"}, timeout=120) as http,
        ):
            assert http.get("/api/v1/sites").json()["sites"][0]["name"] == "上海数据中心"
            assert httpx.get(f"{api}/api/v1/sites").status_code == 401
            send_a_month(http)
            known = until(lambda: covered(http), timeout_s=120, name="the worker's figures")
            assert known["pue"] == pytest.approx(1.4)
            pages = pages_of(report(http))
            assert "上海数据中心" in "".join(pages)
            assert "能源效率" in "".join(pages) or "电能利用效率" in "".join(pages) or "PUE" in pages[0]
    assert key_file.read_text().strip() == key, "written once"


MONTH = datetime(2026, 9, 30, 16, tzinfo=UTC)
"""First of October in Shanghai."""


def send_a_month(http: httpx.Client) -> None:
    hours = [MONTH + timedelta(hours=h) for h in range(31 * 24 + 1)]
    rows = [
        {"point": point, "at": at.isoformat(), "value": 1000.0 + load_kw * n}
        for point, load_kw in (("main.kwh", 700.0), ("ups.kwh", 500.0))
        for n, at in enumerate(hours)
    ]
    answer = http.post("/api/v1/readings", json={"readings": rows})
    assert answer.status_code == 200, answer.text
    assert answer.json()["accepted"] == len(rows)


def covered(http: httpx.Client) -> dict[str, Any] | None:
    document: dict[str, Any] = http.get("/api/v1/sites/sh1/pue", params={"month": "2026-10"}).json()
    return document if document.get("pue") is not None else None


def report(http: httpx.Client) -> bytes:
    answer = http.get("/api/v1/sites/sh1/reports/2026-10", params={"format": "pdf", "lang": "zh"})
    assert answer.status_code == 200, answer.text
    assert answer.content.startswith(b"%PDF")
    return answer.content


def test_closed_files_are_named_with_what_to_do(world: World) -> None:
    (world.folder / "site.yaml").chmod(0o600)
    said = world.run("files", check=False)
    assert "chmod a+r site.yaml" in said
    (world.folder / "secrets" / "database_url").chmod(0o600)
    said = world.run("setup", check=False)
    assert "/run/secrets/database_url" in said
    assert "user 10001" in said
    assert "chmod a+r" in said
    assert "Traceback" not in said


def test_podman_compose_understands_every_service(podman: Engine, tmp_path: Path) -> None:
    program = need_program("podman-compose")
    for files in (["compose.yaml"], ["compose.yaml", "compose.grafana-alerts.yaml"]):
        given = [word for file in files for word in ("-f", str(ROOT / file))]
        said = podman.run(str(program), *given, "--dry-run", "up", "--detach", "--no-build", check=False)
        runs = [line for line in said.splitlines() if re.match(r"^podman (run|create) ", line)]
        for service, described in COMPOSE["services"].items():
            if service == "alertmanager" and len(files) == 2:
                continue
            named = re.compile(rf"--name=\S*[_-]{service}[_-]1\s")
            (line,) = (r for r in runs if named.search(r))
            assert described["image"] in line, said[-3000:]
            assert "--read-only" in line
            assert "--cap-drop ALL" in line
            assert "no-new-privileges" in line
            assert "${" not in line, "a variable that was not understood"
