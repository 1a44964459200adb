"""What of a deployment is well and what is not, and what to do: the decisions behind ``wattline doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Outcome(StrEnum):
    """How something is; the worst last."""

    OK = "ok"
    WARNING = "warning"
    """It works, and will not for long, or not as it should."""
    FAULT = "fault"
    """It does not work."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    subject: str
    outcome: Outcome
    found: str
    remedy: str = ""
    """What to do; empty where nothing is to be done."""


CLOCK_WARNING_S, CLOCK_FAULT_S = 2.0, 60.0
"""Readings are stamped where they are read; a clock off by more puts energy into a wrong quarter-hour. [s]"""
LAG_WARNING_S, LAG_FAULT_S = 300.0, 3600.0
"""Figures that are further behind their readings. [s]"""
CERTIFICATE_WARNING_DAYS, CERTIFICATE_FAULT_DAYS = 30.0, 3.0
"""A certificate that ends sooner. [d]"""
DISK_WARNING_RATIO, DISK_FAULT_RATIO = 0.15, 0.03
"""A disk with less free space. [0..1]"""
_CLOCK_REMEDY = "synchronise it with a time server (chrony, systemd-timesyncd)"


def graded(value: float, warning: float, fault: float) -> Outcome:
    """A value that is worse the larger it is, against two bounds."""
    if value > fault:
        return Outcome.FAULT
    return Outcome.WARNING if value > warning else Outcome.OK


def clock(subject: str, offset_s: float, doubt_s: float = 0.0) -> Check:
    """How far a clock is from ours.

    Parameters
    ----------
    offset_s : float
        Positive where it is fast. [s]
    doubt_s : float
        How far the measurement itself may be off; that much is forgiven. [s]
    """
    outcome = graded(max(abs(offset_s) - doubt_s, 0.0), CLOCK_WARNING_S, CLOCK_FAULT_S)
    way = "fast" if offset_s > 0 else "slow"
    found = "as ours" if outcome is Outcome.OK else f"{abs(offset_s):.0f} s {way}"
    return Check(subject, outcome, found, "" if outcome is Outcome.OK else _CLOCK_REMEDY)


def lag(subject: str, lag_s: float) -> Check:
    """How far figures are behind the readings."""
    outcome = graded(lag_s, LAG_WARNING_S, LAG_FAULT_S)
    remedy = "" if outcome is Outcome.OK else "see wattline_queue_entries and wattline_job_* on /metrics"
    return Check(subject, outcome, f"{lag_s:.0f} s behind the readings", remedy)


def certificate(subject: str, ends_at: datetime, now: datetime) -> Check:
    """How long a certificate still holds."""
    left_days = (ends_at - now).total_seconds() / 86_400
    outcome = graded(-left_days, -CERTIFICATE_WARNING_DAYS, -CERTIFICATE_FAULT_DAYS)
    found = f"valid until {ends_at:%Y-%m-%d}" if left_days > 0 else f"ended on {ends_at:%Y-%m-%d}"
    return Check(subject, outcome, found, "" if outcome is Outcome.OK else "renew it")


def disk(subject: str, free_bytes: int, total_bytes: int) -> Check:
    """How much of a disk is free."""
    free_ratio = free_bytes / total_bytes
    outcome = graded(-free_ratio, -DISK_WARNING_RATIO, -DISK_FAULT_RATIO)
    found = f"{free_bytes / 1e9:.1f} GB free ({free_ratio:.0%})"
    remedy = "" if outcome is Outcome.OK else "make room; `wattline db status` says when it will be full"
    return Check(subject, outcome, found, remedy)


def version(subject: str, theirs: str | None, ours: str) -> Check:
    """Whether another part is of our version."""
    if theirs == ours:
        return Check(subject, Outcome.OK, ours)
    found = f"{theirs or 'unknown'}, here {ours}"
    return Check(subject, Outcome.WARNING, found, "bring both to one version, the centre first")


def worst(checks: list[Check]) -> Outcome:
    """The worst of several."""
    order = list(Outcome)
    return max((check.outcome for check in checks), key=order.index, default=Outcome.OK)
