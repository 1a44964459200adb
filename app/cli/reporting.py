"""``wattline report``: the report of a month or year, from stored figures."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from app.api import reports
from app.cli.console import say
from app.cli.opening import Opened, opened
from app.cli.who import record
from app.errors import ConfigError
from app.reports import output
from app.reports.document import Document
from app.store.engine import begin, connect


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
    bank = here.stored.estate.institution.get(of)
    now = datetime.now(UTC)
    with connect(here.engine) as connection:
        if bank is not None and of not in here.stored.estate.site:
            return reports.of_institution(connection, here.stored, bank, period, revision, now)
        return reports.of_site(connection, here.stored, here.site(of), period, revision, now)


def _status(document: Document) -> str:
    if not document.revision.closed:
        return "provisional, the period is not closed"
    return f"revision {document.revision.number}, SHA-256 {document.sha256}"
