"""The report of a site, section by section: which figures stand where, in the words of a language."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from app.charts import Bars, Contributions, HeatMap, Lines, Series
from app.domain.evidence import PERIOD
from app.reports.document import ClassEnergy, Comparison, DayRow, LoadRow, Report
from app.reports.language import Language
from app.reports.layout import (
    Badge,
    Block,
    Column,
    Cover,
    Facts,
    Kind,
    Layout,
    Picture,
    Prose,
    Section,
    Table,
    Value,
)
from app.reports.safe import line
from app.reports.words import PUE_PLACES, Words, compliance_table, revision_blocks, signatures

MOST_POINTS = 250
MOST_LOADS = 150
MOST_FINDINGS = 200


class Page(Words):
    """One report in one language; the methods make its sections."""

    def __init__(self, report: Report, language: Language) -> None:
        super().__init__(language, report.method.energy_decimals)
        self.report = report

    def layout(self) -> Layout:
        """The whole report."""
        parts: tuple[tuple[str, Callable[[], Iterable[Block]]], ...] = (
            ("verdicts", self._verdicts),
            ("pue", self._pue),
            ("energy", self._energy),
            ("course", self._course),
            ("changes", self._changes),
            ("load", self._load),
            ("indicators", self._indicators),
            ("money", self._money),
            ("savings", self._savings),
            ("breaches", self._breaches),
            ("gauges", self._gauges),
            ("quality", self._quality),
            ("year_end", self._year_end),
            ("compliance", self._compliance),
            ("eu", self._eu),
            ("method", self._method),
            ("revision", self._revision),
            ("signature", self._signature),
        )
        made = [Section(key, self.language.title(key), tuple(make())) for key, make in parts]
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
        r, t = self.report, self._t
        figure = r.pue[PERIOD]
        return Cover(
            title=t(f"report_{r.kind}"),
            subject=line(r.site.name),
            period=self.language.day(r.period.name),
            headline=f"{figure.label or 'PUE'} = {self.language.number(figure.pue, PUE_PLACES)}"
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
        coverage = f"{self._c('coverage')} {self.language.percent(figure.coverage_ratio)}"
        if figure.uncertainty is None:
            return coverage
        return f"± {self.language.number(figure.uncertainty, PUE_PLACES)} · {coverage}"

    def _cover_facts(self) -> Facts:
        r = self.report
        rows: list[tuple[Column, Value]] = [
            (self.text("institution"), r.institution.name),
            (
                self.text("institution_class"),
                self._term("institution_class", r.institution.institution_class),
            ),
            (self.text("site"), f"{r.site.name} ({r.site.id})"),
            (self.instant("from"), r.period.start),
            (self.instant("to"), r.period.end),
            (self.text("time_zone"), r.site.time_zone),
            (self.day("started"), r.site.started_on),
            (self.text("revision"), str(r.revision.number) if r.revision.closed else self._t("provisional")),
            (self.instant("created"), r.revision.created_at),
        ]
        return Facts("cover", rows)

    def _verdicts(self) -> Iterable[Block]:
        rows = [
            [
                self._term("window", v.window),
                f"{self._term('profile', v.profile)}{' · ' + v.grade if v.grade else ''}",
                v.limit,
                v.pue,
                self._term("verdict", v.verdict),
                self._term("verdict", v.plain),
                " ".join(filter(None, [self.language.known("source", v.profile, v.source), v.reason])),
            ]
            for v in self.report.verdicts
        ]
        columns = [self.text("window"), self.text("profile"), self.number("limit", 2), self.pue()]
        columns += [self.text("verdict"), self.text("plain"), self.text("source", wide=True)]
        marks = [v.verdict for v in self.report.verdicts]
        yield Table("verdicts", "", columns, rows, marks=marks)
        yield Prose(self._t("verdict_about"), small=True)

    def _pue(self) -> Iterable[Block]:
        zone = ZoneInfo(self.report.site.time_zone)
        rows = [
            [
                self._term("window", window),
                _local(f.start, zone),
                _local(f.end, zone),
                f.pue,
                f.uncertainty,
                f.label or "",
                self._term("kind", f.kind),
                f.facility_kwh,
                f.it_kwh,
                f.coverage_ratio,
                f.estimated_ratio,
            ]
            for window, f in self.report.pue.items()
        ]
        columns = [self.text("window"), self.instant("from"), self.instant("to"), self.pue()]
        columns += [self.pue("uncertainty"), self.text("label"), self.text("kind")]
        columns += [
            self.energy("facility"),
            self.energy("it"),
            self.share("coverage"),
            self.share("estimated"),
        ]
        yield Table("pue", "", columns, rows)
        for window, f in self.report.pue.items():
            if f.reason:
                about = (
                    f"{self._term('window', window)}: {self._t('no_pue')} – {self._term('reason', f.reason)}."
                )
                yield Prose(about)

    def _energy(self) -> Iterable[Block]:
        e = self.report.energy
        yield self._class_table("classes", "class", e.classes, total=True)
        yield self._class_table("sources", "source_of", e.sources, total=True)
        if any(c.energy_kwh for c in e.apart):
            yield self._class_table("apart", "class", e.apart, total=False)

    def _class_table(self, key: str, head: str, classes: Sequence[ClassEnergy], *, total: bool) -> Table:
        rows: list[list[Value]] = [
            [self._term("class", c.name), c.energy_kwh, c.share_of_it] for c in classes
        ]
        facility = self.report.energy.facility_kwh
        if total:
            rows.append([self._t("sum_row"), facility, self.report.pue[PERIOD].pue])
        columns = [self.text(head), self.energy(), self.number("share", PUE_PLACES)]
        return Table(key, self.language.title(key), columns, rows, total=total)

    def _course(self) -> Iterable[Block]:
        r = self.report
        if r.days:
            yield from self._bars_of("day", r.days, [self.language.day(d.day) for d in r.days])
        yield from self._heat()
        if r.months:
            yield from self._bars_of("month", r.months, [self.language.day(m.day) for m in r.months])

    def _bars_of(self, step: str, rows: Sequence[DayRow], names: Sequence[str]) -> Iterable[Block]:
        short = [str(int(d.day[8:])) for d in rows] if step == "day" else names
        limits = {v.limit for v in self.report.verdicts}
        lines = Lines(
            short,
            [Series("PUE", [d.pue for d in rows])],
            "PUE",
            [(self.language.number(x, 2), x) for x in sorted(limits)],
        )
        if sum(d.pue is not None for d in rows) > 1:
            yield Picture(f"{step}_pue", self.language.title(f"{step}_pue"), lines, f"{step}s")
        bars = Bars(
            short,
            [
                Series(self._term("class", "it"), [d.it_kwh for d in rows]),
                Series(self._c("facility") + " − IT", [d.facility_kwh - d.it_kwh for d in rows]),
            ],
            "kWh",
        )
        if sum(d.facility_kwh > 0 for d in rows) > 1:
            yield Picture(f"{step}_energy", self.language.title(f"{step}_energy"), bars, f"{step}s")
        columns = [
            self.day(step),
            self.energy("facility"),
            self.energy("it"),
            self.pue(),
            self.share("coverage"),
        ]
        values = [[d.day, d.facility_kwh, d.it_kwh, d.pue, d.coverage_ratio] for d in rows]
        total: list[Value] = [
            self._t("sum_row"),
            round(sum(d.facility_kwh for d in rows), self.kwh),
            round(sum(d.it_kwh for d in rows), self.kwh),
            None,
            None,
        ]
        table = [*values, total] if step == "day" else values
        yield Table(
            f"{step}s", self.language.title(f"{step}s"), columns, table, total=step == "day", collapsed=True
        )

    def _heat(self) -> Iterable[Block]:
        hours = self.report.hours
        if hours:
            columns = [str(h) for h in range(24)]
            is_month = self.report.kind == "month"
            names = [str(int(h.of[8:])) if is_month else self.language.day(h.of) for h in hours]
            chart = HeatMap(names, columns, [h.mean_kw for h in hours], "kW")
            yield Picture("heat", self.language.title("heat"), chart, "")
            yield Prose(self._t("heat_about"), small=True)

    def _changes(self) -> Iterable[Block]:
        for c in self.report.comparisons:
            yield from self._comparison(c)

    def _comparison(self, c: Comparison) -> Iterable[Block]:
        title = self.language.title(c.against)
        if c.change is None:
            yield Prose(f"{title}: {self._t('nothing_to_compare')}")
            return
        names = [self._term("class", p.name) for p in c.parts]
        chart = Contributions(names, [p.change for p in c.parts], "PUE")
        yield Picture(f"chart_{c.against}", title, chart, c.against)
        rows: list[list[Value]] = [[n, p.change] for n, p in zip(names, c.parts, strict=True)]
        rows.append([self._t("sum_row"), c.change])
        columns = [self.text("class"), self.number("change", PUE_PLACES, kind=Kind.SIGNED)]
        now = self.language.number(round((c.baseline_pue or 0.0) + c.change, PUE_PLACES), PUE_PLACES)
        before = self._t("pue_from_to", before=self.language.number(c.baseline_pue, PUE_PLACES), now=now)
        yield Table(c.against, before, columns, rows, total=True)
        if c.moved:
            yield Prose(self._t("moved", name=self._term("class", c.moved)))

    def _load(self) -> Iterable[Block]:
        rows = [self._load_row(x) for x in self.report.loads]
        columns = [self.text("place", wide=True), self.text("stage"), self.text("redundancy")]
        columns += [self.number(k, 2, "kW") for k in ("capacity", "mean", "peak")]
        columns += [self.instant("peak_at"), self.share("mean_ratio"), self.share("peak_ratio")]
        columns += [self.number("stranded", 2, "kW"), self.text("state")]
        marks = [x.state for x in self.report.loads]
        yield Table(
            "load",
            "",
            columns,
            rows,
            marks=marks,
            most_rows=MOST_LOADS,
            more=self._t("rows_more", count="{count}"),
        )
        yield from self._exhaustion()

    def _load_row(self, x: LoadRow) -> list[Value]:
        figures = [x.capacity_kw, x.mean_kw, x.peak_kw, x.peak_at, x.mean_ratio, x.peak_ratio, x.stranded_kw]
        name = x.name or line(self.report.site.name)
        return [name, self._term("stage", x.kind), x.redundancy, *figures, self._term("state", x.state)]

    def _exhaustion(self) -> Iterable[Block]:
        found = self.report.exhaustion
        if found is None:
            return
        capacity = self.language.number(found.capacity_kw, 2)
        if found.on is None:
            yield Prose(self._t("exhausted_not", capacity=capacity))
        elif found.reached:
            yield Prose(self._t("exhausted_reached", capacity=capacity, on=self.language.day(found.on)))
        else:
            days = [
                self.language.day(d) if d else self._t("open_end")
                for d in (found.on, found.earliest, found.latest)
            ]
            on, earliest, latest = days
            yield Prose(self._t("exhausted_on", capacity=capacity, on=on, earliest=earliest, latest=latest))

    _INDICATOR_UNITS = {"wue": "m3/MWh", "cue": "kgCO2e/kWh", "iteu_sv_percent": "%"}  # noqa: RUF012
    _INPUT_PLACES = {"water_m3": 3, "emissions_kg": 1, "coverage_ratio": 6}  # noqa: RUF012

    def _indicators(self) -> Iterable[Block]:
        known = [i for i in self.report.indicators if i.value is not None]
        rows: list[list[Value]] = [
            [
                self._term("indicator", i.name),
                i.value,
                self._INDICATOR_UNITS.get(i.name, "1"),
                "; ".join(self._input(n, v) for n, v in i.inputs.items()),
            ]
            for i in known
        ]
        columns = [self.text("indicator"), self.number("value", PUE_PLACES), self.text("unit")]
        if rows:
            yield Table("indicators", "", [*columns, self.text("from_inputs", wide=True)], rows)
        missing = [self._term("indicator", i.name) for i in self.report.indicators if i.value is None]
        if missing:
            yield Prose(self._t("not_measured", names=", ".join(missing)))

    def _input(self, name: str, value: float) -> str:
        places = self._INPUT_PLACES.get(name, self.kwh)
        return f"{self._term('input', name)} {self.language.number(value, places)}"

    def _money(self) -> Iterable[Block]:
        m, currency = self.report.money, self.report.site.currency
        yield Facts(
            "money",
            [
                (self.energy("grid"), m.grid_kwh),
                (self.number("cost", 2, currency), m.cost),
                (self.number("mean_price", PUE_PLACES, f"{currency}/kWh"), m.mean_price_per_kwh),
                (self.number("emissions", 1, "kgCO2e"), m.emissions_kg),
            ],
        )
        if not m.tariffs:
            yield Prose(self._t("no_tariff"))
        for tariff in m.tariffs:
            values = {"from": self.language.day(tariff.valid_from), "currency": currency}
            price, bands = f"{tariff.price_per_kwh:g}", "; ".join(tariff.bands)
            about = self._t("tariff", **values, price=price, bands=bands, source=tariff.source)
            yield Prose(line(about), small=True)
        if m.tariffs and m.unpriced_kwh:
            yield Prose(self._t("priced_partly", kwh=self.language.number(m.unpriced_kwh, self.kwh)))
        yield self._factor()

    def _factor(self) -> Prose:
        f = self.report.money.factor
        if f is None:
            return Prose(self._t("no_factor"))
        value, basis = self.language.number(f.kg_per_kwh, 4), self._term("basis", f.basis)
        source = self.language.known("factor_source", f"{f.region} {f.year}", f.source)
        about = self._t("factor", value=value, region=f.region, basis=basis, year=f.year, source=source)
        return Prose(about, small=True)

    def _savings(self) -> Iterable[Block]:
        rows: list[list[Value]] = [
            [self._against(s.against), s.comparable_month or "", s.pue, s.energy_kwh, s.cost]
            for s in self.report.savings
        ]
        money = self.number("money", 2, self.report.site.currency)
        columns = [self.text("against", wide=True), self.day("comparable"), self.pue("target")]
        if rows:
            yield Table("savings", "", [*columns, self.energy("saving"), money], rows)
            yield Prose(self._t("savings_about"), small=True)

    def _against(self, code: str) -> str:
        return self.language.known("against", code, self._term("profile", code))

    def _breaches(self) -> Iterable[Block]:
        r = self.report
        rows: list[list[Value]] = [
            [
                b.first_day,
                b.last_day,
                b.days,
                b.limit,
                b.pue,
                b.highest_pue,
                b.excess_kwh,
                self._term("class", b.moved),
            ]
            for b in r.breaches
        ]
        columns = [self.day("first"), self.day("last"), self.number("days", 0), self.number("limit", 2)]
        columns += [self.pue(), self.pue("highest"), self.energy("excess"), self.text("cause")]
        title = self.language.title("breach_days")
        yield Prose(
            f"{self._t('breaches_about')}{'' if rows else ' ' + self._t('nothing_found')}", small=True
        )
        if rows:
            yield Table("breach_days", title, columns, rows)
        if r.alarms:
            yield self._alarms()

    def _alarms(self) -> Table:
        rows: list[list[Value]] = [
            [
                a.rule,
                self._term("severity", a.severity),
                a.started_at,
                a.resolved_at,
                a.value,
                a.limit,
                self._term("class", a.cause),
            ]
            for a in self.report.alarms
        ]
        columns = [self.text("rule", wide=True), self.text("severity"), self.instant("from")]
        columns += [self.instant("resolved"), self.pue("value"), self.pue("limit"), self.text("cause")]
        return Table("alarms", self.language.title("alarms"), columns, rows)

    def _gauges(self) -> Iterable[Block]:
        rows: list[list[Value]] = [
            [
                g.name,
                g.room,
                self._term("role", g.role),
                g.mean,
                g.lowest,
                g.highest,
                _UNIT.get(g.unit, g.unit),
            ]
            for g in self.report.gauges
        ]
        columns = [self.text("point", wide=True), self.text("room"), self.text("role")]
        columns += [self.number(k, 2) for k in ("mean", "lowest", "top")]
        if rows:
            yield Table("gauges", "", [*columns, self.text("unit")], rows)

    def _quality(self) -> Iterable[Block]:
        q = self.report.quality
        yield Prose(
            self._t(
                "quality_about",
                covered=self.language.percent(q.coverage_ratio, 4),
                missing=self.language.number(q.missing_h, 2),
                conflicts=q.conflicting_readings,
            )
        )
        if q.tags:
            columns = [self.text("tag"), self.energy(), self.share("part", 4)]
            rows: list[list[Value]] = [[self._term("tag", x.tag), x.energy_kwh, x.share] for x in q.tags]
            yield Table("tags", self.language.title("tags"), columns, rows)
        yield from self._findings()
        yield from self._ledger()

    def _findings(self) -> Iterable[Block]:
        rows: list[list[Value]] = [
            [
                self._term("finding", f.kind),
                f.point,
                f.start,
                f.end,
                self._term("severity", f.severity),
                self._term("finding_state", f.state),
                f.effect_kwh,
            ]
            for f in self.report.quality.findings
        ]
        title = self.language.title("findings")
        if not rows:
            yield Prose(f"{title}: {self._t('nothing_found')}")
            return
        columns = [
            self.text("finding"),
            self.text("point", wide=True),
            self.instant("from"),
            self.instant("to"),
        ]
        columns += [self.text("severity"), self.text("state"), self.number("effect", 3, "kWh")]
        more = self._t("rows_more", count="{count}")
        yield Table("findings", title, columns, rows, most_rows=MOST_FINDINGS, more=more)

    def _ledger(self) -> Iterable[Block]:
        rows: list[list[Value]] = [
            [self._term("event", x.kind), x.point, x.start, x.end, x.author, x.note]
            for x in self.report.quality.ledger
            if not x.withdrawn
        ]
        columns = [self.text("event"), self.text("point"), self.instant("from"), self.instant("to")]
        if rows:
            columns += [self.text("author"), self.text("note", wide=True)]
            yield Table("ledger", self.language.title("ledger"), columns, rows)

    def _year_end(self) -> Iterable[Block]:
        y = self.report.year_end
        if y.pue is None:
            yield Prose(self._t("no_projection", year=y.year))
        else:
            pue, low, high = (self.language.number(v, PUE_PLACES) for v in (y.pue, y.low, y.high))
            level = self.language.percent(y.level, 0)
            days = {"measured": y.measured_days, "projected": y.projected_days}
            yield Prose(self._t("projection", year=y.year, pue=pue, low=low, high=high, level=level, **days))
        rows: list[list[Value]] = [
            [
                self._term("profile", b.profile),
                b.limit,
                b.used_kwh,
                b.margin_kwh,
                b.allowed_kwh,
                b.left_kwh,
                b.crossed_in,
            ]
            for b in y.budgets
        ]
        columns = [self.text("profile"), self.number("limit", 2)]
        columns += [self.energy(k) for k in ("used", "margin", "allowed", "left")]
        if rows:
            columns.append(self.day("crossed"))
            yield Table("budgets", self.language.title("budgets"), columns, rows)

    def _compliance(self) -> Iterable[Block]:
        yield compliance_table(self, self.report.compliance)
        yield Prose(self._t("compliance_about"), small=True)

    def _eu(self) -> Iterable[Block]:
        fields = self.report.eu_annex_ii
        if fields:
            rows: list[list[Value]] = [
                [f.field, f.value, f.unit, self._t("eu_partial") if f.partial and f.value is not None else ""]
                for f in fields
            ]
            columns = [
                self.text("field"),
                self.number("value", 3),
                self.text("unit"),
                self.text("remark", wide=True),
            ]
            yield Table("eu", "", columns, rows)
            yield Prose(self._t("eu_about"), small=True)

    def _method(self) -> Iterable[Block]:
        m = self.report.method
        places = ", ".join(self._term("role", r) for r in m.it_energy_at) or self.language.none
        boundary = "sum" if m.facility_is == "sum_of_classes" else "metered"
        yield Prose(self._t(f"method_boundary_{boundary}"))
        yield Prose(self._t("method_it", places=places))
        keys = ("pue", "category", "uncertainty", "verdict", "interval", "attribution", "other")
        yield from (Prose(self._t(f"method_{key}")) for key in keys)
        yield Prose(self._t("method_rounding", decimals=m.energy_decimals))
        yield self._points()

    def _points(self) -> Table:
        rows: list[list[Value]] = [
            [
                p.point,
                p.name,
                p.room,
                self._term("role", p.role),
                self._term("reading", p.kind),
                self._t("yes_word") if p.counts else self._t("no_word"),
                p.weight,
                p.accuracy_class_percent,
                p.interval_s,
                p.energy_kwh,
                p.coverage_ratio,
            ]
            for p in self.report.method.points
        ]
        columns = [self.text("point"), self.text("name", wide=True), self.text("room"), self.text("role")]
        columns += [self.text("reading"), self.text("counts"), self.number("weight", 2)]
        columns += [self.number("accuracy", 2, "%"), self.number("interval", 0, "s"), self.energy()]
        columns.append(self.share("coverage"))
        more = self._t("rows_more", count="{count}")
        title = self.language.title("points")
        return Table("points", title, columns, rows, most_rows=MOST_POINTS, more=more, collapsed=True)

    def _revision(self) -> Iterable[Block]:
        yield from revision_blocks(self, self.report.revision.changes)

    def _signature(self) -> Iterable[Block]:
        yield signatures(self.language)


_UNIT = {"c": "°C", "percent": "%"}


def _local(instant: str, zone: ZoneInfo) -> str:
    return datetime.fromisoformat(instant).astimezone(zone).isoformat()
