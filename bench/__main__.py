"""Run the benches and keep their tables."""

from __future__ import annotations

import importlib
import os
import platform
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import sizing
from bench.table import Row, as_markdown

MODULES = (
    "startup",
    "figure",
    "ingest",
    "csv_import",
    "csv_files",
    "load",
    "peers",
    "metrics",
    "modbus",
    "snmp",
    "sources",
    "stored_sources",
    "spool",
    "poller",
    "edge",
    "hub",
    "fleet",
    "returning",
    "report",
    "boards",
    "capacity",
    "costs",
    "live",
)
RESULTS = Path(__file__).parent / "RESULTS.md"


def main(names: list[str]) -> None:
    """Run the named benches, or all that exist, and rewrite their sections."""
    for name in names or [n for n in MODULES if (Path(__file__).parent / f"{n}.py").exists()]:
        module = importlib.import_module(f"bench.{name}")
        print(f"== {module.TITLE}", flush=True)
        rows = module.run()
        print(as_markdown(rows), flush=True)
        if getattr(module, "IS_KEPT", True):
            _keep(name, module.TITLE, rows)
            if name in sizing.BENCHES:
                sizing.main()


def _keep(name: str, title: str, rows: list[Row]) -> None:
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else _HEAD
    made = f"`python -m bench {name}`, {datetime.now(UTC):%Y-%m-%d}, {_machine()}"
    chart = f"\n![{title}]({name}.svg)\n" if (RESULTS.parent / f"{name}.svg").exists() else ""
    section = f"<!-- {name} -->\n## {title}\n\n{made}\n\n{as_markdown(rows)}{chart}<!-- end {name} -->\n"
    pattern = re.compile(rf"<!-- {name} -->.*?<!-- end {name} -->\n", re.DOTALL)
    text = pattern.sub(lambda _: section, text) if pattern.search(text) else f"{text}\n{section}"
    RESULTS.write_text(text, encoding="utf-8")


_HEAD = """# Measured figures

Ratios against a named peer in the same run on the same machine; medians of interleaved runs. Read a
ratio within 1.5 of another as a tie: the machines are shared.
"""


def _machine() -> str:
    python = f"CPython {platform.python_version()}"
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, {python}"


if __name__ == "__main__":
    main(sys.argv[1:])
