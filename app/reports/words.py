"""Columns and blocks that the reports of a site and of an institution share, in the words of a language."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from app.domain import figure
from app.domain.data.limit_profiles import LIMIT_PROFILES
from app.domain.evidence import PERIOD
from app.domain.limits import SITE_SOURCE
from app.domain.reference import BUILT_IN
from app.reports.document import Cause, ComplianceRow, Report, Revision
from app.reports.language import Language
from app.reports.layout import Block, Column, Kind, Prose, Signatures, Table, Value
from app.reports.safe import line

RATIO_PLACES = 4
"""Decimals of ratios without an uncertainty, on pages and sheets; the document has more."""
MOST_CHANGES = 300


class Words:
    """Makes columns; energies have the decimals of the document, PUE those its uncertainty allows.

    ``t``, ``c`` and ``term`` are the language's sentences, heads of columns, and words for codes.
    """

    def __init__(self, language: Language, energy_decimals: int, pue_decimals: int = figure.USUAL) -> None:
        self.language, self.kwh, self.pue_places = language, energy_decimals, pue_decimals
        self.t, self.c, self.term = language.text, language.column, language.term

    def text(self, key: str, *, wide: bool = False) -> Column:
        """A column of words."""
        return Column(self.c(key), wide=wide)

    def number(self, key: str, decimals: int, unit: str = "", kind: Kind = Kind.NUMBER) -> Column:
        """A column of numbers."""
        return Column(self.c(key), kind, decimals, unit)

    def energy(self, key: str = "energy", kind: Kind = Kind.NUMBER) -> Column:
        """A column of energies."""
        return self.number(key, self.kwh, "kWh", kind)

    def pue(self, key: str = "pue") -> Column:
        """A column of PUE."""
        return self.number(key, self.pue_places)

    def share(self, key: str) -> Column:
        """A column of percentages."""
        return Column(self.c(key), Kind.PERCENT)

    def day(self, key: str) -> Column:
        """A column of days or months."""
        return Column(self.c(key), Kind.DAY)

    def instant(self, key: str) -> Column:
        """A column of instants."""
        return Column(self.c(key), Kind.INSTANT)


class SiteWords(Words):
    """The words of the report of a site, beside the report."""

    def __init__(self, report: Report, language: Language) -> None:
        uncertainty = report.pue[PERIOD].uncertainty
        super().__init__(language, report.method.energy_decimals, figure.decimals(uncertainty))
        self.report = report


def compliance_table(words: Words, rows: Sequence[ComplianceRow]) -> Table:
    """The compliance matrix."""
    language = words.language
    values: list[list[Value]] = [
        [
            language.term("indicator", r.indicator),
            language.term("measured", "yes" if r.measured else "no"),
            r.value,
            _goal(language, r),
            language.term("standing", r.standing),
            r.dated,
            language.term("profile", r.evidence) if r.measured and r.evidence else r.evidence,
            own_source(r.source)
            or language.known("source", r.evidence if r.measured else r.indicator, r.source),
        ]
        for r in rows
    ]
    columns = [
        words.text("indicator"),
        words.text("measured"),
        words.number("value", RATIO_PLACES, kind=Kind.PLAIN),
    ]
    columns += [words.text("goal"), words.text("standing"), words.day("dated")]
    columns += [words.text("evidence", wide=True), words.text("source", wide=True)]
    return Table("compliance", "", columns, values, marks=[r.standing for r in rows])


_SHIPPED = frozenset(
    row.source
    for rows in (LIMIT_PROFILES, BUILT_IN.emission_factors, BUILT_IN.indicator_targets)
    for row in rows
)


def own_source(source: str) -> str:
    """The source of an operator's own row, which speaks for itself; empty for those that are shipped."""
    return "" if source in _SHIPPED or source == SITE_SOURCE else line(source)


def _goal(language: Language, row: ComplianceRow) -> str:
    least = "" if row.at_least is None else f"≥ {language.number(row.at_least, 2)}"
    most = "" if row.at_most is None else f"≤ {language.number(row.at_most, 2)}"
    return " ".join(filter(None, [least, most]))


def revision_blocks(words: Words, revision: Revision) -> Iterable[Block]:
    """Figures that the revision changed, or that there is none before it."""
    changes = revision.changes
    if revision.audit_head:
        yield Prose(words.t("audit_head", entry=revision.audit_head))
    if not changes:
        yield Prose(words.t("changes_none") if revision.closed else words.t("changes_open"))
        return
    if revision.causes:
        yield from _causes(words, revision.causes)
    else:
        yield Prose(words.language.text("changes_about"))
    columns = [words.text("figure", wide=True), words.text("before"), words.text("after")]
    values: list[list[Value]] = [[c.figure, _plain(c.before), _plain(c.after)] for c in changes]
    more = words.language.text("rows_more", count="{count}")
    yield Table("changes", "", columns, values, most_rows=MOST_CHANGES, more=more)


def _causes(words: Words, causes: Sequence[Cause]) -> Iterable[Block]:
    """Definitions that were changed, by whom and when."""
    yield Prose(words.language.text("causes_about"))
    columns = [
        words.text("definition", wide=True),
        words.text("from"),
        words.text("to"),
        words.text("edited_by"),
        words.text("edited_at"),
    ]
    values: list[list[Value]] = [
        [c.definition, c.start or "", c.end or "", c.edited_by, c.edited_at] for c in causes
    ]
    more = words.language.text("rows_more", count="{count}")
    yield Table("causes", "", columns, values, most_rows=MOST_CHANGES, more=more)


def _plain(value: float | str | bool | None) -> str:
    return "" if value is None else str(value)


def signatures(language: Language) -> Signatures:
    """Lines to sign on."""
    roles = [language.text(f"signature_{actor}") for actor in ("prepared", "checked", "approved")]
    return Signatures(roles, language.text("signature_line"))
