"""``wattline findings``: what was found about the readings of a site."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from app.actions import findings as actions
from app.cli.console import show, show_json, show_table
from app.cli.opening import opened
from app.cli.periods import local
from app.domain.site import Site
from app.jobs import imports
from app.store import compression, findings
from app.store.engine import connect
from app.store.findings import StoredFinding


def listing(site_id: str, *, with_cleared: bool, as_json: bool) -> None:
    """Print what was found about the readings of a site.

    Raises
    ------
    NotFound
        If there is no such site.
    """
    with opened() as here:
        site = here.site(site_id)
        with connect(here.engine) as connection:
            found = findings.listing(connection, here.stored.site_id[site.id], with_cleared=with_cleared)
            broken = compression.broken(connection)
    if as_json:
        of_deployment = [
            {"kind": actions.COMPRESSION_FAILING, "table": state.table, "problem": state.problem}
            for state in broken
        ]
        show_json({"site": site.id, "findings": [_document(f) for f in found], "deployment": of_deployment})
        return
    for state in broken:
        show(f"{actions.COMPRESSION_FAILING} (whole deployment): {state.table} {state.problem}")
    if not found:
        show(f"nothing was found about the readings of {site.id}")
    else:
        columns = [">id", "severity", "state", "point", "kind", "from", "to", ">kWh"]
        show_table(columns, (_row(site, f) for f in found))


def acknowledge(site_id: str, number: int) -> None:
    """Mark an open finding as seen.

    Raises
    ------
    NotFound
        If there is no such site or open finding.
    """
    with opened() as here:
        with here.write() as view:
            actions.acknowledge(view, site_id, number)
        imports.settle(here.engine)
    show(f"finding {number} of {site_id}: acknowledged")


def _document(finding: StoredFinding) -> dict[str, Any]:
    times = {k: v.isoformat() for k, v in asdict(finding).items() if hasattr(v, "isoformat")}
    return {**asdict(finding), **times}


def _row(site: Site, finding: StoredFinding) -> list[str]:
    span = [local(finding.start, site.zone), local(finding.end, site.zone)]
    effect = "" if finding.effect_kwh is None else f"{finding.effect_kwh:,.1f}"
    what = [finding.severity, finding.state, finding.point, finding.kind]
    return [str(finding.id), *what, *span, effect]
