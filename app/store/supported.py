"""Which servers are supported: PostgreSQL, and TimescaleDB in it; one table, checked at every start.

Supported is what has been tested. An older server is refused; a newer one is used with a warning, said
once at the start and in ``wattline db status``. A server is asked for its own by :mod:`app.store.versions`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

POSTGRESQL = (15, 16, 17, 18)
"""Major versions."""

TIMESCALEDB: Mapping[tuple[int, int], tuple[int, ...]] = {
    (2, 22): (15, 16, 17),
    **{(2, minor): (15, 16, 17, 18) for minor in range(23, 29)},
    (2, 29): (16, 17, 18),
}
"""Version of TimescaleDB -> major versions of PostgreSQL that it runs on, by its release notes."""

JOBS_FAIL_FROM: Mapping[int, int] = {15: 20, 16: 16, 17: 12, 18: 7}
"""Major -> first minor version of PostgreSQL (November 2026) on which every job of TimescaleDB fails ..."""
JOBS_MENDED: Mapping[tuple[int, int], int] = {(2, 27): 3, (2, 28): 4, (2, 31): 2, (2, 32): 1}
"""... in all its releases before these; later ones are mended."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server's versions."""

    postgresql: tuple[int, int]
    """Major, minor."""
    timescaledb: tuple[int, int, int] | None = None
    """That of the extension in this database."""

    @property
    def problem(self) -> str | None:
        """Why Wattline cannot work with it, and what to do; None where it can."""
        if self.postgresql[0] < POSTGRESQL[0]:
            return (
                f"PostgreSQL {self._postgresql} is too old; {POSTGRESQL[0]} to {POSTGRESQL[-1]} are "
                "supported: upgrade the server, or restore a backup of it on a new one"
            )
        if self.timescaledb is not None and self.timescaledb[:2] < min(TIMESCALEDB):
            return (
                f"TimescaleDB {self._timescaledb} is too old; {_of(min(TIMESCALEDB))} to "
                f"{_of(max(TIMESCALEDB))} are supported: install a newer package, then have a superuser run "
                "ALTER EXTENSION timescaledb UPDATE; in this database"
            )
        return None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is not tested or known to fail, with the remedy."""
        found = []
        if self.postgresql[0] > POSTGRESQL[-1]:
            found.append(f"PostgreSQL {self._postgresql} is newer than any tested ({POSTGRESQL[-1]})")
        if self.timescaledb is not None and self.timescaledb[:2] > max(TIMESCALEDB):
            newest = _of(max(TIMESCALEDB))
            found.append(f"TimescaleDB {self._timescaledb} is newer than any tested ({newest})")
        if self._jobs_fail:
            major, minor = self.postgresql[0], JOBS_FAIL_FROM[self.postgresql[0]]
            mended = ", ".join(f"{_of(version)}.{patch}" for version, patch in JOBS_MENDED.items())
            found.append(
                f"every job of TimescaleDB {self._timescaledb}, compression too, fails on PostgreSQL "
                f"{major}.{minor} and later; update TimescaleDB to one of {mended} or later"
            )
        return tuple(found)

    @property
    def _jobs_fail(self) -> bool:
        if self.timescaledb is None or self.postgresql[1] < JOBS_FAIL_FROM.get(self.postgresql[0], 10_000):
            return False
        version, patch = self.timescaledb[:2], self.timescaledb[2]
        return version <= max(JOBS_MENDED) and patch < JOBS_MENDED.get(version, 10_000)

    @property
    def _postgresql(self) -> str:
        return _of(self.postgresql)

    @property
    def _timescaledb(self) -> str:
        return _of(self.timescaledb or ())


def _of(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def parse(text: str) -> tuple[int, int, int]:
    """A version of TimescaleDB, e.g. ``2.29.2`` or ``2.30.0-dev``."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else (0, 0, 0)


def is_old(version: str) -> bool:
    """Whether a version of TimescaleDB is older than those that are supported."""
    return parse(version)[:2] < min(TIMESCALEDB)
