"""The stylesheet, the script and the icon."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from app.errors import NotFound
from app.web.access import PageRoute

router = APIRouter(route_class=PageRoute)

_FOLDER = Path(__file__).parent.parent / "static"
_TYPES = {
    "style.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "plot.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "manifest.json": "application/manifest+json",
}
_FOR_A_DAY = {"Cache-Control": "public, max-age=86400"}


@router.get("/static/{name}")
def static(name: str) -> Response:
    """One of the files; their addresses change with their content, so browsers may keep them."""
    if name not in _TYPES:
        raise NotFound("page not found")
    return FileResponse(_FOLDER / name, media_type=_TYPES[name], headers=_FOR_A_DAY)


@router.get("/favicon.ico")
def favicon() -> Response:
    """The icon, for browsers that request it unprompted."""
    return static("icon.svg")
