"""What ``--window``, ``--month``, ``--start`` and ``--end`` mean for a site."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from app.domain.period import Period, floor, midnight, month_or_year, window
from app.errors import SeriesError

DEFAULT_WINDOW = "24h"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options as they were typed."""

    window: str | None = None
    month: str | None = None
    start: str | None = None
    end: str | None = None

    def period(self, zone: ZoneInfo, now: datetime) -> Period:
        """The period they name; the last 24 hours where they name none.

        Raises
        ------
        SeriesError
            If they contradict each other or are not understood.
        """
        self._refuse_several()
        if self.month is not None:
            return month_or_year(self.month, zone)
        if self.start is None and self.end is None:
            return window(self.window or DEFAULT_WINDOW, now, zone)
        if self.start is None:
            raise SeriesError("--end needs --start")
        end = floor(now) if self.end is None else instant(self.end, zone)
        period = Period(instant(self.start, zone), end)
        if not period.is_whole_quarter_hours():
            raise SeriesError("--start and --end must be multiples of 15 minutes, e.g. 2026-10-01T08:15Z")
        return period

    def _refuse_several(self) -> None:
        ranged = self.start is not None or self.end is not None
        if (self.window is not None) + (self.month is not None) + ranged > 1:
            raise SeriesError("say one of --window, --month, or --start and --end")


def instant(text: str, zone: ZoneInfo) -> datetime:
    """An RFC 3339 instant, or a day: its midnight at the site.

    Raises
    ------
    SeriesError
        If it is neither.
    """
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return midnight(date.fromisoformat(text), zone)
        at = datetime.fromisoformat(text)
    except ValueError:
        raise SeriesError(f"{text!r} is no time; write 2026-10-01 or 2026-10-01T08:00:00+08:00") from None
    if at.tzinfo is None:
        raise SeriesError(f"{text!r} has no zone; write it like 2026-10-01T08:00:00+08:00 or ...Z")
    return at.astimezone(UTC)


def local(at: datetime, zone: ZoneInfo) -> str:
    """An instant in the site's wall time, to the minute."""
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M}"


def period_text(period: Period, zone: ZoneInfo) -> str:
    """A period in the site's wall time."""
    return f"{local(period.start, zone)} .. {local(period.end, zone)} {zone.key}"
