"""The error tree; each class says what happens next.

::

    WattlineError
    ├── ConfigError            refuse to start: file, line, key, what is allowed
    ├── CollectError(device)
    │   ├── DeviceUnreachable  mark stale, retry next cycle with backoff
    │   ├── DeviceRefused      keep the other points
    │   └── DecodeError        answered, but not a number
    ├── DataError
    │   ├── SeriesError        the caller broke the contract
    │   ├── FileNotUnderstood  nothing was stored: file, line, column, what was expected
    │   └── CoverageTooLow     we do not know, so we do not say
    ├── StoreUnavailable       the database is away: wait, spool, try again
    ├── WorkTooLarge           it is there, but refuses so much in one transaction: do less at a time
    ├── AccessError
    │   ├── NotAuthenticated   the caller did not authenticate, or the credentials are invalid
    │   ├── Forbidden          the caller is known and may see it, but not do this
    │   └── EdgeReplaced       another process speaks for the edge: keep the readings, try again later
    ├── SiteMoved(cell, url)   the site is another cell's now: go there
    ├── RequestTooLarge        more was sent or asked for than is allowed at once: ask for less
    ├── TooBusy(retry_after_s) too much at a time: wait, then try again
    ├── DeliveryFailed         a message was not taken: it stays in the outbox and comes again
    └── NotFound

This module imports nothing. HTTP statuses are in ``api/problems.py``; exit codes in ``cli.py``.
"""


class WattlineError(Exception):
    """Anything Wattline raises on purpose; its text is meant for the user."""


class ConfigError(WattlineError):
    """The configuration is refused.

    The text has the form ``file:line: key: what is wrong; what is allowed``.
    """

    def __init__(self, problem: str, *, file: str = "", line: int = 0, key: str = "") -> None:
        where = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        super().__init__(f"{where}{key}: {problem}" if key else f"{where}{problem}")
        self.problem, self.file, self.line, self.key = problem, file, line, key


class CollectError(WattlineError):
    """Reading one device, or one point of it, failed; the others go on."""

    def __init__(self, device: str, problem: str, *, point: str = "") -> None:
        super().__init__(f"{device}: {point + ': ' if point else ''}{problem}")
        self.device, self.problem, self.point = device, problem, point


class DeviceUnreachable(CollectError):
    """No answer in time: mark stale, retry next cycle with backoff."""


class DeviceRefused(CollectError):
    """The device answered with an error for this point: keep the others."""


class DecodeError(CollectError):
    """The device answered, but not with a usable number."""


class DataError(WattlineError):
    """The data does not allow an answer."""


class SeriesError(DataError):
    """The caller broke the contract of a series (unsorted, naive, wrong shape)."""


class FileNotUnderstood(DataError):
    """A file cannot be read as a table of readings; nothing was stored."""

    def __init__(self, problem: str, *, file: str = "", line: int = 0, column: str = "") -> None:
        where = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        super().__init__(f"{where}{column + ': ' if column else ''}{problem}")
        self.problem, self.file, self.line, self.column = problem, file, line, column


class CoverageTooLow(DataError):
    """Too little of the period is covered: we do not know, so we do not say."""


class StoreUnavailable(WattlineError):
    """The database is away; nothing acknowledged is lost, the work is tried again."""


class LineSlow(StoreUnavailable):
    """The centre was reached, and its answer did not come in time; with less at a time it may."""


class WorkTooLarge(WattlineError):
    """The database is there, but refuses so much in one transaction; with less of it, it works."""


class AccessError(WattlineError):
    """The caller may not."""


class NotAuthenticated(AccessError):
    """The caller did not authenticate, or the credentials are invalid."""


class Forbidden(AccessError):
    """The caller may see the thing, but not do this with it."""


class EdgeReplaced(AccessError):
    """Another process speaks for the edge: keep the readings, and try again later."""


class SiteMoved(WattlineError):
    """A site is another cell's now: what is said of it goes to `url`."""

    def __init__(self, site: str, cell: str, url: str = "") -> None:
        super().__init__(
            f"site {site} is in cell {cell} now{f', at {url}' if url else ''}; ask and send there"
        )
        self.site, self.cell, self.url = site, cell, url


class RequestTooLarge(WattlineError):
    """More was sent, or asked for, than is allowed at once; the text says how much is."""


class TooBusy(WattlineError):
    """Too much at a time; after `retry_after_s` it may be tried again."""

    def __init__(self, problem: str, *, retry_after_s: int) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class DeliveryFailed(WattlineError):
    """A message was not taken by its channel; it stays in the outbox and is sent again."""


class NotFound(WattlineError):
    """The named thing does not exist, or the caller may not know of it."""
