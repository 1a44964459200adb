"""The period of a page: named in its address, else the one chosen last, and the bar to choose another.

A page takes :func:`asking`; an address that names no period leads to that of the period chosen last, so
that an address always says what its page shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated
from urllib.parse import parse_qsl, urlencode
from zoneinfo import ZoneInfo

from fastapi import Depends, Query, Request
from fastapi.responses import Response

from app.domain.asked import Asked, parameters, step_of
from app.domain.period import Period, shift_months
from app.errors import SeriesError
from app.web.access import SeeOther

COOKIE = "wattline_period"
"""What was chosen last, until the browser is closed."""
_MONTHS, _YEARS = 15, 3
_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
_PARAMETERS = ("window", "month", "year", "start", "end")


def _asking(default: str, *, is_remembered: bool) -> Callable[..., Asked]:
    def dependency(
        request: Request,
        window: Annotated[str | None, Query()] = None,
        month: Annotated[str | None, Query()] = None,
        year: Annotated[str | None, Query()] = None,
        start: Annotated[str | None, Query()] = None,
        end: Annotated[str | None, Query()] = None,
        compare: Annotated[str | None, Query()] = None,
    ) -> Asked:
        asked = Asked(window, month, year, start, end, default, compare)
        if is_remembered and not asked.query:
            _go_to_last(request)
        return asked

    return dependency


OfPage = Annotated[Asked, Depends(_asking("24h", is_remembered=True))]
OfMonth = Annotated[Asked, Depends(_asking("30d", is_remembered=True))]
"""Parameters of a page with figures, and what it shows without any."""
OfYear = Annotated[Asked, Depends(_asking("12mo", is_remembered=False))]
"""Of a page about what a year brings, whatever was looked at before."""
OfFleet = Annotated[Asked, Depends(_asking("", is_remembered=False))]
"""Of the overview, which shows the longest window of each site where no period is named."""


def _go_to_last(request: Request) -> None:
    last = {n: v for n, v in parse_qsl(request.cookies.get(COOKIE, "")) if n in _PARAMETERS}
    try:
        Asked(**last).resolve(datetime.now(UTC), ZoneInfo("UTC"))
    except SeriesError:
        return
    if last:
        raise SeeOther(f"{request.url.path}?{urlencode({**last, **request.query_params})}")


def keep(answer: Response, asked: Asked) -> Response:
    """Have the browser remember what was chosen."""
    if asked.query:
        answer.set_cookie(COOKIE, urlencode(asked.query), httponly=True, samesite="lax")
    return answer


@dataclass(frozen=True)
class Chosen:
    """The period of a page and what it is compared with, in the zone of its site."""

    asked: Asked
    now: datetime
    zone: ZoneInfo
    period: Period
    against: Period | None

    @classmethod
    def of(cls, asked: Asked, now: datetime, zone: ZoneInfo) -> Chosen:
        """What `asked` means at `now`.

        Raises
        ------
        SeriesError
            If it names no period.
        """
        period, against = asked.resolve(now, zone), asked.compared(now, zone)
        for one in (period, against):
            if one is not None:
                step_of(one)  # refuses what is too long to be shown
        return cls(asked, now, zone, period, against)

    @property
    def window(self) -> str:
        """The window that is shown; empty where it is another kind of period."""
        return "" if self.asked.query.keys() - {"window"} else self.asked.window or self.asked.default

    @property
    def query(self) -> dict[str, str]:
        """The period as parameters of an address."""
        return self.asked.query or {"window": self.asked.default}

    @property
    def whole_query(self) -> dict[str, str]:
        """The period and the comparison as parameters of an address."""
        return {**self.query, **self._compare}

    @property
    def _compare(self) -> dict[str, str]:
        return {} if self.asked.compare is None else {"compare": self.asked.compare}

    @property
    def steps(self) -> tuple[dict[str, str] | None, dict[str, str] | None]:
        """The periods before and after, as parameters of an address."""
        kept = {} if self.asked.compare not in ("previous", "year") else self._compare
        found = (self.asked.neighbour(by, self.now, self.zone) for by in (-1, 1))
        before, after = ({**query, **kept} if query else None for query in found)
        return before, after

    @property
    def calendar(self) -> list[str]:
        """Months and years to choose from, the newest first."""
        local = self.now.astimezone(self.zone)
        months = (shift_months(self.now, -i, self.zone).astimezone(self.zone) for i in range(_MONTHS))
        return [*(f"{at:%Y-%m}" for at in months), *(str(local.year - i) for i in range(_YEARS))]

    @property
    def days(self) -> tuple[str, str]:
        """First and last day of the period."""
        return self._days(self.period)

    @property
    def compared_days(self) -> tuple[str, str]:
        """First and last day of what it is compared with; empty texts where there is none."""
        return ("", "") if self.against is None else self._days(self.against)

    def _days(self, period: Period) -> tuple[str, str]:
        last = (period.end - timedelta(microseconds=1)).astimezone(self.zone)
        return f"{period.start.astimezone(self.zone):%Y-%m-%d}", f"{last:%Y-%m-%d}"

    @property
    def api_query(self) -> dict[str, str]:
        """The period as parameters for the HTTP interface, by its instants."""
        return self.period.as_dict()


def address(path: str, given: Mapping[str, str]) -> str:
    """The address of a page for what its period bar was asked: a calendar month or year, or days.

    Raises
    ------
    SeriesError
        If the days are none, or in the wrong order.
    """
    if not path.startswith("/") or path.startswith(("//", "/\\")) or not path.isprintable():
        raise SeriesError(f"to: {path!r} is no page")
    asked = parameters(given)
    query = {n: asked[n] for n in (*_PARAMETERS, "lang") if n in asked}
    if "calendar" in asked:
        query["month" if "-" in asked["calendar"] else "year"] = asked["calendar"]
    if "first" in asked or "last" in asked:
        query |= dict(zip(("start", "end"), _span(asked, "first", "last"), strict=True))
    compare = asked.get("compare", "")
    if compare == "days":
        compare = "..".join(_span(asked, "compare_first", "compare_last"))
    elif _MONTH.fullmatch(compare):
        compare = f"{compare}-01..{_next_month(compare)}-01"
    return f"{path}?{urlencode(query | ({'compare': compare} if compare else {}))}"


def _next_month(month: str) -> str:
    number, of = divmod(int(month[:4]) * 12 + int(month[5:]), 12)
    return f"{number:04d}-{of + 1:02d}"


def _span(asked: Mapping[str, str], first: str, last: str) -> tuple[str, str]:
    """Start and end of the days from `first` to `last`, both of them included."""
    days = [_day(asked.get(name, ""), name) for name in (first, last)]
    if days[1] < days[0]:
        raise SeriesError(f"{last}: {days[1]} is before {days[0]}")
    return f"{days[0]}", f"{days[1] + timedelta(days=1)}"


def _day(text: str, name: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        raise SeriesError(f"{name}: {text!r} is no day; write it like 2026-10-01") from None
