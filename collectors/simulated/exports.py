"""Files that the simulated power monitoring system exports: the meters that nobody polls.

A file holds one row per quarter-hour and one column per point, named by the point's id. It appears
under its final name only when it is complete.
"""

from __future__ import annotations

import asyncio
import csv
import os
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path

from app.domain.reading import ReadingColumns
from app.domain.site import Meter, Site
from collectors.simulated.defects import LOCAL
from collectors.simulated.history import QUARTER_HOUR, Simulation

_LOOK_EVERY_S = 2.0


def exported(site: Site) -> tuple[Meter, ...]:
    """Meters of a site that are read from files."""
    return tuple(m for m in site.meters if m.collector is None or m.collector["kind"] == "csv_folder")


def quarter_before(at: datetime) -> datetime:
    """The last quarter-hour of UTC up to an instant."""
    return at - (at - datetime.fromtimestamp(0, at.tzinfo)) % QUARTER_HOUR


class Exporter:
    """Writes the files of one site as time goes on.

    Parameters
    ----------
    folder : Path
        Where they are written; made if missing.
    simulation : Simulation
    site : Site
    since : datetime
        Readings before this instant are in earlier files.
    """

    def __init__(self, folder: Path, simulation: Simulation, site: Site, since: datetime) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.simulation = folder, simulation
        self._site, self._since = site, since

    def write_due(self, now: datetime) -> Path | None:
        """Write the quarter-hours that have passed since the last file; None where there are none yet."""
        due = quarter_before(now)
        if due < self._since:
            return None
        start, self._since = self._since, due + timedelta(seconds=1)
        return write_export(self.folder, self.simulation, self._site, start, self._since)

    async def run(self, clock: Callable[[], datetime]) -> None:
        """Write files until cancelled."""
        while True:
            self.write_due(clock())
            await asyncio.sleep(_LOOK_EVERY_S)


def write_export(folder: Path, simulation: Simulation, site: Site, start: datetime, end: datetime) -> Path:
    """Write what the exported meters of a site read in a half-open range; the file."""
    ids = [p.id for p in site.points()]
    columns = ReadingColumns.concat([batch for _, batch in simulation.history(site, start, end)])
    wanted = {p.id for m in exported(site) for p in m.points}
    name = f"{site.id}-{start.astimezone(LOCAL):%Y%m%d-%H%M}.csv"
    return _write(folder / name, ids, columns, wanted)


def write_late_file(folder: Path, simulation: Simulation, site: Site) -> Path:
    """Write the day whose file was delayed; see the demo's table of defects."""
    ids, columns = simulation.late_file(site)
    return _write(folder / f"{site.id}-delayed.csv", list(ids), columns, set(ids))


def _write(path: Path, ids: list[str], columns: ReadingColumns, wanted: set[str]) -> Path:
    rows: dict[int, dict[str, float]] = {}
    for index, at_us, value in zip(
        columns.point_id.tolist(), columns.at_us.tolist(), columns.value.tolist(), strict=True
    ):
        if ids[index] in wanted:
            rows.setdefault(at_us, {})[ids[index]] = value
    names = [i for i in ids if any(i in row for row in rows.values())]
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(_table(names, rows))
    os.replace(unfinished, path)
    return path


def _table(names: list[str], rows: dict[int, dict[str, float]]) -> Iterable[list[str]]:
    """Header and rows; a point without a reading at that time has an empty cell."""
    yield ["Time", *names]
    for at_us in sorted(rows):
        at = datetime.fromtimestamp(at_us / 1e6, LOCAL)
        yield [at.isoformat(), *(str(rows[at_us].get(name, "")) for name in names)]
