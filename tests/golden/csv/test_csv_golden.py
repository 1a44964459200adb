"""Every folder here is one export: site.yaml, input, perhaps mapping.yaml, and what must come of it.

``expected.csv`` holds all readings, ``expected_rejects.csv`` all refused cells (a part of the reason is
enough), ``expected_error.txt`` parts of the error for files that must not be read at all. Each file is
read three times: at once, careful way only, and in blocks of a few bytes.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from app.domain.site import Site
from app.errors import FileNotUnderstood
from collectors.csv.mapping import load_mapping, parse_mapping
from collectors.csv.reader import ParsedBatch, Understanding, read, understand

HERE = Path(__file__).parent
CASES = sorted(p.parent for p in HERE.glob("*/site.yaml"))
NOW = datetime(2027, 1, 1, tzinfo=UTC)
READ = [c for c in CASES if not (c / "expected_error.txt").exists()]
REFUSED = [c for c in CASES if (c / "expected_error.txt").exists()]


def _site(case: Path) -> Site:
    told = yaml.safe_load((case / "site.yaml").read_text(encoding="utf-8"))
    meter = {"id": "meter", "points": told.pop("points"), "imported_from": told.pop("imported_from", "")}
    return TypeAdapter(Site).validate_python({"id": "dc", "institution": "bank", "meters": [meter], **told})


def _understand(case: Path) -> Understanding:
    mapping = load_mapping(case / "mapping.yaml") if (case / "mapping.yaml").exists() else None
    return understand(next(case.glob("input.*")), _site(case), mapping)


def _readings(batches: list[ParsedBatch]) -> list[list[str]]:
    rows = []
    for batch in batches:
        c = batch.columns
        for i in range(len(c)):
            at = datetime.fromtimestamp(int(c.at_us[i]) / 1e6, UTC).isoformat().replace("+00:00", "Z")
            row = [
                batch.points[c.point_id[i]],
                at,
                f"{c.value[i]:.10g}",
                str(c.interval_s[i]),
                str(c.valid_s[i]),
            ]
            rows.append(row)
    return sorted(rows)


def _table(path: Path) -> list[list[str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.mark.parametrize("case", READ, ids=lambda c: c.name)
@pytest.mark.parametrize("way", ["whole", "careful", "small_blocks"])
def test_reads(case: Path, way: str) -> None:
    plan = _understand(case)
    block_bytes = 64 if way == "small_blocks" else 1 << 20
    batches = list(read(plan.path, plan, now=NOW, careful_only=way == "careful", block_bytes=block_bytes))
    assert _readings(batches) == sorted(_table(case / "expected.csv"))
    rejects = sorted((r for b in batches for r in b.rejects), key=lambda r: (r.line, r.column))
    expected = _table(case / "expected_rejects.csv")
    assert [str(r.line) for r in rejects] == [line for line, *_ in expected], rejects
    for reject, (_, column, reason, text) in zip(rejects, expected, strict=True):
        assert column == reject.column
        assert reason in reject.reason
        assert text == reject.text


@pytest.mark.parametrize("case", READ, ids=lambda c: c.name)
def test_the_saved_mapping_reads_the_same(case: Path) -> None:
    plan = _understand(case)
    again = understand(plan.path, _site(case), parse_mapping(plan.mapping_yaml))
    assert _readings(list(read(plan.path, again, now=NOW))) == sorted(_table(case / "expected.csv"))


@pytest.mark.parametrize("case", REFUSED, ids=lambda c: c.name)
def test_refuses(case: Path) -> None:
    with pytest.raises(FileNotUnderstood) as caught:
        for _ in (plan := _understand(case)) and read(plan.path, plan, now=NOW):
            pass
    for part in (case / "expected_error.txt").read_text(encoding="utf-8").splitlines():
        assert part in str(caught.value)
