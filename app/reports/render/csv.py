"""The document as CSV: one value per line, the same in every language.

Columns: ``section`` (key of the document), ``row`` (what tells the rows of a list apart, or their
position), ``field``, ``value`` and ``unit``, which follows from the end of the field's name.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from app.reports.document import Document, Report, SiteLine, as_data
from app.reports.safe import cell, line

COLUMNS = ("section", "row", "field", "value", "unit")

_UNITS = {
    "_kwh": "kWh",
    "_kw": "kW",
    "_kg": "kg",
    "_m3": "m3",
    "_m2": "m2",
    "_percent": "%",
    "_h": "h",
    "_s": "s",
    "_ratio": "1",
    "pue": "1",
}


def render(document: Document) -> bytes:
    """Every value of the document; UTF-8 with a mark, so that spreadsheets know."""
    return _text(COLUMNS, _rows(as_data(document)))


def annex_ii(report: Report) -> bytes:
    """The energy fields of Annex II of regulation (EU) 2024/1364 of a yearly report."""
    rows = ((f.field, f.value, f.unit, str(f.partial).lower()) for f in report.eu_annex_ii)
    return _text(("field", "value", "unit", "partial"), rows)


def lines(sites: Iterable[SiteLine]) -> Iterator[bytes]:
    """Sites of an institution, one line each, as they come: for any number of them."""
    names = tuple(SiteLine.__dataclass_fields__)
    yield "\ufeff".encode() + _line(names)
    for site in sites:
        yield _line([getattr(site, name) for name in names])


def _text(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> bytes:
    return b"".join(["\ufeff".encode(), _line(header), *map(_line, rows)])


def _line(values: Iterable[Any]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerow([_cell(v) for v in values])
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return cell(line(value)) if isinstance(value, str) else value


def _rows(data: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Any, str]]:
    for section, content in data.items():
        if isinstance(content, list):
            for i, item in enumerate(content):
                yield from ((section, str(i), f, v, unit(f)) for f, v in _flat("", item))
        else:
            yield from ((section, "", f, v, unit(f)) for f, v in _flat("", content))


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{path}.{key}" if path else str(key), item)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _flat(f"{path}[{i}]", item)
    else:
        yield path, value


def unit(field: str) -> str:
    """Unit of a field, by the end of its name; empty for texts and counts."""
    name = field.rpartition(".")[2].partition("[")[0]
    return next((unit for end, unit in _UNITS.items() if name.endswith(end)), "")
