"""Write boards and alert rules: ``python -m grafana``; with ``--check`` only say which files are stale."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from grafana import alerts
from grafana.boards import BOARDS
from grafana.kit import build_board
from grafana.sdk import JSONEncoder
from grafana.words import Lang

FOLDER = Path(__file__).parent / "dashboards"


def files() -> Iterator[tuple[Path, str]]:
    """Every file that is made, with what stands in it."""
    for lang in Lang:
        for board in BOARDS:
            text = json.dumps(build_board(board, lang), cls=JSONEncoder, ensure_ascii=False, indent=1)
            yield FOLDER / lang.value / f"{board.uid}.json", text + "\n"
    yield alerts.TARGET, alerts.text()


def stale() -> list[Path]:
    """Files that are missing, differ from what the code makes, or that no board makes."""
    wanted = dict(files())
    differ = [p for p, text in wanted.items() if not p.is_file() or p.read_text("utf-8") != text]
    return differ + [p for p in sorted(FOLDER.rglob("*.json")) if p not in wanted]


def main(arguments: list[str]) -> int:
    """Write or check; the exit code."""
    if "--check" in arguments:
        found = stale()
        sys.stderr.writelines(f"{p}: not what the code makes; run `make boards`\n" for p in found)
        return 1 if found else 0
    for path, text in files():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
