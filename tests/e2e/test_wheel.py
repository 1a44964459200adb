"""The product from its wheel, in an environment of its own and outside of the repository.

The wheel is built from the source distribution, as ``python -m build`` does. Tests have no network, so the
packages of ``requirements.txt`` are taken over from this environment: each at its pinned version, no other.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import distribution
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from packaging.markers import Marker

import wattline
from app import __version__
from tests.e2e.processes import running
from tests.paper import pages_of
from tests.waiting import until
from tools.locked import ROOT, RUNTIME, locked

_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "node_modules", "build", "dist", "*.egg-info")


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @property
    def packages(self) -> Path:
        """Where its packages are."""
        return next((self.folder / "lib").glob("python*")) / "site-packages"

    def install(self, *wheels: Path) -> None:
        """Install wheels, without what they need."""
        python = self.folder / "bin" / "python"
        command = [sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps"]
        subprocess.run([*command, "--disable-pip-version-check", "--quiet", *wheels], check=True)

    def take_over(self, name: str) -> None:
        """Link every file of a package of this environment."""
        for file in distribution(name).files or ():
            if ".." not in file.parts:  # programs in bin/
                target = self.packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(Path(str(file.locate())), target)

    def wattline(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """``wattline WORDS...``, from a folder that is not the repository."""
        return subprocess.run(
            [self.folder / "bin" / "wattline", *words],
            cwd=self.folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _environment(folder: Path) -> Environment:
    venv.create(folder, symlinks=True)
    return Environment(folder)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that the user who runs the database may enter."""
    with tempfile.TemporaryDirectory(prefix="wattline-wheel-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    """The wheel, from a copy of the repository that no earlier build has touched."""
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=_LEFT_OUT)
    command = [sys.executable, "-m", "uv", "build", "--offline", "--quiet", "--no-build-isolation"]
    subprocess.run([*command, "--python", sys.executable, "-o", folder / "dist", source], check=True)
    assert [path.name for path in (folder / "dist").glob("*.tar.gz")] == [f"wattline-{__version__}.tar.gz"]
    return next((folder / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def installed(folder: Path, wheel: Path) -> Environment:
    """The wheel with the packages of requirements.txt."""
    environment = _environment(folder / "environment")
    for pin in locked(RUNTIME):
        if not pin.marker or Marker(pin.marker).evaluate():
            assert distribution(pin.name).version == pin.version
            environment.take_over(pin.name)
    environment.install(wheel)
    return environment


def test_the_wheel_has_every_file_of_the_product_and_no_other(wheel: Path) -> None:
    expected = {
        str(file.relative_to(ROOT))
        for package in wattline.PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
    about = {name for name in found if name.startswith(f"wattline-{__version__}.dist-info/")}
    assert found - about == expected | {"wattline.py"}
    endings = {name.rpartition(".")[2] for name in expected}
    assert {"json", "typ", "html", "yaml", "css", "svg", "mako", "txt"} <= endings


def test_it_needs_nothing_that_is_not_pinned(installed: Environment) -> None:
    python = installed.folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", python, "check", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "No broken requirements found.\n")
    assert not (installed.packages / "pytest").exists()
    code = (
        "import app.api.app, app.cli.commands, grafana, importlib.metadata as m; print(m.version('wattline'))"
    )
    done = subprocess.run(
        [python, "-c", code], cwd=installed.folder, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{__version__}\n"


def test_it_says_its_version_and_helps_from_anywhere(installed: Environment) -> None:
    assert installed.wattline("--version").stdout == f"wattline {__version__}\n"
    assert "Usage: wattline pue" in installed.wattline("pue", "--help").stdout
    assert "--install-completion" in installed.wattline("--help").stdout
    (installed.folder / "migrations").mkdir()
    beside = installed.wattline("--version", PYTHONPATH=str(installed.folder))
    assert (beside.returncode, beside.stderr) == (0, ""), "a folder without code is no clash"


@pytest.mark.timeout(600)
def test_the_demo_runs_and_reports_in_chinese(installed: Environment, folder: Path) -> None:
    home, pdf = folder / "home", folder / "report.pdf"
    home.mkdir()
    environment = {"WATTLINE_DATA_DIR": str(home), "WATTLINE_DEMO_DAYS": "3"}
    program = installed.folder / "bin" / "wattline"
    arguments = ["demo", "--no-browser", "--port", "0"]
    with running(arguments, environment, home, program=program, cwd=installed.folder) as demo:
        demo.until_status("/healthz", 200)
        assert demo.json_of("/healthz") == {"status": "ok", "version": __version__}
        assert {site["id"] for site in demo.json_of("/api/v1/sites")["sites"]} == {"sh1", "nb1"}
        until(lambda: "history is loaded" in demo.log.read_text(), 240, "the whole history")
        assert demo.get("/").status_code == 200
        yesterday = datetime.now(ZoneInfo("Asia/Shanghai")) - timedelta(days=1)
        done = installed.wattline(
            *("report", "sh1", f"{yesterday:%Y-%m}", "--revision", "0", "--lang", "zh", "-o", str(pdf)),
            WATTLINE_DATA_DIR=str(home / "demo"),
        )
        assert done.returncode == 0, done.stderr
        assert demo.stop() == 0
    text = "".join(pages_of(pdf.read_bytes()))
    assert "月度报告" in text
    assert "上海数据中心" in text


# -- another distribution with a package of our name ---------------------------------------------------


def _foreign(folder: Path) -> Path:
    """A wheel of another distribution that brings a package ``app``."""
    about = "some_shop-1.0.dist-info"
    files = {
        "app/__init__.py": "raise SystemExit('the wrong one ran')\n",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: some-shop\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/top_level.txt": "app\n",
    }
    path = folder / "some_shop-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{about}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"]))
    return path


def test_a_package_installed_over_ours_is_named(folder: Path, wheel: Path) -> None:
    environment = _environment(folder / "shared")
    environment.install(wheel)
    assert environment.wattline("--version").returncode == 0
    environment.install(_foreign(folder))
    done = environment.wattline("--version")
    assert done.returncode == 1
    assert "was replaced by that of some-shop" in done.stderr
    assert "pipx install wattline" in done.stderr
    python = environment.folder / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "uninstall", "-qy", "some-shop"], check=True
    )
    done = environment.wattline("--version")
    assert done.returncode == 1
    assert "The package `app` is missing" in done.stderr, "what the removal of the other one took along"
    assert "Traceback" not in done.stderr


def test_a_file_that_was_replaced_is_named(installed: Environment) -> None:
    file = installed.packages / "app" / "errors.py"
    ours = file.read_text()
    file.write_text("")
    try:
        done = installed.wattline("pue", "sh1")
    finally:
        file.write_text(ours)
    assert done.returncode == 1
    assert "files of this installation are missing or were replaced" in done.stderr
    assert "app.errors" in done.stderr
    assert "Traceback" not in done.stderr
