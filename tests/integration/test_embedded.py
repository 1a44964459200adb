"""The embedded server: private, shared clearly, back after any kill, gone with its parent."""

from __future__ import annotations

import os
import select
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from app.errors import ConfigError, StoreUnavailable
from app.store.embedded import paths
from app.store.embedded.server import EmbeddedServer
from app.store.engine import begin, connect, wait_until_up
from tests.waiting import until

ROOT = Path(__file__).parents[2]
OWNER = """
import sys, pathlib
from app.store.embedded.server import EmbeddedServer
from tests.waiting import until
server = EmbeddedServer(pathlib.Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server(data_dir: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(data_dir) as running:
        yield running


def ask(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def test_it_answers_on_the_loopback_alone_and_only_with_the_password(server: EmbeddedServer) -> None:
    assert ask(server.url, "SHOW listen_addresses") == "127.0.0.1"
    assert ask(server.owner_url, "SHOW unix_socket_directories") == ""
    assert ask(server.url, "SHOW server_encoding") == "UTF8"
    assert ask(server.url, "SHOW timezone") == "UTC"
    assert ask(server.url, "SELECT datcollate FROM pg_database WHERE datname = current_database()") == "C"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        ask(server.url.replace("wattline:", "wattline:x"), "SELECT 1")


def test_it_keeps_its_secrets_from_other_users(server: EmbeddedServer, data_dir: Path) -> None:
    assert server.pid is not None
    assert stat.S_IMODE((data_dir / "postgres.password").stat().st_mode) == 0o600
    assert stat.S_IMODE((data_dir / "postgres").stat().st_mode) == 0o700
    assert Path(f"/proc/{server.pid}").stat().st_uid != 0
    password = (data_dir / "postgres.password").read_bytes()
    assert password not in Path(f"/proc/{server.pid}/cmdline").read_bytes()


def test_the_service_is_no_superuser(server: EmbeddedServer) -> None:
    assert ask(server.url, "SHOW is_superuser") == "off"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(server.url, "SELECT pg_read_file('/etc/passwd')")


def test_it_comes_back_where_it_was(data_dir: Path) -> None:
    server = EmbeddedServer(data_dir)
    server.start()
    first = server.url
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    server.stop()
    server.start()

    assert server.url == first
    assert ask(server.url, "SELECT answer FROM kept") == 42
    server.stop()
    server.stop()


def test_another_port_if_the_remembered_one_is_taken(data_dir: Path) -> None:
    with EmbeddedServer(data_dir) as server:
        taken = server.url
    port = int(taken.rsplit(":", 1)[1].split("/")[0])
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import socket; s = socket.create_server(('127.0.0.1', {port})); print(1, flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as squatter:
        assert squatter.stdout is not None
        squatter.stdout.readline()
        with EmbeddedServer(data_dir) as server:
            assert server.url != taken
            assert ask(server.url, "SELECT 1") == 1
        squatter.communicate(b"\n")


def _is_another(server: EmbeddedServer, killed: int) -> bool:
    return server.pid not in (None, killed)


def test_killed_postgres_comes_back_with_every_committed_row(
    server: EmbeddedServer, make_test_engine: Callable[..., sa.Engine]
) -> None:
    engine = make_test_engine(lambda: server.url)
    with begin(engine) as connection:
        connection.execute(sa.text("CREATE TABLE kept (n int)"))
    for number in range(3):
        wait_until_up(engine, 30, pause_s=0.02)
        with begin(engine) as connection:
            connection.execute(sa.text("INSERT INTO kept VALUES (:n)"), {"n": number})
        engine.dispose()
        assert server.pid is not None
        killed = server.pid
        os.kill(killed, signal.SIGKILL)
        until(partial(_is_another, server, killed), name="the next server")
    wait_until_up(engine, 30, pause_s=0.02)
    with connect(engine) as connection:
        assert connection.execute(sa.text("SELECT array_agg(n ORDER BY n) FROM kept")).scalar() == [0, 1, 2]


def start_owner(data_dir: Path) -> tuple[subprocess.Popen[bytes], int]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(data_dir)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    return owner, int(owner.stdout.readline())


def close(owner: subprocess.Popen[bytes]) -> None:
    owner.communicate()


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_it_does_not_outlive_its_parent(data_dir: Path, sign: signal.Signals) -> None:
    owner, pid = start_owner(data_dir)
    watch = os.pidfd_open(pid)
    owner.send_signal(sign)
    close(owner)
    ended, _, _ = select.select([watch], [], [], 30)
    os.close(watch)

    assert ended


def test_it_starts_again_at_once_after_its_parent_was_killed(data_dir: Path) -> None:
    for _ in range(3):
        owner, _ = start_owner(data_dir)
        owner.kill()
        close(owner)
    with EmbeddedServer(data_dir) as server:
        assert server.is_owner
        assert ask(server.url, "SELECT 1") == 1


def test_a_second_process_shares_the_server_and_takes_over(data_dir: Path) -> None:
    owner, _ = start_owner(data_dir)
    second = EmbeddedServer(data_dir)
    second.start()
    shared = second.url
    assert not second.is_owner
    assert ask(shared, "SELECT 1") == 1

    close(owner)  # its standard input ends, and with it the process and its server
    second._wait_until_up(float("inf"))
    assert ask(second.url, "SELECT 1") == 1
    assert second.url == shared
    second.stop()


def test_one_that_shares_leaves_the_server_alone(server: EmbeddedServer, data_dir: Path) -> None:
    second = EmbeddedServer(data_dir)
    second.start()
    second.stop()

    assert server.is_owner
    assert ask(server.url, "SELECT 1") == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root steps down to another user")
def test_root_with_a_closed_folder_keeps_the_cluster_elsewhere(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = data_dir.parent / "common"
    monkeypatch.setattr(paths, "COMMON_FOLDER", common)
    closed = data_dir.parent / "closed"
    closed.mkdir(mode=0o700)
    with EmbeddedServer(closed / "data") as server:
        assert ask(server.url, "SELECT 1") == 1

    assert (next(common.iterdir()) / "PG_VERSION").exists()
    assert not (closed / "data" / "postgres").exists()
    with EmbeddedServer(closed / "data") as server:
        assert ask(server.url, "SELECT 1") == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root steps down to another user")
def test_root_with_a_closed_installation_runs_a_copy(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "COMMON_FOLDER", data_dir.parent / "common")
    closed = data_dir.parent / "closed"
    closed.mkdir(mode=0o700)
    installed = paths.packaged_bin_dir().parents[2]
    for part in paths.PACKAGED_PARTS:
        shutil.copytree(installed / part, closed / part, symlinks=True)
    monkeypatch.setattr(paths, "packaged_bin_dir", lambda: closed / paths.PACKAGED_PARTS[0] / "bin")
    for _ in range(2):
        with EmbeddedServer(data_dir) as server:
            assert ask(server.url, "SELECT 1") == 1

    assert [p.name.split("-")[0] for p in (data_dir.parent / "common").iterdir()] == ["postgresql"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root steps down to another user")
def test_root_with_a_closed_bin_folder_of_ones_own_is_told(data_dir: Path) -> None:
    closed = data_dir.parent / "closed"
    closed.mkdir(mode=0o700)
    for name in ("postgres", "initdb"):
        (closed / name).touch()
    with pytest.raises(ConfigError, match="cannot run the programs"):
        EmbeddedServer(data_dir, bin_dir=closed).start()


@pytest.mark.skipif(os.getuid() != 0, reason="only root steps down to another user")
def test_root_without_a_reachable_folder_is_told_what_to_do(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = data_dir.parent / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(paths, "COMMON_FOLDER", closed / "common")
    with pytest.raises(ConfigError, match=r"WATTLINE_DATA_DIR.*parent folders every user may enter"):
        EmbeddedServer(closed / "data").start()


def test_a_folder_without_postgres_is_refused(data_dir: Path) -> None:
    with pytest.raises(ConfigError, match="name a PostgreSQL bin folder"):
        EmbeddedServer(data_dir, bin_dir=data_dir.parent).start()


def test_an_unknown_user_is_refused(data_dir: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root steps down to another user")
    with pytest.raises(ConfigError, match="useradd"):
        EmbeddedServer(data_dir, run_as="no-such-user").start()


def test_a_broken_cluster_says_what_postgres_said(data_dir: Path) -> None:
    with EmbeddedServer(data_dir):
        pass
    (data_dir / "postgres" / "global" / "pg_control").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match="pg_control"):
        EmbeddedServer(data_dir).start()


def test_an_unfinished_first_start_is_begun_anew(data_dir: Path) -> None:
    data_dir.mkdir()
    data_dir.chmod(0o711)
    (data_dir / ".initdb-killed").mkdir()
    with EmbeddedServer(data_dir) as server:
        assert ask(server.url, "SELECT 1") == 1


def test_a_stale_pid_file_that_names_another_program_does_no_harm(data_dir: Path) -> None:
    with EmbeddedServer(data_dir):
        pass
    (data_dir / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n")
    with EmbeddedServer(data_dir) as server:
        assert ask(server.url, "SELECT 1") == 1


def test_free_space_is_that_of_the_disk_below(server: EmbeddedServer, data_dir: Path) -> None:
    assert server.disk_free_bytes() == pytest.approx(shutil.disk_usage(data_dir).free, rel=0.1)
    assert EmbeddedServer(data_dir / "never-started").disk_free_bytes() is None


def test_the_url_of_a_directory_without_a_server_says_so(data_dir: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no database server was started"):
        _ = EmbeddedServer(data_dir).url
