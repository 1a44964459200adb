"""Schemathesis against the OpenAPI document: all its checks, with a key and without."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from app.api.auth import KeyAuthenticator
from app.domain.access import Grant
from app.store import identity
from tests.integration.api_helpers import NOW, a_day, client, own_database

SETTINGS = Path(__file__).with_name("schemathesis.toml")
MAX_TIME_S = 28
PLENTY = 1_000_000


@pytest.fixture(scope="module")
def database(server_url: str, _template: str) -> Iterator[sa.Engine]:
    """A database for this module, with the fleet and a day of readings."""
    with own_database(server_url, _template) as engine:
        a_day(engine)
        yield engine


@pytest.fixture
def http(database: sa.Engine) -> Iterator[httpx.Client]:
    """The application, which asks for keys, as often as anybody likes."""
    asks = KeyAuthenticator(database, requests_per_minute=PLENTY, failures_per_minute=PLENTY)
    with client(database, authenticator=asks, clock=lambda: NOW) as http:
        yield http


def run(http: httpx.Client, folder: Path, *arguments: str) -> None:
    """Run schemathesis; its report is the message of a failure."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(SETTINGS), "run"]
    done = subprocess.run(
        [*command, f"{http.base_url}/openapi.json", "--no-color", "--generation-deterministic", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=MAX_TIME_S * 4,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def _without(*operations: str) -> list[str]:
    """Leave out what would lock the test out, or ask addresses beyond this machine."""
    return [part for name in operations for part in ("--exclude-operation-id", name)]


@pytest.mark.timeout(MAX_TIME_S * 5)
@pytest.mark.parametrize(
    ("role", "seconds"),
    [
        *((role, MAX_TIME_S) for role in ("viewer", "operator", "admin")),
        *((role, MAX_TIME_S // 3) for role in ("system", "security", "audit")),
    ],
)
def test_every_operation_keeps_to_its_description(
    http: httpx.Client, database: sa.Engine, tmp_path: Path, role: str, seconds: int
) -> None:
    with database.begin() as connection:
        key = identity.create(connection, f"schemathesis {role}", [Grant.parse(role)], created_by="test")
    limits = ["--max-time", str(seconds), "-n", "15", *_without("revoke_key", "probe_address")]
    run(http, tmp_path, "-H", f"Authorization: Bearer {key}", *limits)


@pytest.mark.timeout(MAX_TIME_S * 5)
def test_without_a_key_there_are_only_refusals(http: httpx.Client, tmp_path: Path) -> None:
    run(http, tmp_path, "--max-time", "8", "-n", "3", "--phases", "coverage,fuzzing")
