"""A batch that the database refuses is split until the rows at fault stand alone, and those are kept aside.

They are counted in the drop ledger together with their values, so that nothing is lost without a trace
and nothing is tried for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg
import sqlalchemy as sa
import sqlalchemy.exc

from app.domain.reading import Reading
from app.errors import StoreUnavailable, WorkTooLarge
from app.store import drop_ledger
from app.store.drop_ledger import Drop
from app.store.engine import begin
from app.store.readings import IngestResult, ingest_readings
from app.store.sites import Stored

STORE_REFUSED = "store_refused"
"""Reason in the drop ledger."""

_AT_FAULT = (
    sqlalchemy.exc.DataError,
    sqlalchemy.exc.IntegrityError,
    psycopg.DataError,
    psycopg.IntegrityError,
    OverflowError,
)
"""What the data can cause; anything else is ours or the server's and is not blamed on a reading."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SafeResult:
    """What became of a batch; the parts add up to its length."""

    stored: IngestResult = field(default_factory=IngestResult)
    quarantined: tuple[Drop, ...] = ()
    """Readings in the drop ledger, one each."""

    def __add__(self, other: SafeResult) -> SafeResult:
        return SafeResult(self.stored + other.stored, self.quarantined + other.quarantined)


def ingest_safely(
    engine: sa.Engine,
    stored: Stored,
    batch: Sequence[Reading],
    collector: str,
    drops: Sequence[Drop] = (),
    *,
    first: Callable[[sa.Connection], None] = lambda connection: None,
) -> SafeResult:
    """Store a batch in transactions of its own; readings that cannot be stored go to the drop ledger.

    Parameters
    ----------
    engine : Engine
    stored : Stored
        The fleet; it has the points that the batch names.
    batch : sequence of Reading
    collector : str
        Who delivered the batch; stands in the ledger.
    drops : sequence of Drop
        What was refused of the batch before; goes to the ledger with it.
    first : callable
        Begins each of the transactions; where it raises, that one stores nothing.

    Raises
    ------
    StoreUnavailable
        If the database is away, or refuses for a reason that no reading can cause; send the whole batch
        again, what was stored is not doubled.
    """
    try:
        with begin(engine) as connection:
            first(connection)
            drop_ledger.add(connection, stored, collector, drops)
            return SafeResult(ingest_readings(connection, batch, dict(stored.point_id)))
    except WorkTooLarge as error:
        if max(len(batch), len(drops)) <= 1:  # of a single reading it is no fault
            raise StoreUnavailable(f"the store cannot take readings: {_reason(error)}") from error
    except _AT_FAULT as error:
        if not batch:
            raise
        if len(batch) == 1:
            return _quarantine(engine, stored, batch[0], collector, drops, error, first)
    except (sqlalchemy.exc.SQLAlchemyError, psycopg.Error) as error:
        raise StoreUnavailable(f"the store cannot take readings: {_reason(error)}") from error
    middle, cut = len(batch) // 2, len(drops) if len(batch) > 1 else len(drops) // 2
    half = ingest_safely(engine, stored, batch[:middle], collector, drops[:cut], first=first)
    return half + ingest_safely(engine, stored, batch[middle:], collector, drops[cut:], first=first)


def _quarantine(
    engine: sa.Engine,
    stored: Stored,
    reading: Reading,
    collector: str,
    drops: Sequence[Drop],
    error: Exception,
    first: Callable[[sa.Connection], None],
) -> SafeResult:
    reason = _reason(error)
    drop = Drop(reading.point, STORE_REFUSED, 1, f"{reading}: {reason}", str(reading))
    _log.warning("a reading of %s cannot be stored: %s", reading.point, reason)
    with begin(engine) as connection:
        first(connection)
        drop_ledger.add(connection, stored, collector, [*drops, drop])
    return SafeResult(quarantined=(drop,))


def _reason(error: Exception) -> str:
    return str(getattr(error, "orig", error)).splitlines()[0]
