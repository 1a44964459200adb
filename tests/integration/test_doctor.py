"""``wattline doctor`` on a real database, with cells behind TLS and without."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from app.api.app import create_app
from app.api.auth import KeyAuthenticator
from app.domain.hub_message import address
from app.hub_link import Link
from app.jobs.edge_intake import Intake
from app.jobs.hub_intake import HubIntake
from tests.certificates import Authority
from tests.hub import Cluster
from tests.integration.api_helpers import served
from tests.integration.conftest import Wattline
from tests.integration.test_edges import declare, key_of
from tests.waiting import until


@contextmanager
def secured(folder: Path, days: float) -> Iterator[tuple[str, Path]]:
    """An HTTPS server that knows no address, and the certificates that it is trusted by."""
    authority = Authority("bank", days)
    certificate, key = authority.issue("cell", folder)
    trusted = folder / "ca.pem"
    trusted.write_text(authority.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"https://localhost:{server.server_port}", trusted
        server.shutdown()
        thread.join()


def listed(folder: Path, text: str) -> str:
    """A file of cells."""
    file, key = folder / "cells.yaml", folder / "key"
    key.write_text("wl_abc")
    file.write_text("cells:\n" + text.replace("KEY", str(key)))
    return str(file)


def found(wattline: Wattline) -> tuple[int, dict[str, Any]]:
    """Exit code, and the checks by subject."""
    done = wattline("doctor", "--json")
    return done.code, {check["subject"]: check for check in done.document["checks"]}


def test_a_database_without_a_worker_is_a_fault(wattline: Wattline) -> None:
    code, checks = found(wattline)
    assert code == 1
    assert checks["workers"]["outcome"] == "fault"
    assert checks["schema"]["outcome"] == "ok"
    assert checks["clock of the database"]["outcome"] == "ok"
    assert "FATAL" not in wattline("doctor").out


def test_a_database_of_an_older_shape_is_named(wattline: Wattline, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0003'")
    code, checks = found(wattline)
    assert code == 1
    assert "wattline db upgrade" in checks["schema"]["found"]


def test_no_database_is_no_reason_to_make_one(wattline: Wattline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATTLINE_DATABASE_URL")
    code, checks = found(wattline)
    assert code == 0
    assert checks["database"]["found"] == "there is none yet"


def test_a_cell_of_this_version_is_well_and_one_that_is_away_is_a_fault(
    wattline: Wattline, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(create_app(engine, cell_id="north")) as base:
        text = "".join(f"  - {{id: {name}, url: '{base}', key_file: KEY}}\n" for name in ("north", "south"))
        monkeypatch.setenv("WATTLINE_CELLS_FILE", listed(tmp_path, text))
        code, checks = found(wattline)
    assert code == 1
    assert checks["cell north"]["outcome"] == checks["clock of cell north"]["outcome"] == "ok"
    assert checks["cell south"]["found"].startswith("it calls itself 'north'")


@pytest.mark.parametrize(("days", "outcome"), [(90, "ok"), (20, "warning"), (1, "fault")])
def test_certificates_are_looked_at(
    wattline: Wattline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: float, outcome: str
) -> None:
    with secured(tmp_path, days) as (url, trusted):
        text = f"  - {{id: north, url: '{url}', key_file: KEY, ca_file: {trusted}}}\n"
        monkeypatch.setenv("WATTLINE_CELLS_FILE", listed(tmp_path, text))
        _, checks = found(wattline)
        assert checks["certificate of cell north"]["outcome"] == outcome
        assert checks["cell north"]["found"] == "it answers HTTP 501"
        monkeypatch.setenv("WATTLINE_PUBLIC_URL", url)
        _, checks = found(wattline)
        assert checks["certificate of WATTLINE_PUBLIC_URL"]["outcome"] == "fault"


def test_a_file_of_cells_that_is_not_understood_is_named(
    wattline: Wattline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATTLINE_CELLS_FILE", listed(tmp_path, "  - {id: north, key_file: KEY}\n"))
    code, checks = found(wattline)
    assert code == 1
    assert "cells[0].url: is missing" in checks["cells"]["found"]


def test_a_certificate_that_has_ended_is_named(
    wattline: Wattline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with secured(tmp_path, -0.5) as (url, trusted):
        text = f"  - {{id: north, url: '{url}', key_file: KEY, ca_file: {trusted}}}\n"
        monkeypatch.setenv("WATTLINE_CELLS_FILE", listed(tmp_path, text))
        _, checks = found(wattline)
    check = checks["certificate of cell north"]
    assert check["outcome"] == "fault"
    assert "certificate has expired" in check["found"]
    assert "renew it" in check["remedy"]


def test_servers_of_the_hub_are_looked_at_one_by_one(
    wattline: Wattline, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Cluster(tmp_path, 3) as cluster,
        capture_logs(),
    ):  # the intake of this process writes between the output
        url = f"{cluster.url}/north"
        monkeypatch.setenv("WATTLINE_HUB_URL", url)
        names = [f"hub {server.removeprefix('nats://')}" for server in address(url, "url").servers]
        intake = HubIntake(Link(address(url, "url"), None, None), "north", engine, Intake(engine), replicas=3)
        intake.start()
        try:
            until(lambda: intake.tally.is_connected)
            until(lambda: {found(wattline)[1][name]["outcome"] for name in names} == {"ok"}, 60, "all well")
            assert found(wattline)[1][names[0]]["found"].endswith("3 of 3 copies")
            cluster.kill(1)
            until(lambda: found(wattline)[1][names[0]]["outcome"] == "warning", 60, "a copy that is behind")
            code, checks = found(wattline)
            assert code == 1
            assert checks[names[1]]["outcome"] == "fault"
            assert checks[names[1]]["remedy"] == "see that it runs"
            assert "n1 behind" in checks[names[0]]["found"]
            cluster.kill(2)
            until(
                lambda: found(wattline)[1][names[0]]["outcome"] == "fault",
                60,
                "a stream without most of them",
            )
            assert "READINGS_north" in found(wattline)[1][names[0]]["found"]
        finally:
            intake.stop()


def test_a_hub_that_does_not_know_us_is_named(
    wattline: Wattline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = wattline("hub", "key", tmp_path / "known").out.split()[0]
    users = f"authorization {{ users: [{{ nkey: {known} }}] }}"
    wattline("hub", "key", tmp_path / "stranger")
    with Cluster(tmp_path, 1, users) as cluster:
        monkeypatch.setenv("WATTLINE_HUB_URL", f"{cluster.url}/north")
        monkeypatch.setenv("WATTLINE_HUB_SEED_FILE", str(tmp_path / "stranger"))
        check = found(wattline)[1][f"hub {cluster.url.removeprefix('nats://')}"]
    assert check["outcome"] == "fault"
    assert "users.conf" in check["remedy"]


def test_an_edge_looks_at_its_centre(
    wattline: Wattline, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(engine)
    key = tmp_path / "key"
    key.write_text(key_of(engine, "box", "sh1"))
    with served(create_app(engine, authenticator=KeyAuthenticator(engine))) as base:
        monkeypatch.setenv("WATTLINE_CENTRE_URL", base)
        monkeypatch.setenv("WATTLINE_CENTRE_KEY_FILE", str(key))
        code, checks = found(wattline)
        assert checks[f"centre {base}"] == {
            "subject": f"centre {base}",
            "outcome": "ok",
            "found": "definitions of revision 1",
            "remedy": "",
        }
        assert code == 0
        assert "database" not in checks, "an edge has none"
        key.write_text("wl_0123456789ab_" + "0" * 32)
        code, checks = found(wattline)
        assert (code, checks[f"centre {base}"]["outcome"]) == (1, "fault")
    code, checks = found(wattline)
    assert "cannot be reached" in checks[f"centre {base}"]["found"]
    monkeypatch.delenv("WATTLINE_CENTRE_KEY_FILE")
    assert "WATTLINE_CENTRE_KEY_FILE" in found(wattline)[1]["settings of the edge"]["found"]
