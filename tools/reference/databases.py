"""``docs/reference/databases.md``: which servers are supported."""

from __future__ import annotations

from collections.abc import Iterator

from app.store import supported
from tools.reference.markdown import page as whole_page
from tools.reference.markdown import table, wrapped

_HEAD = """Wattline brings its own PostgreSQL, or uses yours: PostgreSQL {first} to {last}, with
TimescaleDB or without. An older server is refused at the start, with a message that says what to do; a
newer one is used, with a warning at the start and in `wattline db status`."""

_TESTED = """The tests restore backups on PostgreSQL {first} to {last}, and run against any server that
`WATTLINE_TEST_DATABASE_URL` and `WATTLINE_TEST_TIMESCALE_URL` name. TimescaleDB 2.22.1 on PostgreSQL 15
and 2.29.2 on PostgreSQL 18 were tested as servers; for the other pairs the table has what the release
notes of TimescaleDB say. Compose pins one pair."""

_UPDATE = """TimescaleDB is updated by installing the newer package and running `ALTER EXTENSION
timescaledb UPDATE;` as a superuser, first thing in a new session. To go to another major version of
PostgreSQL: `wattline db backup`, a new server with the same version of TimescaleDB, `wattline db
restore` ([how](../how-to/backup-and-move.md)), or `pg_upgrade`."""

_FAULT = """On PostgreSQL {broken} and later every background job of TimescaleDB fails, and compression
with them, in all its releases before {mended}. Update TimescaleDB before PostgreSQL. Wattline warns of
such a pair, and says when compression fails ([runbook](../how-to/alarm-runbook.md))."""


def page() -> str:
    """The page."""
    majors = supported.POSTGRESQL
    broken = ", ".join(f"{a}.{b}" for a, b in supported.JOBS_FAIL_FROM.items())
    mended = ", ".join(f"{a}.{b}.{c}" for (a, b), c in supported.JOBS_MENDED.items())
    return whole_page(
        "Databases",
        wrapped(_HEAD.format(first=majors[0], last=majors[-1])),
        table(["TimescaleDB", *(f"PostgreSQL {major}" for major in majors)], _rows()),
        wrapped(_TESTED.format(first=majors[0], last=majors[-1])),
        "## Updates",
        wrapped(_UPDATE),
        "## A known fault of TimescaleDB",
        wrapped(_FAULT.format(broken=broken, mended=mended)),
    )


def _rows() -> Iterator[list[str]]:
    for (major, minor), runs_on in supported.TIMESCALEDB.items():
        yield [f"{major}.{minor}", *("yes" if one in runs_on else "-" for one in supported.POSTGRESQL)]
    yield ["without", *("yes" for _ in supported.POSTGRESQL)]
