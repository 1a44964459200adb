"""The report of an institution, section by section."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from app.charts.report import Bars, Series
from app.reports.document import InstitutionReport, SiteLine
from app.reports.language import Language
from app.reports.layout import (
    Badge,
    Block,
    Column,
    Cover,
    Facts,
    Layout,
    Picture,
    Prose,
    Section,
    Table,
    Value,
)
from app.reports.rounding import energy_decimals
from app.reports.safe import line
from app.reports.words import Words, compliance_table, revision_blocks, signatures

MOST_BARS = 60
MOST_SITES = 500


class InstitutionPage(Words):
    """One report in one language; the methods make its sections."""

    def __init__(self, report: InstitutionReport, language: Language) -> None:
        super().__init__(language, energy_decimals(report.fleet.facility_kwh))
        self.report = report

    def layout(self) -> Layout:
        """The whole report."""
        parts: tuple[tuple[str, Callable[[], Iterable[Block]]], ...] = (
            ("fleet", self._fleet),
            ("sites", self._sites),
            ("compliance", self._compliance),
            ("revision", lambda: revision_blocks(self, self.report.revision)),
            ("signature", lambda: [signatures(self.language)]),
        )
        r = self.report
        return Layout(
            self.language,
            self._cover(),
            not r.revision.closed,
            [Section(key, self.language.title(key), tuple(make())) for key, make in parts],
            footer=f"{line(r.institution.name)} · {self.language.day(r.period.name)}",
            keywords=("PUE", r.institution.id, r.period.name),
        )

    def _cover(self) -> Cover:
        r, pue = self.report, self.report.fleet.ratio_of_sums
        headline = self.t("no_pue") if pue is None else f"PUE = {self.language.number(pue, self.pue_places)}"
        zone = datetime.fromisoformat(r.period.start).tzinfo or UTC
        rows: list[tuple[Column, Value]] = [
            (self.text("institution"), r.institution.name),
            (
                self.text("institution_class"),
                self.term("institution_class", r.institution.institution_class),
            ),
            (self.instant("from"), r.period.start),
            (self.instant("to"), r.period.end),
            (self.text("revision"), str(r.revision.number) if r.revision.closed else self.t("provisional")),
            (self.text("created"), self.language.zoned(r.revision.created_at, zone)),
        ]
        failing = [s for s in r.sites if s.verdict is not None]
        return Cover(
            title=self.term("report", r.kind),
            subject=line(r.institution.name),
            period=self.language.day(r.period.name),
            headline=headline,
            headline_note=self.term("average", "ratio_of_sums"),
            badges=[
                Badge(code, self.term("verdict", code), str(sum(s.verdict == code for s in failing)))
                for code in ("pass", "fail", "indeterminate")
                if any(s.verdict == code for s in failing)
            ],
            facts=Facts("cover", rows),
            hash_about=self.t("hash_about"),
            sha256=r.sha256,
            status=self.t("frozen_long") if r.revision.closed else self.t("provisional_long"),
        )

    def _fleet(self) -> Iterable[Block]:
        fleet = self.report.fleet
        rows: list[list[Value]] = [
            [self.term("average", "ratio_of_sums"), fleet.ratio_of_sums],
            [self.term("average", "facility_weighted"), fleet.facility_weighted],
        ]
        yield Table("averages", "", [self.text("averages"), self.pue()], rows)
        facts: list[tuple[Column, Value]] = [
            (self.energy("facility"), fleet.facility_kwh),
            (self.energy("it"), fleet.it_kwh),
            (self.number("emissions", 1, "kgCO₂e"), fleet.emissions_kg),
        ]
        yield Facts("fleet", facts)
        yield Prose(self.t("institution_about"), small=True)
        if fleet.missing_cells:
            yield Prose(self.t("missing_cells", names=self.t("comma").join(fleet.missing_cells)))
        if fleet.in_two_cells:
            yield Prose(self.t("in_two_cells", names=self.t("comma").join(fleet.in_two_cells)))
        if fleet.left_out:
            yield Prose(self.t("left_out", names=self.t("comma").join(fleet.left_out)))

    def _sites(self) -> Iterable[Block]:
        known = [s for s in self.report.sites if s.pue is not None]
        if 1 < len(known) <= MOST_BARS:
            chart = Bars([s.id for s in known], [Series("PUE", [s.pue for s in known])], "PUE")
            yield Picture("site_pue", self.language.title("site_pue"), chart, "sites")
        columns = [self.text("site", wide=True), self.pue(), self.text("label"), self.number("limit", 2)]
        columns += [self.text("verdict"), self.text("plain"), self.energy("facility"), self.energy("it")]
        columns += [self.share("coverage"), self.share("rate"), self.number("emissions", 1, "kgCO₂e")]
        columns += [self.number("breach_days", 0), self.number("findings", 0), self.number("revision", 0)]
        rows = [self._site(s) for s in self.report.sites]
        marks = [s.verdict or "" for s in self.report.sites]
        more = self.t("rows_more", count="{count}")
        yield Table("sites", "", columns, rows, marks=marks, most_rows=MOST_SITES, more=more)

    def _site(self, s: SiteLine) -> list[Value]:
        return [
            f"{s.name} ({s.id})",
            s.pue,
            s.label or self.term("reason", s.reason),
            s.limit,
            self.term("verdict", s.verdict),
            self.term("verdict", s.plain),
            s.facility_kwh,
            s.it_kwh,
            s.coverage_ratio,
            s.it_load_ratio,
            s.emissions_kg,
            s.breach_days,
            s.findings,
            s.revision,
        ]

    def _compliance(self) -> Iterable[Block]:
        yield compliance_table(self, self.report.compliance)
        yield Prose(self.t("compliance_about"), small=True)
