"""Closed reports on their way to their readers: messages when they are frozen, files when they are sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from app.domain.alarms.notification import Channel, ChannelKind, Message, Notifications, What, earliest
from app.domain.evidence import PERIOD
from app.domain.report_route import ReportFormat
from app.errors import DataError
from app.jobs.notifications.channels import File, Item
from app.reports import output
from app.reports.document import Document, Report, read
from app.store import outbox, sites
from app.store.engine import Connection, Engine, connect
from app.store.reports.revisions import Shelf

RECENT = timedelta(days=45)
"""A first revision is sent if its period ended so recently: old months that are imported tell nobody."""
MOST_ATTACHED_BYTES = 15_000_000
"""Of all files of a mail; what does not fit is only named."""


def announce(connection: Connection, settings: Notifications, document: Document, now: datetime) -> int:
    """Leave messages about a frozen report in the outbox, in the transaction that froze it; how many.

    A revision goes to whoever was sent the one before, too.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    of_institution = not isinstance(document, Report)
    readers = settings.readers(_id(document), of_institution=of_institution)
    number = document.revision.number
    notified = outbox.known(connection, [_key(document, number - 1, c) for c in readers])
    messages = [
        Message(
            channel.id,
            What.REPORT,
            _key(document, number, channel),
            earliest(channel, None, now),
            None,
            _payload(document, formats, settings.pages_url),
        )
        for channel, formats in readers.items()
        if _is_recent(document, now) or _key(document, number - 1, channel) in notified
    ]
    return outbox.put(connection, messages, now)


def _key(document: Document, revision: int, channel: Channel) -> str:
    kind = "site" if isinstance(document, Report) else "institution"
    return f"report:{kind}:{_id(document)}:{document.period.name}:{revision}:{channel.id}"


def _id(document: Document) -> str:
    return document.site.id if isinstance(document, Report) else document.institution.id


def _is_recent(document: Document, now: datetime) -> bool:
    return now - datetime.fromisoformat(document.period.end) <= RECENT


def _payload(document: Document, formats: tuple[ReportFormat, ...], pages_url: str) -> dict[str, Any]:
    if isinstance(document, Report):
        figure = document.pue[PERIOD]
        name, pue, label = document.site.name, figure.pue, figure.label
    else:
        name, pue, label = document.institution.name, document.fleet.ratio_of_sums, None
    page = f"{pages_url.rstrip('/')}/sites/{quote(_id(document))}/reports"
    return {
        "of": _id(document),
        "site": document.site.id if isinstance(document, Report) else "",
        "institution": document.institution.id,
        "name": name,
        "kind": document.kind,
        "period": document.period.name,
        "revision": document.revision.number,
        "changes": len(document.revision.changes),
        "sha256": document.sha256,
        "pue": pue,
        "label": label,
        "formats": [f.value for f in formats],
        **({"page": page} if pages_url and isinstance(document, Report) else {}),
    }


def with_files(engine: Engine, channel: Channel, item: Item) -> Item:
    """A message about a report with its files, if it goes by mail; any other as it is.

    Raises
    ------
    DataError
        If the report cannot be rendered, or is not there.
    StoreUnavailable
        If the database is away.
    """
    if item.what is not What.REPORT or channel.kind is not ChannelKind.MAIL:
        return item
    document = _frozen(engine, item.payload)
    files, left_out = [], []
    room = MOST_ATTACHED_BYTES
    for file in _rendered(document, item.payload["formats"], channel.lang.value):
        if len(file.content) <= room:
            files.append(file)
            room -= len(file.content)
        else:
            left_out.append(file.name)
    listed = {"attached": [f.name for f in files], "left_out": left_out}
    return replace(item, payload={**item.payload, **listed}, files=tuple(files))


def _frozen(engine: Engine, payload: Any) -> Document:
    with connect(engine) as connection:
        if payload["site"]:
            shelf = Shelf.of_site(sites.load(connection), payload["site"])
        else:
            shelf = Shelf.of_institution(connection, payload["institution"])
        frozen = shelf.newest(connection, payload["period"], payload["revision"])
    if frozen is None:
        raise DataError(f"there is no revision {payload['revision']} of {payload['period']} any more")
    return read(frozen.document)


def _rendered(document: Document, formats: list[str], lang: str) -> Iterator[File]:
    for form in formats:
        content = output.render(document, form, lang)
        kind = output.FORMS[form].media_type.partition(";")[0]
        yield File(output.file_name(document, form, lang), kind, content)
