"""``check-config`` and ``config-schema``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app import config
from app.cli.console import show, show_json, show_table
from app.cli.environment import settings
from app.domain.pue import every_boundary
from app.domain.site import Site


def check(path: Path, *, as_json: bool) -> None:
    """Check a site file and say what it declares.

    Raises
    ------
    ConfigError
        If anything in it is not understood.
    """
    settings()  # says which networks may be reached
    file = config.load(path)
    if as_json:
        said = {"file": str(path), "ok": True, "sha256": config.fingerprint(file)}
        show_json({**said, "sites": [_summary(s) for s in file.sites]})
        return
    show(f"{path}: ok, {_count(file.institutions, 'institution')}, {_count(file.sites, 'site')}")
    if file.sites:
        show_table(["site", "time zone", ">meters", ">points", ">polled", "PUE"], map(_row, file.sites))


def _count(things: tuple[Any, ...], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _summary(site: Site) -> dict[str, Any]:
    return {
        "site": site.id,
        "time_zone": site.time_zone,
        "meters": len(site.meters),
        "points": len(list(site.points())),
        "polled": sum(m.collector is not None for m in site.meters),
        "pue": _pue_problem(site) or "can be computed",
    }


def _row(site: Site) -> list[str]:
    return [str(value) for value in _summary(site).values()]


def _pue_problem(site: Site) -> str:
    """Why the PUE of a site cannot be computed; empty where it can."""
    parts = every_boundary(site)
    if not any(p.it for p in parts):
        return "no: no point measures IT energy"
    if not any(p.facility or p.is_sum for p in parts):
        return "no: no point has the role facility"
    return ""


def print_schema() -> None:
    """Print the JSON schema of the site file."""
    from app.schema import site_file

    show_json(site_file())
