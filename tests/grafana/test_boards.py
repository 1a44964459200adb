"""The boards as files: what can be known without running them."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from starlette.routing import Match

from app.web.router import router
from grafana.__main__ import FOLDER, files, main, stale
from grafana.ask import panels
from grafana.boards import BOARDS
from grafana.kit import COLUMNS, uid
from grafana.words import NO_DATA, Lang

Json = dict[str, Any]
PATHS = sorted(FOLDER.rglob("*.json"))
SCHEMA_VERSION = 42
"""The one that the SDK in use writes."""


def names(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.fixture(params=PATHS, ids=names)
def board(request: pytest.FixtureRequest) -> Json:
    loaded: Json = json.loads(request.param.read_text("utf-8"))
    return loaded


def lang_of(board: Json) -> Lang:
    return Lang(next(tag for tag in board["tags"] if tag in list(Lang)))


def test_the_files_are_what_the_code_makes(capsys: pytest.CaptureFixture[str]) -> None:
    assert stale() == []
    assert main(["--check"]) == 0
    assert {path for path, _ in files() if path.suffix == ".json"} == set(PATHS)
    assert len(PATHS) == len(BOARDS) * len(Lang) == 12


def test_identifiers_are_unique_over_all_boards() -> None:
    found = [json.loads(path.read_text("utf-8"))["uid"] for path in PATHS]
    assert len(set(found)) == len(found)


def test_panels_have_unique_ids_titles_descriptions_and_units(board: Json) -> None:
    assert board["schemaVersion"] == SCHEMA_VERSION
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in panels(board)]
    assert len(set(titles)) == len(titles)
    for panel in panels(board):
        assert len(panel["description"]) > 5, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["noValue"] == NO_DATA.in_(lang_of(board))


def test_panels_fill_the_grid_without_overlap(board: Json) -> None:
    places = [panel["gridPos"] for panel in board["panels"]]
    for place in places:
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= COLUMNS
    for a, b in combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (a, b)
    area = sum(p["w"] * p["h"] for p in places)
    assert area == COLUMNS * max(p["y"] + p["h"] for p in places), "a hole in the grid"


def test_thresholds_come_from_the_data(board: Json) -> None:
    for panel in panels(board):
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert [step["value"] for step in steps] == [None], panel["title"]
        letters = {target["refId"] for target in panel["targets"]}
        for transformation in panel.get("transformations", ()):
            options = transformation["options"]
            assert options["configRefId"] in letters
            (source,) = (t for t in panel["targets"] if t["refId"] == options["configRefId"])
            (mapping,) = options["mappings"]
            named = source.get("legendFormat") or source["rawSql"]
            assert mapping["fieldName"] in named, "the limit's series is called otherwise"


def test_queries_name_their_data_source_by_variable(board: Json) -> None:
    declared = {v["name"] for v in board["templating"]["list"]}
    for panel in panels(board):
        for target in panel["targets"]:
            source = target["datasource"]["uid"]
            assert source in ("${prometheus}", "${database}")
            text = target.get("rawSql") or target["expr"]
            used = set(re.findall(r"\$\{?(?!__)([a-z]+)", text))
            assert used <= declared, (panel["title"], used - declared)
            assert "@" not in text, "a word without its translation"


def test_links_lead_to_boards_of_the_same_language(board: Json) -> None:
    known = {uid(b.uid, lang_of(board)) for b in BOARDS}
    found = set(re.findall(r"/d/([\w-]+)", json.dumps(board)))
    assert found <= known


def test_links_to_the_console_lead_to_pages_in_the_boards_language(board: Json) -> None:
    links = set(re.findall(r'"(\$\{wattline\}[^"]*)"', json.dumps(board)))
    assert links
    for link in links:
        address = urlsplit(link.removeprefix("${wattline}"))
        path = re.sub(r"\$\{[^}]*\}", "1", address.path)
        found = [route for route in router.routes if route.matches(_get(path))[0] is Match.FULL]
        assert found, link
        assert not path.startswith("/api/")
        assert address.query == f"lang={lang_of(board)}"


def _get(path: str) -> Json:
    return {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}


def test_chinese_boards_ask_the_same_and_say_it_in_chinese() -> None:
    for path in PATHS:
        if path.parent.name != "zh":
            continue
        chinese = json.loads(path.read_text("utf-8"))
        english = json.loads((FOLDER / "en" / path.name).read_text("utf-8"))
        assert [p["gridPos"] for p in chinese["panels"]] == [p["gridPos"] for p in english["panels"]]
        for ours, theirs in zip(panels(chinese), panels(english), strict=True):
            assert len(ours["targets"]) == len(theirs["targets"])
            assert re.search(r"[\u4e00-\u9fff]", ours["description"]), ours["title"]
            assert not re.search(r"[\u4e00-\u9fff]", json.dumps(theirs, ensure_ascii=False)), theirs["title"]


def test_queries_use_views_only(board: Json, engine: sa.Engine) -> None:
    with engine.connect() as connection:
        views = set(
            connection.execute(sa.text("SELECT viewname FROM pg_views WHERE schemaname = 'public'")).scalars()
        )
    for panel in panels(board):
        for target in panel["targets"]:
            text = target.get("rawSql", "").replace("extract(epoch FROM", "")
            used = set(re.findall(r"\b(?:FROM|JOIN)\s+([a-z_]\w*)\b(?!\()", text))
            assert used <= views, panel["title"]
