"""The file of cells is understood or refused with file, line and key; the fleet counts a site once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.domain.access import Grant, Principal
from app.errors import ConfigError
from app.fleet import cells, pue, state
from app.fleet.cells import Cell
from app.fleet.fanout import NotUnderstood
from app.fleet.pue import SitePue


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A file with a key."""
    file = tmp_path / "key"
    file.write_text("wl_abc\n")
    return file


def written(folder: Path, text: str) -> Path:
    """A file of cells."""
    file = folder / "cells.yaml"
    file.write_text(text)
    return file


def test_cells_are_read_in_order(tmp_path: Path, key: Path) -> None:
    text = f"""
cells:
  - {{id: north, url: "https://north.example/wattline/", key_file: {key}}}
  - {{id: south, url: "http://127.0.0.1:8080", key_file: {key}}}
"""
    found = cells.load(written(tmp_path, text))
    assert [(c.id, c.url, c.key()) for c in found] == [
        ("north", "https://north.example/wattline", "wl_abc"),
        ("south", "http://127.0.0.1:8080", "wl_abc"),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("cells: []\nsites: []", "2: sites: unknown key"),
        ("sell: []", "cells: list the cells"),
        ("cells:\n  - {id: a, key_file: KEY}", "2: cells[0].url: is missing"),
        (
            "cells:\n  - {id: a, url: 'http://n.example', key_file: KEY}",
            "cells[0].url: the key would be sent",
        ),
        ("cells:\n  - {id: a, url: 'https://u:p@n.example', key_file: KEY}", "cells[0].url: "),
        ("cells:\n  - {id: a, url: 'https://n', key_file: KEY, kee: 1}", "cells[0].kee: unknown key"),
        ("cells:\n  - {id: 'a b', url: 'https://n', key_file: KEY}", "cells[0].id: "),
        (
            "cells:\n  - {id: a, url: 'https://n', key_file: /absent}",
            "/absent: key_file of cell a: cannot be",
        ),
        ("cells:\n  - {id: a, url: 'https://n', key_file: EMPTY}", "key_file of cell a: holds no key"),
        ("cells:\n  - {id: a, url: 'https://n', key_file: KEY, ca_file: KEY}", "ca_file of cell a: no cert"),
        ("cells:\n" + "  - {id: a, url: 'https://n', key_file: KEY}\n" * 2, "'a' stands 2 times"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, key: Path, text: str, problem: str) -> None:
    (tmp_path / "empty").write_text("\n")
    text = text.replace("KEY", str(key)).replace("EMPTY", str(tmp_path / "empty"))
    with pytest.raises(ConfigError) as refused:
        cells.load(written(tmp_path, text))
    assert problem in str(refused.value)


NORTH = Cell(id="north", url="https://north.example", key_file=Path("/key"))


def site(cell: str, name: str, facility_kwh: float, it_kwh: float, *, said: bool = True) -> SitePue:
    """A site with its energies."""
    document = {
        "site": name,
        "pue": facility_kwh / it_kwh if said else None,
        "facility_kwh": facility_kwh,
        "it_kwh": it_kwh,
    }
    return SitePue(cell, "bank", document)


def test_totals_are_of_the_sites_that_one_cell_has() -> None:
    sites = [site("a", "s1", 150, 100), site("b", "s2", 240, 200), site("b", "s3", 9, 3, said=False)]
    found = pue.together(sites, ["c"])
    assert found.figure.ratio_of_sums == pytest.approx(390 / 300)
    assert (found.figure.left_out, found.missing, found.twice) == (("s3",), ("c",), ())


def test_a_site_in_two_cells_counts_in_none() -> None:
    sites = [site("a", "s1", 150, 100), site("b", "s1", 150, 100), site("b", "s2", 240, 200)]
    found = pue.together(sites, [])
    assert found.figure.ratio_of_sums == pytest.approx(1.2)
    assert (found.twice, found.figure.left_out) == (("s1",), ("s1",))


def test_a_fleet_without_sites_has_no_figure() -> None:
    assert pue.together([], ["a"]).figure.ratio_of_sums is None


def answer(**changed: Any) -> dict[str, Any]:
    """What a cell answers."""
    one = {"site": "s1", "pue": 1.5, "facility_kwh": 150.0, "it_kwh": 100.0}
    return {"sites": [one | changed], "institution_of": {"s1": "bank"}}


def test_an_answer_is_taken_with_its_cell_and_institution() -> None:
    (found,) = pue.understand(NORTH, answer())
    assert (found.cell, found.site, found.institution) == ("north", "s1", "bank")


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"sites": []},
        answer(facility_kwh=float("nan")),
        answer(it_kwh=-1.0),
        answer(pue=float("inf")),
        answer(site="s2"),
    ],
)
def test_an_answer_that_is_not_understood_is_refused(document: Any) -> None:
    with pytest.raises(NotUnderstood):
        pue.understand(NORTH, document)


def test_a_cell_that_calls_itself_otherwise_is_refused() -> None:
    one = {"id": "north", "version": "1", "sites": ["s1"], "figures_lag_s": 3.0, "at": "2026-03-01T00:00:00Z"}
    assert state.understand(NORTH, {"cells": [one]}).sites == ("s1",)
    for document in ({"cells": [one | {"id": "south"}]}, {"cells": [one, one]}, {"cells": []}, {}):
        with pytest.raises(NotUnderstood):
            state.understand(NORTH, document)


@pytest.mark.parametrize(
    ("grant", "seen"),
    [
        ("viewer", True),
        ("operator:institution/bank", True),
        ("viewer:site/s1", True),
        ("viewer:site/s2", False),
        ("viewer:institution/other", False),
        ("audit", False),
    ],
)
def test_only_those_who_may_see_a_site_see_it_in_the_fleet(grant: str, seen: bool) -> None:
    principal = Principal("somebody", (Grant.parse(grant),))
    assert bool(pue.visible([site("a", "s1", 150, 100)], principal)) is seen


@pytest.mark.parametrize("grant", ["viewer:site/s2", "viewer:institution/other"])
def test_what_a_cell_leaves_empty_opens_nothing(grant: str) -> None:
    """A grant of a site names no institution, and the other way round."""
    one = SitePue("a", "", site("a", "", 150, 100).document)
    assert pue.visible([one], Principal("somebody", (Grant.parse(grant),))) == []
