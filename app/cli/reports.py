"""``wattline report`` and ``reports``: of a month or year, from stored figures, and what is frozen."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.api import reports
from app.cli.actor import record
from app.cli.console import say, show_json, show_table
from app.cli.opening import Opened, opened
from app.errors import ConfigError, NotFound
from app.reports import output
from app.reports.document import Document
from app.store.engine import Connection, begin, connect
from app.store.reports.revisions import Shelf


def write(
    of: str,
    period: str,
    path: Path,
    *,
    form: str,
    lang: str,
    revision: int | None,
    config_path: Path | None,
) -> None:
    """Write the report of a month or year of a site, or of all sites of an institution, to a file.

    Raises
    ------
    SeriesError
        If the period is no month or year, or the report has no such form.
    NotFound
        If there is no such site, institution, revision or language.
    ConfigError
        If the file cannot be written.
    """
    with opened(config_path) as here:
        document = _document(here, of, period, revision)
        content = output.render(document, form, lang)
        with begin(here.engine) as connection:
            detail = {"period": period, "form": form, "lang": lang, "file": str(path.absolute())}
            record(connection, "report.export", of, detail)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}; name another file", file=str(path)) from None
    say(f"wrote {path}: {_status(document)}")


def _document(here: Opened, of: str, period: str, revision: int | None) -> Document:
    bank = here.stored.fleet.institution.get(of)
    now = datetime.now(UTC)
    with connect(here.engine) as connection:
        if bank is not None and of not in here.stored.fleet.site:
            return reports.of_institution(connection, here.stored, bank, period, revision, now)
        return reports.of_site(connection, here.stored, here.site(of), period, revision, now)


def _status(document: Document) -> str:
    if not document.revision.closed:
        return "provisional, the period is not closed"
    return f"revision {document.revision.number}, SHA-256 {document.sha256}"


def listing(of: str, period: str | None, *, as_json: bool) -> None:
    """Print the frozen revisions of a site or institution; of one period, what each of them changed.

    Raises
    ------
    NotFound
        If there is no such site or institution, or nothing of the period is frozen.
    """
    with opened() as here, connect(here.engine) as connection:
        shelf = _shelf(here, connection, of)
        found = [row for row in shelf.listing(connection) if period in (None, row[0])]
        if period is not None and not found:
            raise NotFound(f"nothing is frozen of {period} at {of}; see: wattline reports {of}")
        changes = {} if period is None else {r: _changes(shelf, connection, p, r) for p, r, *_ in found}
    if as_json:
        show_json({"of": of, "reports": [_frozen(row, changes.get(row[1])) for row in found]})
        return
    columns = ["period", ">revision", "frozen at (UTC)", "SHA-256"]
    show_table(columns, ([p, str(r), f"{at:%Y-%m-%d %H:%M}", sha] for p, r, sha, at in found))
    for revision in sorted(r for r, changed in changes.items() if changed):
        rows = [[c["figure"], str(c["before"]), str(c["after"])] for c in changes[revision]]
        show_table(["figure", ">before", ">after"], rows, title=f"changed with revision {revision}")


def _shelf(here: Opened, connection: Connection, of: str) -> Shelf:
    if of not in here.stored.fleet.site and of in here.stored.fleet.institution:
        return Shelf.of_institution(connection, of)
    return Shelf.of_site(here.stored, here.site(of).id)


def _changes(shelf: Shelf, connection: Connection, period: str, revision: int) -> list[dict[str, Any]]:
    frozen = shelf.newest(connection, period, revision)
    return [] if frozen is None else list(frozen.document["revision"]["changes"])


def _frozen(row: tuple[str, int, str, datetime], changes: list[dict[str, Any]] | None) -> dict[str, Any]:
    period, revision, sha256, at = row
    document = {"period": period, "revision": revision, "sha256": sha256, "created_at": at.isoformat()}
    return document if changes is None else {**document, "changes": changes}
