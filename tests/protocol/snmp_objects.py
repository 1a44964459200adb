"""SNMP agents of the tests that have what they are told, without a network."""

from __future__ import annotations

from collectors.snmp.recording import RecordedAgent as Recorded
from collectors.snmp.session import Value

__all__ = ["Objects", "Recorded"]
Objects = dict[str, Value]
