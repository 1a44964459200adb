"""Who is sent the closed reports, in which formats, and what the message says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.domain import terms

Payload = Mapping[str, Any]
"""What a message tells of a closed report, as it stands in the outbox."""


class ReportFormat(StrEnum):
    """Form of a report that is attached."""

    PDF = "pdf"
    """Typeset pages."""
    XLSX = "xlsx"
    """Workbook."""
    CSV = "csv"
    """Tables as text."""
    JSON = "json"
    """The whole document as data."""
    HTML = "html"
    """One page that needs no other file."""


_STRICT = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class ReportRoute:
    """Which closed reports go to which channels; mail brings the files, other channels the link."""

    __pydantic_config__ = _STRICT
    channels: tuple[str, ...]
    """Ids of the channels that are notified; mail carries the files. E.g. ``[board]``."""
    sites: tuple[str, ...] = ()
    """Reports of these sites. E.g. ``[sh1]``."""
    institutions: tuple[str, ...] = ()
    """Reports of these, of all their sites together; with neither these nor sites: all reports. E.g.
    ``[bank]``."""
    formats: tuple[ReportFormat, ...] = (ReportFormat.PDF,)
    """Files that mail brings. E.g. ``[pdf, xlsx]``."""

    def __post_init__(self) -> None:
        if not self.channels or not self.formats:
            raise ValueError("a route of reports needs at least one channel and one of the formats")

    def takes(self, of: str, *, of_institution: bool) -> bool:
        """Whether a report goes this way."""
        if not self.sites and not self.institutions:
            return True
        return of in (self.institutions if of_institution else self.sites)


def formats_by_channel(
    routes: tuple[ReportRoute, ...], of: str, *, of_institution: bool
) -> dict[str, tuple[ReportFormat, ...]]:
    """Channels that get a report, each with all the formats that its routes ask for, in their order."""
    chosen: dict[str, dict[ReportFormat, None]] = {}
    for route in routes:
        if route.takes(of, of_institution=of_institution):
            for channel in route.channels:
                chosen.setdefault(channel, {}).update(dict.fromkeys(route.formats))
    return {channel: tuple(formats) for channel, formats in chosen.items()}


_WORDS: dict[str, tuple[str, str]] = {
    "revision": ("修订版", "revision"),
    "revised": ("已修订", "REVISED"),
    "no_pue": ("无法给出 PUE", "PUE unavailable"),
    "changes": ("变更的数值个数", "figures changed"),
    "attached": ("附件", "attached"),
    "left_out": ("文件过大，未附", "too large to attach"),
    "page": ("页面", "page"),
}


def _word(key: str, *, zh: bool) -> str:
    return _WORDS[key][0 if zh else 1]


def title(report: Payload, *, zh: bool) -> str:
    """One line: report, subject, period and PUE."""
    revised = f"{_word('revised', zh=zh)} " if report["revision"] > 1 else ""
    pue = report.get("pue")
    figure = _word("no_pue", zh=zh) if pue is None else f"{report.get('label') or 'PUE'} {pue:.3f}"
    what = terms.term("zh" if zh else "en", "report", str(report["kind"]))
    colon, comma = ("：", "，") if zh else (": ", ", ")
    return f"[Wattline] {revised}{what}{colon}{report['name']} {report['period']}{comma}{figure}"


def facts(report: Payload, *, zh: bool) -> list[str]:
    """The facts, one per line."""
    known = {
        "revision": str(report["revision"]),
        "changes": str(report["changes"] or ""),
        "attached": ", ".join(report.get("attached", ())),
        "left_out": ", ".join(report.get("left_out", ())),
        "page": str(report.get("page", "")),
    }
    colon = "：" if zh else ": "
    known = {_word(key, zh=zh): text for key, text in known.items() if text} | {"SHA-256": report["sha256"]}
    lines = [f"{label}{colon}{text}" for label, text in known.items()]
    return [f"{report['name']} ({report['of']}) {report['period']}", *lines]
