"""Import files of readings and bring every figure up to date."""

from __future__ import annotations

import csv
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

from app.domain.site import Site
from app.errors import ConfigError
from app.jobs import findings, rollup, site_findings
from app.store import imports
from app.store.audit import Actor
from app.store.corrections import Correction
from app.store.engine import Engine
from app.store.imports import Imported, Source
from app.store.sites import Stored
from collectors.csv.mapping import Mapping
from collectors.csv.reader import Reject, Understanding, read, understand

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_PAUSE_S = 0.2
_HASH_BLOCK_BYTES = 1 << 20
_Part = TypeVar("_Part")


class RejectsFile:
    """Writes refused rows to a CSV file; the file is made when the first one comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._file: IO[str] | None = None
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, file: str, rejects: Iterable[Reject]) -> None:
        """Add what was refused of `file`.

        Raises
        ------
        ConfigError
            If the rejects file cannot be written.
        """
        for reject in rejects:
            self._open().writerow(
                [file, reject.line, *map(harmless, (reject.column, reject.reason, reject.text, reject.cell))]
            )
            self.count += 1

    def _open(self) -> Any:
        if self._writer is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("w", encoding="utf-8-sig", newline="")
            except OSError as error:
                raise ConfigError(
                    f"cannot be written: {error.strerror}; name another file", file=str(self.path)
                ) from error
            self._writer = csv.writer(self._file)
            self._writer.writerow(["file", "line", "column", "reason", "text", "cell"])
        return self._writer


def harmless(text: str) -> str:
    """`text` so that no spreadsheet takes it for a formula; numbers stay as they are."""
    if not text.startswith(_FORMULA) or _is_number(text):
        return text
    return "'" + text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def import_file(
    engine: Engine,
    stored: Stored,
    site: Site,
    path: Path,
    mapping: Mapping | None = None,
    *,
    by: Actor,
    rejects: RejectsFile | None = None,
    on_progress: Callable[[int], None] = lambda packed_bytes: None,
    understanding: Understanding | None = None,
    correction: Correction | None = None,
    name: str = "",
) -> Imported:
    """Store all of a file, or nothing of it.

    Parameters
    ----------
    engine : Engine
    stored : Stored
        The fleet; has the site and its points.
    site : Site
        Whose readings they are.
    path : Path
    mapping : Mapping, optional
        How the file is to be read, as far as it cannot be detected.
    by : Actor
        Stands in the audit log.
    rejects : RejectsFile, optional
        Takes what was refused.
    on_progress : callable
        Gets how far into the file the last batch reached. [B]
    understanding : Understanding, optional
        How the file is read, where that is known already.
    correction : Correction, optional
        Readings that differ from stored ones correct them, as entries of the ledger.
    name : str
        What the record calls the file; its own name where none is given.

    Returns
    -------
    Imported
        Counts. Energies are not computed yet, see :func:`settle`.

    Raises
    ------
    FileNotUnderstood
        If the file is no table of readings; nothing is stored.
    StoreUnavailable
        If the database is away; nothing is stored.
    """
    understood = understanding or understand(path, site, mapping)
    source = Source(site.id, name or path.name, sha256_of(path), understood.warnings)

    def on_batch(batch: Any) -> None:
        if rejects is not None:
            rejects.write(str(path), batch.rejects)
        on_progress(batch.packed_bytes)

    batches = ahead(read(path, understood))
    return imports.store_source(engine, stored, source, batches, on_batch, by=by, correction=correction)


def ahead(parts: Iterable[_Part]) -> Iterator[_Part]:
    """The same parts; while one is in use, the next is made, in a thread of its own.

    The database works on one batch of a file while the next one is read. Raises what `parts` raises.
    """
    iterator, end = iter(parts), object()
    with ThreadPoolExecutor(1, "read-ahead") as reader:
        coming: Future[Any] = reader.submit(next, iterator, end)
        while (part := coming.result()) is not end:
            coming = reader.submit(next, iterator, end)
            yield part


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def settle(engine: Engine) -> int:
    """Compute all energies that changed, and look for findings; stretches that were computed.

    Where another process is at it, wait for its transactions in turn.

    Raises
    ------
    StoreUnavailable
        If the database is away; the work stays queued.
    """
    stretches = _rolled_up(engine)
    changed = site_findings.waiting(engine, timedelta(0))
    findings.run(engine, whole=True)
    stretches += _rolled_up(engine)  # without readings that a finding keeps from counting
    site_findings.look_at_months(engine, changed, datetime.now(UTC))
    return stretches


def _rolled_up(engine: Engine) -> int:
    stretches = 0
    while (result := rollup.run(engine)).busy:
        stretches += result.stretches
        time.sleep(_PAUSE_S)
    return stretches + result.stretches
