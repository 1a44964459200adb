"""The forms in which a report is given out: media type, ending, and its renderer."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from app.errors import SeriesError
from app.reports.document import Document, Report
from app.reports.language import Language, language
from app.reports.render import csv, html, json, pdf, xlsx


@dataclass(frozen=True)
class Form:
    """One form of a report."""

    ending: str
    media_type: str
    render: Callable[[Document, Language], bytes]
    worded: bool = True
    """Whether it depends on the language."""


def _annex_ii(document: Document, words: Language) -> bytes:
    if not isinstance(document, Report) or document.kind != "year":
        raise SeriesError("the fields of Annex II are part of a site's yearly report; ask for a year")
    return csv.annex_ii(document)


_SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

FORMS: dict[str, Form] = {
    "pdf": Form("pdf", "application/pdf", pdf.render),
    "xlsx": Form("xlsx", _SHEET, xlsx.render),
    "csv": Form("csv", "text/csv; charset=utf-8", lambda d, words: csv.render(d), worded=False),
    "json": Form("json", "application/json", lambda d, words: json.render(d), worded=False),
    "html": Form("html", "text/html; charset=utf-8", html.render),
    "eu-csv": Form("csv", "text/csv; charset=utf-8", _annex_ii, worded=False),
}
"""By name; ``eu-csv``: the fields of Annex II of regulation (EU) 2024/1364."""


def render(document: Document, form: str, lang: str) -> bytes:
    """The report in a form and language.

    Raises
    ------
    NotFound
        If there is no such language.
    SeriesError
        If the report has no such form.
    """
    return FORMS[form].render(document, language(lang))


def file_name(document: Document, form: str, lang: str) -> str:
    """Name of the file: what, when, which revision; plain letters only."""
    whose = document.site.id if isinstance(document, Report) else document.institution.id
    version = f"r{document.revision.number}" if document.revision.closed else "provisional"
    words = [whose, document.period.name, version]
    words += [lang] if FORMS[form].worded else []
    words += ["annex-ii"] if form == "eu-csv" else []
    name = re.sub(r"[^A-Za-z0-9._-]", "-", "-".join(words))
    return f"{name}.{FORMS[form].ending}"
