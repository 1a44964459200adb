"""Files of readings."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from app.actions.view import View
from app.api import schemas
from app.api.context import Caller, CallerOf, SiteId, bounded
from app.domain.access import Role
from app.errors import ConfigError, FileNotUnderstood, NotFound, SeriesError
from app.jobs import replace
from app.jobs.dry_run import MOST_REJECTS, Held, Seen, Trialled, tried
from app.jobs.imports import ahead
from app.jobs.replace import Trial
from app.store import imports
from app.store.engine import connect
from app.store.imports import ImportRecord
from collectors.csv.mapping import Mapping, parse_mapping
from collectors.csv.reader import ParsedBatch, Reject, read, understand

router = APIRouter(tags=["imports"])

_CHUNK_BYTES = 1 << 20
_LONGEST_FIELD = 1 << 18
_LONGEST_REASON = 500
_FIELDS = ("file", "site", "map", "dry_run", "replace", "reason")


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "site"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {
                            "type": "string",
                            "contentMediaType": "application/octet-stream",
                            "description": "CSV and its relatives, see the guide on imports",
                        },
                        "site": {"type": "string", "minLength": 1, "description": "Id of the site"},
                        "map": {"type": "string", "description": "Mapping, as YAML; default: found out"},
                        "dry_run": {
                            "type": "string",
                            "enum": ["true", "false"],
                            "description": "Only say how it would be read and what its readings would become",
                        },
                        "replace": {
                            "type": "string",
                            "enum": ["true", "false"],
                            "description": "A corrected export: correct stored readings that differ",
                        },
                        "reason": {
                            "type": "string",
                            "maxLength": 500,
                            "description": "Why; stands in the ledger",
                        },
                    },
                }
            }
        },
    }
}


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a form asks for."""

    file: UploadFile
    site: str
    mapping: Mapping | None
    dry_run: bool
    replace: bool
    reason: str


@router.post("/imports", response_model=schemas.ImportOut | schemas.ImportPreview, openapi_extra=_BODY)
async def post_import(request: Request, caller: Caller) -> schemas.ImportOut | schemas.ImportPreview:
    """Import a file: the answer comes after all of it is safely stored; of a failed one nothing is.

    The same file again changes nothing. Rows that cannot be read are rejected with line and reason.
    """
    caller.refuse_viewers()
    with bounded(caller.context.imports, caller.principal, "imports"):
        async with request.form(max_files=1, max_fields=5, max_part_size=_LONGEST_FIELD) as form:
            return await run_in_threadpool(_import, caller, _asked(form))


def _asked(form: FormData) -> _Asked:
    unknown = sorted(set(form) - set(_FIELDS))
    if unknown:
        raise SeriesError(f"body.{unknown[0][:50]}: unknown; allowed are {', '.join(_FIELDS)}")
    file, site, reason = form.get("file"), form.get("site"), form.get("reason", "")
    mapping, dry_run, corrects = (
        form.get("map", ""),
        form.get("dry_run", "false"),
        form.get("replace", "false"),
    )
    if not isinstance(file, UploadFile):
        raise SeriesError("body.file: is missing; send multipart/form-data with a file")
    if not isinstance(site, str) or not site:
        raise SeriesError("body.site: is missing; add the id of the site")
    if not isinstance(mapping, str) or {dry_run, corrects} - {"true", "false"}:
        raise SeriesError("body: map is YAML, dry_run and replace are true or false")
    if not isinstance(reason, str) or len(reason) > _LONGEST_REASON or "\0" in reason:
        raise SeriesError(f"body.reason: is a text of at most {_LONGEST_REASON} characters")
    return _Asked(file, site, _mapping(mapping), dry_run == "true", corrects == "true", reason)


def _import(caller: CallerOf, asked: _Asked) -> schemas.ImportOut | schemas.ImportPreview:
    with _on_disk(asked.file, caller.context.scratch) as path:
        with caller.read() as view:
            site, stored, actor = view.site(asked.site, Role.OPERATOR), view.stored, view.actor
        understanding = understand(path, site, asked.mapping)
        name = _plain_name(asked.file)
        if asked.dry_run:
            plans = [(path, understanding)] if asked.replace else []
            trial = replace.trial(caller.context.engine, stored, site, plans) if plans else None
            held = Held(lambda: connect(caller.context.engine), stored)
            return _preview(tried(path, site, understanding, Seen(held)), trial)
        author = caller.principal.name
        correction = replace.correction(author, asked.reason, name) if asked.replace else None
        source = imports.Source(site.id, name, _sha256(path), understanding.warnings)
        rejects = _Rejects()
        batches = ahead(read(path, understanding, now=caller.now))
        engine = caller.context.engine
        taken = imports.store_source(
            engine, stored, source, batches, rejects.note, by=actor, correction=correction
        )
    with caller.read() as view:
        record = imports.get(view.connection, taken.id)
    caller.context.telemetry.stored(site.id, taken.accepted)
    return _out(record, site.id, rejects.first)


def _mapping(text: str) -> Mapping | None:
    return parse_mapping(text, file="map") if text.strip() else None


@router.get("/imports/{import_id}")
def get_import(import_id: uuid.UUID, caller: Caller) -> schemas.ImportOut:
    """What became of a file."""
    with caller.read() as view:
        return _known(view, imports.get(view.connection, import_id))


@router.get("/sites/{site}/imports")
def list_imports(site: SiteId, caller: Caller) -> schemas.ImportsOut:
    """The newest imports of a site, newest first."""
    with caller.read() as view:
        view.site(site)
        found = imports.listing(view.connection, view.stored.site_id[site])
    return schemas.ImportsOut(imports=[_out(record, site, []) for record in found])


def _known(view: View, record: ImportRecord) -> schemas.ImportOut:
    site = view.stored.site_key.get(record.site_id)
    if site is None:
        raise NotFound(f"there is no import {record.id}")
    return _out(record, site, [])


def _shown(rejects: Iterable[Reject]) -> list[schemas.RejectOut]:
    return [schemas.RejectOut(line=r.line, column=r.column, reason=r.reason, text=r.text) for r in rejects]


class _Rejects:
    """Keeps the first rejected rows for the answer."""

    def __init__(self) -> None:
        self.first: list[schemas.RejectOut] = []

    def note(self, batch: Any) -> None:
        """One more batch."""
        assert isinstance(batch, ParsedBatch)
        self.first += _shown(batch.rejects[: MOST_REJECTS - len(self.first)])


@contextmanager
def _on_disk(upload: UploadFile, folder: Path | None) -> Iterator[Path]:
    """The upload as a file under its own extension, gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="wattline-import-", dir=folder) as scratch:
        path = Path(scratch) / f"upload{Path(upload.filename or '').suffix[:10]}"
        with path.open("wb") as out:
            shutil.copyfileobj(upload.file, out, _CHUNK_BYTES)
        try:
            yield path
        except (FileNotUnderstood, ConfigError) as error:
            raise _named(error, str(path), _plain_name(upload)) from None


def _named(error: FileNotUnderstood | ConfigError, path: str, name: str) -> FileNotUnderstood:
    """The error with the name that the sender knows, not that of the scratch file."""
    return FileNotUnderstood(str(error).replace(path, name))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return _digest(file)


def _digest(file: IO[bytes]) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _plain_name(upload: UploadFile) -> str:
    """The name of an upload without folders and without what cannot be printed."""
    name = Path(upload.filename or "upload").name[:200]
    return "".join(c for c in name if c.isprintable())


def _preview(found: Trialled, trial: Trial | None) -> schemas.ImportPreview:
    plan = found.understood
    return schemas.ImportPreview(
        changes=[schemas.EnergyChange(**asdict(c)) for c in trial.changes] if trial else None,
        understood=plan.mapping_yaml,
        points=list(plan.points),
        unused_columns=list(plan.unused),
        warnings=found.warnings,
        accepted=found.accepted,
        duplicate=found.duplicate,
        conflicting=found.conflicting,
        rejected=found.rejected,
        missing=dict(found.missing),
        rejects=_shown(found.rejects),
    )


def _out(record: ImportRecord, site: str, rejects: list[schemas.RejectOut]) -> schemas.ImportOut:
    return schemas.ImportOut(
        id=str(record.id),
        site=site,
        file_name=record.file_name,
        sha256=record.sha256,
        status=record.status,
        started_at=record.started_at,
        finished_at=record.finished_at,
        accepted=record.accepted,
        duplicate=record.duplicate,
        conflicting=record.conflicting,
        rejected=record.rejected,
        detail=record.detail,
        rejects=rejects,
    )
