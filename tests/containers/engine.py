"""Podman and Buildah as this machine has them: storage of their own, no registry, as root.

The base image is made with debootstrap from the packages that apt fetches here, and has the name that the
Dockerfile asks for.
"""

from __future__ import annotations

import fcntl
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app import __version__
from tests.programs import ProgramMissing, find_program

ROOT = Path(__file__).parents[2]
BASE = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)[0]
SUITE = BASE.rpartition("-")[2]
"""Name of the Debian release in the base's tag."""
PACKAGES = "python3,python3-venv,ca-certificates,binutils"
"""The build installs binutils itself; that they are there saves it the time."""
PROGRAMS = ("podman", "buildah", "debootstrap", "runc", "podman-compose")
REACHED_S = 20
"""How long a server of packages may take to answer."""
IMAGE = f"localhost/wattline:{__version__}"
USER = "10001:10001"
HARDENED = (
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--tmpfs=/tmp",
    f"--user={USER}",
)
"""As in compose.yaml."""
TRUSTED = ("/etc/ssl/certs", "/etc/pip.conf", "/etc/xdg/pip")
"""What this machine fetches packages with; mounted while the image is built, and not in it."""


MOST_OF_EACH = 16_384
"""Files and processes of a container."""


@dataclass(frozen=True)
class Engine:
    """Runs Podman and Buildah on a storage of their own."""

    folder: Path
    environment: dict[str, str]

    def run(self, program: str, *arguments: str | Path, timeout_s: float = 1500, check: bool = True) -> str:
        """What a program says on standard output.

        Raises
        ------
        AssertionError
            If it fails; with what it said.
        """
        done = subprocess.run(
            [program, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=self.environment,
            cwd=ROOT,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout if check else done.stdout + done.stderr

    def podman(self, *arguments: str | Path, check: bool = True) -> str:
        """What ``podman ARGUMENTS`` says."""
        return self.run("podman", *arguments, check=check)

    def has(self, image: str) -> bool:
        """Whether an image is in the storage."""
        done = subprocess.run(
            ["podman", "image", "exists", image], env=self.environment, capture_output=True, check=False
        )
        return done.returncode == 0

    def make_base(self) -> None:
        """A base image of the Dockerfile's name."""
        root = self.folder / "base"
        _removed(root)
        options = ("--variant=minbase", f"--include={PACKAGES}")
        try:
            self.run("debootstrap", *options, SUITE, root, mirror(SUITE), timeout_s=900)
        except BaseException:
            _removed(root)
            raise
        (root / "usr/bin/python").symlink_to("python3")
        for rubbish in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
            shutil.rmtree(root / rubbish, ignore_errors=True)
        archive = self.folder / "base.tar"
        self.run("tar", "-C", root, "-cf", archive, ".")
        self.podman("import", archive, f"docker.io/library/{BASE}")
        shutil.rmtree(root)
        archive.unlink()

    def build(self, tag: str) -> None:
        """The image of the Dockerfile as it stands."""
        volumes = [f"--volume={path}:{path}:ro" for path in TRUSTED if Path(path).exists()]
        options = ("--isolation=chroot", "--network=host", "--pull-never", "--layers=false")
        self.run("buildah", "bud", *options, *volumes, "-t", tag, ".")


def _removed(root: Path) -> None:
    """Remove what debootstrap made; one that was ended leaves its /proc mounted."""
    subprocess.run(["umount", "--recursive", root / "proc"], capture_output=True, check=False)
    if not (root / "proc/self").exists():
        shutil.rmtree(root, ignore_errors=True)


def mirror(suite: str) -> str:
    """Where apt fetches the packages of a release from.

    Raises
    ------
    LookupError
        If apt knows no such release.
    """
    asked = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)"]
    lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split("\n")
    for site, release, component in (line.split() for line in lines if line.count(" ") == 2):
        if (release, component) == (suite, "main"):
            return site
    raise LookupError(f"apt has no source of {suite}")


class NotPossible(Exception):
    """Containers cannot be built or run here; the text says why."""


@contextmanager
def engine() -> Iterator[Engine]:
    """An engine in a folder that stays, so that the next run need not make the base again.

    Where another run has that folder, it is one of this run's own, which goes at the end.

    Raises
    ------
    NotPossible
        If a program is missing, or this is not root.
    """
    for program in PROGRAMS:
        try:
            find_program(program)
        except ProgramMissing as missing:
            raise NotPossible(str(missing)) from None
    if os.geteuid() != 0:
        raise NotPossible("containers are built as root here")
    with _folder() as folder:
        for name, text in _configuration(folder).items():
            (folder / name).write_text(text, "utf-8")
        yield Engine(
            folder,
            {
                **os.environ,
                "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
                "CONTAINERS_CONF": str(folder / "containers.conf"),
            },
        )


@contextmanager
def _folder() -> Iterator[Path]:
    shared = Path(
        os.environ.get("WATTLINE_CONTAINERS_DIR") or Path(tempfile.gettempdir()) / "wattline-containers"
    )
    shared.mkdir(exist_ok=True)
    with (shared / "in-use").open("w") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with tempfile.TemporaryDirectory(prefix=f"{shared.name}-", dir=shared.parent) as own:
                yield Path(own)
        else:
            yield shared


def ready(found: Engine) -> None:
    """Have the base, and see that a container of it runs.

    Raises
    ------
    NotPossible
        If the packages for it, or those of the image, cannot be fetched, or nothing runs.
    """
    if not found.has(BASE):
        try:
            address = mirror(SUITE)
            urllib.request.urlopen(f"{address}/dists/{SUITE}/Release", timeout=REACHED_S).close()
        except (LookupError, OSError) as error:
            raise NotPossible(f"no packages of Debian {SUITE} for the base: {error}") from None
        found.make_base()
    said = found.podman("run", "--rm", "--network=host", BASE, "echo", "it runs", check=False)
    if "it runs" not in said:
        raise NotPossible(f"no container runs on this machine: {said.strip()[-300:]}")


def fetchable() -> None:
    """See that pip reaches its packages as the build will: without this user's settings.

    Raises
    ------
    NotPossible
        If it does not.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked = ("download", "--quiet", "--no-cache-dir", "--no-deps", "--require-hashes", "--dest", folder)
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--isolated", *asked, "-r", ROOT / "requirements-build.txt"],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    if done.returncode != 0:
        raise NotPossible(f"pip reaches no packages: {done.stderr.strip()[-300:]}")


def _configuration(folder: Path) -> dict[str, str]:
    storage = (
        f'[storage]\ndriver = "{_driver(folder)}"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    )
    # Without the right to raise limits the defaults of the programs cannot be set.
    limits = (
        f"{name}={most}:{most}"
        for name, number in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC))
        for hard in [resource.getrlimit(number)[1]]
        for most in [MOST_OF_EACH if hard < 0 else min(hard, MOST_OF_EACH)]
    )
    ulimits = ", ".join(f'"{limit}"' for limit in limits)
    containers = (
        f"[containers]\ndefault_ulimits = [{ulimits}]\n"
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        f'lock_type = "file"\ntmp_dir = "{folder}/tmp"\n'
    )
    return {"storage.conf": storage, "containers.conf": containers}


def _driver(folder: Path) -> str:
    """Overlay where the kernel lets us, else whole copies."""
    places = [folder / "probe" / name for name in ("lower", "upper", "work", "merged")]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    lower, upper, work, merged = places
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    mounted = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, merged], capture_output=True, check=False
    )
    if mounted.returncode == 0:
        subprocess.run(["umount", merged], check=True)
    shutil.rmtree(folder / "probe", ignore_errors=True)
    return "overlay" if mounted.returncode == 0 else "vfs"
