"""Several cells asked at once over HTTP: all answer, one is away, one never ends, one refuses the key."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from app.api.app import create_app
from app.api.auth import KeyAuthenticator
from app.domain.access import Grant, Role
from app.fleet import fanout, reports, watch
from app.fleet.cells import Cell
from app.fleet.watch import Watch
from app.reports.canonical import is_intact
from app.reports.document import as_data
from app.store import edges, identity
from app.telemetry import CellAnswer, Telemetry
from app.web import router as pages
from tests.integration.api_helpers import NOW, a_day, client, own_database, served


def make_key(engine: sa.Engine, *grants: str) -> str:
    """A key of a cell."""
    with engine.begin() as connection:
        return identity.create(connection, "fleet", [Grant.parse(g) for g in grants], created_by="test")


def asking(engine: sa.Engine) -> KeyAuthenticator:
    """A cell that asks for keys."""
    return KeyAuthenticator(engine, clock=lambda: NOW, requests_per_minute=6000, failures_per_minute=1000)


@pytest.fixture(scope="module")
def north(server_url: str, _template: str) -> Iterator[sa.Engine]:
    """Database of a cell with two sites and a day of readings."""
    with own_database(server_url, _template) as engine:
        a_day(engine)
        yield engine


@pytest.fixture(scope="module")
def north_url(north: sa.Engine) -> Iterator[str]:
    """That cell, which asks for keys."""
    app = create_app(north, authenticator=asking(north), clock=lambda: NOW, cell_id="north")
    with served(app) as base:
        yield base


@pytest.fixture
def centre(server_url: str, _template: str) -> Iterator[sa.Engine]:
    """Database of a cell without sites."""
    with own_database(server_url, _template) as engine:
        yield engine


@pytest.fixture
def cell(tmp_path: Path, north: sa.Engine, north_url: str) -> Callable[..., Cell]:
    """Makes cells, by default the one there is."""

    def make(name: str = "north", url: str = north_url, key: str = "") -> Cell:
        file = tmp_path / f"{name}.key"
        file.write_text(key or make_key(north, "viewer"))
        return Cell(id=name, url=url, key_file=file)

    return make


@contextmanager
def dripping() -> Iterator[str]:
    """A server that begins an answer and sends a byte of it now and then, for ever."""
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
            while not ended.wait(0.05):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    def accept() -> None:
        while not ended.is_set():
            try:
                drip(listener.accept()[0])
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def free_address() -> str:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def get(http: httpx.Client, path: str, **query: str) -> dict[str, object]:
    """The JSON answer of a request that succeeds."""
    answer = http.get(f"/api/v1{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_sites_of_other_cells_are_in_the_fleet(centre: sa.Engine, cell: Callable[..., Cell]) -> None:
    with client(centre, cell_id="south", fleet_watch=Watch([cell()])) as http:
        found = get(http, "/fleet/pue", window="24h")
        assert found["counted"] == ["sh1", "bj1"]
        assert found["ratio_of_sums"] == pytest.approx((700 + 160) / (500 + 100))
        assert found["cell_of"] == {"sh1": "north", "bj1": "north"}
        assert (found["missing"], found["in_two_cells"]) == ([], [])
        assert get(http, "/fleet/pue", scope="cell")["sites"] == []
        south, north = get(http, "/fleet/cells")["cells"]
        assert (south["id"], south["sites"], south["problem"]) == ("south", [], None)
        assert (north["id"], north["sites"], north["problem"]) == ("north", ["bj1", "sh1"], None)


def test_a_cell_that_is_away_late_or_refuses_is_named(
    centre: sa.Engine, cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.routes.fleet.DEADLINE_S", 1.5)
    with dripping() as slow:
        others = [
            cell("east", free_address()),
            cell(),
            cell("west", slow),
            cell("blind", key="wl_000000000000_00000000000000000000000000000000"),
            cell("other"),
        ]
        with client(centre, fleet_watch=Watch(others)) as http:
            found = get(http, "/fleet/pue", window="24h")
            states = {c["id"]: c["problem"] for c in get(http, "/fleet/cells")["cells"]}
    assert found["missing"] == ["east", "west", "blind"]
    assert found["in_two_cells"] == ["bj1", "sh1"]
    assert found["ratio_of_sums"] is None
    assert states["east"].startswith("cannot be reached: ")
    assert states["west"] == "no whole answer within 1.5 s"
    assert states["blind"].startswith("it does not know our key")
    assert states["other"].startswith("it calls itself 'north'")
    assert states["north"] is None


def test_what_is_no_answer_is_refused(
    centre: sa.Engine, north: sa.Engine, cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    with client(north) as elsewhere:
        below = cell("below", f"{str(elsewhere.base_url).rstrip('/')}/below")
        (answer,) = fanout.ask([below], "/sites", {}, _never, deadline_s=5)
        assert answer.problem.startswith("it has no such address")
        (answer,) = fanout.ask([cell()], "/sites", {}, _never, deadline_s=5)
        assert answer.problem == "not wanted"
        monkeypatch.setattr(fanout, "MOST_BYTES", 10)
        (answer,) = fanout.ask([cell()], "/sites", {}, _never, deadline_s=5)
        assert answer.problem.startswith("the answer is longer")


def _never(cell: Cell, document: object) -> None:
    raise fanout.NotUnderstood("not wanted")


def test_a_caller_sees_the_sites_of_its_grants_only(centre: sa.Engine, cell: Callable[..., Cell]) -> None:
    key = make_key(centre, "viewer:institution/other-bank")
    with client(centre, authenticator=asking(centre), fleet_watch=Watch([cell()])) as http:
        http.headers["Authorization"] = f"Bearer {key}"
        found = get(http, "/fleet/pue", window="24h")
        assert [s["site"] for s in found["sites"]] == ["bj1"]
        assert found["cell_of"] == {"bj1": "north"}
        assert http.get("/api/v1/fleet/cells").status_code == 403


def test_the_overview_shows_other_cells_and_who_is_missing(
    centre: sa.Engine, cell: Callable[..., Cell]
) -> None:
    seen = Watch([cell(), cell("east", free_address())], clock=lambda: NOW)
    assert seen.seen.at is None
    with client(centre, fleet_watch=seen, extra=(pages.router,)) as http:
        seen.look()
        page = http.get("/").text
    assert "All sites together: PUE 1.433" in page
    assert "without cell east" in page
    assert "sh1" in page
    assert "bj1" in page
    telemetry = Telemetry()
    telemetry.cells = lambda: {a.cell.id: CellAnswer(a.said is not None, a.took_s) for a in seen.seen.answers}
    lines = telemetry.exposition().decode()
    assert 'wattline_cell_up{cell="north"} 1.0' in lines
    assert 'wattline_cell_up{cell="east"} 0.0' in lines


def test_a_question_that_fails_leaves_no_old_answer(
    cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Watch([cell()], clock=lambda: NOW)
    seen.look()
    assert seen.seen.missing == []

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no more threads")

    monkeypatch.setattr(watch.pue, "ask", fail)
    seen.look()
    assert (seen.seen.missing, seen.seen.sites) == (["north"], [])


def test_the_watch_asks_again_by_itself(cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch) -> None:
    looked = threading.Semaphore(0)
    monkeypatch.setattr(watch, "_EVERY_S", 0.01)
    seen = Watch([cell("east", free_address())])
    monkeypatch.setattr(seen, "look", looked.release)
    seen.start()
    assert all(looked.acquire(timeout=20) for _ in range(3))
    seen.stop()


def test_the_report_of_an_institution_is_of_all_cells_and_names_those_that_are_missing(
    centre: sa.Engine, cell: Callable[..., Cell]
) -> None:
    with client(centre, fleet_watch=Watch([cell(), cell("east", free_address())])) as http:
        found = get(http, "/institutions/bank/reports/2026-03")
        assert [line["id"] for line in found["sites"]] == ["sh1"]
        assert found["fleet"]["missing_cells"] == ["east"]
        assert found["revision"]["number"] == 0
        assert is_intact(found)
        for form in ("pdf", "xlsx", "csv", "html"):
            assert http.get("/api/v1/institutions/bank/reports/2026-03", params={"format": form}).is_success
        page = http.get("/api/v1/institutions/bank/reports/2026-03", params={"format": "html"}).text
        assert "without the sites of cell east" in page
        nobody = http.get("/api/v1/institutions/nobody/reports/2026-03")
        assert nobody.status_code == 404
        assert "without an answer: east" in nobody.json()["detail"]


def test_a_site_in_two_cells_is_in_no_sum_of_a_report(
    centre: sa.Engine, north: sa.Engine, cell: Callable[..., Cell]
) -> None:
    with client(north, fleet_watch=Watch([cell()])) as http:
        found = get(http, "/institutions/bank/reports/2026-03")
        assert found["fleet"]["in_two_cells"] == ["sh1"]
        assert found["fleet"]["ratio_of_sums"] is None
        alone = get(http, "/institutions/bank/reports/2026-03", scope="cell")
        assert "in_two_cells" not in alone["fleet"]
        assert "missing_cells" not in alone["fleet"]


def test_a_report_that_was_altered_is_refused(cell: Callable[..., Cell], north_url: str) -> None:
    (answer,) = reports.ask([cell()], "bank", "2026-03")
    assert answer.said is not None
    (one,) = answer.said
    data = as_data(one)
    assert reports.understand(cell(), data) == (one,)
    for altered in (data | {"sha256": "0" * 64}, {**data, "sites": []}, [], None):
        with pytest.raises(fanout.NotUnderstood):
            reports.understand(cell(), altered)
    assert reports.ask([cell()], "nobody", "2026-03")[0].said == ()


def test_edges_of_other_cells_are_listed_for_those_who_see_all(
    centre: sa.Engine, north: sa.Engine, cell: Callable[..., Cell]
) -> None:
    with north.begin() as connection:
        key = identity.create(connection, "edge box", [Grant(Role.EDGE, "sh1")], created_by="test")
        edges.create(connection, "box", identity.public_id_of(key), ["sh1"])
    seen = Watch([cell(), cell("east", free_address())])
    some = make_key(centre, "viewer:institution/bank")
    with client(centre, authenticator=asking(centre), fleet_watch=seen) as http:
        http.headers["Authorization"] = f"Bearer {make_key(centre, 'viewer')}"
        found = get(http, "/fleet/edges")
        assert [(edge["name"], edge["cell"], edge["sites"]) for edge in found["edges"]] == [
            ("box", "north", ["sh1"])
        ]
        assert found["missing"] == ["east"]
        http.headers["Authorization"] = f"Bearer {some}"
        assert get(http, "/fleet/edges") == {"edges": [], "missing": []}
