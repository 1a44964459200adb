"""An SNMP agent made of a recording: what a walk of a device wrote, served without a network.

Recordings are in the format of snmpsim, ``OID|tag|value`` a line.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.errors import ConfigError
from collectors.snmp.ber import parse_oid
from collectors.snmp.session import Value

_INTEGERS = {"2", "65", "66", "67", "70"}
_OBJECT_ID = "6"
MOST_BYTES = 64 * 1024 * 1024


class RecordedAgent:
    """Answers as an agent with these objects would.

    Parameters
    ----------
    objects : mapping of str to Value
        Value by OID.
    """

    def __init__(self, objects: Mapping[str, Value]) -> None:
        self._objects = objects
        self._order = sorted(map(parse_oid, objects))

    async def get(self, oids: Sequence[str]) -> dict[str, Value]:
        """Values of those OIDs that exist."""
        return {oid: self._objects[oid] for oid in oids if oid in self._objects}

    async def walk(self, oid: str) -> dict[str, Value]:
        """Every value under an OID, by what follows it."""
        prefix = parse_oid(oid)
        rows = self._order[bisect_right(self._order, prefix) : bisect_right(self._order, (*prefix, 2**32))]
        names = [".".join(map(str, row)) for row in rows]
        return {name[len(oid) + 1 :]: self._objects[name] for name in names}

    async def has(self, oid: str) -> bool:
        """True where there is `oid` or anything under it."""
        return oid in self._objects or bool(await self.walk(oid))


def read(path: Path) -> RecordedAgent:
    """The agent that a recording was made of.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a line is none of a recording.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError("larger than 64 MB; give the recording of one device", file=str(path))
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error}; give a .snmprec file", file=str(path)) from None
    objects: dict[str, Value] = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith(b"#"):
            try:
                oid, tag, raw = line.rstrip(b"\r").split(b"|", 2)
                objects[oid.decode("ascii").lstrip(".")] = _value(tag.decode("ascii"), raw)
            except (ValueError, UnicodeDecodeError):
                problem = "is no line of a recording; expected OID|tag|value"
                raise ConfigError(problem, file=str(path), line=number) from None
    return RecordedAgent(objects)


def _value(tag: str, raw: bytes) -> Value:
    if tag.endswith("x"):
        return bytes.fromhex(raw.decode("ascii"))
    if tag in _INTEGERS:
        return int(raw)
    return raw.decode("ascii").lstrip(".") if tag == _OBJECT_ID else raw
