"""``wattline factors``: emission factors by hour, beside the yearly ones."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from app.actions import hourly_factors as actions
from app.cli.console import show, show_json, show_table
from app.cli.opening import opened
from app.errors import SeriesError
from app.store import hourly_factors
from app.store.engine import connect
from app.store.hourly_factors import Imported


def add(file: Path, *, region: str, basis: str, source: str, verified: bool, as_json: bool) -> None:
    """Import a file of factors.

    Raises
    ------
    SeriesError
        If the file cannot be read or is not understood.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise SeriesError(f"{file}: cannot be read: {error.strerror}") from None
    stated = {"region": region, "basis": basis, "source": source, "verified": verified}
    with opened() as here, here.write() as view:
        number, found = actions.add(view, content, str(file), **stated)  # type: ignore[arg-type]
    if as_json:
        bounds = {"start": found.first_at.isoformat(), "end": found.end.isoformat()}
        show_json({"import": number, "hours": found.known_hours, **bounds})
    else:
        span = f"{found.first_at:%Y-%m-%d %H:%M} to {found.end:%Y-%m-%d %H:%M} UTC"
        show(f"import {number}: {found.known_hours} hourly factors of {region}, {basis}, {span}")


def withdraw(number: int) -> None:
    """Take an import back.

    Raises
    ------
    NotFound
        If there is no such import in force.
    """
    with opened() as here, here.write() as view:
        actions.withdraw(view, number)
    show(f"import {number} withdrawn")


def listing(*, as_json: bool) -> None:
    """Print every import, withdrawn ones too."""
    with opened() as here, connect(here.engine) as connection:
        found = hourly_factors.listing(connection)
    if as_json:
        show_json({"imports": [_document(one) for one in found]})
        return
    columns = [">import", "region", "basis", "from", "to", "source", "verified", "by", "state"]
    show_table(columns, (_cells(one) for one in found))


def _document(one: Imported) -> dict[str, object]:
    values = {name: getattr(one, name) for name in Imported.__dataclass_fields__}
    return {name: v.isoformat() if isinstance(v, datetime) else v for name, v in values.items()}


def _cells(one: Imported) -> list[str]:
    span = [f"{at:%Y-%m-%d %H:%M}Z" for at in (one.first_at, one.end)]
    state = f"withdrawn by {one.withdrawn_by}" if one.withdrawn_at else "in force"
    checked = "yes" if one.verified else "no"
    return [str(one.id), one.region, one.basis, *span, one.source, checked, one.author, state]
