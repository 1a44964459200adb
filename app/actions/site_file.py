"""The site file: bring what it says into the database, and edit its text with check, difference and undo.

A process that was started with a site file edits that file. One without keeps the text in the database.
A text becomes a draft first; its problems, its difference to the text in force and its effects can be seen
before it is applied. What was in force before stays as a revision, to be drafted again.
"""

from __future__ import annotations

import difflib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from app import config
from app.actions.view import View
from app.config import SiteFile
from app.domain.access import Duty
from app.domain.alarms.alarm import Alarms
from app.domain.alarms.notification import Notifications
from app.domain.reference import Reference
from app.errors import ConfigError, Forbidden, RequestTooLarge, SeriesError
from app.store import alarms, audit, deployment, site_files, site_sources, sites
from app.store.audit import Actor
from app.store.engine import Connection
from app.store.site_files import Written
from app.store.sites import Edit, SyncResult
from collectors.yaml_lines import YamlLines

IN_DATABASE = "pages"
"""Owner of the sites whose file is kept in the database."""
MOST_BYTES = 1_000_000
"""Longest text. [B]"""
_HASHES = "site_file_hashes"
_NAMED = 100
"""So many points a change is said to touch; there may be thousands."""
_PROBLEM = re.compile(r"^.*?:(?P<line>\d+): (?P<what>.*)$", re.DOTALL)


# -- what a file says, in the database -------------------------------------------------------------------


def bring(connection: Connection, file: SiteFile, owner: str, actor: Actor) -> SyncResult:
    """Make the database say what the site file says, and write down what that changed.

    Raises
    ------
    ConfigError
        If the file declares what another file's site has.
    StoreUnavailable
        If the database is away.
    """
    synced = sites.sync(connection, file.fleet, owner)
    _save_sections(connection, file, owner)
    _record_change(connection, file, synced, owner, actor)
    return synced


def _save_sections(connection: Connection, file: SiteFile, owner: str) -> None:
    """Keep what belongs to no single site; a file that says nothing of it leaves another's alone."""

    def is_ours(section: str, says: object, nothing: object) -> bool:
        return deployment.take_section(connection, section, owner, is_stated=says != nothing)

    if is_ours("limit_profiles", file.limit_profiles, ()):
        deployment.save_limit_profiles(connection, file.limit_profiles)
    if is_ours("reference", file.reference, Reference()):
        deployment.save_reference(connection, file.reference)
    if is_ours("alarms", (file.alarms, file.notifications), (Alarms(), Notifications())):
        alarms.save_sections(connection, file.alarms, file.notifications)


def _record_change(
    connection: Connection, file: SiteFile, synced: SyncResult, owner: str, actor: Actor
) -> None:
    """Where the file says something else than the last time: who brought it, its hash and what it changes."""
    sha256, known = config.fingerprint(file), deployment.load(connection, _HASHES) or {}
    before = known.get(owner)
    if sha256 == before:
        return
    deployment.save(connection, _HASHES, {**known, owner: sha256})
    points = sum(len(meter.points) for _, meter in file.fleet.meter.values())
    detail = {
        "sha256": sha256,
        "before": before,
        "sites": len(file.fleet.site),
        "meters": len(file.fleet.meter),
        "points": points,
        "edits": [_edit(e) for e in synced.edits[:_NAMED]],
        "recomputed": synced.recomputed_points[:_NAMED],
        "retired": synced.retired_points[:_NAMED],
    }
    audit.append(connection, actor.did("site_file.change", "", detail))
    if known and synced.edits:
        deployment.add_edits(connection, actor.actor, [_edit(e) for e in synced.edits])


def _edit(edit: Edit) -> dict[str, str | None]:
    start, end = (None if at is None else at.isoformat() for at in (edit.start, edit.end))
    return {"what": edit.what, "start": start, "end": end}


# -- the text, in pages ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """Where this process has its site file."""

    path: Path | None = None
    """None: in the database."""
    owner: str = IN_DATABASE
    is_managed: bool = False
    """Whether it is said to be managed from outside."""

    @property
    def name(self) -> str:
        """As messages about its lines call it."""
        return self.path.name if self.path else "site.yaml"

    @property
    def obstacle(self) -> str:
        """Why it cannot be edited here; empty where it can."""
        if self.is_managed:
            return "the site file is managed from outside; change it there"
        if self.path and not (os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)):
            return "the service may not write the site file; it is managed from outside, change it there"
        return ""


_Named = tuple[str, str]
"""A key that names a file, and the name."""


class Problem(NamedTuple):
    """What is wrong with a text, and where."""

    line: int
    """0: nowhere in particular."""
    what: str


class Line(NamedTuple):
    """A line of a difference."""

    sign: Literal["+", "-", " ", "…"]
    number: int
    """Of the new text; of the old one where it is taken away."""
    text: str


def current(view: View, place: Place) -> str:
    """The text that is in force; empty where there is none yet.

    Raises
    ------
    Forbidden
        If the caller does not administer the system: the text may hold passwords of meters.
    ConfigError
        If the file cannot be read.
    StoreUnavailable
        If the database is away.
    """
    view.require_duty(Duty.SYSTEM)
    if place.path is None:
        newest = site_files.revisions(view.connection, place.owner, 1)
        return newest[0].text if newest else ""
    try:
        return place.path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=str(place.path)) from None


def described_elsewhere(view: View, place: Place) -> list[str]:
    """Sites that other site files describe; a file on disk may share its sites with another worker's."""
    others = site_sources.described_by_others(view.connection, place.owner)
    return [s.id for s in view.stored.fleet.sites if s.id in others and place.path is None]


def problems(text: str, place: Place) -> list[Problem]:
    """Everything in a text that is not understood, as `wattline check-config` says it."""
    try:
        config.parse(text, place.name)
    except ConfigError as error:
        return [_problem(line) for line in str(error).splitlines()]
    return []


def _problem(said: str) -> Problem:
    found = _PROBLEM.match(said)
    return Problem(int(found["line"]), found["what"]) if found else Problem(0, said)


def difference(old: str, new: str, around: int = 3) -> list[Line]:
    """The lines of `new` that `old` has not, those that it has no longer, and some around them."""
    before, after = old.splitlines(), new.splitlines()
    found: list[Line] = []
    for group in difflib.SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(around):
        if found or group[0][3] > 0:
            found.append(Line("…", 0, ""))
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                found += [Line(" ", j + 1, after[j]) for j in range(j1, j2)]
                continue
            found += [Line("-", i + 1, before[i]) for i in range(i1, i2)]
            found += [Line("+", j + 1, after[j]) for j in range(j1, j2)]
    return found


def effects(view: View, place: Place, text: str) -> SyncResult:
    """What applying a text would change in the database; nothing is changed.

    Raises
    ------
    ConfigError
        If the text is not understood, or declares what another file's site has.
    StoreUnavailable
        If the database is away.
    """
    file = config.parse(text, place.name)
    attempt = view.connection.begin_nested()
    try:
        return sites.sync(view.connection, file.fleet, place.owner)
    finally:
        attempt.rollback()


def draft(view: View, place: Place, text: str, base_sha256: str) -> int:
    """Keep a text as a draft; its number.

    Parameters
    ----------
    base_sha256 : str
        Of the text in force when it was begun, so that nobody's changes are overwritten unseen.

    Raises
    ------
    Forbidden
        If the caller does not administer the system, or the file is managed from outside.
    SeriesError
        If the text cannot be kept as it is, or somebody from elsewhere names a file of this machine that the
        text in force does not name.
    RequestTooLarge
        If it is too long.
    StoreUnavailable
        If the database is away.
    """
    _require_editable(view, place)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise SeriesError("the text has characters with the code 0; give a UTF-8 text")
    if len(text.encode()) > MOST_BYTES:
        raise RequestTooLarge(f"the text is longer than {MOST_BYTES} bytes")
    text = text if text.endswith("\n") else f"{text}\n"
    if not view.principal.is_local:
        _refuse_new_files(text, current(view, place), place)
    written = site_files.add(
        view.connection, place.owner, text, base_sha256=base_sha256, written_by=view.principal.name
    )
    view.audit("site_file.draft", place.name, {"draft": written.id, "text_sha256": written.sha256})
    return written.id


def _refuse_new_files(text: str, before: str, place: Place) -> None:
    """Refuse names of files that the text in force has not.

    What stands in a file of this machine would be sent to a meter as a password, shown in an error, or moved;
    whoever comes over HTTP need not be allowed to read what the service can read.
    """
    with suppress(ConfigError):  # a text that is no YAML is shown with what is wrong, and read no further
        known = _known_files(before, place)
        lines = YamlLines(text, place.name, "sites")
        wrong = next(((path, named) for path, named in _files(lines.data) if named not in known), None)
        if wrong is not None:
            problem = f"{wrong[1][1]!r} names a file of the service's machine; write it there, by hand"
            raise SeriesError(str(lines.error(wrong[0], problem)))


def _known_files(text: str, place: Place) -> set[_Named]:
    with suppress(ConfigError):
        return {named for _, named in _files(YamlLines(text, place.name, "sites").data)}
    return set()


def _files(data: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], _Named]]:
    """Where a text names files, with key and value."""
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _files(value, (*path, key))
    elif path and isinstance(data, str) and data and _is_file(str(path[-1]), data):
        yield path, (str(path[-1]), data)


def _is_file(key: str, value: str) -> bool:
    is_named = key.endswith("_file") or key in ("folder", "mapping", "serial_port")
    is_path = key == "profile" and ("/" in value or "\\" in value)
    return is_named or is_path or (key == "url" and value.lower().startswith("sqlite"))


def _require_editable(view: View, place: Place) -> None:
    view.require_duty(Duty.SYSTEM)
    if place.obstacle:
        raise Forbidden(place.obstacle)


def is_stale(view: View, place: Place, draft: Written) -> bool:
    """Whether the text in force is another one than that which was edited."""
    return draft.base_sha256 != site_files.sha256_of(current(view, place))


def apply(view: View, place: Place, number: int, note: str) -> SyncResult:
    """Put a draft in force; what was in force stays as a revision.

    Raises
    ------
    NotFound
        If there is no such draft.
    Forbidden
        If the caller does not administer the system, or the file is managed from outside.
    SeriesError
        If the text in force is another one than that which was edited.
    ConfigError
        If the text is not understood, or cannot be written.
    StoreUnavailable
        If the database is away.
    """
    _require_editable(view, place)
    site_files.lock(view.connection)
    wanted, before = site_files.get(view.connection, place.owner, number), current(view, place)
    if wanted.applied_at is not None:
        raise SeriesError("this draft is applied already")
    if is_stale(view, place, wanted):
        raise SeriesError("the site file was changed meanwhile; compare again, then apply")
    file = config.parse(wanted.text, place.name)
    _refuse_others(view, place, file)
    _keep_unknown(view, place, before)
    site_files.mark_applied(view.connection, number, view.principal.name, note.strip())
    synced = bring(view.connection, file, place.owner, view.actor)
    detail = {"revision": number, "note": note.strip(), "text_sha256": wanted.sha256}
    view.audit("site_file.edit", place.name, detail)
    if place.path is not None:
        _write(place.path, wanted.text)
    return synced


def _refuse_others(view: View, place: Place, file: SiteFile) -> None:
    """What a site file on disk describes is not described in the database, too."""
    others = site_sources.described_by_others(view.connection, place.owner)
    taken = sorted(others & set(file.fleet.site)) if place.path is None else []
    if taken:
        raise SeriesError(f"{taken[0]} is described by another site file; change it there")


def _keep_unknown(view: View, place: Place, text: str) -> None:
    """Keep the text in force as a revision, where it did not come from here."""
    newest = site_files.revisions(view.connection, place.owner, 1)
    if text and (not newest or newest[0].sha256 != site_files.sha256_of(text)):
        site_files.add(
            view.connection,
            place.owner,
            text,
            base_sha256=newest[0].sha256 if newest else "",
            written_by="",
            applied_at=view.now,
        )


def _write(path: Path, text: str) -> None:
    """Replace a file as a whole: whoever reads it meanwhile has the old or the new one."""
    target = path.resolve()
    try:
        mode = target.stat().st_mode & 0o777
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=target.parent, delete=False) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).chmod(mode)
        Path(file.name).replace(target)
    except OSError as error:
        raise ConfigError(
            f"cannot be written: {error.strerror}; it is managed from outside, change it there",
            file=str(path),
        ) from None


def revisions(view: View, place: Place) -> Sequence[Written]:
    """What was in force, the newest first.

    Raises
    ------
    Forbidden
        If the caller does not administer the system.
    StoreUnavailable
        If the database is away.
    """
    view.require_duty(Duty.SYSTEM)
    return site_files.revisions(view.connection, place.owner)


def found(view: View, place: Place, number: int) -> Written:
    """A draft or revision.

    Raises
    ------
    NotFound
        If there is none of that number.
    Forbidden
        If the caller does not administer the system.
    StoreUnavailable
        If the database is away.
    """
    view.require_duty(Duty.SYSTEM)
    return site_files.get(view.connection, place.owner, number)


def quoted(text: str, wrong: Sequence[Problem]) -> Iterator[tuple[Problem, str]]:
    """Each problem with the line that it is about."""
    lines = text.splitlines()
    yield from ((p, lines[p.line - 1] if 0 < p.line <= len(lines) else "") for p in wrong)
