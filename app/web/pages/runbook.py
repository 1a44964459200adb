"""The runbook of the alerts, to which their annotation ``runbook_url`` leads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from fastapi import APIRouter, Request
from fastapi.responses import Response
from markupsafe import Markup, escape

from app.web import render
from app.web.access import PageRoute, Viewer

router = APIRouter(route_class=PageRoute)


@dataclass(frozen=True)
class Entry:
    """What to do about one alert."""

    alert: str
    paragraphs: tuple[Markup, ...]

    @property
    def anchor(self) -> str:
        """Its place on the page."""
        return self.alert.lower()


@router.get("/runbook")
def runbook_page(request: Request, caller: Viewer) -> Response:
    """Every alert: what it means, what to check, what to do."""
    return render.page(request, "runbook.html", {"nav": "", "site": None, "entries": entries()})


@cache
def entries() -> tuple[Entry, ...]:
    """The entries of ``grafana/RUNBOOK.md``, which is installed with the boards."""
    text = resources.files("grafana").joinpath("RUNBOOK.md").read_text("utf-8")
    return tuple(_entries(text))


def _entries(text: str) -> Iterator[Entry]:
    for part in text.split("\n## ")[1:]:
        alert, _, body = part.partition("\n")
        yield Entry(alert.strip(), tuple(_paragraph(p) for p in re.split(r"\n\s*\n", body.strip())))


def _paragraph(text: str) -> Markup:
    """Bold, code and links of Markdown; links are shown as their text."""
    shown = str(escape(" ".join(text.split())))
    shown = re.sub(r"`([^`]+)`", r"<code>\1</code>", shown)
    shown = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", shown)
    shown = re.sub(r"\*([^*]+)\*", r"<i>\1</i>", shown)
    return Markup(re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", shown))
