"""Hostile input over HTTP: refused with a reason, in flat memory, and nothing leaks."""

from __future__ import annotations

import gzip
import io
import resource
import socket
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest
import sqlalchemy as sa

from app.api.auth import KeyAuthenticator
from app.api.context import ApiLimits
from app.api.exports import safe_text
from app.domain.access import Grant
from app.store import audit, identity
from app.store.engine import make_engine
from tests.integration.api_helpers import NOW, a_day, client, own_database, sent

MIB = 1 << 20
BOMB_MIB = 500


@pytest.fixture(scope="module")
def database(server_url: str, _template: str) -> Iterator[sa.Engine]:
    """A database for this module, with the fleet and a day of readings."""
    with own_database(server_url, _template) as engine:
        a_day(engine)
        yield engine


@pytest.fixture
def http(database: sa.Engine) -> Iterator[httpx.Client]:
    """The application with small limits, so that little is much."""
    limits = ApiLimits(body_bytes=MIB, readings_body_bytes=4 * MIB, import_bytes=8 * MIB, body_pause_s=0.3)
    with client(database, limits=limits) as http:
        yield http


def upload(http: httpx.Client, name: str, content: bytes) -> httpx.Response:
    return http.post("/api/v1/imports", files={"file": (name, content)}, data={"site": "sh1"})


def readings(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM readings")).scalar_one())


# -- bodies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/readings", "/imports", "/keys", "/meters/main/events"])
def test_a_body_that_says_it_is_too_large_is_not_read(http: httpx.Client, path: str) -> None:
    headers = {"Content-Length": str(10 << 30), "Content-Type": "application/json"}
    answer = raw(http, f"POST /api/v1{path}", headers, b"{")
    assert " 413 " in answer
    assert "application/problem+json" in answer


class Endless(httpx.SyncByteStream):
    """A body that goes on; counts what was taken of it."""

    def __init__(self, head: bytes, most: int) -> None:
        self.taken, self._head, self._most = 0, head, most

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        while self.taken < self._most:
            self.taken += 1 << 16
            yield b"1" * (1 << 16)


MULTIPART = "multipart/form-data; boundary=x"
FILE_HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'


@pytest.mark.parametrize(
    ("path", "kind", "head"),
    [
        ("/readings", "application/json", b'{"readings": ['),
        ("/readings", "application/x-ndjson", b""),
        ("/imports", MULTIPART, FILE_HEAD),
        ("/keys", "application/json", b'{"name": "'),
    ],
)
def test_an_endless_body_is_cut_off(http: httpx.Client, path: str, kind: str, head: bytes) -> None:
    body = Endless(head, 1 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        answer = http.post(f"/api/v1{path}", content=body, headers={"content-type": kind})
        assert answer.status_code == 413
    except httpx.TransportError:
        pass  # cut off while still sending: refused as well
    assert body.taken < 256 * MIB
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 150 * MIB


def test_a_body_that_stops_coming_is_given_up(http: httpx.Client) -> None:
    headers = {"Content-Length": "100", "Content-Type": "application/json"}
    answer = raw(http, "POST /api/v1/readings", headers, b'{"readings": [')
    assert " 429 " in answer
    assert "did not come in time" in answer


def test_a_caller_that_goes_away_in_mid_body_is_no_error(
    http: httpx.Client, database: sa.Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    base = urlsplit(str(http.base_url))
    with socket.create_connection((base.hostname or "", base.port or 0)) as connection:
        head = f"POST /api/v1/readings HTTP/1.1\r\nHost: {base.netloc}\r\nContent-Length: 1000\r\n"
        connection.sendall(f"{head}Content-Type: application/x-ndjson\r\n\r\n{{".encode())
    assert http.get("/api/v1/sites").status_code == 200
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err


def test_the_same_readings_from_many_at_once_are_stored_once(http: httpx.Client, database: sa.Engine) -> None:
    before, body = readings(database), sent(range(24 * 60 + 1, 24 * 60 + 200), start_kwh=16_000)
    with ThreadPoolExecutor(8) as pool:
        posts = [pool.submit(http.post, "/api/v1/readings", json=body) for _ in range(16)]
        answers = [post.result().json() for post in posts]
    assert sum(answer["accepted"] for answer in answers) == 199
    assert all(answer["accepted"] + answer["duplicate"] == 199 for answer in answers)
    assert readings(database) == before + 199
    with database.connect() as connection:
        assert audit.verify(connection).problems == ()


def raw(http: httpx.Client, request: str, headers: dict[str, str], body: bytes) -> str:
    """What the server answers to a request that no proper client sends."""
    base = urlsplit(str(http.base_url))
    with socket.create_connection((base.hostname or "", base.port or 0), timeout=20) as connection:
        lines = [f"{request} HTTP/1.1", f"Host: {base.netloc}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        answer = b""
        while chunk := connection.recv(65_536):
            answer += chunk
    return answer.decode()


# -- files --------------------------------------------------------------------------------------------


def zip_bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.csv", "w") as file:
        for _ in range(BOMB_MIB):
            file.write(b"\x00" * MIB)
    return out.getvalue()


def gzip_bomb(byte: bytes) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb") as file:
        for _ in range(BOMB_MIB):
            file.write(byte * MIB)
    return out.getvalue()


ENTITIES = b"".join(
    [
        b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">',
        *(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9)),
        b']><feed xmlns="http://www.w3.org/2005/Atom"><title>&j;</title></feed>',
    ]
)
EXTERNAL = (
    b'<?xml version="1.0"?><!DOCTYPE f [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    b'<feed xmlns="http://www.w3.org/2005/Atom"><title>&x;</title></feed>'
)

HOSTILE = {
    "endless line": lambda: b"Time,main.kwh\n" + b"1" * (7 * MIB),
    "million columns": lambda: b"Time" + b",a" * 1_000_000 + b"\n" + b"2026-03-01 00:00" + b",1" * 1_000_000,
    "NUL": lambda: b"Time,main.kwh\n" + b"\x00" * MIB,
    "gzip bomb": lambda: gzip_bomb(b"\x00"),
    "gzip bomb of commas": lambda: gzip_bomb(b","),
    "zip bomb": zip_bomb,
    "XML entity bomb": lambda: ENTITIES,
    "XML external entity": lambda: EXTERNAL,
    "nested JSON": lambda: b"[" * MIB,
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_file_is_refused_in_flat_memory(
    http: httpx.Client, database: sa.Engine, attack: str
) -> None:
    content, stored = HOSTILE[attack](), readings(database)
    name = "a.csv.gz" if attack.startswith("gzip") else "a.xml" if attack.startswith("XML") else "a.csv"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = upload(http, name, content)
    assert answer.status_code in (413, 422), answer.text[:300]
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < BOMB_MIB // 2 * MIB
    assert "root:" not in answer.text
    assert readings(database) == stored


@pytest.mark.parametrize(
    "name", ["../../etc/cron.d/x", "/etc/passwd", "a\x00b.csv", "=cmd()|x.csv", "x" * 5000]
)
def test_the_name_of_an_upload_is_only_a_name(http: httpx.Client, name: str) -> None:
    answer = upload(http, name, b"Time,main.kwh\n2026-03-01 08:00,1000\n2026-03-01 08:15,1175\n")
    assert answer.status_code in (200, 400, 422), answer.text[:300]
    assert "/etc/" not in answer.text


# -- text that means something elsewhere --------------------------------------------------------------

SQL = "' OR 1=1--"


def test_sql_in_names_is_text(http: httpx.Client, database: sa.Engine) -> None:
    for path in (f"/sites/{SQL}", f"/meters/{SQL}", f"/sites/{SQL}/pue", f"/imports/{SQL}"):
        assert http.get(f"/api/v1{path}").status_code == 422
    query = {"point": SQL, "start": "2026-03-01T00:00:00Z", "end": "2026-03-02T00:00:00Z"}
    assert http.get("/api/v1/readings", params=query).status_code == 404
    assert http.get("/api/v1/sites/sh1/pue", params={"room": SQL}).status_code == 404
    rows = [{"point": SQL, "at": NOW.isoformat(), "value": 1}]
    assert http.post("/api/v1/readings", json={"readings": rows}).json()["accepted"] == 0
    answer = upload(http, "a.csv", f"Time,{SQL}\n2026-03-01 08:00,1\n".encode())
    assert answer.status_code == 422
    body = {"kind": "test", "start": "2026-03-01T12:00:00Z", "note": SQL + "\r\n=cmd()"}
    assert http.post("/api/v1/meters/main/events", json=body).json()["events"][0]["note"] == body["note"]
    assert readings(database) > 400


def test_nul_in_text_is_refused_and_never_an_error(http: httpx.Client) -> None:
    body = {"kind": "test", "start": "2026-03-01T12:00:00Z", "note": "a\x00b"}
    assert http.post("/api/v1/meters/main/events", json=body).status_code == 422
    assert http.post("/api/v1/keys", json={"name": "a\x00b", "grants": ["viewer"]}).status_code == 422
    assert http.get("/api/v1/sites/sh1/pue", params={"room": "\x00"}).status_code == 404
    assert http.get("/api/v1/sites/a%00b").status_code == 422
    rows = [{"point": "a\x00b", "at": "\x00", "value": "\x00"}]
    assert http.post("/api/v1/readings", json={"readings": rows}).json()["accepted"] == 0
    upload_head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a\x00\x1b.csv"\r\n\r\n'
    site = b'\r\n--x\r\nContent-Disposition: form-data; name="site"\r\n\r\nsh1\r\n--x--\r\n'
    content = upload_head + b"Time,main.kwh\n2026-03-01 08:00,1000\n2026-03-01 08:15,1175\n" + site
    answer = http.post("/api/v1/imports", content=content, headers={"content-type": MULTIPART})
    assert answer.status_code < 500


@pytest.mark.parametrize(("text", "cell"), [("=1+1", "'=1+1"), ("+1", "'+1"), ("-x", "'-x"), ("@x", "'@x")])
def test_cells_that_a_sheet_would_run_are_quoted(text: str, cell: str) -> None:
    assert safe_text(text) == cell
    assert safe_text("\tx") == "'\tx"
    assert safe_text("\rx") == "'\rx"
    assert safe_text("a=1") == "a=1"


def test_a_line_break_in_an_address_does_not_split_a_log_line(
    http: httpx.Client, database: sa.Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    with database.begin() as connection:
        connection.execute(sa.text("ALTER TABLE findings RENAME TO findings_away"))
    try:
        answer = http.get("/api/v1/sites/sh1/findings?%0d%0aforged=1")
        assert answer.status_code == 500
        http.get("/api/v1/sites/sh1%0d%0aforged%20line/findings")
    finally:
        with database.begin() as connection:
            connection.execute(sa.text("ALTER TABLE findings_away RENAME TO findings"))
    out, err = capfd.readouterr()
    assert not any(line.startswith("forged") for line in (out + err).splitlines())


# -- what an error tells ------------------------------------------------------------------------------


def test_an_unexpected_error_tells_nothing_and_logs_no_key(
    database: sa.Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    with database.begin() as connection:
        key = identity.create(connection, "k", [Grant.parse("admin")], created_by="test")
        connection.execute(sa.text("ALTER TABLE findings RENAME TO findings_away"))
    with client(database, authenticator=KeyAuthenticator(database, clock=lambda: NOW)) as http:
        answer = http.get("/api/v1/sites/sh1/findings", headers={"Authorization": f"Bearer {key}"})
    with database.begin() as connection:
        connection.execute(sa.text("ALTER TABLE findings_away RENAME TO findings"))
    problem = answer.json()
    assert answer.status_code == 500
    assert problem["detail"] == "unexpected error; its trace is in the log"
    assert "findings" not in problem["detail"] + problem["title"]
    out, err = capfd.readouterr()
    assert problem["request_id"] in out + err
    assert "Traceback" in out + err
    assert key.split("_")[2] not in out + err


def test_while_the_database_is_away_callers_are_told_to_come_back() -> None:
    away = make_engine("postgresql://nobody:secret@127.0.0.1:1/none?connect_timeout=1")
    with client(away) as http:
        for answer in (http.get("/api/v1/sites"), http.post("/api/v1/readings", json=sent([1]))):
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            assert "secret" not in answer.text
        assert http.get("/readyz").status_code == 503
        assert http.get("/healthz").status_code == 200
    away.dispose()


def test_a_database_of_another_shape_is_not_ready(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    with client(engine) as http:
        answer = http.get("/readyz")
        assert answer.status_code == 503
        assert "wattline db upgrade" in answer.json()["detail"]
    engine.dispose()


# -- load ---------------------------------------------------------------------------------------------


def test_health_answers_while_everything_else_is_busy(database: sa.Engine) -> None:
    limits = ApiLimits(requests_at_once=20)
    with client(database, limits=limits) as http, ThreadPoolExecutor(60) as pool:
        asked = [pool.submit(http.get, "/api/v1/sites/sh1/energy?step=15m&by=point") for _ in range(200)]
        health = [http.get("/healthz", timeout=5).status_code for _ in range(5)]
        ready = http.get("/readyz", timeout=5).status_code
        codes = {one.result().status_code for one in asked}
    assert health == [200] * 5
    assert ready in (200, 503)
    assert codes <= {200, 429}
    assert 200 in codes
