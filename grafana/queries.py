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


WITHHELD = """EXISTS (SELECT FROM v_findings w WHERE w.site = min(v_pue.site) AND w.withholds
AND w.start_at < max(v_pue.at) + interval '15 minutes' AND w.lasts_until > min(v_pue.at))"""
"""Whether a finding keeps the ratio of sums over rows of v_pue from being said; stands for `{withheld}`."""


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


def prometheus(text: str, legend: str = "", *, instant: bool = False) -> Query:
    """A PromQL query; ``instant``: only its newest value."""
    return Query(" ".join(text.split()), is_sql=False, legend=legend, instant=instant)


def database(text: str, *, time_series: bool = False, legend: str = "") -> Query:
    """A query of the reading role's views; see ``words.each_class`` for what stands for every load class.

    ``{withheld}`` stands for :data:`WITHHELD`.
    """
    lines = [line.strip() for line in each_class(text.replace("{withheld}", WITHHELD)).strip().splitlines()]
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
