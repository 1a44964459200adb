"""An own PostgreSQL server for a deployment that has no other: started, watched and stopped with us.

One process owns the server of a data directory; it holds ``postgres.lock``. Any other process that
starts on the same directory shares the running server, and takes over when the owner goes. The server
listens on 127.0.0.1 with a generated password; port and cluster folder are remembered in ``postgres.json``.

::

    data_dir/
        postgres/            the cluster (elsewhere if its user cannot enter; see ``paths``)
        postgres.json        port and cluster folder, for processes that share the server
        postgres.lock        held by the owner
        postgres.log         what the server says
        postgres.password    mode 600
        postgres.superuser   password of the server's superuser, who owns the audit log; mode 600
"""

from __future__ import annotations

import atexit
import fcntl
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg
from psycopg import sql

from app.errors import StoreUnavailable
from app.store import public_rights
from app.store.embedded.paths import ServerPaths, find_paths

SUPERUSER = "postgres"
USER = "wattline"
"""The service's own role: owns the database, makes databases and roles, but cannot touch files."""
DATABASE = "wattline"
DATABASE_OF_ADMINISTRATORS = "postgres"

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "ssl": "off",
    "fsync": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "128MB",
    "max_connections": "100",
    "max_wal_size": "1GB",
    "wal_compression": "on",
    "max_locks_per_transaction": "256",
    "password_encryption": "scram-sha-256",
    "log_min_messages": "warning",
}
"""Modest memory, full durability. A query over years of history locks many partitions."""

_POLL_S = 0.05
_GIVE_UP_AFTER = 4
_LOG_LIMIT_BYTES = 10_000_000

_log = logging.getLogger(__name__)


class EmbeddedServer:
    """The PostgreSQL server of one data directory.

    Parameters
    ----------
    data_dir : Path
        Wattline's data directory; made if missing.
    bin_dir : Path, optional
        Any PostgreSQL ``bin`` folder (15 to 18). Default: the programs installed with Wattline.
    run_as : str, optional
        User who runs the server when Wattline runs as root.
    settings : mapping, optional
        PostgreSQL settings over :data:`SETTINGS`.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        bin_dir: Path | None = None,
        run_as: str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir
        self._bin_dir, self._run_as = bin_dir, run_as
        self._settings = {**SETTINGS, **(settings or {})}
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: Exception | None = None
        self._failed_starts = 0

    def start(self, timeout_s: float = 60.0) -> None:
        """Start the server, or join one that another process runs, and wait until it answers.

        Raises
        ------
        ConfigError
            If there is no user or no reachable folder to run it.
        StoreUnavailable
            If it does not answer in time; the text ends with what the server said last.
        """
        if self._thread is None:
            self._stopping.clear()
            self._failure = None
            self._failed_starts = 0
            # PDEATHSIG follows the thread that forks: this one lives as long as the server.
            self._thread = threading.Thread(target=self._supervise, name="postgres", daemon=True)
            self._thread.start()
            atexit.register(self.stop)
        try:
            self._wait_until_up(time.monotonic() + timeout_s)
        except Exception:
            self.stop()
            raise

    def stop(self, timeout_s: float = 30.0) -> None:
        """Stop the server if this process owns it; leave it if another does. May be called twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        atexit.unregister(self.stop)
        for sign in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            self._ask_to_stop(sign)
            thread.join(timeout_s)
            if not thread.is_alive():
                return
        raise StoreUnavailable(f"the database server of {self.data_dir} does not stop")

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def is_owner(self) -> bool:
        """Whether this process runs the server (or shares another's)."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """Process id of the server where this process owns it."""
        return self._process.pid if self._process else None

    @property
    def url(self) -> str:
        """Where the server answers now, with user and password.

        Raises
        ------
        StoreUnavailable
            If no server was ever started on this directory.
        """
        return self._url(DATABASE)

    @property
    def owner_url(self) -> str:
        """The same as the superuser, for migrations: the service's own role does not own the audit log.

        Raises
        ------
        StoreUnavailable
            If no server was ever started on this directory.
        """
        return self._url(DATABASE, SUPERUSER, "superuser")

    def disk_free_bytes(self) -> int | None:
        """Free space of the disk that holds the cluster; None before the first start. [B]"""
        try:
            cluster = json.loads(self._path("json").read_text())["cluster"]
            return shutil.disk_usage(cluster).free
        except (OSError, ValueError, KeyError):
            return None

    def _url(self, database: str, user: str = USER, secret: str = "password") -> str:
        try:
            port = int(json.loads(self._path("json").read_text())["port"])
            password = self._path(secret).read_text()
        except (FileNotFoundError, ValueError) as error:
            raise StoreUnavailable(f"no database server was started in {self.data_dir} yet") from error
        except PermissionError as error:
            raise StoreUnavailable(
                f"cannot read {error.filename}; run as the user who owns {self.data_dir}"
            ) from error
        return f"postgresql://{user}:{password}@127.0.0.1:{port}/{database}"

    def _path(self, suffix: str) -> Path:
        return self.data_dir / f"postgres.{suffix}"

    # -- waiting -----------------------------------------------------------------------------------

    def _wait_until_up(self, deadline: float) -> None:
        while True:
            problem = self._knock()
            if problem is None:
                return
            if self._failure is not None:
                raise self._failure
            if time.monotonic() > deadline or self._failed_starts >= _GIVE_UP_AFTER:
                raise StoreUnavailable(f"the database server does not start: {problem}\n{self._last_words()}")
            self._stopping.wait(_POLL_S)

    def _knock(self) -> str | None:
        try:
            with psycopg.connect(self.url, connect_timeout=5, sslmode="disable"):
                return None
        except (psycopg.OperationalError, StoreUnavailable) as error:
            return str(error).strip()

    def _last_words(self) -> str:
        try:
            return "\n".join(self._path("log").read_text(errors="replace").splitlines()[-8:])
        except FileNotFoundError:
            return ""

    # -- the supervising thread --------------------------------------------------------------------

    def _supervise(self) -> None:
        try:
            with self._ownership() as owned:
                if owned:
                    self._own()
        except Exception as error:  # noqa: BLE001 - the thread's last act: start() raises it
            self._failure = error
            _log.error("the database server of %s cannot be restarted: %s", self.data_dir, error)

    @contextmanager
    def _ownership(self) -> Iterator[bool]:
        """Hold the lock of the directory; wait for it as long as another process has it."""
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        with self._path("lock").open("a") as file:
            while not self._stopping.is_set():
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._stopping.wait(_POLL_S)
                else:
                    yield True
                    return
            yield False

    def _own(self) -> None:
        paths = find_paths(self.data_dir, self._bin_dir, self._run_as)
        password = self._password("superuser")
        _make_cluster(paths, password)
        while not self._stopping.is_set():
            self._end_orphan(paths)
            answered = self._run_once(paths)
            self._after_death(answered)

    def _run_once(self, paths: ServerPaths) -> bool:
        """Start the server, see to its database, and stay until it ends; whether it ever answered."""
        port = _free_port(self._remembered_port())
        with self._lock, self._open_log() as log:
            if self._stopping.is_set():
                return False
            self._process = subprocess.Popen(
                self._command(paths, port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            if answered := self._make_database(port):
                _write_whole(self._path("json"), json.dumps({"port": port, "cluster": str(paths.cluster)}))
            self._process.wait()
            return answered
        finally:
            self._process = None

    def _command(self, paths: ServerPaths, port: int) -> list[str]:
        launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py"))]
        identity = [str(os.getpid()), str(paths.user.uid), str(paths.user.gid)]
        server = [str(paths.bin_dir / "postgres"), "-D", str(paths.cluster), "-c", f"port={port}"]
        wanted = [part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")]
        return [*launcher, *identity, *server, *wanted]

    def _make_database(self, port: int) -> bool:
        """Wait for the server and make the database in it; False if the server ended before."""
        password, own = self._password(), self._password("superuser")
        while self._process is not None and self._process.poll() is None:
            try:
                _give_superuser_its_password(port, own, password)
                with _as_superuser(port, own, DATABASE_OF_ADMINISTRATORS) as connection:
                    if connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
                        return True  # a standby has what its primary has
                with _as_superuser(port, own, "template1") as connection:
                    connection.execute(public_rights.REVOKE)  # new databases are copies of this one
                    _create_database(connection, password)
                with _as_superuser(port, own, DATABASE) as connection:
                    connection.execute(public_rights.REVOKE)
                    return True
            except psycopg.OperationalError:
                self._stopping.wait(_POLL_S / 2)
                if self._stopping.is_set():
                    self._process.wait()
        return False

    def _after_death(self, answered: bool) -> None:
        if self._stopping.is_set():
            return
        self._failed_starts = 0 if answered else self._failed_starts + 1
        _log.warning("the database server stopped unexpectedly; restarting it. %s", self._last_words())
        self._stopping.wait(min(0.1 * 2**self._failed_starts - 0.1, 5.0))

    def _ask_to_stop(self, sign: signal.Signals) -> None:
        with self._lock:
            self._stopping.set()
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(sign)

    def _end_orphan(self, paths: ServerPaths) -> None:
        """End a server that outlived a killed owner; forget the pid of one that is gone."""
        pid_file = paths.cluster / "postmaster.pid"
        while (pid := _pid_in(pid_file)) is not None and not self._stopping.is_set():
            if not _is_server_of(pid, paths.cluster):
                pid_file.unlink(missing_ok=True)  # its number may belong to another program by now
                return
            os.kill(pid, signal.SIGINT)
            self._stopping.wait(_POLL_S)

    def _open_log(self) -> Any:
        path = self._path("log")
        if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path.open("ab")

    def _password(self, whose: str = "password") -> str:
        path = self._path(whose)
        if not path.exists():
            _write_whole(path, secrets.token_urlsafe(24))
        return path.read_text()

    def _remembered_port(self) -> int:
        try:
            return int(json.loads(self._path("json").read_text())["port"])
        except (FileNotFoundError, ValueError, KeyError):
            return 0


def _as_superuser(port: int, password: str, database: str) -> psycopg.Connection[Any]:
    return psycopg.connect(
        f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/{database}",
        autocommit=True,
        connect_timeout=5,
        sslmode="disable",
    )


def _give_superuser_its_password(port: int, own: str, former: str) -> None:
    """Clusters of earlier versions have one password for both roles."""
    try:
        _as_superuser(port, own, DATABASE_OF_ADMINISTRATORS).close()
    except psycopg.OperationalError as error:
        if "authentication failed" not in str(error):
            raise
        with _as_superuser(port, former, DATABASE_OF_ADMINISTRATORS) as connection:
            change = sql.SQL("ALTER ROLE {} PASSWORD {}")
            connection.execute(change.format(sql.Identifier(SUPERUSER), sql.Literal(own)))


def _make_cluster(paths: ServerPaths, password: str) -> None:
    """Run initdb beside the final place and move the result there, so a cluster is whole or absent."""
    if (paths.cluster / "PG_VERSION").exists():
        return
    work = Path(tempfile.mkdtemp(prefix=".initdb-", dir=paths.cluster.parent))
    try:
        secret = work / "password"
        secret.write_text(password)
        for path in (work, secret):
            os.chown(path, paths.user.uid, paths.user.gid)
        _run_initdb(paths, work / "cluster", secret)
        (work / "cluster").rename(paths.cluster)
    finally:
        shutil.rmtree(work)


def _run_initdb(paths: ServerPaths, cluster: Path, secret: Path) -> None:
    command = [str(paths.bin_dir / "initdb"), "-D", str(cluster), "-U", SUPERUSER, f"--pwfile={secret}"]
    command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
    root = os.getuid() == 0
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        user=paths.user.uid if root else None,
        group=paths.user.gid if root else None,
        extra_groups=[] if root else None,
    )
    if done.returncode != 0:
        raise StoreUnavailable(
            f"initdb failed in {cluster.parent.parent}: {done.stderr.strip() or done.stdout}"
        )


def _create_database(connection: psycopg.Connection[Any], password: str) -> None:
    user, database = sql.Identifier(USER), sql.Identifier(DATABASE)
    if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (USER,)).fetchone():
        role = sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD {}")
        connection.execute(role.format(user, sql.Literal(password)))
    if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, user))


def _free_port(wanted: int) -> int:
    """`wanted` where it is free on the loopback, else any free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StoreUnavailable("no free port on 127.0.0.1")


def _pid_in(path: Path) -> int | None:
    try:
        return abs(int(path.read_text().splitlines()[0]))
    except (FileNotFoundError, ValueError, IndexError):
        return None


def _is_server_of(pid: int, cluster: Path) -> bool:
    """Whether process `pid` is a PostgreSQL server on `cluster`."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return os.fsencode(cluster) in words


def _write_whole(path: Path, text: str) -> None:
    """Write so that a reader sees the old or the new text, readable by the owner alone."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)
