"""Languages of the reports: one file each under ``locale/``; adding a language is adding one file.

Numbers, days and instants are written as the language does. Terms that others show as well come from
:mod:`app.domain.terms`; those that only reports know stand in the language's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from app.domain import terms
from app.domain.figure import percentage, utc_offset
from app.errors import NotFound

FOLDER = Path(__file__).parent / "locale"


@dataclass(frozen=True)
class Language:
    """Words, and ways of writing numbers and dates."""

    code: str
    words: Mapping[str, Any]

    def text(self, key: str, **values: object) -> str:
        """A sentence, with its places filled in."""
        return str(self.words["text"][key]).format_map({k: str(v) for k, v in values.items()})

    def title(self, key: str) -> str:
        """Title of a section, table or chart."""
        return str(self.words["title"][key])

    def column(self, key: str) -> str:
        """Head of a column or label of a fact."""
        return str(self.words["column"][key])

    def term(self, family: str, code: str | None) -> str:
        """Term for a code; a code without one (such as an own profile) stands for itself."""
        if code is None or code == "":
            return self.none
        return self.known(family, code, code)

    def known(self, family: str, code: str, otherwise: str) -> str:
        """Term for a code, else what the document says."""
        own = self.words["term"].get(family, {}).get(code, otherwise)
        return terms.term(self.code, family, code, str(own))

    @property
    def none(self) -> str:
        """Sign for: there is no value."""
        return str(self.words["none"])

    def number(self, value: float | None, decimals: int) -> str:
        """A number with exactly so many decimals; no minus sign before zero."""
        if value is None:
            return self.none
        plain = f"{value:z,.{decimals}f}"
        marks = {",": str(self.words["group"]), ".": str(self.words["decimal"])}
        return "".join(marks.get(c, c) for c in plain).replace("-", "\u2212")

    def percent(self, ratio: float | None, decimals: int = 1) -> str:
        """A share as a percentage."""
        if ratio is None:
            return self.none
        return f"{self.number(*percentage(ratio, decimals))}{self.words['percent']}"

    def day(self, iso: str | None) -> str:
        """A day such as ``2026-10-05``, a month such as ``2026-10``, or a year."""
        return self._written(iso, "")

    def short_day(self, iso: str | None) -> str:
        """A day or month as it stands in a table: short, and of one length."""
        return self._written(iso, "short_")

    def _written(self, iso: str | None, length: str) -> str:
        if not iso:
            return self.none
        whole = date.fromisoformat(f"{iso}-01-01"[:10])
        name = self.words["months"][whole.month - 1]
        form = str(self.words[length + {4: "year", 7: "month"}.get(len(iso), "day")])
        return form.format(day=whole.day, month=name, year=whole.year, mm=f"{whole:%m}", dd=f"{whole:%d}")

    def instant(self, iso: str | None) -> str:
        """An instant, in the zone in which it is given, to the minute."""
        if not iso:
            return self.none
        at = datetime.fromisoformat(iso)
        zone = " UTC" if iso.endswith("Z") else ""
        return f"{self.short_day(at.date().isoformat())} {at:%H:%M}{zone}"

    def zoned(self, iso: str, zone: tzinfo) -> str:
        """An instant in a zone, to the minute, with the zone's offset."""
        at = datetime.fromisoformat(iso).astimezone(zone)
        offset = self.text("brackets", text=utc_offset(at))
        return f"{self.short_day(at.date().isoformat())} {at:%H:%M}{offset}"

    def currency(self, code: str) -> str:
        """A currency as the language writes it; the code where it has no word of its own."""
        return str(self.words["currency"].get(code, code))


def codes() -> list[str]:
    """Languages there are files for."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@cache
def language(code: str) -> Language:
    """The language of that code.

    Raises
    ------
    NotFound
        If there is no file for it; the text names those there are.
    """
    if code not in codes():
        raise NotFound(f"no language {code!r}; there are {', '.join(codes())}")
    words = yaml.safe_load((FOLDER / f"{code}.yaml").read_text(encoding="utf-8"))
    return Language(code, words)
