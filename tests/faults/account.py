"""The reckoning: what was acknowledged is stored once, or stands in the ledger; nothing else is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from app.store.engine import Connection, Engine, connect
from tests.faults.collector import Said

_STORED = """
SELECT p.key, (extract(epoch FROM r.at) * 1000000)::bigint, r.value
FROM {table} r JOIN points p ON p.id = r.point_id
"""
_LEDGER = "SELECT detail ->> 'point', sum(readings)::bigint FROM dropped_readings GROUP BY 1"


@dataclass(frozen=True)
class Account:
    """What became of everything that was said."""

    acknowledged: int
    stored: int
    """Readings in the store, acknowledged or not."""
    contradicting: int
    """Acknowledged readings kept aside: another value was stored for their instant first."""
    in_ledger: int
    unconfirmed: int
    """Readings that are stored though nobody learnt of it."""
    wrong: list[str] = field(default_factory=list)
    """What does not add up; empty as it should be."""

    def __str__(self) -> str:
        parts = [f"{self.acknowledged} acknowledged", f"{self.stored} stored"]
        parts += [f"{self.contradicting} contradicting", f"{self.in_ledger} in the ledger"]
        parts.append(f"{self.unconfirmed} stored without an answer")
        return ", ".join([*parts, *self.wrong])


@dataclass(frozen=True)
class Held:
    """What a database has of some points."""

    rows: list[Said]
    aside: set[Said]
    """Contradictions."""
    ledger: Mapping[str, int]
    """Dropped readings by point."""

    def of(self, points: Collection[str]) -> Held:
        """Of some of the points."""
        return Held(
            [row for row in self.rows if row.point in points],
            {row for row in self.aside if row.point in points},
            {point: count for point, count in self.ledger.items() if point in points},
        )


def held(engine: Engine) -> Held:
    """Everything that a database has."""
    with connect(engine) as connection:
        ledger = dict(connection.exec_driver_sql(_LEDGER).all())
        return Held(_rows(connection, "readings"), set(_rows(connection, "reading_conflicts")), ledger)


def drawn_up(engine: Engine, tried: set[Said], acknowledged: set[Said]) -> Account:
    """Compare what senders and collectors know with what the database has; see :func:`compared`."""
    return compared(held(engine), tried, acknowledged)


def compared(there: Held, tried: set[Said], acknowledged: set[Said], twice: Collection[Said] = ()) -> Account:
    """Compare what senders and collectors know with what a database has.

    Parameters
    ----------
    there : Held
    tried : set of Said
        Everything that was ever sent; may be stored.
    acknowledged : set of Said
        What a spool, an answer or a finished file confirmed; must not be lost.
    twice : collection of Said
        What two collectors read: of one it may be stored while that of the other is in the ledger.
    """
    rows, aside, ledger = there.rows, there.aside, there.ledger
    stored = set(rows)
    gone = Counter(one.point for one in acknowledged - stored - aside)
    open_ended = Counter(one.point for one in tried - acknowledged - stored - aside)
    also = Counter(one.point for one in set(twice) & (stored | aside))
    wrong = [f"{len(rows) - len(stored)} readings are stored twice"] if len(rows) > len(stored) else []
    invented = (stored | aside) - tried
    wrong += [f"{len(invented)} stored readings were never sent, e.g. {min(invented)}"] if invented else []
    for point in sorted(gone.keys() | ledger.keys()):
        least, most = gone[point], gone[point] + open_ended[point] + also[point]
        if not least <= ledger.get(point, 0) <= most:
            wrong.append(f"{point}: {least} to {most} not stored, {ledger.get(point, 0)} in the ledger")
    return Account(
        len(acknowledged),
        len(stored),
        len(acknowledged & aside),
        sum(ledger.values()),
        len((stored | aside) - acknowledged),
        wrong,
    )


def _rows(connection: Connection, table: str) -> list[Said]:
    return [Said(*row) for row in connection.exec_driver_sql(_STORED.format(table=table))]
