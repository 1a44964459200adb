"""What goes wrong in the demo: one table, each entry with where, when and what it does.

All times count back from the *anchor*, the instant at which the demo was first loaded, so that every
defect lies inside the 13 months of history. :data:`TABLE` is the whole truth: the meters follow it,
:func:`expected_findings` says what the quality checks must report, and nothing else is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import StrEnum

import numpy as np

from app.errors import SeriesError
from collectors.simulated.physics import Event, Upset, site_wet_bulb_c

LOCAL = timezone(timedelta(hours=8), "CST")
"""Both sites' wall clock; China has no daylight saving."""

HISTORY = timedelta(days=396)
"""Length of the demo's history: 13 months."""

WARM_UP = timedelta(days=34)
"""The simulation begins so long before the history, so that every register has counted already."""


class DefectKind(StrEnum):
    """What a meter, or the way its readings take, does wrong."""

    RESET = "reset"
    """The register starts again from zero, and nobody says so."""
    ROLLOVER = "rollover"
    """The register wraps at its declared modulus."""
    REPLACED = "replaced"
    """The meter is exchanged, with old and new reading declared."""
    GAP = "gap"
    """No answer; a register goes on counting."""
    STUCK = "stuck"
    """The same value again and again."""
    SPIKE = "spike"
    """One register reading far above the track."""
    TRANSIENT_ZERO = "transient_zero"
    """One register reading of zero after a reboot."""
    NEGATIVE_POWER = "negative_power"
    """The transducer's offset shows while the feed is dead; the register stands still."""
    CLOCK_DRIFT = "clock_drift"
    """The logger's clock runs ahead; somebody sets it right at the end."""
    LATE_FILE = "late_file"
    """A day's file arrives after everything else."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table, relative to the anchor."""

    kind: DefectKind
    meter: str
    days_ago: int
    clock: str
    """Local time of day, ``HH:MM``."""
    lasts: timedelta
    channels: tuple[str, ...]
    """Channels that show it; empty: every channel of the meter."""
    points: tuple[str, ...]
    """Points whose findings must name it; empty: it is none."""
    effect: str
    amount: float = 0.0
    """Size: modulus or spike [kWh], offset [kW], drift at the end [s]."""


@dataclass(frozen=True, slots=True)
class Defect:
    """An entry of the table with its instants (half-open)."""

    kind: DefectKind
    meter: str
    start: datetime
    end: datetime
    channels: tuple[str, ...]
    points: tuple[str, ...]
    effect: str
    amount: float

    def touches(self, channel: str) -> bool:
        """Whether the channel shows it."""
        return not self.channels or channel in self.channels


@dataclass(frozen=True, slots=True)
class DeclaredEvent:
    """What the staff wrote into the ledger, for ``wattline meter event``."""

    meter: str
    point: str
    kind: str
    """``replaced`` or ``test``."""
    start: datetime
    end: datetime
    note: str
    old_value: float | None = None
    """Last reading of the old meter. [kWh]"""
    new_value: float | None = None
    """First reading of the new one. [kWh]"""


_KWH, _KW = "energy_import_kwh", "power_kw"
_ONE_READING = timedelta(minutes=2)

TABLE: tuple[Entry, ...] = (
    Entry(
        DefectKind.RESET, "sh1-crah-2", 148, "03:07", timedelta(0), (_KWH,), ("sh1-crah-2.kwh",),
        "firmware update: register restarts at 0, undeclared; the energy of one reading interval is unknown",
    ),
    Entry(
        DefectKind.CLOCK_DRIFT, "sh1-heat", 132, "00:00", timedelta(days=36), (), ("sh1-heat.kwh",),
        "logger clock gains 10 s a day and is set right after 36 days; readings carry late stamps",
        amount=360.0,
    ),
    Entry(
        DefectKind.ROLLOVER, "sh1-pumps", 93, "16:52", timedelta(0), (_KWH,), ("sh1-pumps.kwh",),
        "six-digit register wraps from 999 999 to 0; no energy is lost",
        amount=1_000_000.0,
    ),
    Entry(
        DefectKind.REPLACED, "sh1-pdu-b2", 74, "10:37", timedelta(0), (_KWH,), ("sh1-pdu-b2.kwh",),
        "meter exchanged, both readings declared; no energy is lost",
    ),
    Entry(
        DefectKind.GAP, "sh1-chiller-2", 52, "22:05", timedelta(hours=7, minutes=15), (),
        ("sh1-chiller-2.kwh", "sh1-chiller-2.kw"),
        "communication lost for 7 h 15 min; the register gives the energy, its course is estimated",
    ),
    Entry(
        DefectKind.GAP, "sh1-misc", 41, "13:05", timedelta(hours=5, minutes=5), (), ("sh1-misc.kw",),
        "communication lost for 5 h on a meter without a register: that energy stays unknown",
    ),
    Entry(
        DefectKind.STUCK, "sh1-office", 33, "20:02", timedelta(hours=26), (), ("sh1-office.kw",),
        "gateway repeats the last value for 26 h, one whole office day",
    ),
    Entry(
        DefectKind.SPIKE, "sh1-chiller-1", 27, "09:14", _ONE_READING, (_KWH,), ("sh1-chiller-1.kwh",),
        "one reading with bit 16 set: 65 536 kWh too much, gone at the next",
        amount=65_536.0,
    ),
    Entry(
        DefectKind.TRANSIENT_ZERO, "sh1-rack-102", 19, "02:29", _ONE_READING, (_KWH,), ("sh1-rack-102.kwh",),
        "rack PDU reboots and answers 0 once",
    ),
    Entry(
        DefectKind.NEGATIVE_POWER, "sh1-utility-b", 12, "04:10", timedelta(minutes=50), (_KW,),
        ("sh1-utility-b.kw",),
        "feed B is dead; the transducer shows its offset of -8.4 kW while the register stands still",
        amount=-8.4,
    ),
    Entry(
        DefectKind.LATE_FILE, "sh1-epms", 3, "00:00", timedelta(days=1), (), (),
        "the export of one day arrives after the others; the interval energies of that day change the past",
    ),
)  # fmt: skip
"""Every defect of the demo."""


def local_midnight(anchor: datetime) -> datetime:
    """Beginning of the local day of the anchor.

    Raises
    ------
    SeriesError
        If the anchor is naive.
    """
    if anchor.tzinfo is None:
        raise SeriesError("naive anchor; every instant needs a zone")
    return anchor.astimezone(LOCAL).replace(hour=0, minute=0, second=0, microsecond=0)


def epoch(anchor: datetime) -> datetime:
    """Beginning of the simulation for a demo first loaded at `anchor`."""
    return baseline_start(anchor) - WARM_UP


def origin(anchor: datetime) -> datetime:
    """When the IT load is at the level from which it grows."""
    return local_midnight(anchor) - HISTORY - WARM_UP


def history_start(anchor: datetime) -> datetime:
    """First instant of the demo's history: 13 months before the anchor's day."""
    return local_midnight(anchor) - HISTORY


@dataclass(frozen=True, slots=True)
class Retrofit:
    """What was done to the headquarters' plant, and what went wrong with it since; local midnights."""

    set_point: datetime
    """In spring the chilled water was set warmer."""
    fans: datetime
    """In autumn the air handlers got new fans."""
    fouling: datetime
    """From when on the condenser of the second chiller fouls."""

    @property
    def first(self) -> datetime:
        """The first of the two measures."""
        return min(self.set_point, self.fans)

    @property
    def last(self) -> datetime:
        """The second of the two measures."""
        return max(self.set_point, self.fans)


SPRING, AUTUMN = (4, 10), (9, 5)
"""Month and day of the two measures."""
REPORTED = timedelta(days=75)
"""Both measures are at least so long ago; the condenser begins to foul while the plant is known anew."""
FOULS_AFTER = timedelta(days=31)
BASELINE = timedelta(days=370)
"""History before the first measure: a whole year of weather, and some days."""


def retrofit(anchor: datetime) -> Retrofit:
    """The latest spring and the latest autumn measure, and the fouling after both."""
    latest = local_midnight(anchor) - REPORTED
    set_point, fans = (_latest(month, day, latest) for month, day in (SPRING, AUTUMN))
    return Retrofit(set_point, fans, max(set_point, fans) + FOULS_AFTER)


def _latest(month: int, day: int, until: datetime) -> datetime:
    """The latest such day up to an instant."""
    this_year = until.replace(month=month, day=day)
    return this_year if this_year <= until else this_year.replace(year=until.year - 1)


def baseline_start(anchor: datetime) -> datetime:
    """First instant of what is known of the headquarters: the year before its first measure."""
    return min(retrofit(anchor).first - BASELINE, history_start(anchor))


def defects(anchor: datetime) -> tuple[Defect, ...]:
    """The table with its instants, oldest first."""
    return tuple(_dated(entry, local_midnight(anchor)) for entry in TABLE)


def _dated(entry: Entry, midnight: datetime) -> Defect:
    start = _local(midnight - timedelta(days=entry.days_ago), entry.clock)
    return Defect(
        entry.kind,
        entry.meter,
        start,
        start + entry.lasts,
        entry.channels,
        entry.points,
        entry.effect,
        entry.amount,
    )


def _local(day: datetime, clock: str) -> datetime:
    hours, minutes = clock.split(":")
    return day + timedelta(hours=int(hours), minutes=int(minutes))


def cooling_failure(anchor: datetime) -> Event:
    """The hour in which cooling fails at the headquarters.

    It falls on the latest cold day that is at least nine days back: in warm weather the PUE is near its
    limit anyway, on a cold day the failure alone crosses it.
    """
    day = local_midnight(anchor) - timedelta(days=9)
    while _warmest_wet_bulb_c(day) > _COLD_C:
        day -= timedelta(days=1)
    start = _local(day, "14:05")
    return Event(Upset.COOLING_FAILURE, start, start + timedelta(minutes=60))


_COLD_C = 6.5
"""Wet bulb below which most of the heat leaves without chillers; every winter has such days. [C]"""


def _warmest_wet_bulb_c(day: datetime) -> float:
    """Highest wet-bulb temperature from 07:00 to 21:00 local. [C]"""
    hours_s = day.timestamp() + 3600 * np.arange(7.0, 22.0, dtype=np.float64)
    return float(site_wet_bulb_c("sh1", hours_s).max())


def upsets(site: str, anchor: datetime) -> tuple[Event, ...]:
    """What really happens in the plant of a site, beside weather and business."""
    if site != "sh1":
        return ()
    dead = (d for d in defects(anchor) if d.kind is DefectKind.NEGATIVE_POWER)
    return (cooling_failure(anchor), *(Event(Upset.OUTAGE_B, d.start, d.end) for d in dead))


def lasting(site: str, anchor: datetime) -> tuple[Event, ...]:
    """What changed in the plant of a site for good."""
    if site != "sh1":
        return ()
    done = retrofit(anchor)
    return tuple(
        Event(upset, start, FOR_GOOD)
        for upset, start in (
            (Upset.SET_POINT_RAISED, done.set_point),
            (Upset.FANS_EXCHANGED, done.fans),
            (Upset.CONDENSER_FOULED, done.fouling),
        )
    )


FOR_GOOD = datetime(9999, 1, 1, tzinfo=LOCAL)
"""End of a change that is not undone."""


def declared_events(anchor: datetime) -> tuple[DeclaredEvent, ...]:
    """Ledger entries of the demo: the exchanged meter and the monthly generator tests, oldest first."""
    swaps = [d for d in defects(anchor) if d.kind is DefectKind.REPLACED]
    events = [
        DeclaredEvent(d.meter, p, "replaced", d.start, d.end, d.effect) for d in swaps for p in d.points
    ]
    for start in generator_tests(history_start(anchor), anchor):
        end = start + timedelta(minutes=50)
        events.append(
            DeclaredEvent(
                "sh1-generator",
                "sh1-generator.kwh",
                "test",
                start,
                end,
                "每月带载试机 monthly test run on load",
            )
        )
    return tuple(sorted(events, key=lambda e: e.start))


def generator_tests(start: datetime, end: datetime) -> Iterator[datetime]:
    """Beginnings of the monthly test runs in a half-open range."""
    day = local_midnight(start)
    while day < end:
        at = day + timedelta(hours=10)
        if day.weekday() == 2 and day.day <= 7 and start <= at < end:
            yield at
        day += timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ExpectedFinding:
    """A finding that the quality checks must report on the demo."""

    kind: DefectKind
    point: str
    start: datetime
    end: datetime


def expected_findings(now: datetime) -> tuple[ExpectedFinding, ...]:
    """What must be found, and nothing else, in a demo first loaded at `now`."""
    return tuple(ExpectedFinding(d.kind, point, d.start, d.end) for d in defects(now) for point in d.points)
