"""The product as it serves: ``wattline serve`` as users run it, or only its HTTP interface."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx
import uvicorn
from fastapi import FastAPI

_T = TypeVar("_T")
_PATIENCE_S = 300.0


@contextmanager
def service(
    folder: Path, site_file: Path | None, sites: int = 2, command: str = "serve --port 0"
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The service and its address, once it knows its sites; what it says is in the file ``log``."""
    environment = {
        **os.environ,
        "WATTLINE_DATA_DIR": str(folder / "data"),
        **({"WATTLINE_CONFIG": str(site_file)} if site_file else {}),
    }
    environment.pop("WATTLINE_DATABASE_URL", None)
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("wattline"), *command.split()],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
        )
    try:
        base = until(lambda: _address(log), process)
        until(lambda: _is_ready(base, sites), process)
        yield process, base
    finally:
        process.terminate()
        process.wait(60)


def _address(log: Path) -> str:
    return next((word for word in log.read_text().split() if word.startswith("http://")), "")


def _is_ready(base: str, sites: int) -> bool:
    try:
        return len(httpx.get(f"{base}/api/v1/sites").json().get("sites", ())) == sites
    except httpx.TransportError:
        return False


def until(what: Callable[[], _T], process: subprocess.Popen[str]) -> _T:
    """What is waited for, once it is there; the process must not end before."""
    deadline = time.monotonic() + _PATIENCE_S
    while not (value := what()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the service did not start")
        time.sleep(0.2)
    return value


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Base address of `app`, served in a thread until the end of the block."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def free_port() -> int:
    """A port on loopback that nobody uses just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
