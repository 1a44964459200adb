"""``wattline keys`` and ``wattline audit``: who may do what, and what was done."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import typer

from app.actions import keys as actions
from app.cli.console import say, show, show_json, show_table
from app.cli.environment import settings
from app.cli.opening import opened
from app.domain.access import Duty
from app.errors import ConfigError
from app.jobs import audit_anchor
from app.store import audit, audit_key, receipts
from app.store.audit import Anchor
from app.store.engine import connect
from app.store.identity import ApiKey


def create(
    name: str, grants: Sequence[str], days: int | None, certificate: Path | None, *, as_json: bool
) -> None:
    """Make a key and print it: it is shown this once.

    Raises
    ------
    SeriesError
        If a grant is not understood.
    NotFound
        If a grant is on a site or institution that does not exist.
    """
    with opened() as here, here.write() as view:
        expires_at = None if days is None else view.now + timedelta(days=days)
        key = actions.create(view, name, grants, expires_at, _certificate(certificate))
    if as_json:
        show_json({"name": name, "key": key, "expires_at": expires_at and expires_at.isoformat()})
    else:
        show(key)
        say("keep it: it is not shown again. Send it as: Authorization: Bearer wl_...")


def _certificate(file: Path | None) -> str:
    try:
        return "" if file is None else file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}", key="--certificate") from None


def separate() -> None:
    """Separate administration, for every process from now on.

    Raises
    ------
    SeriesError
        If somebody has more than one duty, or nobody would be left for one.
    """
    with opened() as here, here.write() as view:
        actions.separate(view)
    show("administration is separate: nobody has more than one of the roles system, security and audit")


def combine() -> None:
    """End separate administration."""
    with opened() as here, here.write() as view:
        actions.combine(view)
    show("administration is combined: the role admin may be given")


def listing(*, as_json: bool) -> None:
    """Print every key that was made, without its secret."""
    now = datetime.now(UTC)
    with opened() as here, here.read() as view:
        keys = actions.listing(view)
    if as_json:
        show_json({"keys": [_document(key, now) for key in keys]})
    else:
        show_table(["id", "name", "may", "state", "made", "by"], (_row(key, now) for key in keys))


def _document(key: ApiKey, now: datetime) -> dict[str, Any]:
    times = {k: v.isoformat() for k, v in asdict(key).items() if isinstance(v, datetime)}
    return {**asdict(key), **times, "grants": [str(g) for g in key.grants], "valid": key.is_valid(now)}


def _row(key: ApiKey, now: datetime) -> list[str]:
    state = "valid" if key.is_valid(now) else "revoked" if key.revoked_at else "expired"
    grants = ", ".join(map(str, key.grants))
    return [key.public_id, key.name, grants, state, f"{key.created_at:%Y-%m-%d}", key.created_by]


def revoke(public_id: str, *, as_json: bool) -> None:
    """Make a key open nothing from now on.

    Raises
    ------
    NotFound
        If there is no such key.
    """
    with opened() as here, here.write() as view:
        key, now = actions.revoke(view, public_id), view.now
    if as_json:
        show_json(_document(key, now))
    else:
        show(f"{key.public_id} {key.name}: revoked")


def verify_audit(
    expected: Sequence[str], anchor_files: Sequence[Path], key_files: Sequence[Path], *, as_json: bool
) -> None:
    """Walk along the audit log's chain and compare it with anchors; exits 1 where it is broken.

    Raises
    ------
    ConfigError
        If a file cannot be read, has no anchors, or a hash is none.
    """
    given = [*map(_expected, expected), *(a for file in anchor_files for a in _anchors(file))]
    keys = [audit_key.read(file) for file in key_files]
    data_dir = settings().data_dir
    with opened() as here, here.read() as view:
        view.require_duty(Duty.AUDIT)
        connection = view.connection
        own = audit_anchor.file_of(data_dir, audit.known_log_id(connection) or "")
        kept = _anchors(own) if own.exists() else []
        reports = audit.anchors_of_reports(connection)
        found = audit.verify(connection, keys, [*given, *kept, *reports])
    _say_others(own)
    if as_json:
        show_json({**asdict(found), "ok": not found.problems})
    else:
        show(f"{found.entries:,} entries, last hash {found.last_hash}")
        show(_signed(found))
        show(f"compared with {found.anchors:,} anchors")
        for problem in found.problems:
            show(problem)
        show("the chain is broken" if found.problems else "the chain is whole")
    if found.problems:
        raise typer.Exit(1)


def export_audit(output: Path | None, after_seq: int) -> None:
    """Write entries as lines of JSON, each with one hash: the file is one of anchors, too.

    Raises
    ------
    ConfigError
        If the file cannot be written.
    """
    with opened() as here:
        with here.read() as view:
            view.require_duty(Duty.AUDIT)
        receipts.settle(here.engine, datetime.now(UTC) + timedelta(hours=1))
        with connect(here.engine) as connection:
            lines = map(_line, audit.in_order(connection, after_seq))
            count, last_seq = _written(output, lines) if output else _shown(lines)
        with here.write() as view:
            detail = {"after_seq": after_seq, "entries": count, "file": str(output or "")}
            view.audit("audit.export", "", detail)
    say(f"{count:,} entries; continue with --after {last_seq or after_seq}")


def _line(entry: audit.Written) -> tuple[int, str]:
    """An entry as JSON; the hash before it stands in the line before."""
    found = {**asdict(entry), "at": entry.at.astimezone(UTC).isoformat()}
    del found["previous_hash"]
    return entry.seq, json.dumps(found, ensure_ascii=True)


def _written(output: Path, lines: Iterable[tuple[int, str]]) -> tuple[int, int]:
    """How many lines, and the last number, of a file that is whole or not there."""
    part = output.with_name(f".{output.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            counted = _counted(lines, lambda line: file.write(f"{line}\n"))
        part.replace(output)
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}", key="--output") from None
    return counted


def _shown(lines: Iterable[tuple[int, str]]) -> tuple[int, int]:
    return _counted(lines, show)


def _counted(lines: Iterable[tuple[int, str]], put: Callable[[str], object]) -> tuple[int, int]:
    count, last_seq = 0, 0
    for seq, line in lines:
        put(line)
        count, last_seq = count + 1, seq
    return count, last_seq


def _signed(found: audit.Verification) -> str:
    return "no entry is signed" if found.signed_from is None else f"signed from entry {found.signed_from} on"


def _expected(text: str) -> Anchor:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ConfigError(f"{text!r} is no hash; it has 64 hexadecimal digits", key="--expect")
    return Anchor(text, where="--expect")


def _anchors(file: Path) -> list[Anchor]:
    try:
        found = audit.read_anchors(file.read_text(encoding="utf-8", errors="replace"), str(file))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}", key="--anchors") from None
    if not found:
        raise ConfigError(
            f"{file} has no anchors; a line needs `seq` with a number and a hash", key="--anchors"
        )
    return found


def _say_others(own: Path) -> None:
    """A log that lost its name has other anchors: of another database, or of this one before."""
    others = [str(f) for f in sorted(own.parent.glob("audit-*.anchors")) if f != own]
    if others and not own.exists():
        say(f"not compared: {', '.join(others)}; if they are of this log, give them with --anchors")
