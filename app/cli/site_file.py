"""``check-config`` and ``config-schema``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app import config
from app.cli.console import say, show, show_json, show_table
from app.cli.environment import settings
from app.domain.pue import every_boundary
from app.domain.quantity import ENERGY, ENERGY_KINDS, POWER
from app.domain.site import Meter, Point, Site


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
        advice = [line for site in file.sites for line in _advice(site)]
        show_json({**said, "sites": [_summary(s) for s in file.sites], "advice": advice})
        return
    show(f"{path}: ok, {_count(file.institutions, 'institution')}, {_count(file.sites, 'site')}")
    if file.sites:
        show_table(["site", "time zone", ">meters", ">points", ">polled", "PUE"], map(_row, file.sites))
    for site in file.sites:
        for line in _advice(site):
            say(f"{path}: {line}")


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


def _advice(site: Site) -> Iterator[str]:
    """What would make the figures of a site safer."""
    unrated = [m.id for m in site.meters if any(_is_unrated(m, p) for p in m.points)]
    if unrated:
        shown = ", ".join(unrated[:5]) + (f" and {len(unrated) - 5} more" if len(unrated) > 5 else "")
        yield (
            f"site {site.id}: rated_power_kw is missing for {shown}; state the rating of the circuit in kW, "
            "so that readings beyond it are recognised (until then a meter's own history is the only limit)"
        )


def _is_unrated(meter: Meter, point: Point) -> bool:
    effective = meter.effective(point)
    carries = point.kind in ENERGY_KINDS and point.quantity in (ENERGY, POWER)
    return carries and not point.formula and math.isinf(effective.max_power_kw)


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
