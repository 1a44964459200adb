"""``wattline import``: files into the store, or only shown as they are understood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import typer
from rich.progress import Progress

from app.cli.actor import actor
from app.cli.console import progress, say, show, show_json, show_table
from app.cli.environment import settings, site_file
from app.cli.opening import Opened, kept, opened
from app.domain.reading import LATEST
from app.domain.site import Site
from app.errors import DataError, NotFound
from app.jobs import imports
from app.jobs.imports import RejectsFile
from app.store import findings, retention
from app.store.engine import connect
from app.store.findings import StoredFinding
from collectors.csv.mapping import Mapping, load_mapping
from collectors.csv.reader import Understanding, understand

_SHOWN_FINDINGS = 10


@dataclass
class _Outcome:
    """What became of the files of one command."""

    files: list[dict[str, Any]] = field(default_factory=list)
    failed: bool = False
    oldest: datetime = LATEST
    """Instant of the oldest reading."""

    def failure(self, path: Path, error: DataError) -> None:
        """A file that was not understood; the others go on."""
        say(str(error))
        self.files.append({"file": str(path), "status": "failed", "error": str(error)})
        self.failed = True


@dataclass(frozen=True)
class Asked:
    """What the command was given."""

    files: Sequence[Path]
    site_id: str
    map_path: Path | None
    sheets: tuple[str, ...]
    rejects_path: Path | None
    config_path: Path | None
    as_json: bool

    def mapping(self) -> Mapping | None:
        """The mapping, if one was named; looks for the files as well.

        Raises
        ------
        NotFound
            If one of the files is none.
        ConfigError
            If the mapping is not understood.
        """
        mapping = None if self.map_path is None else load_mapping(self.map_path)
        for path in self.files:
            if not path.is_file():
                raise NotFound(f"{path}: is no file; name CSV or Excel files")
        if self.sheets:
            mapping = (mapping or Mapping()).model_copy(update={"sheet": self.sheets})
        return mapping

    def rejects(self) -> RejectsFile:
        """The file for refused rows."""
        return RejectsFile(self.rejects_path or settings().data_dir / "rejects" / "latest-import.csv")


def run(asked: Asked) -> None:
    """Store the files one after the other, then compute the energies.

    Raises
    ------
    NotFound
        If there is no such site.
    ConfigError
        If the mapping or site file is not understood.
    """
    mapping = asked.mapping()
    with opened(asked.config_path) as here:
        site = here.site(asked.site_id)
        outcome = _Outcome()
        with asked.rejects() as rejects, progress() as bar:
            for path in asked.files:
                _one_file(here, site, path, mapping, rejects, bar, outcome)
            bar.add_task("computing energies", total=None)
            imports.settle(here.engine)
        found = _findings(here, site)
        _tell(outcome, rejects, found, _kept_until(here, outcome), as_json=asked.as_json)
    if outcome.failed:
        raise typer.Exit(1)


def _one_file(
    here: Opened,
    site: Site,
    path: Path,
    mapping: Mapping | None,
    rejects: RejectsFile,
    bar: Progress,
    outcome: _Outcome,
) -> None:
    task = bar.add_task(path.name, total=path.stat().st_size)
    try:
        understood = understand(path, site, mapping)
        imported = imports.import_file(
            here.engine,
            here.stored,
            site,
            path,
            by=actor(),
            understanding=understood,
            rejects=rejects,
            on_progress=lambda packed_bytes: bar.update(task, completed=packed_bytes),
        )
    except DataError as error:
        outcome.failure(path, error)
    else:
        done = {"file": str(path), "status": "done", **imported.as_dict()}
        outcome.files.append({**done, "warnings": list(understood.warnings)})
        if imported.accepted and imported.first_at:
            outcome.oldest = min(outcome.oldest, imported.first_at)


def _findings(here: Opened, site: Site) -> list[StoredFinding]:
    with connect(here.engine) as connection:
        return findings.listing(connection, here.stored.site_id[site.id])


def _kept_until(here: Opened, outcome: _Outcome) -> date | None:
    """Day until which readings are kept that are older than retention keeps them; None: there are none."""
    with connect(here.engine) as connection:
        days = timedelta(days=retention.kept_days(connection, kept(settings())))
    now = datetime.now(UTC)
    return (now + days).date() if outcome.oldest < now - days else None


def _tell(
    outcome: _Outcome,
    rejects: RejectsFile,
    found: Sequence[StoredFinding],
    kept_until: date | None,
    *,
    as_json: bool,
) -> None:
    rejects_file = str(rejects.path) if rejects.count else None
    if as_json:
        shown = [{"point": f.point, "kind": f.kind, "severity": f.severity} for f in found]
        until = kept_until and kept_until.isoformat()
        show_json(
            {
                "files": outcome.files,
                "rejects_file": rejects_file,
                "findings": shown,
                "old_readings_kept_until": until,
            }
        )
        return
    done = [f for f in outcome.files if f["status"] == "done"]
    if done:
        show_table(
            ["file", ">stored", ">duplicates", ">conflicts", ">rejected", ">no value"], map(_row, done)
        )
    for file in done:
        for warning in file["warnings"]:
            show(f"note: {Path(file['file']).name}: {warning}")
    if rejects_file:
        show(f"rejected rows, with line and reason: {rejects_file}")
    if kept_until:
        show(
            f"the old raw readings are kept until {kept_until}, energies and PUE permanently "
            "(WATTLINE_RETENTION_READINGS_DAYS keeps them longer)"
        )
    _show_findings(found)


def _row(file: dict[str, Any]) -> list[str]:
    counts = [file[name] for name in ("accepted", "duplicate", "conflicting", "rejected")]
    numbers = [*counts, sum(file["missing"].values())]
    return [Path(file["file"]).name, *(f"{n:,}" for n in numbers)]


def _show_findings(found: Sequence[StoredFinding]) -> None:
    if not found:
        return
    show(f"data quality issues of this site: {len(found)}")
    for finding in found[:_SHOWN_FINDINGS]:
        show(f"  {finding.severity}: {finding.point} {finding.kind}, {finding.start:%Y-%m-%d %H:%M} UTC")
    if len(found) > _SHOWN_FINDINGS:
        show("  ... see `wattline findings list`")


# -- dry run -----------------------------------------------------------------------------------------


def preview(asked: Asked) -> None:
    """Show how the files are understood and what would become of them; nothing is stored.

    Raises
    ------
    NotFound
        If there is no such site.
    ConfigError
        If the mapping or site file is not understood.
    """
    mapping = asked.mapping()
    site = _site(asked.site_id, asked.config_path)
    outcome = _Outcome()
    with asked.rejects() as rejects:
        for path in asked.files:
            try:
                understood, accepted, refused = imports.dry_run(path, site, mapping, rejects=rejects)
            except DataError as error:
                outcome.failure(path, error)
            else:
                outcome.files.append(_preview(understood, accepted, refused))
    _tell_preview(outcome, rejects, as_json=asked.as_json)
    if outcome.failed:
        raise typer.Exit(1)


def _site(site_id: str, config_path: Path | None) -> Site:
    """The site, from the site file alone where one is given: a dry run then needs no database."""
    file = site_file(config_path, settings())
    if file is None:
        with opened() as here:
            return here.site(site_id)
    if site_id not in file.fleet.site:
        raise NotFound(f"there is no site {site_id!r}; the site file has {', '.join(file.fleet.site)}")
    return file.fleet.site[site_id]


def _preview(plan: Understanding, accepted: int, refused: int) -> dict[str, Any]:
    return {
        "file": str(plan.path),
        "status": "understood",
        "layout": plan.layout,
        "encoding": plan.encoding,
        "delimiter": plan.delimiter,
        "decimal": plan.decimal,
        "first_line": plan.first_line,
        "time": {"format": plan.time_format, "zone": str(plan.time.zone), "order": plan.time.order},
        "columns": [
            {"column": c.name, "point": c.point.id, "kind": c.point.kind.value, "unit": c.unit}
            for c in plan.columns
        ],
        "unused": list(plan.unused),
        "sample": [list(row) for row in plan.sample],
        "warnings": list(plan.warnings),
        "mapping": plan.mapping_yaml,
        "readings": accepted,
        "rejected": refused,
    }


def _tell_preview(outcome: _Outcome, rejects: RejectsFile, *, as_json: bool) -> None:
    if as_json:
        rejects_file = str(rejects.path) if rejects.count else None
        show_json({"dry_run": True, "files": outcome.files, "rejects_file": rejects_file})
        return
    for file in outcome.files:
        if file["status"] == "understood":
            _show_preview(file)
    if rejects.count:
        show(f"rejected rows, with line and reason: {rejects.path}")


def _show_preview(file: dict[str, Any]) -> None:
    time = file["time"]
    show(f"{file['file']}: {file['layout']} table, {file['encoding']}, delimiter {file['delimiter']!r}")
    show(f"  times: {time['format']}, zone {time['zone']}, {time['order']}")
    show(f"  data from line {file['first_line']}")
    show(f"  would store {file['readings']:,} readings and reject {file['rejected']:,} rows or cells")
    show_table(
        ["column", "point", "kind", "unit"],
        ([c["column"], c["point"], c["kind"], c["unit"]] for c in file["columns"]),
    )
    if file["unused"]:
        show(f"  ignored columns: {', '.join(file['unused'])}")
    for warning in file["warnings"]:
        show(f"  note: {warning}")
    show("# mapping: save it and pass it with --map to read such files the same way for ever")
    show(file["mapping"])
