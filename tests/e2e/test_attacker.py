"""An attacker with a key of another institution, or with a victim's browser, against a real ``serve``."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.domain.access import Grant
from app.store import identity
from app.store.engine import make_engine
from tests.e2e.processes import Running, running
from tests.integration.api_helpers import a_day
from tests.property.test_hostile_files import ALIASES, MERGES

FORM = "f" * 32
LONG = "{long: {point: point, value: value}, columns: {a1main.kwh: main.kwh}}"
CSV = b"time,main.kwh\n2026-03-02 00:00,9000\n2026-03-02 01:00,9001\n"
SECRET = re.compile(r"main\.kwh|ups\.kwh|chiller|secret note")
"""What only the bank's own people may read."""
PAGES = (
    "/sites/{site}",
    "/sites/{site}/outlook",
    "/sites/{site}/computed",
    "/sites/{site}/trend",
    "/sites/{site}/trend.csv",
    "/sites/{site}/trend.svg",
    "/sites/{site}/capacity",
    "/sites/{site}/flow",
    "/sites/{site}/indicators",
    "/sites/{site}/opportunities",
    "/sites/{site}/costs",
    "/sites/{site}/compliance",
    "/sites/{site}/balance",
    "/sites/{site}/events",
    "/sites/{site}/coverage",
    "/sites/{site}/meters",
    "/sites/{site}/findings",
    "/sites/{site}/first",
    "/sites/{site}/imports",
    "/sites/{site}/reports",
    "/meters/{meter}",
    "/sites/{site}/reports/2026-03/compare",
    "/sites/{site}/imports/{ticket}",
    "/sites/{site}/imports/{ticket}/rejects.csv",
    "/alarms/1",
    "/alarms/1/chart",
    "/",
    "/wall",
    "/period",
    "/alarms",
    "/reports",
    "/imports",
    "/connect",
    "/settings/keys",
    "/settings/audit",
    "/settings/sessions",
    "/settings/site-file",
    "/settings/site-file/text",
    "/settings/site-file/drafts/1",
    "/settings/site-file/revisions/1",
    "/settings/site-file/keys",
    "/start",
)
FORMS = (
    "/sites/{site}/declarations",
    "/sites/{site}/declarations/1/withdraw",
    "/sites/{site}/baseline",
    "/sites/{site}/measures",
    "/sites/{site}/measures/fans/withdraw",
    "/sites/{site}/measures/fans/adjustments",
    "/sites/{site}/measures/fans/adjustments/1/withdraw",
    "/sites/{site}/events",
    "/sites/{site}/events/1/withdraw",
    "/sites/{site}/findings/1/acknowledge",
    "/alarms/1/acknowledge",
    "/alarms/1/comments",
    "/alarms/1/silence",
    "/silences",
    "/silences/1/end",
    "/sites/{site}/reports/orders",
    "/sites/{site}/imports",
    "/sites/{site}/imports/{ticket}",
    "/settings/keys",
    "/settings/keys/{key}/revoke",
    "/settings/sessions/{key}/revoke",
    "/settings/site-file",
    "/settings/site-file/drafts/1/apply",
    "/settings/site-file/revisions/1/restore",
    "/start",
    "/connect",
    "/sign-out",
)


class Patient(httpx.Client):
    """Waits where it asks more often than one caller may; what keeps others out is an answer like any."""

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        while True:
            answer = super().send(request, **options)
            if answer.status_code != 429 or "too many requests; try again later" not in answer.text:
                return answer
            time.sleep(float(answer.headers.get("retry-after", "1")))


@dataclass
class Bank:
    """The service, and who has to do with it."""

    service: Running
    admin: str
    stranger: str
    """Operator of another institution."""
    ids: dict[str, str]
    """What the bank's people made, by the name that addresses have for it."""

    def http(self, key: str = "", **headers: str) -> httpx.Client:
        shown = {"Authorization": f"Bearer {key}"} if key else {}
        return Patient(base_url=self.service.base, headers={**shown, **headers}, timeout=30)


@pytest.fixture(scope="module")
def bank(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    folder = tmp_path_factory.mktemp("attacked")
    engine = make_engine(module_database_url)
    a_day(engine)
    with engine.begin() as connection:
        admin, stranger = (
            identity.create(connection, grant, [Grant.parse(grant)], created_by="test")
            for grant in ("admin", "operator:institution/other-bank")
        )
    engine.dispose()
    environment = {
        "WATTLINE_DATABASE_URL": module_database_url,
        "WATTLINE_DATA_DIR": str(folder / "data"),
        "WATTLINE_REQUIRE_KEYS": "true",
    }
    with running(["serve", "--port", "0", "--role", "api"], environment, folder) as service:
        service.until_status("/readyz", 200)
        one = Bank(service, admin, stranger, {})
        with one.http(admin) as http:
            one.ids = made_by_the_bank(http) | {"key": admin[3:15]}
        yield one


def made_by_the_bank(http: httpx.Client) -> dict[str, str]:
    """An import, an order, a silence and an event of site sh1."""
    files = {"file": ("a.csv", CSV)}
    imported = http.post("/api/v1/imports", data={"site": "sh1"}, files=files)
    ordered = http.post("/api/v1/sites/sh1/reports/2026-03", json={"format": "json"})
    silenced = http.post(
        "/api/v1/silences", json={"site": "sh1", "comment": "secret note", "end": "2027-01-01T00:00:00Z"}
    )
    event = {"kind": "test", "start": "2026-03-01T06:00:00Z", "note": "secret note"}
    happened = http.post("/api/v1/meters/main/events", json=event)
    for answer in (imported, ordered, silenced, happened):
        assert answer.is_success, f"{answer.url}: {answer.text}"
    return {
        "import_id": str(imported.json()["id"]),
        "order_id": str(ordered.json()["id"]),
        "silence": str(silenced.json()["id"]),
        "event": str(happened.json()["events"][0]["id"]),
    }


def filled(path: str, bank: Bank, site: str, meter: str) -> str:
    known = {
        **bank.ids,
        "site": site,
        "meter": meter,
        "period": "2026-03",
        "ticket": "0" * 32,
        "key_id": "0" * 12,
    }
    known["institution"] = "bank" if site == "sh1" else "nobank"
    return re.sub(r"{(\w+)}", lambda m: known.get(m[1], "1"), path)


def operations(bank: Bank) -> list[tuple[str, str]]:
    """Every operation of the interface, as the service describes it."""
    with bank.http(bank.admin) as http:
        paths = http.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def test_what_belongs_to_another_institution_does_not_exist(bank: Bank) -> None:
    wanted = [("GET", page) for page in PAGES] + operations(bank)
    assert len(wanted) > 80
    with bank.http(bank.stranger) as http:
        for method, path in wanted:
            theirs = http.request(method, filled(path, bank, "sh1", "main"))
            nobodys = http.request(method, filled(path, bank, "nosite", "nometer"))
            assert theirs.status_code == nobodys.status_code, f"{method} {path}"
            assert theirs.status_code < 500, f"{method} {path}: {theirs.text[:300]}"
            assert not SECRET.search(theirs.text), f"{method} {path}"
            own_ids = {"import_id", "order_id", "silence", "event", "site", "meter"}
            if own_ids & set(re.findall(r"{(\w+)}", path)):
                assert theirs.status_code >= 400, f"{method} {path}"


def test_forms_of_another_institution_change_nothing(bank: Bank) -> None:
    with bank.http(bank.stranger, Cookie=f"wattline_form={FORM}") as http:
        for path in FORMS:
            if path == "/sign-out":
                continue
            answer = http.post(
                filled(path, bank, "sh1", "main"), data={"form_id": FORM, "site": "sh1", "name": "x"}
            )
            assert 400 <= answer.status_code < 500, f"{path}: {answer.status_code}"
            assert not SECRET.search(answer.text), path


def test_a_foreign_page_moves_nothing_with_a_victims_cookie(bank: Bank) -> None:
    with bank.http() as http:
        http.cookies.set("wattline_form", FORM)
        signed_in = http.post("/sign-in", data={"form_id": FORM, "secret": bank.admin})
        assert signed_in.status_code == 303
        assert http.get("/api/v1/keys").status_code == 200, "the cookie opens"
        for path in FORMS:
            address = filled(path, bank, "sh1", "main")
            for form in ({}, {"form_id": "0" * 32}, {"form_id": f"x.{'0' * 32}"}):
                assert http.post(address, data=form).status_code == 403, f"{path} without our token"
            foreign = {"Origin": "https://evil.example"}
            assert http.post(address, data={"form_id": FORM}, headers=foreign).status_code == 403, path
        for method, path in operations(bank):
            if method != "GET":
                answer = http.request(
                    method, filled(path, bank, "sh1", "main"), headers={"Origin": "https://evil.example"}
                )
                assert answer.status_code == 403, f"{method} {path}"
        assert http.get("/api/v1/keys").status_code == 200, "nobody was signed out either"


@pytest.mark.parametrize(
    "target",
    [
        *(
            "/static/../../../../etc/passwd",
            "/static/..%2f..%2f..%2fetc%2fpasswd",
            "/static/%2e%2e/access.py",
        ),
        *(
            "/static//etc/passwd",
            "/static/..\\..\\x",
            "//etc/passwd",
            "/sites/sh1/imports/..%2f..%2fetc%2fpasswd",
        ),
        *("/api/v1/../../etc/passwd", "/static/style.css%00.txt", "/runbook/../../x"),
    ],
)
def test_no_address_leads_out_of_the_folder(bank: Bank, target: str) -> None:
    head = (
        f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {bank.admin}\r\n\r\n"
    )
    answer = raw(bank, head.encode())
    assert re.match(rb"HTTP/1.1 (4\d\d|30[37]) ", answer), answer[:80]
    assert b"root:" not in answer
    assert b"import annotations" not in answer


def raw(bank: Bank, sent: bytes) -> bytes:
    parts = urlsplit(bank.service.base)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_no_parameter_writes_a_header(bank: Bank) -> None:
    evil = "x\r\nX-Evil: 1\r\n\r\n<evil>"
    with bank.http(bank.admin, Cookie=f"wattline_form={FORM}") as http:
        for page in (*PAGES, "/sign-in", "/sign-in/start"):
            for name in ("next", "lang", "month", "window", "compare", "site"):
                answer = http.get(filled(page, bank, "sh1", "main"), params={name: evil})
                assert answer.status_code < 500, f"{page}?{name}"
                assert "x-evil" not in answer.headers, f"{page}?{name}"
                assert "<evil>" not in answer.text, f"{page}?{name}"
        sent = {"form_id": FORM, "secret": bank.admin, "next": f"/{evil}"}
        assert http.post("/sign-in", data=sent).headers["location"] == "/"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254"]
)
def test_the_probe_does_not_reach_what_listens_on_this_machine(bank: Bank, host: str) -> None:
    reached = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        ended = threading.Event()

        def wait() -> None:
            while not ended.is_set():
                try:
                    listener.accept()[0].close()
                    reached.set()
                except TimeoutError:
                    pass

        thread = threading.Thread(target=wait)
        thread.start()
        asked = {"host": host, "protocol": "modbus", "port": listener.getsockname()[1], "timeout_s": 0.5}
        with bank.http(bank.admin) as http:
            answer = http.post("/api/v1/probe", json=asked)
        ended.set()
        thread.join()
    assert answer.status_code in (200, 422, 429), answer.text
    assert answer.status_code != 200 or not answer.json()["recognised"]
    assert not reached.is_set()


@pytest.mark.parametrize(
    "mapping",
    [
        ALIASES,
        MERGES,
        "[" * 5000,
        'columns: {"/(a+)+$/": main.kwh}',
        'footer: "(a|a)*b"',
        "footer: '((a{1000}){1000}){9}'",
    ],
    ids=["aliases", "merge keys", "deep", "pattern", "footer", "large pattern"],
)
def test_an_expensive_mapping_holds_nobody_up(bank: Bank, mapping: str) -> None:
    text = f"time,{'a' * 60}!\n2026-03-01 00:00,1\n{'a' * 60}!,\n"
    with bank.http(bank.admin) as http, bank.http(bank.stranger) as other:
        asked = {"site": "sh1", "map": mapping, "dry_run": "true"}
        answer = http.post("/api/v1/imports", data=asked, files={"file": ("a.csv", text.encode())})
        assert answer.status_code == 422, answer.text
        assert other.get("/api/v1/sites").status_code == 200


# -- inputs of an independent attack ---------------------------------------------------------------------


@pytest.fixture
def cases(shared_data: Path) -> Path:
    return shared_data / "cases" / "security"


def test_the_half_sent_bodies_of_the_attack_slow_nobody(bank: Bank, cases: Path) -> None:
    port = str(urlsplit(bank.service.base).port)
    attack = subprocess.Popen([sys.executable, cases / "slow_bodies.py", port], stderr=subprocess.DEVNULL)
    try:
        with bank.http(bank.admin) as http:
            codes = [http.get("/api/v1/sites").status_code for _ in range(50)]
        assert codes == [200] * 50
    finally:
        attack.kill()
        attack.wait()


def test_the_odd_mapping_and_the_short_row_of_the_attack(bank: Bank, cases: Path) -> None:
    with bank.http(bank.admin) as http:
        files = {"file": ("a.csv", (cases / "short_row.csv").read_bytes())}
        odd = {"site": "sh1", "map": (cases / "bad_format.yaml").read_text()}
        refused = http.post("/api/v1/imports", data=odd, files=files)
        assert (refused.status_code, "time.format" in refused.text) == (422, True)
        good = {"site": "sh1", "map": LONG, "dry_run": "true"}
        done = http.post("/api/v1/imports", data=good, files=files)
        assert done.is_success, done.text
        assert done.json()["rejected"] == 1 or done.json()["rows_rejected"] == 1
