"""Keys bound to client certificates: a real nginx, set up as the how-to says, before a real ``serve``."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from app.domain.access import Grant
from app.domain.certificate import fingerprint
from app.store import identity
from app.store.engine import make_engine
from tests.certificates import Authority
from tests.e2e.processes import running
from tests.e2e.test_serve import SITE
from tests.programs import need_program
from tests.waiting import until

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "reverse-proxy.md"
MAIN = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    proxy_bind 127.0.0.2;
{servers}
}}
"""


@dataclass
class Bank:
    """The service behind nginx, and what its people have."""

    folder: Path
    address: str
    direct: str
    key: str
    """Bound to the certificate of ``wang``."""
    free_key: str

    def http(self, who: str = "") -> httpx.Client:
        """Through nginx, with somebody's certificate."""
        trust = ssl.create_default_context(cafile=str(self.folder / "server-ca.pem"))
        if who:
            trust.load_cert_chain(self.folder / f"{who}.pem", self.folder / f"{who}.key")
        return httpx.Client(base_url=self.address, verify=trust, timeout=30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def servers(folder: Path, port: int, service_port: str) -> str:
    """The server of the how-to, with the lines for client certificates, for this machine."""
    whole, certificates = re.findall(r"```nginx\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    text = whole.replace("    location /", f"{certificates}    location /", 1)
    for said, meant in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("127.0.0.1:8080", f"127.0.0.1:{service_port}"),
        ("/etc/ssl/private/pue.bank.example.key", f"{folder}/server.key"),
        ("/etc/ssl/pue.bank.example.pem", f"{folder}/server.pem"),
        ("/etc/ssl/bank-staff-ca.pem", f"{folder}/staff-ca.pem"),
    ):
        assert said in text
        text = text.replace(said, meant)
    return text


@pytest.fixture(scope="module")
def bank(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    nginx = need_program("nginx", "nginx-light")
    folder = tmp_path_factory.mktemp("bank")
    ours, staff, foreign = Authority("bank servers"), Authority("bank staff"), Authority("somebody")
    (folder / "server-ca.pem").write_text(ours.pem)
    (folder / "staff-ca.pem").write_text(staff.pem)
    ours.issue("server", folder)
    for authority, name in ((staff, "wang"), (staff, "li"), (foreign, "mallory")):
        authority.issue(name, folder)
    engine = make_engine(module_database_url)
    with engine.begin() as connection:
        free_key = identity.create(connection, "free", [Grant.parse("admin")], created_by="test")
        key = identity.create(
            connection,
            "wang",
            [Grant.parse("admin")],
            created_by="test",
            certificate_sha256=fingerprint((folder / "wang.pem").read_text()),
        )
    engine.dispose()
    port = free_port()
    (folder / "site.yaml").write_text(SITE)
    environment = {
        "WATTLINE_CONFIG": str(folder / "site.yaml"),
        "WATTLINE_DATA_DIR": str(folder / "data"),
        "WATTLINE_DATABASE_URL": module_database_url,
        "WATTLINE_REQUIRE_KEYS": "true",
        "WATTLINE_PUBLIC_URL": f"https://localhost:{port}",
        "WATTLINE_TRUSTED_PROXIES": "127.0.0.2/32",
    }
    with running(["serve", "--port", "0", "--role", "api"], environment, folder) as service:
        service.until_status("/readyz", 200)
        text = MAIN.format(folder=folder, servers=servers(folder, port, service.base.rsplit(":", 1)[1]))
        (folder / "nginx.conf").write_text(text)
        proxy = subprocess.Popen(
            [nginx, "-e", folder / "error.log", "-p", folder, "-c", folder / "nginx.conf"]
        )
        try:
            one = Bank(folder, f"https://localhost:{port}", service.base, key, free_key)
            until(lambda: _answers(one), name="an answer through nginx")
            yield one
        finally:
            proxy.terminate()
            proxy.wait(30)


def _answers(bank: Bank) -> bool:
    with bank.http() as http:
        try:
            return http.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False


def status(http: httpx.Client, key: str, **headers: str) -> int:
    return http.get("/api/v1/sites", headers={"Authorization": f"Bearer {key}", **headers}).status_code


def test_a_bound_key_opens_with_its_certificate_only(bank: Bank) -> None:
    with bank.http("wang") as wang, bank.http("li") as li, bank.http() as nobody:
        assert [status(http, bank.key) for http in (wang, li, nobody)] == [200, 401, 401]
        assert [status(http, bank.free_key) for http in (wang, li, nobody)] == [200, 200, 200]
        assert wang.get("/api/v1/sites").status_code == 401, "a certificate alone opens nothing"
        refused = li.get("/api/v1/sites", headers={"Authorization": f"Bearer {bank.key}"})
        assert "client certificate" in refused.json()["detail"]


def test_a_certificate_of_another_authority_ends_at_the_proxy(bank: Bank) -> None:
    with bank.http("mallory") as mallory:
        assert status(mallory, bank.free_key) == 400


def test_nobody_writes_the_header_himself(bank: Bank) -> None:
    pem = (bank.folder / "wang.pem").read_text()
    forged = {"Client-Cert": quote(pem)}
    with bank.http() as nobody, bank.http("li") as li, httpx.Client(base_url=bank.direct) as direct:
        assert [status(http, bank.key, **forged) for http in (nobody, li, direct)] == [401, 401, 401]


def test_a_browsers_session_needs_the_certificate_too(bank: Bank) -> None:
    with bank.http("wang") as wang:
        wang.get("/sign-in")
        form = wang.cookies["__Host-wattline_form"]
        page = {"Origin": bank.address}
        answer = wang.post("/sign-in", data={"form_id": form, "secret": bank.key}, headers=page)
        assert answer.status_code == 303, answer.text
        session = {"Cookie": f"__Host-wattline_key={wang.cookies['__Host-wattline_key']}"}
        assert wang.get("/api/v1/sites").status_code == 200
    with bank.http("li") as li, bank.http() as nobody:
        assert [h.get("/api/v1/sites", headers=session).status_code for h in (li, nobody)] == [401, 401]
