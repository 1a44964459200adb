"""What is installed is what was pinned; the bill of materials says so; the search for flaws can fail."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.programs import need_program
from tests.waiting import until
from tools import audit, install, licences, sbom
from tools.locked import DEVELOPMENT, ROOT, RUNTIME, SHIPPED, Locked, locked

LOCKS = [RUNTIME, SHIPPED, DEVELOPMENT, ROOT / "requirements-build.txt"]


# -- lock files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_pin_has_hashes_and_no_place_it_came_from(lock: Path) -> None:
    text = lock.read_text("utf-8")
    assert len(locked(lock)) == len(re.findall(r"^[a-z0-9].*==", text, re.MULTILINE))
    assert "://" not in text
    assert not re.search(r"--(extra-)?index|--find-links|--trusted-host|@ ", text)


def test_what_is_developed_against_is_what_is_shipped() -> None:
    core = {(p.name, p.version) for p in locked(RUNTIME)}
    shipped = {(p.name, p.version) for p in locked(SHIPPED)}
    assert core < shipped
    assert shipped <= {(p.name, p.version) for p in locked(DEVELOPMENT)}


def test_a_pin_without_a_hash_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text("some-package==1.0\n    # via wattline\n")
    with pytest.raises(ValueError, match="make lock"):
        locked(tmp_path / "lock.txt")


def test_everything_is_installed_with_its_hash() -> None:
    for name in ("Makefile", "Dockerfile"):
        for command in re.findall(r"pip install[^&\n]*", (ROOT / name).read_text("utf-8")):
            assert "--require-hashes" in command or "--no-deps" in command, f"{name}: {command}"
    assert "--require-hashes" in install.COMMAND


def test_the_demo_installs_no_test_tools() -> None:
    plan = subprocess.run(
        ["make", "--dry-run", "--always-make", "demo"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert re.findall(r"requirements[\w-]*\.txt", plan.stdout) == [
        "requirements.txt",
        "requirements-build.txt",
    ]


# -- an altered wheel --------------------------------------------------------------------------------


def _wheel(folder: Path, code: str) -> Path:
    """A wheel of one module, as pip wants it."""
    about = "wattline_probe-1.0.dist-info"
    files = {
        "wattline_probe.py": code,
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: wattline-probe\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        name: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        for name, text in files.items()
    }
    record = "".join(f"{name},sha256={digests[name]},{len(text)}\n" for name, text in files.items())
    path = folder / "wattline_probe-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in (*files.items(), (f"{about}/RECORD", record)):
            wheel.writestr(name, text)
    return path


def _install(folder: Path, lock: Path) -> subprocess.CompletedProcess[str]:
    """As the Makefile does it, but from a folder and into one."""
    command = [sys.executable, "-m", "pip", "--isolated", "install", "--disable-pip-version-check"]
    command += ["--require-hashes", "--no-index", "--find-links", str(folder), "--no-cache-dir"]
    command += ["--target", str(folder / "installed"), "--requirement", str(lock)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_altered_wheel_is_not_installed(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path, "VALUE = 1\n")
    lock = tmp_path / "lock.txt"
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock.write_text(f"wattline-probe==1.0 \\\n    --hash=sha256:{digest}\n")
    _wheel(tmp_path, "VALUE = 2\n")
    refused = _install(tmp_path, lock)
    assert refused.returncode == 1
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    assert not (tmp_path / "installed" / "wattline_probe.py").exists()
    _wheel(tmp_path, "VALUE = 1\n")
    lock.write_text(f"wattline-probe==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    assert _install(tmp_path, lock).returncode == 0, "the wheel itself is a good one"
    assert (tmp_path / "installed" / "wattline_probe.py").exists()


def test_installing_shows_how_far_it_is_and_fails_with_what_pip_says(tmp_path: Path) -> None:
    digest = hashlib.sha256(_wheel(tmp_path, "VALUE = 1\n").read_bytes()).hexdigest()
    good, missing = tmp_path / "good.txt", tmp_path / "missing.txt"
    good.write_text(f"wattline-probe==1.0 --hash=sha256:{digest}\n")
    missing.write_text(f"wattline-absent==1.0 --hash=sha256:{digest}\n")
    python = tmp_path / "venv" / "bin" / "python"
    venv.create(python.parents[1], with_pip=True)
    offline = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}

    def run(lock: Path) -> subprocess.CompletedProcess[str]:
        command = [python, "-m", "tools.install", lock]
        return subprocess.run(command, cwd=ROOT, env=offline, capture_output=True, text=True, check=False)

    done = run(good)
    assert done.returncode == 0, done.stderr
    assert "installing up to 1 packages" in done.stdout
    assert "  1 of 1\n" in done.stdout
    assert "unpacking" in done.stdout
    assert run(missing).returncode == 1
    assert "No matching distribution found for wattline-absent" in run(missing).stderr


# -- bill of materials -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bom() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sbom.document(locked(SHIPPED)))
    return found


def test_the_bill_lists_every_locked_package_with_version_and_hashes(bom: dict[str, Any]) -> None:
    text = SHIPPED.read_text("utf-8")
    named = re.findall(r"^([a-z0-9][\w.-]*)==([^\s;]+)", text, re.MULTILINE)
    assert sorted((c["name"], c["version"]) for c in bom["components"]) == sorted(named)
    hashes = [one["content"] for c in bom["components"] for one in c["hashes"]]
    assert sorted(hashes) == sorted(re.findall(r"--hash=sha256:([0-9a-f]{64})", text))
    assert all(c["purl"] == f"pkg:pypi/{c['name']}@{c['version']}" for c in bom["components"])


def test_the_bill_says_what_needs_what(bom: dict[str, Any]) -> None:
    needs = {d["ref"]: d.get("dependsOn", []) for d in bom["dependencies"]}
    assert any(ref.startswith("pkg:pypi/fastapi@") for ref in needs["wattline"])
    fastapi = next(ref for ref in needs if ref.startswith("pkg:pypi/fastapi@"))
    assert any(ref.startswith("pkg:pypi/starlette@") for ref in needs[fastapi])
    wanted = {ref for refs in needs.values() for ref in refs}
    assert wanted == {c["bom-ref"] for c in bom["components"]}, "nothing is there for no reason"


def test_the_bill_is_valid_and_names_neither_host_nor_path(bom: dict[str, Any]) -> None:
    text = sbom.document(locked(SHIPPED))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = {key: value for key, value in bom.items() if key != "$schema"}
    plain = json.dumps(bom)
    assert "://" not in plain
    assert str(ROOT) not in plain
    assert str(Path.home()) not in plain


def test_the_bill_says_the_same_wherever_and_whenever_it_is_made(bom: dict[str, Any]) -> None:
    assert sbom.runtime() == (ROOT / "deploy" / "sbom.json").read_text("utf-8")
    assert "timestamp" not in bom["metadata"]
    fewer = json.loads(sbom.document(locked(SHIPPED)[1:]))
    assert fewer["serialNumber"] != bom["serialNumber"]


def test_the_image_carries_the_bill() -> None:
    copied = re.findall(r"^COPY (deploy/\S+) (\S+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert ("deploy/sbom.json", "/usr/share/doc/wattline/sbom.json") in copied


def test_what_the_image_copies_is_given_to_its_build() -> None:
    given = set((ROOT / ".dockerignore").read_text("utf-8").splitlines())
    steps = re.findall(r"^COPY (?!--from)(.+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    sources = [source for step in steps for source in step.split()[:-1]]
    assert len(sources) > 8
    assert [s for s in sources if f"!{s}" not in given or not (ROOT / s).exists()] == []


# -- licences ----------------------------------------------------------------------------------------


def test_every_pin_has_an_accepted_licence_and_the_bill_says_it(bom: dict[str, Any]) -> None:
    pins = {(p.name, p.version) for lock in LOCKS for p in locked(lock)}
    found = licences.every_licence()
    assert {(p.name, p.version) for p in found} == pins
    assert {p.name for p in found if p.is_shipped} == {c["name"] for c in bom["components"]}
    assert all(c["licenses"] for c in bom["components"])


@pytest.mark.parametrize(
    ("expression", "accepted"),
    [
        ("MIT", True),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND Zlib", True),
        ("MIT AND GPL-3.0-only", False),
        ("AGPL-3.0-or-later", False),
        ("(MIT OR ISC) AND MIT", False),
        ("", False),
    ],
)
def test_an_expression_is_accepted_if_one_alternative_is(expression: str, accepted: bool) -> None:
    assert licences.is_accepted(expression) is accepted
    assert (licences.refusal("some-package", expression) is None) is accepted


def test_a_package_of_unknown_or_refused_licence_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(licences._LOOKED_UP, "numpy", "AGPL-3.0-only")
    monkeypatch.setitem(licences._LOOKED_UP, "pandas", "")
    with pytest.raises(ValueError, match=r"(?s)numpy: AGPL-3.0-only is not .*pandas: no known licence"):
        licences.every_licence()


def test_a_package_that_is_not_installed_has_no_licence_by_itself() -> None:
    assert licences.licence_of(Locked("wattline-absent", "1.0", "", (), ())) is None


# -- known flaws -------------------------------------------------------------------------------------


@contextmanager
def _database(known: dict[str, str]) -> Iterator[str]:
    """Answers as OSV does: `known` flaws by package."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = asked["package"]["name"]
            affected = [{"package": {"name": name, "ecosystem": "PyPI"}}]
            flaw = {"id": known.get(name), "summary": "a flaw", "affected": affected}
            body = json.dumps({"vulns": [flaw]} if name in known else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _audit(
    tmp_path: Path, database: str, *pins: str, digest: str = "0" * 64, take: bool = False
) -> subprocess.CompletedProcess[str]:
    lock = tmp_path / "lock.txt"
    lock.write_text("".join(f"{pin} --hash=sha256:{digest}\n" for pin in pins))
    command = [sys.executable, "-m", "tools.audit", "--lock", str(lock), "--database", database]
    command += ["--snapshot", str(tmp_path / "snapshot.json"), *(["--take"] if take else [])]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_a_known_flaw_fails_the_audit_and_is_named(tmp_path: Path) -> None:
    with _database({"jinja2": "CVE-2014-1402", "numpy": "CVE-2099-1"}) as url:
        elsewhere = "numpy==2.5.5 ; python_full_version >= '3.99'"
        done = _audit(tmp_path, url, "numpy==2.4.6", elsewhere, "httpx==0.28.1")
    assert done.returncode == audit.FLAWS, done.stdout + done.stderr
    assert "numpy 2.4.6: CVE-2099-1" in done.stdout
    assert "numpy 2.5.5: CVE-2099-1" in done.stdout, "pins for other Pythons are asked for too"
    assert "pins checked: 3, known flaws: 2" in done.stdout


def test_without_known_flaws_the_audit_passes(tmp_path: Path) -> None:
    with _database({"jinja2": "CVE-2014-1402"}) as url:
        done = _audit(tmp_path, url, "httpx==0.28.1")
    assert done.returncode == audit.CLEAN, done.stdout + done.stderr
    assert "pins checked: 1, known flaws: 0" in done.stdout


def test_a_database_that_knows_nothing_is_not_believed(tmp_path: Path) -> None:
    with _database({}) as url:
        done = _audit(tmp_path, url, "httpx==0.28.1")
    assert done.returncode == audit.NOT_CHECKED
    assert done.stdout.startswith("NOT CHECKED: ")
    assert "jinja2 2.4.1" in done.stdout


def test_a_database_that_is_away_is_not_a_pass(tmp_path: Path) -> None:
    with _database({}) as url:
        pass
    done = _audit(tmp_path, url, "httpx==0.28.1")
    assert done.returncode == audit.NOT_CHECKED
    assert done.stdout.startswith("NOT CHECKED: ")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `make audit-snapshot` writes: of two pins, one with a flaw."""
    folder = tmp_path_factory.mktemp("snapshot")
    with _database({"jinja2": "CVE-2014-1402", "numpy": "CVE-2099-1"}) as url:
        done = _audit(folder, url, "numpy==2.4.6", "httpx==0.28.1", take=True)
    assert done.returncode == audit.FLAWS, done.stdout + done.stderr
    taken: dict[str, Any] = json.loads((folder / "snapshot.json").read_text())
    assert taken["pins"] == [["httpx", "0.28.1"], ["numpy", "2.4.6"]]
    return taken


def _kept(tmp_path: Path, document: object, *pins: audit.Pin) -> list[str]:
    file = tmp_path / "snapshot.json"
    file.write_text(json.dumps(document))
    return [str(flaw) for flaw in audit.kept(pins, file, datetime.now(UTC))[1]]


def test_a_snapshot_answers_where_the_database_is_away(tmp_path: Path, snapshot: dict[str, Any]) -> None:
    with _database({}) as away:
        pass
    (tmp_path / "snapshot.json").write_text(json.dumps(snapshot))
    clean, flawed = (_audit(tmp_path, away, pin) for pin in ("httpx==0.28.1", "numpy==2.4.6"))
    assert (clean.returncode, flawed.returncode) == (audit.CLEAN, audit.FLAWS)
    for done in (clean, flawed):
        assert "from the snapshot of" in done.stdout
        assert "0 days old" in done.stdout
    assert "numpy 2.4.6: CVE-2099-1" in flawed.stdout
    uncovered = _audit(tmp_path, away, "httpx==0.28.2")
    assert uncovered.returncode == audit.NOT_CHECKED
    assert "no answer about httpx 0.28.2" in uncovered.stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"taken_at": "2026-01-01T00:00:00+00:00"}, "days old"),
        ({"taken_at": "2999-01-01T00:00:00+00:00"}, "in the future"),
        ({"taken_at": "2026-01-01"}, "damaged"),
        ({"control": []}, "knew no flaw"),
        ({"pins": [["numpy", "2.4.6"]]}, "no answer about httpx 0.28.1"),
        ({"flaws": 5}, "damaged"),
    ],
)
def test_a_snapshot_that_is_old_or_odd_is_not_believed(
    tmp_path: Path, snapshot: dict[str, Any], change: dict[str, object], said: str
) -> None:
    httpx_pin = ("httpx", "0.28.1")
    assert _kept(tmp_path, snapshot, httpx_pin) == []
    with pytest.raises(audit.NotChecked, match=said):
        _kept(tmp_path, snapshot | change, httpx_pin)


def test_no_snapshot_is_written_of_a_database_that_knows_nothing(tmp_path: Path) -> None:
    with _database({}) as url:
        done = _audit(tmp_path, url, "httpx==0.28.1", take=True)
    assert done.returncode == audit.NOT_CHECKED
    assert not (tmp_path / "snapshot.json").exists()


# -- container ---------------------------------------------------------------------------------------


def test_the_image_runs_as_nobody_special_and_writes_nowhere_of_its_own() -> None:
    """Read-only roots, dropped capabilities and pinned images of all services: see tests/grafana."""
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    stages = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    pinned = re.compile(r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?")
    assert all(pinned.fullmatch(stage) for stage in stages), "a whole version; a digest may follow"
    assert not pinned.fullmatch("python:latest")
    last = dockerfile.rpartition("\nFROM ")[2]
    users = re.findall(r"^USER (\S+)", last, re.MULTILINE)
    assert users
    assert all(int(user) > 0 for user in users), "by number, so that the host can tell it is not root"
    after = last.partition("\nUSER ")[2]
    assert "\nRUN " not in after, "nothing of the program belongs to the user that runs it"
    assert re.findall(r"^VOLUME (\S+)", last, re.MULTILINE) == ["/data"]
    assert "PYTHONDONTWRITEBYTECODE=1" in last
    assert not re.search(r"(PASSWORD|TOKEN|SECRET|KEY)\w*(?<!_FILE)=", dockerfile)


# -- digests of images -------------------------------------------------------------------------------


def an_image(folder: Path) -> Path:
    """An image of nothing, as skopeo copies it from a folder."""
    layer = gzip.compress(b"\0" * 1024, mtime=0)
    plain = hashlib.sha256(b"\0" * 1024).hexdigest()
    settings = {"architecture": "amd64", "os": "linux", "config": {}}
    described = json.dumps(
        {**settings, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{plain}"]}}
    ).encode()
    parts = []
    for content, kind in (
        (described, "application/vnd.oci.image.config.v1+json"),
        (layer, "application/vnd.oci.image.layer.v1.tar+gzip"),
    ):
        digest = hashlib.sha256(content).hexdigest()
        (folder / digest).write_bytes(content)
        parts.append({"mediaType": kind, "size": len(content), "digest": f"sha256:{digest}"})
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "config": parts[0], "layers": parts[1:]}))
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry of images on loopback that has one."""
    program, skopeo = need_program("docker-registry"), need_program("skopeo")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    file = tmp_path / "registry.yml"
    file.write_text(
        f"version: 0.1\nhttp: {{addr: '{address}'}}\nlog: {{level: error}}\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path}/images}}}}\n"
    )
    image = tmp_path / "image"
    image.mkdir()
    running = subprocess.Popen([program, "serve", file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    copy = [skopeo, "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", f"dir:{an_image(image)}"]
    try:
        until(
            lambda: (
                subprocess.run([*copy, f"docker://{address}/base:1.2.3"], capture_output=True).returncode == 0
            ),
            name="a registry that takes an image",
        )
        yield address
    finally:
        running.terminate()
        running.wait(30)


def _digests(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.digests", "--plain-http", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_images_are_pinned_by_the_digest_that_their_registry_names(registry: str, tmp_path: Path) -> None:
    wanted = hashlib.sha256((tmp_path / "image" / "manifest.json").read_bytes()).hexdigest()
    container, composed = tmp_path / "Dockerfile", tmp_path / "compose.yaml"
    container.write_text(f"FROM {registry}/base:1.2.3@sha256:{'0' * 64} AS build\nRUN true\n")
    composed.write_text(
        f"services:\n  a:\n    image: {registry}/base:1.2.3\n  b:\n    image: wattline:0.1.0\n"
    )
    done = _digests(container, composed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert container.read_text() == f"FROM {registry}/base:1.2.3@sha256:{wanted} AS build\nRUN true\n"
    assert composed.read_text().count(f"@sha256:{wanted}\n") == 1
    assert "image: wattline:0.1.0\n" in composed.read_text()


def test_nothing_is_written_where_one_image_is_not_known(registry: str, tmp_path: Path) -> None:
    container = tmp_path / "Dockerfile"
    before = f"FROM {registry}/base:1.2.3\nFROM {registry}/other:1.2.3\n"
    container.write_text(before)
    done = _digests(container)
    assert (done.returncode, done.stdout.startswith("NOT PINNED: ")) == (3, True), done.stdout
    assert container.read_text() == before
