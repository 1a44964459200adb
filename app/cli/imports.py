"""``wattline import``: files into the store, or only shown as they are understood."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import typer
from rich.progress import Progress

from app.cli.actor import actor
from app.cli.console import kwh, progress, say, show, show_json, show_table
from app.cli.environment import settings, site_file
from app.cli.opening import Opened, database, has_database, kept, opened
from app.domain.reading import LATEST
from app.domain.site import Site
from app.errors import ConfigError, DataError, NotFound, SeriesError, StoreUnavailable
from app.jobs import close_month, imports, replace
from app.jobs.dry_run import Held, Seen, Trialled, dry_run
from app.jobs.imports import RejectsFile
from app.jobs.replace import MonthChange, Trial
from app.store import findings, migrate, retention, sites
from app.store.corrections import Correction
from app.store.engine import connect
from app.store.findings import StoredFinding
from collectors.csv.mapping import Mapping, MappingNeeded, load_mapping
from collectors.csv.proposal import Proposal, merged, of_plan
from collectors.csv.reader import understand

_SHOWN_FINDINGS = 10


@dataclass
class _Outcome:
    """What became of the files of one command."""

    files: list[dict[str, Any]] = field(default_factory=list)
    failed: bool = False
    oldest: datetime = LATEST
    """Instant of the oldest reading."""
    proposals: list[Proposal] = field(default_factory=list)
    """A mapping of each file, as far as one can be given."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    """Of corrected exports: points and months whose energy changed."""
    revised: list[dict[str, Any]] = field(default_factory=list)
    """Closed reports that got a revision."""

    def failure(self, path: Path, error: DataError) -> None:
        """A file that was not understood; the others go on."""
        if isinstance(error, MappingNeeded) and isinstance(error.proposal, Proposal):
            self.proposals.append(error.proposal)
            say(f"{error.file}:{error.line}: {error.question}")
        else:
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
    replace: bool = False
    """Whether readings that differ from stored ones correct them."""
    reason: str = ""
    yes: bool = False
    dry_run: bool = False

    def mapping(self) -> Mapping | None:
        """The mapping, if one was named; looks for the files as well.

        Raises
        ------
        NotFound
            If one of the files is none.
        SeriesError
            If the mapping is not understood.
        """
        mapping = None if self.map_path is None else _loaded(self.map_path)
        for path in self.files:
            if not path.is_file():
                raise NotFound(f"{path}: is no file; name CSV or Excel files")
        if self.sheets:
            mapping = (mapping or Mapping()).model_copy(update={"sheet": self.sheets})
        return mapping

    def correction(self, path: Path) -> Correction | None:
        """On whose word a file corrects what is stored; None where it does not."""
        if not self.replace:
            return None
        return replace.correction(actor().actor, self.reason, path.name)

    def rejects(self) -> RejectsFile:
        """The file for refused rows."""
        return RejectsFile(self.rejects_path or settings().data_dir / "rejects" / "latest-import.csv")


def _loaded(path: Path) -> Mapping:
    """The mapping of a file; a bad one is wrong use of the command (exit 2).

    Raises
    ------
    SeriesError
        If it is not understood, with file, line and key.
    """
    try:
        return load_mapping(path)
    except ConfigError as error:
        raise SeriesError(str(error)) from None


def run(asked: Asked) -> None:
    """Store the files one after the other, then compute the energies; or show what would come of it.

    Raises
    ------
    NotFound
        If there is no such site.
    ConfigError
        If the mapping or site file is not understood.
    SeriesError
        If the options contradict each other.
    """
    if not asked.replace and (asked.reason or asked.yes):
        raise SeriesError("--reason and --yes go with --replace")
    gc.freeze()  # what the modules hold is never garbage; with so many objects it was searched often
    if asked.dry_run and not asked.replace:
        _preview_all(asked)
    else:
        _store_all(asked)


def _store_all(asked: Asked) -> None:
    mapping = asked.mapping()
    with opened(asked.config_path) as here:
        site = here.site(asked.site_id)
        outcome = _Outcome()
        corrected: list[MonthChange] = []
        if asked.replace:
            corrected = _agreed(here, site, asked, mapping)
            if asked.dry_run:
                return
        with asked.rejects() as rejects, progress() as bar:
            for path in asked.files:
                _one_file(here, site, path, mapping, rejects, bar, outcome, asked)
            bar.add_task("computing energies", total=None)
            imports.settle(here.engine)
        outcome.changes = [_change(c) for c in corrected]
        outcome.revised = _revised(here, site) if asked.replace else []
        found = _findings(here, site)
        _tell(outcome, rejects, found, _kept_until(here, outcome), as_json=asked.as_json)
        if outcome.proposals and not asked.as_json:
            say("# mapping for the files that were not read: save it, correct it and pass it with --map")
            say(merged(outcome.proposals).text(site))
    if outcome.failed:
        raise typer.Exit(1)


# -- corrected exports -------------------------------------------------------------------------------


def _agreed(here: Opened, site: Site, asked: Asked, mapping: Mapping | None) -> list[MonthChange]:
    """Show what corrected files would change, and ask; the changes that were agreed to.

    Raises
    ------
    typer.Exit
        If the answer is no.
    """
    plans = []
    for path in asked.files:
        try:
            plans.append((path, understand(path, site, mapping)))
        except DataError as error:
            say(str(error))
    found = replace.trial(here.engine, here.stored, site, plans)
    if asked.as_json and asked.dry_run:
        corrected = sum(f.corrected for f in found.files)
        shown = [_change(c) for c in found.changes]
        show_json({"dry_run": True, "corrected": corrected, "changes": shown, "revised": list(found.frozen)})
    elif not asked.as_json:
        _show_trial(found)
    if len(plans) < len(asked.files) and asked.dry_run:
        raise typer.Exit(1)
    if not (asked.dry_run or asked.yes or not any(f.corrected for f in found.files)):
        _ask()
    return list(found.changes)


def _ask() -> None:
    try:
        typer.confirm("Store this in the ledger?", abort=True, err=True)
    except typer.Abort:
        say("nothing was stored; --yes stores without asking")
        raise typer.Exit(1) from None


def _change(one: MonthChange) -> dict[str, Any]:
    energies = {"before_kwh": one.before_kwh, "after_kwh": one.after_kwh}
    return {"point": one.point, "month": one.month, **energies, "difference_kwh": one.difference_kwh}


def _show_trial(found: Trial) -> None:
    corrected, new = sum(f.corrected for f in found.files), sum(f.accepted for f in found.files)
    show(f"{corrected:,} stored readings would be corrected, {new:,} new ones stored")
    if found.changes:
        rows = (
            [c.point, c.month, kwh(c.before_kwh), kwh(c.after_kwh), f"{c.difference_kwh:+,.3f}"]
            for c in found.changes
        )
        show_table(["point", "month", ">kWh now", ">kWh corrected", ">difference"], rows)
        for point, total in found.total_kwh.items():
            show(f"{point}: {total:+,.3f} kWh")
    else:
        show("no energy would change")
    if found.frozen:
        show(f"closed reports that get a revision: {', '.join(found.frozen)}")


def _revised(here: Opened, site: Site) -> list[dict[str, Any]]:
    """The reports that were closed and got a revision."""
    closed = close_month.revise(here.engine, here.stored, site, datetime.now(UTC))
    return [{"of": c.of, "period": c.period, "revision": c.revision} for c in closed]


def _one_file(
    here: Opened,
    site: Site,
    path: Path,
    mapping: Mapping | None,
    rejects: RejectsFile,
    bar: Progress,
    outcome: _Outcome,
    asked: Asked,
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
            correction=asked.correction(path),
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
                "changes": outcome.changes,
                "revised": outcome.revised,
            }
        )
        return
    done = [f for f in outcome.files if f["status"] == "done"]
    _show_summary(outcome)
    for file in done:
        for warning in file["warnings"]:
            show(f"note: {Path(file['file']).name}: {warning}")
    corrected = sum(f.get("corrected", 0) for f in done)
    if corrected:
        show(f"corrected readings, in the ledger with both values: {corrected:,}")
    for one in outcome.revised:
        show(f"report {one['period']} of {one['of']}: revision {one['revision']}")
    if rejects_file:
        show(f"rejected rows, with line and reason: {rejects_file}")
    if kept_until:
        show(
            f"the old raw readings are kept until {kept_until}, energies and PUE permanently "
            "(WATTLINE_RETENTION_READINGS_DAYS keeps them longer)"
        )
    _show_findings(found)


def _row(file: dict[str, Any]) -> list[str]:
    name = Path(file["file"]).name
    if file["status"] == "failed":
        return [name, "not read", *[""] * 5]
    counts = [file[name] for name in ("accepted", "duplicate", "conflicting", "rejected")]
    numbers = [*counts, sum(file["missing"].values())]
    return [name, "", *(f"{n:,}" for n in numbers)]


def _show_findings(found: Sequence[StoredFinding]) -> None:
    if not found:
        return
    show(f"data quality issues of this site: {len(found)}")
    for finding in found[:_SHOWN_FINDINGS]:
        show(f"  {finding.severity}: {finding.point} {finding.kind}, {finding.start:%Y-%m-%d %H:%M} UTC")
    if len(found) > _SHOWN_FINDINGS:
        show("  ... see `wattline findings list`")


# -- dry run -----------------------------------------------------------------------------------------


def _preview_all(asked: Asked) -> None:
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
    with asked.rejects() as rejects, _seen() as seen:
        for path in asked.files:
            try:
                found = dry_run(path, site, mapping, rejects=rejects, seen=seen)
            except DataError as error:
                outcome.failure(path, error)
            else:
                outcome.files.append(_preview(found))
                layout = found.understood.layout
                outcome.proposals.append(of_plan(found.understood.mapping, is_long=layout == "long"))
    _tell_preview(outcome, site, rejects, as_json=asked.as_json)
    if outcome.failed:
        raise typer.Exit(1)


def _site(site_id: str, config_path: Path | None) -> Site:
    """The site, from the site file alone where one is given."""
    file = site_file(config_path, settings())
    if file is None:
        with opened() as here:
            return here.site(site_id)
    if site_id not in file.fleet.site:
        raise NotFound(f"there is no site {site_id!r}; the site file has {', '.join(file.fleet.site)}")
    return file.fleet.site[site_id]


@contextmanager
def _seen() -> Iterator[Seen]:
    """What the files are compared with: each other, and what a database holds where there is one."""
    with ExitStack() as stack:
        held = None
        if has_database():
            try:
                held = _holding(stack)
            except StoreUnavailable as error:
                say(f"what is stored already is not compared: {error}")
        yield Seen(held)


def _holding(stack: ExitStack) -> Held | None:
    engine = stack.enter_context(database())
    if not migrate.status(engine).up_to_date:
        say("what is stored already is not compared: the database is of another version")
        return None
    connection = stack.enter_context(connect(engine))
    stored = sites.load(connection)
    return Held(lambda: nullcontext(connection), stored)


def _preview(found: Trialled) -> dict[str, Any]:
    plan = found.understood
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
        "warnings": found.warnings,
        "mapping": plan.mapping_yaml,
        "sheets": [p.sheet.name for p in plan.sheets if p.sheet is not None],
        "readings": found.accepted,
        "accepted": found.accepted,
        "duplicate": found.duplicate,
        "conflicting": found.conflicting,
        "rejected": found.rejected,
        "missing": dict(found.missing),
    }


def _tell_preview(outcome: _Outcome, site: Site, rejects: RejectsFile, *, as_json: bool) -> None:
    proposed = merged(outcome.proposals).text(site) if outcome.proposals else None
    if as_json:
        rejects_file = str(rejects.path) if rejects.count else None
        show_json(
            {"dry_run": True, "files": outcome.files, "rejects_file": rejects_file, "mapping": proposed}
        )
        return
    for file in outcome.files:
        if file["status"] == "understood":
            _show_preview(file)
    _show_summary(outcome)
    if rejects.count:
        show(f"rejected rows, with line and reason: {rejects.path}")
    if proposed:
        files = "such files" if len(outcome.files) == 1 else "all of these files"
        show(f"# mapping: save it and pass it with --map to read {files} the same way for ever")
        show(proposed)


def _show_summary(outcome: _Outcome) -> None:
    """Every file with what became of it, or would; refused ones too."""
    if outcome.files:
        heads = ["file", "", ">stored", ">duplicates", ">conflicts", ">rejected", ">no value"]
        show_table(heads, map(_row, outcome.files))


def _show_preview(file: dict[str, Any]) -> None:
    time = file["time"]
    show(f"{file['file']}: {file['layout']} table, {file['encoding']}, delimiter {file['delimiter']!r}")
    show(f"  times: {time['format']}, zone {time['zone']}, {time['order']}")
    show(f"  data from line {file['first_line']}")
    show(f"  would store {file['readings']:,} readings and reject {file['rejected']:,} rows or cells")
    if file["sheets"]:
        show(f"  sheets: {', '.join(file['sheets'])}")
    show_table(
        ["column", "point", "kind", "unit"],
        ([c["column"], c["point"], c["kind"], c["unit"]] for c in file["columns"]),
    )
    if file["unused"]:
        show(f"  ignored columns: {', '.join(file['unused'])}")
    for warning in file["warnings"]:
        show(f"  note: {warning}")
