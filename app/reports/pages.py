"""The layout of any report."""

from __future__ import annotations

from app.reports.document import Document, Report
from app.reports.language import Language
from app.reports.layout import Layout
from app.reports.sections.institution import InstitutionPage
from app.reports.sections.site import SitePage


def layout_of(document: Document, language: Language) -> Layout:
    """The report's sections, in the words of a language."""
    if isinstance(document, Report):
        return SitePage(document, language).layout()
    return InstitutionPage(document, language).layout()
