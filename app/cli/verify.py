"""``wattline verify``: whether every stored figure follows from the readings."""

from __future__ import annotations

from dataclasses import asdict

import typer

from app.cli.console import show, show_json, show_table
from app.cli.opening import opened
from app.jobs import verify as verification
from app.jobs.verify import Breach, Verification


def verify(site: str | None, *, as_json: bool) -> None:
    """Check the invariant; exits 1 where it is broken.

    Raises
    ------
    NotFound
        If there is no such site.
    """
    with opened() as here:
        found = verification.verify(here.engine, site)
    if as_json:
        show_json({**asdict(found), "ok": not found.breaches})
    else:
        _show_verification(found)
    if found.breaches:
        raise typer.Exit(1)


def _show_verification(found: Verification) -> None:
    show(f"{found.points:,} points, {found.intervals:,} intervals computed again from their readings")
    if found.pending:
        show(f"{found.pending} points have readings that wait for their rollup; those times were left out")
    if not found.breaches:
        show("everything adds up")
        return
    columns = ["rule", "site", "what", "from", ">expected", ">found", "note"]
    show_table(columns, map(_breach_row, found.breaches))
    show(f"{len(found.breaches)} breaches")


def _breach_row(breach: Breach) -> list[str]:
    values = ["" if v is None else f"{v:,.6f}" for v in (breach.expected, breach.found)]
    return [breach.rule, breach.site, breach.what, breach.start, *values, breach.note]
