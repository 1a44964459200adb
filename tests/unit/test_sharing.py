"""Sites are divided among workers so that all of them come to the same answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.domain.sharing import chosen

SITES = [f"site{i}" for i in range(200)]
EVERYTHING = dict.fromkeys(["a", "b", "c"])


def test_each_worker_gets_about_its_share() -> None:
    of = [chosen(site, EVERYTHING) for site in SITES]
    assert all(40 < of.count(worker) < 95 for worker in EVERYTHING)


@given(st.sampled_from(sorted(EVERYTHING)), st.sampled_from(SITES))
def test_a_worker_that_goes_moves_only_what_it_measured(gone: str, site: str) -> None:
    rest = {worker: None for worker in EVERYTHING if worker != gone}
    before = chosen(site, EVERYTHING)
    assert before == gone or chosen(site, rest) == before


def test_only_a_worker_that_knows_the_site_measures_it() -> None:
    workers = {"north": frozenset({"n1"}), "south": frozenset({"s1"})}
    assert [chosen(site, workers) for site in ("n1", "s1", "x")] == ["north", "south", None]


def test_a_worker_without_a_file_knows_every_site() -> None:
    workers = {"north": frozenset({"n1"}), "any": None}
    assert chosen("s1", workers) == "any"
    assert {chosen(f"n{i}", {"north": frozenset({f"n{i}"}), "any": None}) for i in range(20)} == {
        "north",
        "any",
    }
