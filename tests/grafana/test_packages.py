"""The boards against Grafana's own packages: types of its panels, units, reducers, transformations."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.__main__ import FOLDER
from tests.node import ROOT, need_packages

Json = dict[str, Any]
BOARDS = sorted(FOLDER.rglob("*.json"))
PACKAGES = ("@grafana/data@12.4.0", "@grafana/schema@12.4.0", "typescript@5.9.3")
PANELS = {
    "stat": "Stat",
    "timeseries": "TimeSeries",
    "table": "Table",
    "bargauge": "BarGauge",
    "barchart": "BarChart",
    "status-history": "StatusHistory",
    "nodeGraph": "NodeGraph",
}
"""Kinds of panels, as the package calls their types."""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def packages() -> Path:
    return need_packages("grafana-packages", *PACKAGES)


def test_the_packages_are_of_the_grafana_that_compose_runs() -> None:
    image = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]["grafana"]["image"]
    minor = image.split(":")[1].rsplit(".", 1)[0]
    assert all(p.split("@")[2].startswith(f"{minor}.") for p in PACKAGES if p.startswith("@grafana"))


def test_units_reducers_and_transformations_are_grafanas(packages: Path) -> None:
    command = ["node", str(Path(__file__).with_name("panels.cjs")), str(packages), *map(str, BOARDS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == []
    assert all(count > 0 for count in found["looked"].values()), found["looked"]


def test_boards_have_the_types_of_grafanas_schema(packages: Path) -> None:
    assert compiled(packages, "\n".join(declarations())) == []


def test_an_option_that_grafana_does_not_have_is_found(packages: Path) -> None:
    wrong = [*heading(), 'export const o: Plain<Partial<Stat.Options>> = {"graphMod": "none"};']
    (problem,) = compiled(packages, "\n".join(wrong))
    assert "graphMod" in problem


def compiled(packages: Path, text: str) -> list[str]:
    """What the compiler has to say about a module."""
    file = packages.parent / "boards.ts"
    file.write_text(text, "utf-8")
    (packages.parent / "types").mkdir(exist_ok=True)
    options = [
        "--noEmit",
        "--strict",
        "--skipLibCheck",
        "--moduleResolution",
        "bundler",
        "--module",
        "esnext",
    ]
    command = [str(packages / ".bin" / "tsc"), *options, "--target", "es2022", "--typeRoots", "types"]
    done = subprocess.run(
        [*command, file.name], cwd=file.parent, capture_output=True, text=True, timeout=500, check=False
    )
    return [line for line in done.stdout.splitlines() if "error TS" in line]


def heading() -> Iterator[str]:
    """Imports, and the types as JSON has them: texts in place of names of enumerations."""
    yield "import type {Dashboard} from '@grafana/schema';"
    for kind, name in PANELS.items():
        folder = kind.replace("-", "").lower()
        path = f"@grafana/schema/dist/esm/raw/composable/{folder}/panelcfg/x/{name}PanelCfg_types.gen"
        yield f"import type * as {name} from '{path}';"
    yield (
        "type Plain<T> = T extends string ? `${T}` : T extends (infer U)[] ? Plain<U>[] "
        ": T extends object ? {[K in keyof T]: Plain<T[K]>} : T;"
    )


def declarations() -> Iterator[str]:
    """Every board and every panel's options as constants of their types."""
    yield from heading()
    for n, path in enumerate(BOARDS):
        board = json.loads(path.read_text("utf-8"))
        for m, panel in enumerate(board["panels"]):
            name, custom = PANELS[panel["type"]], panel["fieldConfig"]["defaults"].get("custom", {})
            yield f"export const o{n}_{m}: Plain<Partial<{name}.Options>> = {json.dumps(panel['options'])};"
            if custom:
                yield f"export const c{n}_{m}: Plain<Partial<{name}.FieldConfig>> = {json.dumps(custom)};"
        yield f"export const b{n}: Plain<Dashboard> = {json.dumps(without_queries(board))};"


def without_queries(board: Json) -> Json:
    """A board without the queries, whose types belong to the data sources."""
    for panel in board["panels"]:
        panel["targets"] = []
    for marks in board["annotations"]["list"]:
        del marks["target"]
    for variable in board["templating"]["list"]:
        for name in ("auto", "auto_min", "auto_count"):  # the SDK writes those of an interval into each
            variable.pop(name, None)
    return dict(board)
