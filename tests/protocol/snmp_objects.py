"""An SNMP agent that has what it is told, without a network."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from collectors.snmp.ber import parse_oid
from collectors.snmp.session import Value

Objects = dict[str, Value]


class Recorded:
    """An agent that has what it is told, without a network."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._order = sorted(map(parse_oid, objects))

    async def get(self, oids: Sequence[str]) -> dict[str, Value]:
        return {oid: self._objects[oid] for oid in oids if oid in self._objects}

    async def walk(self, oid: str) -> dict[str, Value]:
        prefix = parse_oid(oid)
        rows = self._order[bisect_right(self._order, prefix) : bisect_right(self._order, (*prefix, 2**32))]
        names = [".".join(map(str, row)) for row in rows]
        return {name[len(oid) + 1 :]: self._objects[name] for name in names}

    async def has(self, oid: str) -> bool:
        return oid in self._objects or bool(await self.walk(oid))
