"""Queries of panels: PromQL through the SDK's builder, SQL through a few lines of our own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grafana.sdk import Builder, Dataquery, common_model
from grafana.sdk import prometheus as builders
from grafana.sdk import prometheus_model as models
from grafana.words import Lang, each_class, fill

PROMETHEUS = common_model.DataSourceRef(type_val="prometheus", uid="${prometheus}")
DATABASE = common_model.DataSourceRef(type_val="grafana-postgresql-datasource", uid="${database}")


ZONE = "(SELECT time_zone FROM v_site WHERE site = ${site:sqlstring})"
_LAST = "($__timeTo()::timestamptz - interval '1 microsecond')"
_STEP_S = "greatest($__interval_ms / 1000.0, 900)"
_BAR_S = f"floor(extract(epoch FROM at) / {_STEP_S}) * {_STEP_S}"
PARTS = {
    "zone": ZONE,
    "least": "(SELECT minimum_coverage_ratio FROM v_site WHERE site = ${site:sqlstring})",
    "span": "at >= $__timeFrom()::timestamptz AND at < $__timeTo()::timestamptz",
    "day": f"(at AT TIME ZONE {ZONE})::date",
    "in_days": f"at >= date_trunc('day', $__timeFrom()::timestamptz AT TIME ZONE {ZONE}) AT TIME ZONE {ZONE} "
    f"AND at < (date_trunc('day', {_LAST} AT TIME ZONE {ZONE}) + interval '1 day') AT TIME ZONE {ZONE}",
    "of_days": f"day BETWEEN ($__timeFrom()::timestamptz AT TIME ZONE {ZONE})::date "
    f"AND ({_LAST} AT TIME ZONE {ZONE})::date",
    "bar": f"to_timestamp({_BAR_S})",
    "bar_s": f"least({_BAR_S} + {_STEP_S}, extract(epoch FROM least(now(), $__timeTo()::timestamptz))) "
    f"- greatest({_BAR_S}, extract(epoch FROM $__timeFrom()::timestamptz))",
}
"""What stands for ``{name}`` in a query of a board with the variable `site`.

span: the intervals of the time range, its end left out. day: the site's own day of an interval; in_days: the
intervals of all days that the range touches, whole; of_days: the same for rows of days. bar: start of a step
of a chart; bar_s: how much of it lies in the range and in the past. [s]
"""


PUE = """CASE WHEN NOT {withheld} AND sum(facility_kwh) >= sum(it_kwh)
AND sum(coverage_ratio) * 900 >= 0.999999 * {least} * ({length})
THEN sum(facility_kwh) / nullif(sum(it_kwh), 0) END"""
"""The ratio of sums over rows of v_pue, as long as the figures may be said; `length`: of the time. [s]"""


def day_s(day: str, zone: str = ZONE) -> str:
    """Length of a site's own day, the last one until now. [s]"""
    return (
        f"extract(epoch FROM least(now(), ({day} + 1)::timestamp AT TIME ZONE {zone}) "
        f"- {day}::timestamp AT TIME ZONE {zone})"
    )


def noon(day: str) -> str:
    """An instant at which every browser shows the date of a site's own day."""
    return f"({day} + time '12:00') AT TIME ZONE 'UTC'"


WITHHELD = """EXISTS (SELECT FROM v_withheld w WHERE w.site = min(v_pue.site)
AND w.start_at < max(v_pue.at) + interval '15 minutes' AND w.lasts_until > min(v_pue.at))"""
"""Whether a finding, or a definition that changed, keeps the ratio of sums over rows of v_pue from being
said; stands for `{withheld}`."""


@dataclass(frozen=True)
class Query:
    """One query of a panel."""

    text: str
    is_sql: bool
    legend: str = ""
    """Name of the series, with labels in double braces."""
    instant: bool = False
    time_series: bool = False
    """SQL answers ``time``, ``metric`` and ``value``, or ``time`` and one column per series."""

    def target(self, letter: str, lang: Lang) -> Builder[Any]:
        """The query as the SDK takes it, in a panel of a language."""
        if self.is_sql:
            return SqlTarget(letter, fill(self.text, lang), time_series=self.time_series)
        made = builders.Dataquery().ref_id(letter).expr(self.text).datasource(PROMETHEUS)
        made.legend_format(self.legend or "__auto").format(models.PromQueryFormat.TIME_SERIES)
        return made.instant() if self.instant else made.range()


def annotation(text: str, lang: Lang) -> Builder[Any]:
    """The query behind marks on every chart: ``time``, ``timeEnd``, ``text`` and ``tags``."""
    return SqlTarget("A", fill(database(text).text, lang), time_series=False)


def prometheus(text: str, legend: str = "", *, instant: bool = False) -> Query:
    """A PromQL query; ``instant``: only its newest value."""
    return Query(" ".join(text.split()), is_sql=False, legend=legend, instant=instant)


def database(text: str, *, time_series: bool = False, legend: str = "") -> Query:
    """A query of the reading role's views; see ``words.each_class`` for what stands for every load class.

    ``{withheld}`` stands for :data:`WITHHELD`, other names in braces for those of :data:`PARTS`.
    """
    for name, part in (PARTS | {"withheld": WITHHELD}).items():
        text = text.replace(f"{{{name}}}", part)
    lines = [line.strip() for line in each_class(text).strip().splitlines()]
    return Query("\n".join(lines), is_sql=True, time_series=time_series, legend=legend)


class _SqlQuery(Dataquery):
    """A query as Grafana's PostgreSQL plugin stores it."""

    def __init__(self, fields: dict[str, object]) -> None:
        self._fields = fields

    def to_json(self) -> dict[str, object]:
        """For the SDK's encoder."""
        return self._fields


class SqlTarget(Builder[Dataquery]):
    """Builder of a query for Grafana's PostgreSQL data source, which the SDK lacks."""

    def __init__(self, letter: str, text: str, *, time_series: bool) -> None:
        self._fields: dict[str, object] = {
            "refId": letter,
            "datasource": DATABASE,
            "editorMode": "code",
            "format": "time_series" if time_series else "table",
            "rawQuery": True,
            "rawSql": text,
        }

    def build(self) -> Dataquery:
        """The query."""
        return _SqlQuery(self._fields)
