"""Of a build that failed: is the machine the reason, or the Dockerfile? Podman is not needed here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from tests.containers import engine
from tests.containers.engine import Engine, NotPossible, built, cause_in_the_machine


@pytest.mark.parametrize(
    "said",
    [
        "Error: writing blob: storing blob to file: write /var/tmp/x: no space left on device",
        "W: Failed to fetch http://deb.example/InRelease  Temporary failure resolving 'deb.example'",
        "ERROR: Could not install packages: Max retries exceeded with url: /x (Caused by NewConnectionError("
        "'...: Failed to establish a new connection: [Errno 111] ...'))",
        "ERROR: No matching distribution found for numpy==2.3.0",
        "error mounting new container: mount overlay: operation not permitted",
        "Error: mount /proc to proc, flags: 0xe: permission denied",
        "unshare: unshare failed: Operation not permitted",
        'Error: building at STEP "RUN pip": exit status 137',
        'OCI runtime error: runc: unable to start container process: error mounting "proc"',
    ],
)
def test_what_lies_in_the_machine_is_recognised(said: str) -> None:
    assert cause_in_the_machine(f"STEP 3/9: RUN something\n{said}\nError: exit status 1")


@pytest.mark.parametrize(
    "said",
    [
        'Error: building at STEP "COPY nothing ./": copier: stat: "/nothing": no such file or directory',
        "ModuleNotFoundError: No module named 'app.nothing'\nError: building at STEP: exit status 1",
        "E: Unable to locate package binutilz\nError: building at STEP: exit status 100",
        "WARNING: Retrying after connection broken by 'ReadTimeoutError'\n"
        + "Collecting x\n" * 40
        + "exit status 1",
    ],
)
def test_what_lies_in_the_dockerfile_is_not_put_down_to_the_machine(said: str) -> None:
    assert cause_in_the_machine(said) == ""


@dataclass
class Failing:
    """Fails to build, each time as it is told; can, or cannot, build anything else."""

    failures: list[str]
    builds_others: bool = True
    tags: list[str] = field(default_factory=list)

    def build(self, tag: str) -> None:
        self.tags.append(tag)
        if self.failures:
            raise AssertionError(self.failures.pop(0))

    def builds_anything(self) -> None:
        assert self.builds_others, "chroot: not this one either"


def outcome(found: Failing) -> str:
    try:
        built(cast("Engine", found))
    except NotPossible as why:
        return f"skipped: {why}"
    except AssertionError as why:
        return f"fault: {why}"
    return "built"


def test_only_a_fault_of_the_dockerfile_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "fetchable", lambda: None)
    line, disk, ours = "connection timed out", "no space left on device", "No module named x"
    assert outcome(Failing([])) == "built"
    assert outcome(Failing([ours])) == f"fault: {ours}"
    assert outcome(Failing([ours], builds_others=False)).startswith("skipped: not even")
    assert outcome(Failing([line])) == "built", "a line that failed once"
    assert outcome(Failing([line, line])).startswith("skipped: packages cannot be fetched")
    assert outcome(Failing([disk, disk])).startswith("skipped: no room")
    assert outcome(Failing([line, ours])) == f"fault: {ours}"
