"""The report as one HTML file: no other file, no script; readable on a phone, printable."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from app.charts.report import FONTS
from app.reports.document import Document
from app.reports.language import Language
from app.reports.pages import layout_of
from app.reports.render import strings


def render(document: Document, language: Language) -> bytes:
    """The page in a language; a provisional report says so wherever one scrolls."""
    data = strings.of(layout_of(document, language))
    data["css_fonts"] = ", ".join(f'"{font}"' if " " in font else font for font in FONTS)
    return _template().render(d=data).encode()


@cache
def _template() -> Template:
    loader = PackageLoader("app.reports", "render")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("report.html")
