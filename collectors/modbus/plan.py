"""Which registers to ask for together: few requests, within what the device allows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from collectors.profiles.profile import Blocks


@dataclass(frozen=True, slots=True, order=True)
class Field:
    """Registers that belong together: one value, or one scale factor."""

    table: str
    address: int
    length: int

    @property
    def end(self) -> int:
        """First register behind the field."""
        return self.address + self.length


@dataclass(frozen=True, slots=True)
class Block:
    """One request: `count` registers from `address`, and the fields in them."""

    table: str
    address: int
    count: int
    fields: tuple[Field, ...]


def plan(fields: Iterable[Field], rules: Blocks) -> list[Block]:
    """The fewest requests that read every field without breaking the rules.

    Fields are taken in address order; a request is extended as long as it stays within
    ``max_registers``, the hole to the next field within ``max_hole``, and no register of
    ``holes`` is touched. A field is never split over two requests.
    """
    groups: list[list[Field]] = []
    for field in sorted(set(fields)):
        if groups and _joins(groups[-1], field, rules):
            groups[-1].append(field)
        else:
            groups.append([field])
    return [_block(group) for group in groups]


def _joins(group: list[Field], field: Field, rules: Blocks) -> bool:
    end = max(f.end for f in group)
    return (
        not rules.single
        and field.table == group[0].table
        and field.address - end <= rules.max_hole
        and max(end, field.end) - group[0].address <= rules.max_registers
        and not any(end <= last and first < field.address for first, last in rules.holes)
    )


def _block(group: list[Field]) -> Block:
    start, end = group[0].address, max(f.end for f in group)
    return Block(group[0].table, start, end - start, tuple(group))


def split(block: Block) -> list[Block]:
    """Smaller requests for a block the device refused as a whole: at its holes, else one per field.

    A block of a single field comes back as it is.
    """
    parts = plan(block.fields, Blocks(max_hole=0))
    return parts if len(parts) > 1 else plan(block.fields, Blocks(single=True))
