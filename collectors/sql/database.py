"""A database that is only read: connection, time limit, rows in pages.

The only module of the collectors that knows SQLAlchemy. PostgreSQL sessions are read-only and have a
statement time-out; SQLite files are opened read-only. For others the transaction is set read-only where
the database knows that, and is rolled back in any case.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from app.errors import CollectError, ConfigError, DeviceRefused, DeviceUnreachable
from collectors import network

if TYPE_CHECKING:
    import sqlalchemy as sa

URL_KEYS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "charset", "driver", "encrypt", "service_name")
"""What may stand behind the ``?`` of a URL; others could name another server."""
_READ_ONLY = {"mysql": "SET TRANSACTION READ ONLY", "mariadb": "SET TRANSACTION READ ONLY",
              "oracle": "SET TRANSACTION READ ONLY"}  # fmt: skip
_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521}

Rows = list[Mapping[str, Any]]


def parsed(url: str) -> sa.URL:
    """A database's URL.

    Raises
    ------
    ValueError
        If it is none, has a password, or says more than the database.
    """
    import sqlalchemy as sa
    from sqlalchemy.exc import ArgumentError

    try:
        found = sa.make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError("is no database URL; give one such as postgresql://user@host/database") from None
    if found.password is not None:
        raise ValueError("the password has a key of its own: password_file")
    for key in found.query:
        if key not in URL_KEYS:
            raise ValueError(f"{key!r} is not allowed behind the ?; allowed are {', '.join(URL_KEYS)}")
    if found.host and "," in found.host:
        raise ValueError("give one host")
    if found.get_backend_name() == "sqlite" and not found.database:
        raise ValueError("names no file; give sqlite:////path/to/file.db")
    return found


@dataclass
class Database:
    """One database, asked by one query at a time.

    Parameters
    ----------
    device : str
        Name of the meter, for messages.
    url : URL
        Without its password.
    password : str
        Empty: none.
    timeout_s : float
        Longest time of a connection and of a query. [s]
    """

    device: str
    url: sa.URL
    password: str = field(repr=False)
    timeout_s: float
    queries: int = field(default=0, init=False)
    _engine: sa.Engine | None = field(default=None, init=False)
    _number: str = field(default="", init=False)
    _busy: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def kind(self) -> str:
        """``postgresql``, ``sqlite``, ``mssql`` ..."""
        return self.url.get_backend_name()

    def check(self) -> None:
        """See that the driver is there.

        Raises
        ------
        ConfigError
            If not, with what to install.
        """
        from sqlalchemy.exc import NoSuchModuleError

        try:
            self.url.get_dialect().import_dbapi()
        except (NoSuchModuleError, AttributeError):
            known = "postgresql, sqlite, mssql+pymssql, mssql+pyodbc, mysql+pymysql, oracle+oracledb"
            raise ConfigError(f"{self.url.drivername!r} is not known; give e.g. {known}", key="url") from None
        except ImportError as error:
            package = error.name or self.url.get_driver_name()
            text = f"needs the driver {package}; install it beside Wattline: pip install {package}"
            raise ConfigError(text, key="url") from None

    async def rows(self, query: str, bounds: Mapping[str, Any], most: int, by: str) -> tuple[Rows, bool]:
        """The first rows of a query, and whether there are more.

        Parameters
        ----------
        query : str
        bounds : mapping
            What stands for ``:since`` and ``:until``.
        most : int
            More are not read, except those that have the last one's value in `by`.
        by : str
            Column that the rows are ordered by.

        Raises
        ------
        DeviceUnreachable
            If the database cannot be reached or does not answer in time.
        DeviceRefused
            If it refuses the query.
        """
        number = await self._address()
        self.queries += 1
        try:
            async with asyncio.timeout(self.timeout_s + 2):
                found: tuple[Rows, bool] = await _in_thread(
                    lambda: self._read(number, query, bounds, most, by)
                )
                return found
        except TimeoutError:
            self._drop()
            raise DeviceUnreachable(self.device, f"no answer within {self.timeout_s:g} s") from None

    async def _address(self) -> str:
        """The number that is connected to; empty for files."""
        if self.kind == "sqlite" or not self.url.host:
            return ""
        port = self.url.port or _PORTS.get(self.kind, 0)
        try:
            return (await network.addresses(self.url.host, port, socket.SOCK_STREAM))[0]
        except OSError as error:
            raise DeviceUnreachable(self.device, str(error)) from None

    def _read(
        self, number: str, query: str, bounds: Mapping[str, Any], most: int, by: str
    ) -> tuple[Rows, bool]:
        import sqlalchemy as sa
        from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

        if not self._busy.acquire(blocking=False):
            raise DeviceUnreachable(self.device, "the query before is not finished yet")
        try:
            with self._connected(number) as connection:
                named = {n: self._bindable(n, value) for n, value in bounds.items() if f":{n}" in query}
                with connection.execution_options(stream_results=True).execute(
                    sa.text(query), named
                ) as result:
                    columns = [str(key).lower() for key in result.keys()]  # noqa: SIM118
                    if by.lower() not in columns:
                        text = f"the result has no column {by}, but {', '.join(columns)}"
                        raise DeviceRefused(self.device, text)
                    return _page(self.device, result, most, by.lower())
        except CollectError:
            raise
        except (OperationalError, InterfaceError) as error:
            kind = DeviceRefused if _is_refusal(error) else DeviceUnreachable
            raise kind(self.device, _said(error)) from None
        except (DBAPIError, SQLAlchemyError) as error:
            raise DeviceRefused(self.device, _said(error)) from None
        finally:
            self._busy.release()

    @contextlib.contextmanager
    def _connected(self, number: str) -> Iterator[sa.Connection]:
        import sqlalchemy as sa

        if self._engine is None or number != self._number:
            self._engine, self._number = self._made(number), number
        with self._engine.connect() as connection:
            if self.kind in _READ_ONLY:
                connection.execute(sa.text(_READ_ONLY[self.kind]))
            yield connection  # never committed

    def _made(self, number: str) -> sa.Engine:
        import sqlalchemy as sa

        if self.kind == "sqlite":
            return sa.create_engine(self.url, creator=self._file, poolclass=sa.NullPool)
        url = self.url.set(password=self.password or None)
        settings: dict[str, Any] = {}
        if self.kind == "postgresql":
            url, settings = self._postgresql(url, number)
        elif number:
            url = url.set(host=number)
        return sa.create_engine(url, connect_args=settings, poolclass=sa.NullPool, hide_parameters=True)

    def _postgresql(self, url: sa.URL, number: str) -> tuple[sa.URL, dict[str, Any]]:
        limit_ms = int(self.timeout_s * 1000)
        options = f"-c default_transaction_read_only=on -c statement_timeout={limit_ms}"
        settings = {"connect_timeout": max(int(self.timeout_s), 2), "options": options}
        if number:
            settings["hostaddr"] = number
            if "sslmode" not in url.query and not number.startswith(("127.", "::1")):
                more = {} if "sslrootcert" in url.query else {"sslrootcert": "system"}
                url = url.update_query_dict({"sslmode": "verify-full", **more})
        return url, settings

    def _file(self) -> sqlite3.Connection:
        path = Path(str(self.url.database)).absolute()
        address = f"file:{quote(str(path))}?mode=ro"
        connection = sqlite3.connect(address, uri=True, timeout=self.timeout_s, check_same_thread=False)
        ends = time.monotonic() + self.timeout_s
        connection.set_progress_handler(lambda: time.monotonic() > ends, 10_000)
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _bindable(self, name: str, value: object) -> object:
        """SQLite has no type for times: a text that sorts before or behind them, blank or T inside."""
        if self.kind == "sqlite" and isinstance(value, datetime):
            return value.strftime("%Y-%m-%d %H:%M:%S" if name == "since" else "%Y-%m-%dT%H:%M:%SZ")
        return value

    def _drop(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def close(self) -> None:
        """Release what is held; harmless when repeated."""
        self._drop()


def _page(device: str, result: sa.CursorResult[Any], most: int, by: str) -> tuple[Rows, bool]:
    """The rows up to `most`, whole at their last value of `by`; whether there are more."""
    rows: Rows = []
    last: object = None
    for row in result.mappings():
        plain = {str(key).lower(): value for key, value in row.items()}
        if len(rows) >= most and plain[by] != last:
            return rows, True
        if len(rows) >= 20 * most:
            raise DeviceRefused(device, f"more than {20 * most} rows at {by} = {last}; raise page_rows")
        try:
            if last is not None and plain[by] is not None and plain[by] < last:
                raise DeviceRefused(device, f"the rows are not in order; add ORDER BY {by}")
        except TypeError:
            raise DeviceRefused(device, f"column {by} has values of several types") from None
        last = plain[by] if plain[by] is not None else last
        rows.append(plain)
    return rows, False


def _is_refusal(error: Exception) -> bool:
    """Whether the database answered, and said no; drivers do not agree how that is told."""
    text = str(error).lower()
    return any(
        said in text for said in ("no such table", "no such column", "syntax error", "permission denied")
    )


def _said(error: Exception) -> str:
    original = getattr(error, "orig", None) or error
    lines = str(original).strip().splitlines() or [type(original).__name__]
    return " ".join(line.strip() for line in lines[:2])[:300]


async def _in_thread(work: Any) -> Any:
    """Run in a thread of its own: one that hangs takes none away from the others, nor delays the end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def tell(result: object, error: BaseException | None) -> None:
        if not done.done():
            done.set_exception(error) if error is not None else done.set_result(result)

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as problem:  # noqa: BLE001 - raised where it is waited for
            error = problem
        with contextlib.suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, name="sql source", daemon=True).start()
    return await done
