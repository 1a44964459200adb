"""A hundred sites: one small page, searched, filtered, sorted and grouped; the interface; the wall."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
import sqlalchemy as sa

from app import config
from app.domain.reading import Reading
from app.jobs import evaluate, rollup
from app.store import readings, sites
from app.web import router as pages
from tests.integration.api_helpers import NOW, START, client, own_database

COUNT = 100
POWERS_KW = {"s007": 160.0, "s042": 140.0, "s050": 120.0}
"""Facility power of the sites with readings, at 100 kW of IT; their limit is 1.5."""


def meter(name: str, role: str) -> str:
    point = f"{{id: {name}.kwh, role: {role}, kind: register}}"
    return f"      - {{id: {name}, rated_power_kw: 500, points: [{point}]}}"


def estate() -> str:
    banks = [f"  - {{id: bank{i}, name: Bank {i}, institution_class: joint_stock}}" for i in range(4)]
    parts = [
        f"  - id: s{i:03}\n    name: Hall {i}\n    institution: bank{i % 4}\n    time_zone: Asia/Shanghai\n"
        f"    region: {('North', 'South')[i % 2]}\n    limit: {{pue: 1.5}}\n    meters:\n"
        f"{meter(f'm{i:03}', 'facility')}\n{meter(f'u{i:03}', 'it_ups_output')}"
        for i in range(COUNT)
    ]
    return "\n".join(["institutions:", *banks, "sites:", *parts])


def load(engine: sa.Engine) -> None:
    rows = []
    for site, kw in POWERS_KW.items():
        number = site[1:]
        for i in range(97):
            at = START + i * (NOW - START) / 98
            hours = (at - START).total_seconds() / 3600
            rows += [Reading(f"m{number}.kwh", at, kw * hours), Reading(f"u{number}.kwh", at, 100 * hours)]
    with engine.begin() as connection:
        sites.sync(connection, config.parse(estate()).fleet)
        readings.ingest_readings(connection, rows, dict(sites.load(connection).point_id))
    rollup.run(engine)
    evaluate.run(engine, NOW)


@pytest.fixture(scope="module")
def fleet(server_url: str, _template: str) -> Iterator[httpx.Client]:
    """A hundred sites, three of them with readings."""
    with own_database(server_url, _template) as engine:
        load(engine)
        with client(engine, extra=(pages.router,)) as http:
            yield http


def listed(page: httpx.Response) -> list[str]:
    assert page.status_code == 200, page.text
    return re.findall(r'<td><a href="/sites/(s\d+)\?', page.text)


def test_the_page_is_a_small_table_with_the_least_margin_first(fleet: httpx.Client) -> None:
    page = fleet.get("/?lang=en")
    assert len(page.content) < 150_000
    found = listed(page)
    assert len(found) == COUNT
    assert found[0] == "s007"  # above its limit
    assert found.index("s042") < found.index("s050")  # both within, the first with less margin


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("q=hall 42", ["s042"]),
        ("verdict=fail", ["s007"]),
        ("verdict=pass&sort=pue", ["s042", "s050"]),
        ("verdict=pass&region=North&institution=bank2", ["s042", "s050"]),
        ("verdict=pass&institution=bank1", []),
        ("sort=pue&verdict=pass&q=Hall 50", ["s050"]),
    ],
)
def test_the_table_is_searched_filtered_and_sorted(
    fleet: httpx.Client, query: str, expected: list[str]
) -> None:
    assert listed(fleet.get(f"/?{query}")) == expected


def test_groups_say_how_many_are_within(fleet: httpx.Client) -> None:
    page = fleet.get("/?group=region&lang=en").text
    assert re.findall(r'scope="rowgroup">(\w+) <small>(\d+) sites', page) == [
        ("South", "50"),
        ("North", "50"),
    ]


def test_an_order_that_is_none_is_refused(fleet: httpx.Client) -> None:
    assert fleet.get("/?sort=beauty").status_code == 422
    assert fleet.get("/?page=none").status_code == 422


def test_sites_are_given_a_page_at_a_time(fleet: httpx.Client) -> None:
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(4):
        answer = fleet.get("/api/v1/sites", params={"limit": 30, **cursor}).json()
        seen += [site["id"] for site in answer["sites"]]
        cursor = {"cursor": answer["next_cursor"]} if answer["next_cursor"] else {}
    assert seen == [f"s{i:03}" for i in range(COUNT)]
    assert not cursor
    assert len(fleet.get("/api/v1/sites").json()["sites"]) == COUNT
    assert fleet.get("/api/v1/sites?limit=0").status_code == 422


def test_text_is_compressed_for_those_who_take_it(fleet: httpx.Client) -> None:
    packed, plain = (fleet.get("/", headers={"Accept-Encoding": way}) for way in ("gzip", "identity"))
    assert packed.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["vary"]
    assert "content-encoding" not in plain.headers
    assert int(packed.headers["content-length"]) < len(plain.content) / 5
    form = re.compile(r'name="form_id" value="([^"]+)"')
    first, second = (form.search(fleet.get("/alarms").text) for _ in range(2))
    assert first
    assert second
    assert first[1] != second[1]  # nothing to be told by its length


def test_the_wall_shows_the_worst_and_goes_through_all(fleet: httpx.Client) -> None:
    grid = fleet.get("/wall?lang=en").text
    names = re.findall(r'<h2><a href="/sites/(s\d+)', grid)
    assert (names[0], len(names)) == ("s007", 60)
    assert "60 of 100 sites, the worst first." in grid
    answer = fleet.get("/wall?mode=rotate&at=99&lang=en")
    one = answer.text
    assert len(re.findall(r"<article", one)) == 1
    assert answer.headers["refresh"] == "15; url=/wall?mode=rotate&every_s=15&at=100&lang=en"
    assert "1 / 100" in fleet.get("/wall?mode=rotate&at=100&lang=en").text
