"""Verdicts, PUE, energies, their course, and what changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from app.charts.report import Bars, Contributions, HeatMap, Lines, Series
from app.domain.evidence import PERIOD
from app.reports.document import ClassEnergy, Comparison, DayRow, GradeRow, VerdictRow
from app.reports.layout import Block, Kind, Picture, Prose, Table, Value
from app.reports.words import SiteWords, own_source


def verdicts(w: SiteWords) -> Iterable[Block]:
    """Every window against every limit."""
    rows = [
        [
            w.term("window", v.window),
            _profile(w, v),
            v.limit,
            v.pue,
            w.term("verdict", v.verdict),
            w.term("verdict", v.plain),
            " ".join(
                filter(
                    None, [own_source(v.source) or w.language.known("source", v.profile, v.source), v.reason]
                )
            ),
        ]
        for v in w.report.verdicts
    ]
    columns = [w.text("window"), w.text("profile"), w.number("limit", 2), w.pue()]
    columns += [w.text("verdict"), w.text("plain"), w.text("source", wide=True)]
    marks = [v.verdict for v in w.report.verdicts]
    yield Table("verdicts", "", columns, rows, marks=marks)
    yield Prose(w.t("verdict_about"), small=True)
    if w.report.grades:
        yield _grades(w)


def _grades(w: SiteWords) -> Table:
    rows: list[list[Value]] = [
        [w.term("window", g.window), w.term("profile", g.profile), g.pue, _grade(w, g)]
        for g in w.report.grades
    ]
    columns = [w.text("window"), w.text("profile"), w.pue(), w.text("grade", wide=True)]
    return Table("grades", w.language.title("grades"), columns, rows)


def _grade(w: SiteWords, row: GradeRow) -> str:
    reached = w.t("grade", grade=row.grade) if row.grade else w.t("grade_none")
    return reached if row.is_certain else w.t("grade_open", grade=reached)


def _profile(w: SiteWords, verdict: VerdictRow) -> str:
    """The limit's name, with its grade; one of another profile (``gb40879_2021:2``) by its last part."""
    name, grade = w.term("profile", verdict.profile), verdict.grade.rpartition(":")[2]
    return f"{name} · {w.t('grade', grade=grade)}" if grade else name


def pue(w: SiteWords) -> Iterable[Block]:
    """PUE of every window, with what is needed to judge it."""
    zone = ZoneInfo(w.report.site.time_zone)
    rows = [
        [
            w.term("window", window),
            _local(f.start, zone),
            _local(f.end, zone),
            f.pue,
            f.uncertainty,
            f.label or "",
            w.term("kind", f.kind),
            f.facility_kwh,
            f.it_kwh,
            f.coverage_ratio,
            f.estimated_ratio,
        ]
        for window, f in w.report.pue.items()
    ]
    columns = [w.text("window"), w.instant("from"), w.instant("to"), w.pue()]
    columns += [w.pue("uncertainty"), w.text("label"), w.text("kind")]
    columns += [
        w.energy("facility"),
        w.energy("it"),
        w.share("coverage"),
        w.share("estimated"),
    ]
    yield Table("pue", "", columns, rows)
    for window, f in w.report.pue.items():
        if f.reason:
            reason = w.t("about", subject=w.t("no_pue"), text=w.term("reason", f.reason))
            yield Prose(w.t("about", subject=w.term("window", window), text=reason))


def energy(w: SiteWords) -> Iterable[Block]:
    """Energy by what used it and where it came from."""
    e = w.report.energy
    yield _class_table(w, "classes", "class", e.classes, total=True)
    yield _class_table(w, "sources", "source_of", e.sources, total=True)
    if any(c.energy_kwh for c in e.apart):
        yield _class_table(w, "apart", "class", e.apart, total=False)


def _class_table(w: SiteWords, key: str, head: str, classes: Sequence[ClassEnergy], *, total: bool) -> Table:
    rows: list[list[Value]] = [[w.term("class", c.name), c.energy_kwh, c.share_of_it] for c in classes]
    facility = w.report.energy.facility_kwh
    if total:
        rows.append([w.t("sum_row"), facility, w.report.pue[PERIOD].pue])
    columns = [w.text(head), w.energy(), w.number("share", w.pue_places)]
    return Table(key, w.language.title(key), columns, rows, total=total)


def course(w: SiteWords) -> Iterable[Block]:
    """Days, hours and months of the period."""
    r = w.report
    if r.days:
        yield from _bars_of(w, "day", r.days, [w.language.day(d.day) for d in r.days])
    yield from _heat(w)
    if r.months:
        yield from _bars_of(w, "month", r.months, [w.language.short_day(m.day) for m in r.months])


def _bars_of(w: SiteWords, step: str, rows: Sequence[DayRow], names: Sequence[str]) -> Iterable[Block]:
    short = [str(int(d.day[8:])) for d in rows] if step == "day" else names
    limits = {v.limit for v in w.report.verdicts}
    lines = Lines(
        short,
        [Series("PUE", [d.pue for d in rows])],
        "PUE",
        [(w.language.number(x, 2), x) for x in sorted(limits)],
    )
    if sum(d.pue is not None for d in rows) > 1:
        yield Picture(f"{step}_pue", w.language.title(f"{step}_pue"), lines, f"{step}s")
    bars = Bars(
        short,
        [
            Series(w.term("class", "it"), [d.it_kwh for d in rows]),
            Series(w.term("class", "overhead"), [d.facility_kwh - d.it_kwh for d in rows]),
        ],
        "kWh",
    )
    if sum(d.facility_kwh > 0 for d in rows) > 1:
        yield Picture(f"{step}_energy", w.language.title(f"{step}_energy"), bars, f"{step}s")
    columns = [
        w.day(step),
        w.energy("facility"),
        w.energy("it"),
        w.pue(),
        w.share("coverage"),
    ]
    values = [[d.day, d.facility_kwh, d.it_kwh, d.pue, d.coverage_ratio] for d in rows]
    total: list[Value] = [
        w.t("sum_row"),
        round(sum(d.facility_kwh for d in rows), w.kwh),
        round(sum(d.it_kwh for d in rows), w.kwh),
        None,
        None,
    ]
    table = [*values, total] if step == "day" else values
    yield Table(f"{step}s", w.language.title(f"{step}s"), columns, table, total=step == "day", collapsed=True)


def _heat(w: SiteWords) -> Iterable[Block]:
    hours = w.report.hours
    if hours:
        columns = [str(h) for h in range(24)]
        is_month = w.report.kind == "month"
        names = [str(int(h.of[8:])) if is_month else w.language.short_day(h.of) for h in hours]
        chart = HeatMap(names, columns, [h.mean_kw for h in hours], "kW")
        yield Picture("heat", w.language.title("heat"), chart, "")
        yield Prose(w.t("heat_about"), small=True)


def changes(w: SiteWords) -> Iterable[Block]:
    """What changed against earlier periods, by load class."""
    for c in w.report.comparisons:
        yield from _comparison(w, c)


def _comparison(w: SiteWords, c: Comparison) -> Iterable[Block]:
    title = w.language.title(c.against)
    if c.change is None:
        yield Prose(w.t("about", subject=title, text=w.t("nothing_to_compare")))
        return
    names = [w.term("class", p.name) for p in c.parts]
    chart = Contributions(names, [p.change for p in c.parts], "PUE")
    yield Picture(f"chart_{c.against}", title, chart, c.against)
    rows: list[list[Value]] = [[n, p.change] for n, p in zip(names, c.parts, strict=True)]
    rows.append([w.t("sum_row"), c.change])
    columns = [w.text("class"), w.number("change", w.pue_places, kind=Kind.SIGNED)]
    now = w.language.number(round((c.baseline_pue or 0.0) + c.change, w.pue_places), w.pue_places)
    before = w.t("pue_from_to", before=w.language.number(c.baseline_pue, w.pue_places), now=now)
    yield Table(c.against, before, columns, rows, total=True)
    if c.moved:
        yield Prose(w.t("moved", name=w.term("class", c.moved)))
    if c.causes:
        said: list[list[Value]] = [[w.term("cause", p.name), p.change] for p in c.causes]
        said.append([w.t("sum_row"), c.change])
        heads = [w.text("cause_of_change"), w.number("change", w.pue_places, kind=Kind.SIGNED)]
        yield Table(f"causes_{c.against}", w.t("causes_title"), heads, said, total=True)


def _local(instant: str, zone: ZoneInfo) -> str:
    return datetime.fromisoformat(instant).astimezone(zone).isoformat()
