"""The page about named layouts."""

from __future__ import annotations

from collectors.csv.layouts import LAYOUTS, Layout
from tools.reference import markdown

_INTRODUCTION = """
Exports whose heading is known are read without a mapping of times, statuses and units; what remains to be
said is which series fills which point. A layout is recognised by its heading, or named in the mapping:
`layout: niagara`. What the mapping says itself counts. Of an export with several columns that name the
point, the texts are joined: `Device / Signal`. NEM12, NEM13, Green Button and flat JSON are read as well;
see [How to import CSV](../how-to/import-csv.md). Where the source is marked *not compared*, the heading is
the form in use, which the named document did not confirm.
"""
_NOTES = """
`calendar_report`: of hours 1 to 24 each is the hour that ends there; the day, month or year stands above
the table or in a column of its own. `home_assistant_statistics` and `home_assistant_energy` stamp the start
of a period; a sum is taken as the register at its end. `pi_datalink` reads any table of time and value side
by side.
"""


def page() -> str:
    """The whole page."""
    rows = [[f"`{one.name}`", one.vendor, one.title, f"`{one.heading}`", _source(one)] for one in LAYOUTS]
    table = markdown.table(["Layout", "Vendor", "Export", "Heading", "Source"], rows)
    texts = markdown.wrapped(_INTRODUCTION.strip()), table, markdown.wrapped(_NOTES.strip())
    return markdown.page("Layouts of exports", *texts)


def _source(layout: Layout) -> str:
    return layout.source if layout.is_documented else f"{layout.source} (*not compared*)"
