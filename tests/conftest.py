"""Fixtures that every test may use: a real PostgreSQL, real data, no sockets where none belong."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import psycopg
import pytest
import pytest_socket
import sqlalchemy as sa
from hypothesis import HealthCheck
from psycopg import conninfo, sql

from app.store import audit_key, readiness
from app.store.embedded.server import EmbeddedServer
from app.store.engine import make_engine
from app.store.migrate import upgrade

ROOT = Path(__file__).parents[1]
_SOCKETLESS = (ROOT / "tests" / "unit", ROOT / "tests" / "property")
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "4GB"}
_numbers = itertools.count(1)

# No test judges by time, and a shared machine stalls; elsewhere than in CI every run looks at new cases.
_CALM = (HealthCheck.too_slow,)
hypothesis.settings.register_profile(
    "wattline", deadline=None, derandomize=bool(os.environ.get("CI")), suppress_health_check=_CALM
)
hypothesis.settings.load_profile("wattline")


@pytest.fixture(autouse=True)
def _no_sockets(request: pytest.FixtureRequest) -> Iterator[None]:
    """Unit and property tests open none, except to make an event loop."""
    if not any(folder in request.path.parents for folder in _SOCKETLESS):
        yield
        return
    pytest_socket.disable_socket(allow_unix_socket=True)
    yield
    pytest_socket.enable_socket()


@pytest.fixture(autouse=True)
def _no_signing_key() -> Iterator[None]:
    """What one test's command signs the audit log with is not for the next test."""
    yield
    audit_key.use(lambda: None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings beside the repository."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real data: ../shared/data is absent")
    return folder


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A new data directory that every user may enter (pytest's own are closed to others)."""
    with tempfile.TemporaryDirectory(prefix="wattline-test-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder) / "data"


@pytest.fixture(scope="session")
def _urls() -> Iterator[tuple[str, str | None]]:
    """URL of a server for this test process, and that of its superuser."""
    given = os.environ.get("WATTLINE_TEST_DATABASE_URL")
    if given:
        yield given, os.environ.get("WATTLINE_TEST_SUPERUSER_URL")
        return
    folder = Path(tempfile.mkdtemp(prefix="wattline-test-"))
    folder.chmod(0o711)
    with EmbeddedServer(folder / "data", settings=_FAST) as server:
        yield server.url, server.owner_url
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server_url(_urls: tuple[str, str | None]) -> str:
    """A PostgreSQL server for this test process: ``WATTLINE_TEST_DATABASE_URL``, or an embedded one."""
    return _urls[0]


@pytest.fixture
def superuser_url(_urls: tuple[str, str | None], database_url: str) -> str:
    """The database of :func:`database_url` as a superuser: ``WATTLINE_TEST_SUPERUSER_URL``, or embedded."""
    if _urls[1] is None:
        pytest.skip("no superuser: WATTLINE_TEST_SUPERUSER_URL is not set")
    return _with_database(_urls[1], str(conninfo.conninfo_to_dict(database_url)["dbname"]))


@pytest.fixture(scope="session")
def _template(server_url: str) -> Iterator[str | None]:
    """Name of a database with the current schema, to copy; None where each has to be made anew.

    The workers of TimescaleDB are connected to every database that has it, and such a one cannot be copied.
    """
    name = f"wattline_template_{os.getpid()}"
    _admin(server_url, "CREATE DATABASE {}", name)
    yield name if _shaped(_with_database(server_url, name)) == "postgresql" else None
    _drop(server_url, name)


def _shaped(url: str) -> str:
    """Bring a database into the current shape; what kind it is then."""
    engine = make_engine(url)
    try:
        upgrade(engine)
        return readiness.check(engine).engine
    finally:
        engine.dispose()


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """A new database without any table."""
    name = f"wattline_empty_{os.getpid()}_{next(_numbers)}"
    _admin(server_url, "CREATE DATABASE {}", name)
    yield _with_database(server_url, name)
    _drop(server_url, name)


@pytest.fixture
def database_url(server_url: str, _template: str | None) -> Iterator[str]:
    """A new database with the current schema and nothing in it."""
    with _new_database(server_url, _template) as url:
        yield url


@pytest.fixture
def other_database_url(server_url: str, _template: str | None) -> Iterator[str]:
    """A second one, e.g. of another cell."""
    with _new_database(server_url, _template) as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(server_url: str, _template: str | None) -> Iterator[str]:
    """The same for all tests of a file, where filling it takes long."""
    with _new_database(server_url, _template) as url:
        yield url


@contextmanager
def _new_database(server_url: str, template: str | None) -> Iterator[str]:
    name = f"wattline_test_{os.getpid()}_{next(_numbers)}"
    if template is None:
        _admin(server_url, "CREATE DATABASE {}", name)
        _shaped(_with_database(server_url, name))
    else:
        _admin(server_url, "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", name, template)
    yield _with_database(server_url, name)
    _drop(server_url, name)


@pytest.fixture
def make_test_engine() -> Iterator[Callable[..., sa.Engine]]:
    """`make_engine`, with the engines closed at the end of the test."""
    engines: list[sa.Engine] = []

    def make(url: str | Callable[[], str], **options: object) -> sa.Engine:
        engines.append(make_engine(url, **options))  # type: ignore[arg-type]
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def engine(database_url: str, make_test_engine: Callable[..., sa.Engine]) -> sa.Engine:
    """Engine on a new database with the current schema."""
    return make_test_engine(database_url)


def _drop(server_url: str, name: str) -> None:
    """Plain first: it waits for the server's own workers, which FORCE may not end."""
    try:
        _admin(server_url, "DROP DATABASE {}", name)
    except psycopg.errors.ObjectInUse:
        _admin(server_url, "DROP DATABASE {} WITH (FORCE)", name)


def _admin(server_url: str, statement: str, *names: str) -> None:
    query = sql.SQL(statement).format(*map(sql.Identifier, names))
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(query)


def _with_database(server_url: str, name: str) -> str:
    """The server's URL (kept a URL: the service is configured with one) for another database."""
    parts = conninfo.conninfo_to_dict(server_url)
    user, password = parts.get("user", "postgres"), parts.get("password", "")
    query = f"?sslmode={parts['sslmode']}" if "sslmode" in parts else ""
    return f"postgresql://{user}:{password}@{parts['host']}:{parts.get('port', 5432)}/{name}{query}"
