"""The report of a site: cover and order of the sections."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from zoneinfo import ZoneInfo

from app.domain.evidence import PERIOD
from app.reports.layout import Badge, Block, Column, Cover, Facts, Layout, Section, Value
from app.reports.safe import line
from app.reports.sections import drift, evidence, figures, judgement, operation, plant, regulations, savings
from app.reports.words import SiteWords

_SECTIONS: tuple[tuple[str, Callable[[SiteWords], Iterable[Block]]], ...] = (
    ("verdicts", figures.verdicts),
    ("pue", figures.pue),
    ("energy", figures.energy),
    ("course", figures.course),
    ("changes", figures.changes),
    ("load", operation.load),
    ("indicators", operation.indicators),
    ("plant", plant.indicators),
    ("money", operation.money),
    ("savings", operation.savings),
    ("verified", savings.verified),
    ("normalised", savings.normalised),
    ("drift", drift.drift),
    ("opportunities", plant.opportunities),
    ("breaches", judgement.breaches),
    ("gauges", operation.gauges),
    ("quality", evidence.quality),
    ("year_end", judgement.year_end),
    ("compliance", judgement.compliance),
    ("regulations", regulations.regulations),
    ("eu", judgement.eu),
    ("method", evidence.method),
    ("revision", evidence.revision),
    ("signature", evidence.signature),
)
"""In the order of the pages; one without blocks is left out."""


class SitePage(SiteWords):
    """One report in one language: its cover, and its sections in their order."""

    def layout(self) -> Layout:
        """The whole report."""
        made = [Section(key, self.language.title(key), tuple(make(self))) for key, make in _SECTIONS]
        r = self.report
        return Layout(
            self.language,
            self._cover(),
            not r.revision.closed,
            [s for s in made if s.blocks],
            footer=f"{line(r.institution.name)} · {line(r.site.name)} · {self.language.day(r.period.name)}",
            keywords=("PUE", r.site.id, r.period.name),
        )

    def _cover(self) -> Cover:
        r, t = self.report, self.t
        figure = r.pue[PERIOD]
        return Cover(
            title=self.term("report", r.kind),
            subject=line(r.site.name),
            period=self.language.day(r.period.name),
            headline=f"{figure.label or 'PUE'} = {self.language.number(figure.pue, self.pue_places)}"
            if figure.pue is not None
            else t("no_pue"),
            headline_note=self._headline_note(),
            badges=[
                Badge(
                    v.verdict,
                    self.language.term("verdict", v.verdict),
                    f"{self.language.term('profile', v.profile)} ≤ {self.language.number(v.limit, 2)}",
                )
                for v in r.verdicts
                if v.window == PERIOD
            ],
            facts=self._cover_facts(),
            hash_about=t("hash_about"),
            sha256=r.sha256,
            status=t("frozen_long") if r.revision.closed else t("provisional_long"),
        )

    def _headline_note(self) -> str:
        figure = self.report.pue[PERIOD]
        if figure.pue is None:
            return self.language.term("reason", figure.reason)
        coverage = f"{self.c('coverage')} {self.language.percent(figure.coverage_ratio)}"
        if figure.uncertainty is None:
            return coverage
        return f"± {self.language.number(figure.uncertainty, self.pue_places)} · {coverage}"

    def _cover_facts(self) -> Facts:
        r, zone = self.report, ZoneInfo(self.report.site.time_zone)
        rows: list[tuple[Column, Value]] = [
            (self.text("institution"), r.institution.name),
            (
                self.text("institution_class"),
                self.term("institution_class", r.institution.institution_class),
            ),
            (self.text("site"), f"{r.site.name} ({r.site.id})"),
            (self.instant("from"), r.period.start),
            (self.instant("to"), r.period.end),
            (self.text("time_zone"), r.site.time_zone),
            (self.day("started"), r.site.started_on),
            (self.text("revision"), str(r.revision.number) if r.revision.closed else self.t("provisional")),
            (self.text("created"), self.language.zoned(r.revision.created_at, zone)),
        ]
        return Facts("cover", rows)
