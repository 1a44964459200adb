"""Reports that were ordered and are made in the background: who asked for which, how far it is, the file."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from app.errors import NotFound, TooBusy
from app.store import locks, tables
from app.store.engine import store_errors

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
MOST_OPEN = 200
"""Orders that may be open at the same time; who has none open may always order one."""
MOST_OPEN_OF_CALLER = 20
MOST_OPEN_OF_INSTITUTION = 60
ABANDONED = timedelta(minutes=10)
"""An order that nobody touched for so long lost its maker and is made again; so did one touched so far ahead,
before the clock was set back."""
MOST_ATTEMPTS = 3
KEPT = timedelta(days=1)
"""How long a file is kept."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A report in a form; without `site` that of all sites of the institution."""

    site: str
    institution: str
    period: str
    revision: int | None
    """None: the newest frozen one, else as of now."""
    format: str
    lang: str


@dataclass(frozen=True, slots=True)
class Order:
    """An order and what became of it."""

    id: uuid.UUID
    wanted: Wanted
    asked_by: str
    asked_at: datetime
    state: str
    steps_done: int
    steps_total: int
    finished_at: datetime | None
    problem: str
    file_name: str
    media_type: str


_TABLE = tables.report_orders
_WANTED = ("site", "institution", "period", "revision", "format", "lang")
_REST = ("asked_by", "asked_at", "state", "steps_done", "steps_total", "finished_at", "problem", "file_name")
_SHOWN = [_TABLE.c[name] for name in ("id", *_WANTED, *_REST, "media_type")]


def _order(row: sa.Row[Any]) -> Order:
    values = row._asdict()
    wanted = Wanted(**{name: values.pop(name) for name in _WANTED})
    return Order(wanted=wanted, **values)


def put(connection: sa.Connection, wanted: Wanted, asked_by: str, now: datetime) -> Order:
    """Order a report; one that is ordered already, and not made yet, is not ordered twice.

    Raises
    ------
    TooBusy
        If too many orders wait.
    StoreUnavailable
        If the database is away.
    """
    is_open = _TABLE.c.state.in_((WAITING, RUNNING))
    same = [_TABLE.c[name].is_not_distinct_from(getattr(wanted, name)) for name in _WANTED]
    with store_errors():
        locks.hold(connection, locks.ORDERS)
        known = connection.execute(sa.select(*_SHOWN).where(is_open, *same)).first()
        if known is not None:
            return _order(known)
        _refuse_more_than_a_share(connection, is_open, wanted, asked_by)
        values = {name: getattr(wanted, name) for name in _WANTED}
        row = {"id": uuid.uuid4(), **values, "asked_by": asked_by, "asked_at": now, "touched_at": now}
        return _order(connection.execute(sa.insert(_TABLE).values(row).returning(*_SHOWN)).one())


def _refuse_more_than_a_share(
    connection: sa.Connection, is_open: sa.ColumnElement[bool], wanted: Wanted, asked_by: str
) -> None:
    """Leave room for the orders of other callers and institutions."""
    own, bank = _TABLE.c.asked_by == asked_by, _TABLE.c.institution == wanted.institution
    count = sa.func.count
    query = sa.select(count(), count().filter(own), count().filter(bank)).where(is_open)
    of_all, of_caller, of_bank = connection.execute(query).one()
    is_full = of_all >= MOST_OPEN or of_bank >= MOST_OPEN_OF_INSTITUTION
    if of_caller >= MOST_OPEN_OF_CALLER or (of_caller and is_full):
        raise TooBusy(
            f"{of_caller} reports that you ordered are waiting to be made; try again later", retry_after_s=60
        )


def get(connection: sa.Connection, order_id: uuid.UUID) -> Order:
    """An order.

    Raises
    ------
    NotFound
        If there is none, or it is forgotten.
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        row = connection.execute(sa.select(*_SHOWN).where(_TABLE.c.id == order_id)).one_or_none()
    if row is None:
        raise missing(order_id)
    return _order(row)


def of_site(connection: sa.Connection, site: str, most: int = 20) -> list[Order]:
    """The orders of a site's reports that are kept, the newest first.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    query = sa.select(*_SHOWN).where(_TABLE.c.site == site).order_by(_TABLE.c.asked_at.desc()).limit(most)
    with store_errors():
        return [_order(row) for row in connection.execute(query)]


def missing(order_id: uuid.UUID) -> NotFound:
    """What is answered about an order that there is not."""
    return NotFound(f"there is no order {order_id}; files are kept for a day, order it again")


def content(connection: sa.Connection, order: Order) -> bytes:
    """The file of an order.

    Raises
    ------
    NotFound
        If it is not made.
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        found = connection.execute(sa.select(_TABLE.c.content).where(_TABLE.c.id == order.id)).scalar()
    if found is None:
        raise NotFound(f"order {order.id} is {order.state}, there is no file; ask for it when it is done")
    return bytes(found)


_CLAIM = sa.text(
    """
    UPDATE report_orders SET state = 'running', touched_at = :now, attempts = attempts + 1, steps_done = 0
    WHERE id = (
        SELECT o.id FROM report_orders o
        WHERE o.state = 'waiting' OR (o.state = 'running' AND o.touched_at NOT BETWEEN :abandoned AND :ahead)
        ORDER BY
            (SELECT max(d.touched_at) FROM report_orders d
                WHERE d.institution = o.institution AND d.state <> 'waiting' AND d.id <> o.id) NULLS FIRST,
            (SELECT max(d.touched_at) FROM report_orders d
                WHERE d.asked_by = o.asked_by AND d.state <> 'waiting' AND d.id <> o.id) NULLS FIRST,
            o.asked_at
        LIMIT 1 FOR UPDATE SKIP LOCKED
    ) RETURNING id, attempts
    """
)


def claim(connection: sa.Connection, now: datetime) -> Order | None:
    """The next order, now being made by the caller; None where none waits.

    The institution whose turn was longest ago comes first, of that the person, of those the oldest order.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        values = {"now": now, "abandoned": now - ABANDONED, "ahead": now + ABANDONED}
        row = connection.execute(_CLAIM, values).one_or_none()
    if row is None:
        return None
    order = get(connection, row.id)
    if row.attempts <= MOST_ATTEMPTS:
        return order
    problem = f"it was begun {MOST_ATTEMPTS} times and never finished"
    fail(connection, order, problem, now)
    return replace(order, state=FAILED, problem=problem)


def touch(connection: sa.Connection, order: Order, done: int, total: int, now: datetime) -> None:
    """Say how far an order is.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    _set(connection, order, {"steps_done": done, "steps_total": total, "touched_at": now})


def release(connection: sa.Connection, order: Order, now: datetime) -> None:
    """Leave an order for whoever comes next.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    _set(connection, order, {"state": WAITING, "attempts": 0, "steps_done": 0, "touched_at": now})


def finish(
    connection: sa.Connection, order: Order, file_name: str, media_type: str, made: bytes, now: datetime
) -> None:
    """Keep the file of an order.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    file = {"file_name": file_name, "media_type": media_type, "content": made}
    steps = {"steps_done": _TABLE.c.steps_total, "finished_at": now, "touched_at": now}
    _set(connection, order, {"state": DONE, **file, **steps})


def fail(connection: sa.Connection, order: Order, problem: str, now: datetime) -> None:
    """Say why an order cannot be made.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    end = {"finished_at": now, "touched_at": now}
    _set(connection, order, {"state": FAILED, "problem": problem[:2000], **end})


def _set(connection: sa.Connection, order: Order, values: dict[str, object]) -> None:
    with store_errors():
        connection.execute(sa.update(_TABLE).where(_TABLE.c.id == order.id).values(values))


def forget(connection: sa.Connection, now: datetime) -> int:
    """Drop orders that ended a day ago, with their files; how many.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    with store_errors():
        return connection.execute(sa.delete(_TABLE).where(_TABLE.c.finished_at < now - KEPT)).rowcount
