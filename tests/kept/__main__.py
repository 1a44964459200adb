"""Make the kept dump of a source tree; see the package."""

from __future__ import annotations

import hashlib
import json
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
AUDIT_KEY = hashlib.sha256(b"kept for the tests").hexdigest()
"""Signs the audit log; no secret."""
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
            "WATTLINE_AUDIT_KEY_FILE": str(folder / "audit.key"),
        }

    def start(self, *arguments: str, output: int | None = None) -> subprocess.Popen[str]:
        """A command that runs."""
        command = [sys.executable, "-c", _CODE, str(self._tree), *arguments]
        return subprocess.Popen(command, cwd=self._tree, env=self._environment, text=True, stdout=output)

    def run(self, *arguments: str) -> str:
        """What a command printed that ended well."""
        with self.start(*arguments, output=subprocess.PIPE) as process:
            said, _ = process.communicate()
            if process.returncode != 0:
                raise SystemExit(f"wattline {' '.join(arguments)} failed")
        return said


def make(tree: Path) -> Path:
    """Fill a database with the code of `tree` and dump it; the file."""
    with tempfile.TemporaryDirectory(prefix="wattline-kept-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "site.yaml").write_text(SITE_FILE)
        (folder / "audit.key").write_text(AUDIT_KEY)
        write_readings(folder / "readings.csv", 35 * 24)
        server = EmbeddedServer(folder / "data")
        found = _fill(Tree(tree, folder), server, folder)
        with server:
            (FOLDER / f"{_revision(server.url)}.json").write_text(json.dumps(found, indent=1) + "\n")
            return _dump(server.owner_url, FOLDER / f"{_revision(server.url)}.dump")


def _revision(url: str) -> str:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    assert found is not None
    return str(found[0])


def _fill(tree: Tree, server: EmbeddedServer, folder: Path) -> dict[str, object]:
    """Make it live; what the tree's own code finds when it verifies that."""
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
    checks = {"verify": ("verify", "--json"), "audit": ("audit", "verify", "--json")}
    return {name: json.loads(tree.run(*command)) for name, command in checks.items()}


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
