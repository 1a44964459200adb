"""Documents lead to what exists, and their lines are wrapped without harm."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import wrap
from tools.reference import architecture

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("collectors/*.md")])
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_FILE = re.compile(r"`((?:app|collectors|grafana|migrations|tests|tools|docs|bench)/[\w./-]+\.\w+)`")


def prose(document: Path) -> str:
    return re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file(document: Path) -> None:
    links = [link for link in _LINK.findall(prose(document)) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_every_named_file_exists(name: str) -> None:
    named = [file for file in _FILE.findall(prose(ROOT / name)) if not re.search(r"NAME|NOUN|CODE|NN_", file)]
    assert named
    assert [file for file in named if not (ROOT / file).exists()] == []


def test_every_named_target_of_make_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {
        target
        for document in (ROOT / "CONTRIBUTING.md", ROOT / "README.md")
        for words in re.findall(r"make ((?:[a-z-]+ ?)+)", "\n".join(re.findall(r"`[^`]*`", prose(document))))
        for target in words.split()
    }
    assert named >= {"install", "unit", "lint", "format", "reference"} - {"install"}
    assert [target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_every_room_of_the_picture_is_there() -> None:
    rooms = [room for floor in architecture.floors() for room in floor]
    assert rooms[0] == "app.cli"
    bases = [ROOT / room.replace(".", "/") for room in rooms]
    assert [str(b) for b in bases if not (b.is_dir() or b.with_suffix(".py").is_file())] == []


def test_a_decision_without_status_is_named(tmp_path: Path) -> None:
    page = tmp_path / "new.md"
    page.write_text("# New\n\nBecause.\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"new\.md:3: write the status"):
        architecture._decision(page)


LONG = "word " * 40


@pytest.mark.parametrize(
    "kept",
    [f"| {LONG} |", f"```\n{LONG}\n```", f"# {LONG}", f"a\n\n    {LONG}", "x" * 200, "short\nlines\n- stay"],
)
def test_what_has_no_place_to_break_stays(kept: str) -> None:
    assert wrap.wrapped(kept) == kept
    assert wrap.too_long(kept) == []


def test_an_item_is_wrapped_below_itself_and_code_and_links_stay_whole() -> None:
    text = f"Before.\n\n- item {LONG}`a b c` [two words](x.md)\n- next\n"
    done = wrap.wrapped(text)
    assert wrap.too_long(text) == [3]
    assert all(len(line) <= wrap.WIDTH for line in done.split("\n"))
    assert "`a b c`" in done
    assert "[two words](x.md)" in done
    assert done.split() == text.split()
    assert [line[:2] for line in done.split("\n")[2:5]] == ["- ", "  ", "- "]
    assert wrap.wrapped(done) == done
