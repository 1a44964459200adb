"""Connections: how the store reaches PostgreSQL, and what it says when it cannot.

libpq reads the URL itself, so everything it knows works: several hosts
(``postgresql://u:p@a:5432,b:5432/db``), ``target_session_attrs``, ``sslmode``, service files.
Whatever keeps the database from answering reaches callers as :class:`~app.errors.StoreUnavailable`.
"""

from __future__ import annotations

import math
import re
import select
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NoReturn, TypeVar

import psycopg
import psycopg.conninfo
import sqlalchemy as sa
import sqlalchemy.exc
from psycopg._preparing import PrepareManager
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection as Connection  # for those who pass them on
from sqlalchemy import Engine as Engine

from app.errors import ConfigError, StoreUnavailable, WorkTooLarge

T = TypeVar("T")

Url = str | Callable[[], str]
"""A URL, or a function that says where the database is now (the embedded server may move)."""

CONNECT_DEFAULTS: Mapping[str, str | int] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""A half-open socket is noticed within 20 s, not after the kernel's quarter of an hour."""

PATIENCE_MARGIN_S = 15.0
"""How much longer than its own time limit the server may be silent before it is given up. [s]"""

CONNECT_PATIENCE_S = 15.0
"""Longest silence while a new connection gets its settings. [s]"""

QUIET_S = 20.0
"""After so much silence the server is asked over another connection whether it still works. [s]"""

FRESH_S = 30.0
"""A connection that answered so lately, and whose server has said nothing since, is as good as then. [s]"""

CANCEL_PATIENCE_S = 1.0
"""Longest wait for a statement to be cancelled when the process stops. [s]"""

_ENDING = "the service is stopping"
_SCHEMES = ("postgresql+psycopg://", "postgres://")
_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)


class ImpatientConnection(psycopg.Connection[Any]):
    """A connection that gives up on a server from which nothing comes any more.

    Keepalives end a connection whose other end is gone; a proxy or firewall that went silent answers
    keepalives all the same. So a server that says nothing for :data:`QUIET_S` is asked over another
    connection whether it still works for this one: if not, question or answer were lost on the way.
    """

    patience_s: float | None = None
    """Longest silence while an answer is awaited; None for any. [s]"""
    is_served: Callable[[], bool] | None = None
    """Asks whether the server still works for this connection; None where that cannot be asked."""
    ending: threading.Event | None = None
    """Once set, what runs is cancelled and nothing more begins: the process stops."""
    unhurried_in: sa.RootTransaction | None = None
    """The transaction in which its statements have no time limit already."""
    _cancels = False
    _heard_s = -math.inf

    def is_fresh(self) -> bool:
        """Whether the server answered lately and has not said more, as it does when it ends a session."""
        if self.closed or time.monotonic() - self._heard_s > FRESH_S:
            return False
        socket = select.poll()
        socket.register(self.fileno(), select.POLLIN)
        return not socket.poll(0)

    def rollback(self) -> None:
        """Roll back; what is prepared stays so where all went well, as it does in the server.

        psycopg forgets it all, in case that the transaction made tables or types that are gone then. Every
        reading ends so, and each statement would be parsed and analysed at every use.
        """
        prepared = self._prepared
        if self.info.transaction_status is TransactionStatus.INTRANS:
            self._prepared = PrepareManager()
        try:
            super().rollback()
        finally:
            self._prepared = prepared

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        """Run one exchange with the server.

        Raises
        ------
        psycopg.OperationalError
            If nothing comes for `patience_s`, or the server does not work for this connection any more;
            it is closed then.
        """
        if self.patience_s is None and self.is_served is None and self.ending is None:
            return super().wait(gen, *args, **options)
        return super().wait(self._limited(gen), *args, **options)

    def _limited(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        heard = asked = time.monotonic()
        cancelled_at = math.inf
        if self._is_ending():
            self._give_up(_ENDING)
        try:
            state = next(gen)
            while True:
                ready = yield state
                if self._is_ending():
                    cancelled_at = min(cancelled_at, self._cancelled())
                if ready:
                    heard = asked = time.monotonic()
                elif time.monotonic() - cancelled_at > CANCEL_PATIENCE_S:
                    self._give_up(_ENDING)
                elif self.patience_s is not None and time.monotonic() - heard > self.patience_s:
                    self._give_up(f"no answer from the server for {self.patience_s:g} s")
                elif self.is_served is not None and time.monotonic() - asked > QUIET_S:
                    if not self.is_served():
                        self._give_up(f"no answer for {QUIET_S:g} s from a server that does not work on one")
                    asked = time.monotonic()
                state = gen.send(ready)
        except StopIteration as end:
            self._heard_s = time.monotonic()
            result: T = end.value
            return result

    def _is_ending(self) -> bool:
        return self.ending is not None and self.ending.is_set()

    def _cancelled(self) -> float:
        """Ask the server, once, to cancel what it does for this connection; when that was."""
        if not self._cancels:
            self._cancels = True
            with suppress(*_AWAY):
                self.cancel_safe(timeout=CANCEL_PATIENCE_S)
        return time.monotonic()

    def _give_up(self, why: str) -> NoReturn:
        self.close()
        raise psycopg.OperationalError(why)


_AT_WORK = """
SELECT 1 FROM pg_stat_activity
WHERE pid = %s AND state = 'active' AND wait_event_type IS DISTINCT FROM 'Client'
"""


def _is_served(parameters: Mapping[str, Any], pid: int) -> bool:
    """Whether the server process `pid` works on something; True where nobody can be asked."""
    try:
        with psycopg.connect(**parameters, autocommit=True) as connection:
            return connection.execute(_AT_WORK, (pid,)).fetchone() is not None
    except _AWAY:
        return True


def make_engine(
    url: Url,
    *,
    application_name: str = "wattline",
    statement_timeout_s: float = 60.0,
    lock_timeout_s: float = 10.0,
    pool_size: int = 10,
    prepare_threshold: int | None = 5,
    awaits_tables: bool = False,
    ending: threading.Event | None = None,
) -> sa.Engine:
    """Engine on PostgreSQL with time limits on everything that can hang.

    Parameters
    ----------
    url : str or callable
        ``postgresql://`` or ``postgres://`` URL (or libpq key=value text). What it sets wins over
        :data:`CONNECT_DEFAULTS`. With several hosts the writable one is sought.
    application_name : str
        Shown in ``pg_stat_activity``.
    statement_timeout_s, lock_timeout_s : float
        Longest statement and longest wait for a lock; 0 for none. [s]
    pool_size : int
        Connections kept; as many again are opened under load.
    prepare_threshold : int or None
        Executions before a statement is prepared; None where a pooler in between cannot.
    awaits_tables : bool
        Somebody else brings the database into shape: as long as a table is missing, it is away.
    ending : Event, optional
        Once it is set, statements that run are cancelled and no other begins: the database is away then.

    Raises
    ------
    ConfigError
        If the URL cannot be understood.
    """
    if isinstance(url, str):
        connect_parameters(url, application_name)
    session = _session_settings(statement_timeout_s, lock_timeout_s)

    def connect() -> ImpatientConnection:
        if ending is not None and ending.is_set():
            raise psycopg.OperationalError(_ENDING)
        parameters = connect_parameters(url if isinstance(url, str) else url(), application_name)
        connection = ImpatientConnection.connect(**parameters, prepare_threshold=prepare_threshold)
        connection.patience_s = CONNECT_PATIENCE_S
        connection.execute(session)
        pid = connection.execute("SELECT pg_backend_pid()").fetchone()
        connection.commit()
        if pid == (connection.info.backend_pid,):  # else a pooler stands between us and the server
            connection.is_served = partial(_is_served, parameters, pid[0])
        connection.ending = ending
        connection.patience_s = statement_timeout_s + PATIENCE_MARGIN_S if statement_timeout_s else None
        return connection

    engine = sa.create_engine(
        "postgresql+psycopg://",
        creator=connect,
        pool_pre_ping=True,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_use_lifo=True,  # what one session knows of the tables, the others need not learn
    )
    engine.dialect.do_ping = partial(_is_there, engine.dialect.do_ping)  # type: ignore[method-assign]
    sa.event.listen(engine, "handle_error", _say_unavailable)
    sa.event.listen(engine, "connect", partial(_bring_up_to_date, engine))
    if awaits_tables:
        sa.event.listen(engine, "handle_error", _say_unshaped)
    return engine


def _is_there(ping: Callable[[Any], bool], connection: ImpatientConnection) -> bool:
    """Ask the server only where the connection itself does not tell: it costs an exchange at every use."""
    return connection.is_fresh() or ping(connection)


def _bring_up_to_date(engine: sa.Engine, _connection: object, _record: object) -> None:
    """Let no connection be stale by a clock that was set back.

    The pool replaces those made before the last outage. With an outage that ended in the future, it replaced
    every connection at every use, until that instant had come.
    """
    if engine.pool._invalidate_time > (now_s := time.time()):
        engine.pool._invalidate_time = now_s


def connect_parameters(url: str, application_name: str = "wattline") -> dict[str, Any]:
    """libpq parameters of `url`, with :data:`CONNECT_DEFAULTS` where it says nothing.

    Raises
    ------
    ConfigError
        If the URL cannot be understood.
    """
    for scheme in _SCHEMES:
        if url.startswith(scheme):
            url = "postgresql://" + url.removeprefix(scheme)
    try:
        given = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        reason = re.sub('"[^"]*"', "...", str(error).strip())  # libpq quotes passwords too
        raise _not_understood(reason) from None
    if not re.fullmatch("[0-9,]*", str(given.get("port", ""))):
        raise _not_understood("the port is no number")
    hosts = str(given.get("host", ""))
    several = {"target_session_attrs": "read-write"} if "," in hosts else {}
    return {**CONNECT_DEFAULTS, "application_name": application_name, **several, **given}


def _not_understood(reason: str) -> ConfigError:
    return ConfigError(
        f"not understood: {reason}; write postgresql://user:password@host:5432/database",
        key="WATTLINE_DATABASE_URL",
    )


def _session_settings(statement_timeout_s: float, lock_timeout_s: float) -> psycopg.sql.Composed:
    values = {
        "statement_timeout": round(statement_timeout_s * 1000),
        "lock_timeout": round(lock_timeout_s * 1000),
        "idle_in_transaction_session_timeout": 600_000,
        # Sums are added up in one order, so that they are the same at each time; and to start a worker
        # or to compile costs more than any of our statements takes.
        "max_parallel_workers_per_gather": 0,
        "jit": "off",
        # A plan made for any value does not know which partitions and chunks a statement concerns;
        # TimescaleDB would decompress them all.
        "plan_cache_mode": "force_custom_plan",
    }
    settings = [
        psycopg.sql.SQL("SET {} = {};").format(psycopg.sql.Identifier(k), psycopg.sql.Literal(v))
        for k, v in values.items()
    ]
    return psycopg.sql.Composed([*settings, psycopg.sql.SQL("SET timezone = 'UTC'")])


def _say_unavailable(context: sa.engine.ExceptionContext) -> StoreUnavailable | WorkTooLarge | None:
    error = context.original_exception
    return unavailable(error) if isinstance(error, _AWAY) and not context.is_pre_ping else None


def _say_unshaped(context: sa.engine.ExceptionContext) -> StoreUnavailable | None:
    missing = isinstance(context.original_exception, psycopg.errors.UndefinedTable)
    return StoreUnavailable("the database has no tables yet; they are being made") if missing else None


_TOO_LARGE = (
    psycopg.errors.ConfigurationLimitExceeded,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)
"""What the database says of too much at a time; with less of it, it works."""


def unavailable(error: BaseException) -> StoreUnavailable | WorkTooLarge:
    """The error for callers, with the first line of what the database or the network said."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if isinstance(getattr(error, "orig", error), _TOO_LARGE):
        return WorkTooLarge(f"the database refuses so much in one transaction: {lines[0]}")
    return StoreUnavailable(f"the database does not answer or refuses work: {lines[0]}")


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn what psycopg or the pool raise when the database is away into StoreUnavailable."""
    try:
        yield
    except (*_AWAY, sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError) as error:
        raise unavailable(error) from error
    except sqlalchemy.exc.TimeoutError as error:
        raise StoreUnavailable("every database connection is in use; try again") from error
    except sqlalchemy.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise unavailable(error) from error
        raise


@contextmanager
def begin(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction: committed at the end of the block, rolled back if it raises.

    Raises
    ------
    StoreUnavailable
        If the database is away; nothing of the block is stored, unless the connection broke during
        the commit itself: then it may be, and repeating the block must be harmless.
    """
    with store_errors(), engine.begin() as connection:
        yield connection


def before_commit(engine: sa.Engine, check: Callable[[sa.Connection], None]) -> None:
    """Have something checked at the end of each transaction; where it raises, nothing of that is stored."""
    sa.event.listen(engine, "commit", check)


@contextmanager
def connect(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection for reading, handed back at the end of the block.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors(), engine.connect() as connection:
        yield connection


@contextmanager
def glance(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection for statements that each stand alone: no transaction is begun and ended for them.

    Nothing that holds to the end of a transaction works in it: locks, ``SET LOCAL``, cursors of the server.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors(), engine.connect() as connection:
        raw: ImpatientConnection = connection.connection.driver_connection  # type: ignore[assignment]
        raw.autocommit = True
        try:
            yield connection
        finally:
            if not raw.closed:
                raw.autocommit = False


def driver(connection: sa.Connection) -> ImpatientConnection:
    """The psycopg connection under `connection`, inside its transaction; for COPY."""
    if not connection.in_transaction():
        connection.begin()
    raw: ImpatientConnection = connection.connection.driver_connection  # type: ignore[assignment]
    return raw


@contextmanager
def unhurried(connection: sa.Connection) -> Iterator[None]:
    """No time limit on the statements of the block, to the end of the transaction.

    For exports and maintenance that take as long as they take.
    """
    raw = driver(connection)
    patience_s, raw.patience_s = raw.patience_s, None
    is_whole = not connection.in_nested_transaction()  # one that is rolled back takes the setting with it
    try:
        if raw.unhurried_in is None or raw.unhurried_in is not connection.get_transaction():
            raw.execute("SET LOCAL statement_timeout = 0")
            raw.unhurried_in = connection.get_transaction() if is_whole else None
        yield
    finally:
        raw.patience_s = patience_s


def wait_until_up(
    engine: sa.Engine,
    timeout_s: float | None = 60.0,
    on_wait: Callable[[str], None] = lambda message: None,
    *,
    pause_s: float = 1.0,
) -> None:
    """Wait until the database answers.

    Parameters
    ----------
    engine : Engine
        As made by :func:`make_engine`.
    timeout_s : float or None
        Longest wait; None waits for ever. [s]
    on_wait : callable
        Gets a message after every failed attempt whose reason is new.
    pause_s : float
        Between attempts. [s]

    Raises
    ------
    StoreUnavailable
        If it does not answer in time.
    """
    deadline = time.monotonic() + (float("inf") if timeout_s is None else timeout_s)
    said = ""
    while True:
        try:
            with connect(engine) as connection:
                connection.execute(sa.text("SELECT 1"))
                return
        except StoreUnavailable as error:
            if time.monotonic() + pause_s > deadline:
                raise
            if str(error) != said:
                said = str(error)
                on_wait(f"waiting for the database: {said}")
        time.sleep(pause_s)
