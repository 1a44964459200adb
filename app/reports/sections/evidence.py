"""What the figures rest on: quality of the data, method, metering points, revision, signatures."""

from __future__ import annotations

from collections.abc import Iterable

from app.reports.layout import Block, Prose, Table, Value
from app.reports.words import SiteWords, revision_blocks, signatures

MOST_POINTS = 250
MOST_FINDINGS = 200
MOST_ENTRIES = 200


def quality(w: SiteWords) -> Iterable[Block]:
    """Coverage, findings, declared events."""
    q = w.report.quality
    yield Prose(
        w.t(
            "quality_about",
            covered=w.language.percent(q.coverage_ratio),
            missing=w.language.number(q.missing_h, 2),
            conflicts=q.conflicting_readings,
        )
    )
    if q.tags:
        columns = [w.text("tag"), w.energy(), w.share("part")]
        rows: list[list[Value]] = [[w.term("tag", x.tag), x.energy_kwh, x.share] for x in q.tags]
        yield Table("tags", w.language.title("tags"), columns, rows)
    yield from _findings(w)
    yield from _ledger(w)


def _findings(w: SiteWords) -> Iterable[Block]:
    rows: list[list[Value]] = [
        [
            w.term("finding", f.kind),
            f.point,
            f.start,
            f.end,
            w.term("severity", f.severity),
            w.term("finding_state", f.state),
            f.effect_kwh,
        ]
        for f in w.report.quality.findings
    ]
    title = w.language.title("findings")
    if not rows:
        yield Prose(w.t("about", subject=title, text=w.t("nothing_found")))
        return
    columns = [
        w.text("finding"),
        w.text("point", wide=True),
        w.instant("from"),
        w.instant("to"),
    ]
    columns += [w.text("severity"), w.text("state"), w.number("effect", 3, "kWh")]
    more = w.t("rows_more", count="{count}")
    yield Table("findings", title, columns, rows, most_rows=MOST_FINDINGS, more=more)


def _ledger(w: SiteWords) -> Iterable[Block]:
    rows: list[list[Value]] = [
        [w.term("event", x.kind), x.point, x.start, x.end, x.author, x.note]
        for x in w.report.quality.ledger
        if not x.withdrawn
    ]
    columns = [w.text("event"), w.text("point"), w.instant("from"), w.instant("to")]
    if rows:
        columns += [w.text("author"), w.text("note", wide=True)]
        more = w.t("rows_more", count="{count}")
        title = w.language.title("ledger")
        yield Table("ledger", title, columns, rows, most_rows=MOST_ENTRIES, more=more)


def method(w: SiteWords) -> Iterable[Block]:
    """Boundary, formulas, metering points."""
    m = w.report.method
    places = w.t("comma").join(w.term("class", r) for r in m.it_energy_at) or w.language.none
    boundary = "sum" if m.facility_is == "sum_of_classes" else "metered"
    yield Prose(w.t(f"method_boundary_{boundary}"))
    yield Prose(w.t("method_it", places=places))
    keys = ("pue", "category", "uncertainty", "verdict", "interval", "attribution", "other")
    yield from (Prose(w.t(f"method_{key}")) for key in keys)
    yield Prose(w.t("method_rounding", decimals=m.energy_decimals))
    yield _points(w)


def _points(w: SiteWords) -> Table:
    rows: list[list[Value]] = [
        [
            p.point,
            p.name,
            p.room,
            w.term("class", p.role),
            w.term("reading", p.kind),
            w.t("yes_word") if p.counts else w.t("no_word"),
            p.weight,
            p.accuracy_class_percent,
            p.interval_s,
            p.energy_kwh,
            p.coverage_ratio,
        ]
        for p in w.report.method.points
    ]
    columns = [w.text("point"), w.text("name", wide=True), w.text("room"), w.text("role")]
    columns += [w.text("reading"), w.text("counts"), w.number("weight", 2)]
    columns += [w.number("accuracy", 2, "%"), w.number("interval", 0, "s"), w.energy()]
    columns.append(w.share("coverage"))
    more = w.t("rows_more", count="{count}")
    title = w.language.title("points")
    return Table("points", title, columns, rows, most_rows=MOST_POINTS, more=more, collapsed=True)


def revision(w: SiteWords) -> Iterable[Block]:
    """What this revision changed."""
    yield from revision_blocks(w, w.report.revision)


def signature(w: SiteWords) -> Iterable[Block]:
    """Lines to sign on."""
    yield signatures(w.language)
