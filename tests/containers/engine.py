"""Podman and Buildah as this machine has them: storage of their own, no registry, as root.

The base image is made with debootstrap from the packages that apt fetches here, and has the name that the
Dockerfile asks for.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
ROOM_BYTES = 5 << 30
"""What base, build and image take at most at once."""
LOOK_S = 60.0
"""How long a look at what is there may take."""
MACHINE = (
    ("no room on the disk", r"no space left on device|disk quota exceeded"),
    ("no memory", r"cannot allocate memory|out of memory|signal: killed|exit status 137"),
    (
        "packages cannot be fetched",
        r"could not resolve|temporary failure (in name resolution|resolving)|name or service not known"
        r"|network is unreachable|no route to host|connection (refused|reset|timed out|broken)|timed out"
        r"|failed to establish a new connection|no matching distribution found|http error [45]\d\d"
        r"|unable to connect to|proxyerror"
        r"|failed to fetch|certificate_verify_failed|ssl: |hash sum mismatch|incompleteread"
        r"|\b(407|429|502|503|504)\b .*(proxy|too many|gateway|unavailable|timeout)",
    ),
    (
        "this machine does not allow containers",
        r"operation not permitted|unshare|newuidmap"
        r"|(mount|mounting|pivot_root|clone|setns)\b.*(permission|denied|invalid)"
        r"|cgroup|seccomp|no such device|oci runtime error.*(mount|namespace)",
    ),
)
"""Causes that lie in the machine, and how programs say them."""
LAST_WORDS = 25
"""How many lines at the end say why a program failed; before them are attempts that were repeated."""


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
            ["podman", "image", "exists", image],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=LOOK_S,
        )
        assert done.returncode in (0, 1), done.stderr
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

    def build(self, tag: str, file: Path = ROOT / "Dockerfile") -> None:
        """The image of the Dockerfile as it stands."""
        volumes = [f"--volume={path}:{path}:ro" for path in TRUSTED if Path(path).exists()]
        options = ("--isolation=chroot", "--network=host", "--pull-never", "--layers=false")
        self.run("buildah", "bud", *options, *volumes, "-f", file, "-t", tag, ".")

    def builds_anything(self) -> None:
        """Build something that does on a small scale what the Dockerfile does, and has no fault.

        Raises
        ------
        AssertionError
            If even that fails; then it is no fault of the Dockerfile.
        """
        file = self.folder / "Control"
        file.write_text(CONTROL, "utf-8")
        tag = "localhost/control"
        self.build(tag, file)
        self.podman("image", "rm", "--force", tag)


CONTROL = f"""
FROM {BASE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends binutils && python -m venv /opt/control
COPY requirements-build.txt ./
RUN /opt/control/bin/pip install --no-cache-dir --require-hashes -r requirements-build.txt
FROM {BASE}
RUN useradd --system --uid 10001 control && install -d -o control -g control /data
COPY --from=build /opt/control /opt/control
USER 10001
"""


def cause_in_the_machine(said: str) -> str:
    """What of the machine made a program fail, by what it said at its end; empty where it does not say so."""
    for line in reversed(said.splitlines()[-LAST_WORDS:]):
        for cause, pattern in MACHINE:
            if re.search(pattern, line, re.IGNORECASE):
                return f"{cause}: {line.strip()[-300:]}"
    return ""


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
    try:
        said = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=LOOK_S).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise LookupError(f"apt does not say where packages are: {error}") from None
    lines = said.split("\n")
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
        with machine("the folder of the containers cannot be used"):
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


_NOT_OURS = (
    AssertionError,
    LookupError,
    OSError,
    subprocess.SubprocessError,
    http.client.HTTPException,
)


@contextmanager
def machine(what: str) -> Iterator[None]:
    """Whatever fails in the block fails for a cause that lies in the machine.

    Raises
    ------
    NotPossible
        If anything does.
    """
    try:
        yield
    except (
        AssertionError,
        LookupError,
        OSError,
        subprocess.SubprocessError,
        http.client.HTTPException,
    ) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise NotPossible(f"{what}: {' '.join(str(said).split())[-300:]}") from None


@contextmanager
def _folder() -> Iterator[Path]:
    shared = Path(
        os.environ.get("WATTLINE_CONTAINERS_DIR") or Path(tempfile.gettempdir()) / "wattline-containers"
    )
    with ExitStack() as stack:
        with machine("the folder of the containers cannot be used"):
            shared.mkdir(exist_ok=True)
            mark = stack.enter_context((shared / "in-use").open("w"))
            try:
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
                folder = shared
            except BlockingIOError:
                own = tempfile.TemporaryDirectory(prefix=f"{shared.name}-", dir=shared.parent)
                folder = Path(stack.enter_context(own))
        yield folder


def ready(found: Engine) -> None:
    """Have the base, and see that a container of it runs as those of the tests will.

    Raises
    ------
    NotPossible
        If the packages for it, or those of the image, cannot be fetched, or nothing runs.
    """
    room(found)
    with machine("this machine allows no mounts"), tempfile.TemporaryDirectory() as place:
        for command in (["mount", "-t", "tmpfs", "tmpfs", place], ["umount", place]):
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=LOOK_S)
    with machine(f"no base of Debian {SUITE} can be made"):
        if not found.has(BASE):
            address = mirror(SUITE)
            urllib.request.urlopen(f"{address}/dists/{SUITE}/Release", timeout=REACHED_S).close()
            found.make_base()
    runs(found)


def room(found: Engine) -> None:
    """See that the disk has room.

    Raises
    ------
    NotPossible
        If it has not.
    """
    free = shutil.disk_usage(found.folder).free
    if free < ROOM_BYTES:
        raise NotPossible(
            f"{found.folder} has {free / 1e9:.1f} GB free, {ROOM_BYTES / 1e9:.1f} GB are needed"
        )


def runs(found: Engine) -> None:
    """See that the base alone runs as the tests run the image: then what fails later is not the machine's.

    Raises
    ------
    NotPossible
        If it does not.
    """
    name = "control"
    with machine("no container runs on this machine"):
        found.podman("rm", "--force", "--ignore", name)
        options = ("--detach", f"--name={name}", "--network=host", "--volume=control:/data", *HARDENED)
        found.podman("run", *options, BASE, "sleep", "60")
        said = found.podman("exec", name, "cat", "/proc/1/status")
        assert "NoNewPrivs:\t1" in said, "a container has no /proc"
        found.podman("rm", "--force", "--time=0", name)
        found.podman("volume", "rm", "--force", name)


def built(found: Engine) -> None:
    """Build the image.

    Raises
    ------
    NotPossible
        If that fails for a cause that lies in the machine.
    AssertionError
        If the Dockerfile, or what it copies, is at fault.
    """
    try:
        found.build(IMAGE)
    except AssertionError as error:
        cause = cause_in_the_machine(str(error))
        if not cause:
            with machine("not even a small image without a fault can be built"):
                found.builds_anything()
            raise
        sys.stdout.write(f"{error}\n{cause}\nonce more, if packages can be fetched\n")
        fetchable()
        _built_at_last(found)


def _built_at_last(found: Engine) -> None:
    try:
        found.build(IMAGE)
    except AssertionError as error:
        cause = cause_in_the_machine(str(error))
        if cause:
            raise NotPossible(cause) from None
        raise


def fetchable() -> None:
    """See that pip reaches its packages as the build will: without this user's settings.

    Raises
    ------
    NotPossible
        If it does not.
    """
    with machine("pip reaches no packages"), tempfile.TemporaryDirectory() as folder:
        asked = ("download", "--quiet", "--no-cache-dir", "--no-deps", "--require-hashes", "--dest", folder)
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--isolated", *asked, "-r", ROOT / "requirements-build.txt"],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr


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
