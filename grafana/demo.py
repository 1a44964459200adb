"""A demo with a Prometheus that scrapes it, for the tests and the contact sheet."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psycopg
import yaml

HERE = Path(__file__).parent
T = TypeVar("T")
SCRAPE_S = 2
RUNBOOK_URL = "http://127.0.0.1:8080/runbook"
PATIENCE_S = 240.0
_STOP_S = 60.0


@dataclass(frozen=True)
class Live:
    """Addresses of what is running."""

    wattline: str
    database: str
    """URL of the reading role."""
    prometheus: str


@contextmanager
def live(prometheus: Path, days: int | None, *, with_alarms: bool = False) -> Iterator[Live]:
    """A demo with so many days of history (None: all of it), loaded and worked out, and scraped.

    Parameters
    ----------
    prometheus : Path
        The program.
    days : int or None
    with_alarms : bool
        Also wait until the alarms of the history are on record.

    Raises
    ------
    TimeoutError
        If one of them is not ready in time.
    """
    with _folder() as folder:
        environment = {"WATTLINE_DATA_DIR": str(folder / "data")}
        if days is not None:
            environment["WATTLINE_DEMO_DAYS"] = str(days)
        demo = [str(Path(sys.executable).with_name("wattline")), "demo", "--no-browser", "--port", "0"]
        with program(demo, folder / "demo.log", environment):
            log = folder / "demo.log"
            base = wait(lambda: _word(log, "http://"), "the demo's address")
            url = wait(lambda: _word(log, "postgresql://"), "the reading role")
            wait(lambda: "history is loaded" in log.read_text() and _is_whole(url), "the history")
            if with_alarms:
                wait(lambda: "history are on record" in log.read_text(), "the alarms of the history")
            with scraping(prometheus, folder, base.removeprefix("http://")) as address:
                wait(lambda: has_data(address, "rate(wattline_readings_stored_total[1m])"), "scrapes")
                yield Live(base, url, address)


@contextmanager
def scraping(prometheus: Path, folder: Path, target: str) -> Iterator[str]:
    """Address of a Prometheus that has our rules and scrapes `target`."""
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(local_config(target)))
    port = free_port()
    command = [
        str(prometheus),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        "--enable-feature=expand-external-labels",  # so by itself from Prometheus 3 on
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    address = f"http://127.0.0.1:{port}"
    environment = {"WATTLINE_RUNBOOK_URL": RUNBOOK_URL}
    with program(command, folder / "prometheus.log", environment):
        wait(lambda: _answers(f"{address}/-/ready"), "Prometheus")
        yield address


def local_config(target: str) -> dict[str, Any]:
    """Our Prometheus configuration for a service on this machine that asks for no key."""
    config: dict[str, Any] = yaml.safe_load((HERE / "prometheus" / "prometheus.yml").read_text("utf-8"))
    often = ("scrape_interval", "scrape_timeout", "evaluation_interval")
    config["global"] |= dict.fromkeys(often, f"{SCRAPE_S}s")
    config["rule_files"] = [str(HERE / "prometheus" / pattern) for pattern in config["rule_files"]]
    del config["alerting"]
    (job,) = (job for job in config["scrape_configs"] if job["job_name"] == "wattline")
    del job["authorization"]
    job["static_configs"] = [{"targets": [target]}]
    config["scrape_configs"] = [job]
    return config


def program_named(name: str) -> Path:
    """Where a program is.

    Raises
    ------
    FileNotFoundError
        If it is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"no program {name}; install it with: apt-get install {name}")
    return Path(found)


@contextmanager
def program(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block; what it says goes to `log`."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **(environment or {})},
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(_STOP_S)


def wait(what: Callable[[], T], name: str) -> T:
    """The first true value of `what`."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        threading.Event().wait(0.2)
    raise TimeoutError(f"{name} not ready within {PATIENCE_S:.0f} s; look at the logs")


def has_data(prometheus: str, query: str) -> bool:
    """Whether a PromQL query gives any sample now."""
    reply = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}, timeout=30)
    return reply.status_code == 200 and bool(reply.json()["data"]["result"])


def free_port() -> int:
    """A port of this machine that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder that the user who runs the database may enter."""
    folder = Path(tempfile.mkdtemp(prefix="wattline-boards-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _word(log: Path, start: str) -> str:
    return next((word for word in log.read_text().split() if word.startswith(start)), "")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


_WHOLE = """
    SELECT (SELECT count(*) FROM v_outlook) = (SELECT count(*) FROM v_site)
       AND (SELECT count(*) FROM v_findings) > 0
       AND (SELECT count(pue) FROM v_pue_window WHERE "window" = '24h') = (SELECT count(*) FROM v_site)
"""


def _is_whole(url: str) -> bool:
    """Whether everything that follows from the history has been worked out."""
    with psycopg.connect(url) as connection:
        row = connection.execute(_WHOLE).fetchone()
    return bool(row and row[0])
