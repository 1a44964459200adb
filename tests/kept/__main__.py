"""Make the kept dump of a source tree; see the package."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from app.store import programs
from app.store.embedded.server import EmbeddedServer
from tests.waiting import until

FOLDER = Path(__file__).parent
SITE_FILE = """\
institutions:
  - {id: bank, name: Bank of Examples, institution_class: state_owned}
sites:
  - id: north
    name: North data centre
    institution: bank
    time_zone: Asia/Shanghai
    close_month_after_days: 1
    meters:
      - {id: main, points: [{id: main.kwh, role: facility, kind: register, interval_s: 3600}]}
      - id: ups-a
        rated_power_kw: 200
        points: [{id: ups-a.kwh, role: it_ups_output, kind: register, interval_s: 3600}]
      - {id: chiller, points: [{id: chiller.kwh, role: cooling, kind: register, interval_s: 3600}]}
      - {id: hall, points: [{id: hall.c, role: temperature, kind: gauge, interval_s: 3600}]}
"""
EVENT = (
    "chiller",
    "--at",
    "2026-10-20T00:00:00Z",
    "--kind",
    "replaced",
    "--note",
    "new meter, by the electrician",
)
_FIRST, _REPLACED = datetime(2026, 9, 29, tzinfo=UTC), datetime(2026, 10, 20, tzinfo=UTC)
_SILENT = (datetime(2026, 10, 12, 3, tzinfo=UTC), datetime(2026, 10, 12, 9, tzinfo=UTC))
_CODE = "import sys; from app.cli import main; import app; assert app.__file__.startswith(sys.argv[1]); " + (
    "sys.argv = ['wattline', *sys.argv[2:]]; main()"
)


def write_readings(file: Path, hours: int) -> None:
    """Hourly registers of three meters with a gap and a replacement, and a temperature."""
    rows, at = ["timestamp,main.kwh,ups-a.kwh,chiller.kwh,hall.c"], _FIRST
    main, cooling = 100_000.0, 0.0
    for hour in range(hours):
        wave, at = round(math.sin(hour / 24 * 2 * math.pi), 2), _FIRST + timedelta(hours=hour)
        main, cooling = main + 150 + 10 * wave, cooling + 30 + 8 * wave
        shown = cooling if at < _REPLACED else cooling - 10_000
        if not _SILENT[0] < at < _SILENT[1]:
            values = (main, 50_000 + 100 * hour, shown, 22 + wave)
            rows.append(f"{at:%Y-%m-%dT%H:%M:%SZ}," + ",".join(f"{value:.1f}" for value in values))
    file.write_text("\n".join(rows) + "\n")


class Tree:
    """The commands of a source tree, on its own embedded database."""

    def __init__(self, tree: Path, folder: Path) -> None:
        self._tree = tree
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WATTLINE_")}
        self._environment = {
            **kept,
            "PYTHONPATH": str(tree),
            "WATTLINE_DATA_DIR": str(folder / "data"),
            "WATTLINE_CONFIG": str(folder / "site.yaml"),
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that runs."""
        command = [sys.executable, "-c", _CODE, str(self._tree), *arguments]
        return subprocess.Popen(command, cwd=self._tree, env=self._environment, text=True)

    def run(self, *arguments: str) -> None:
        """A command that ends well."""
        with self.start(*arguments) as process:
            if process.wait() != 0:
                raise SystemExit(f"wattline {' '.join(arguments)} failed")


def make(tree: Path) -> Path:
    """Fill a database with the code of `tree` and dump it; the file."""
    with tempfile.TemporaryDirectory(prefix="wattline-kept-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "site.yaml").write_text(SITE_FILE)
        write_readings(folder / "readings.csv", 35 * 24)
        server = EmbeddedServer(folder / "data")
        _fill(Tree(tree, folder), server, folder)
        with server:
            with psycopg.connect(server.url) as connection:
                (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone() or (
                    "",
                )
            return _dump(server.owner_url, FOLDER / f"{revision}.dump")


def _fill(tree: Tree, server: EmbeddedServer, folder: Path) -> None:
    tree.run("db", "upgrade")
    tree.run("import", str(folder / "readings.csv"), "--site", "north")
    tree.run("meter", "event", *EVENT)
    tree.run("keys", "create", "boards", "--grant", "viewer")
    with tree.start("serve", "--host", "127.0.0.1", "--port", "0") as service:
        try:
            until(lambda: _settled(server.url), 300.0, name="a frozen report and findings")
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait()
    tree.run("verify")


def _settled(url: str) -> bool:
    frozen = """
        SELECT (SELECT count(*) FROM reports WHERE closed) > 0 AND (SELECT count(*) FROM findings) > 0
           AND (SELECT count(*) FROM rollup_queue) = 0
    """
    try:
        with psycopg.connect(url) as connection:
            return connection.execute(frozen).fetchone() == (True,)
    except psycopg.OperationalError:  # the service has not started its server yet
        return False


def _dump(url: str, file: Path) -> Path:
    """As small as it gets; not by the tree's own code, whose programs are the same."""
    options = ["--format=custom", "--compress=9", "--no-owner", "--no-privileges", "-B", f"--file={file}"]
    subprocess.run([programs.program("pg_dump"), *options], env=programs.environment(url), check=True)
    return file


if __name__ == "__main__":
    sys.stdout.write(f"{make(Path(sys.argv[1]).resolve())}\n")
