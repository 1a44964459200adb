"""The engine with the image, for all tests of containers."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.containers.engine import IMAGE, Engine, NotPossible, built, engine, machine, ready, runs


@pytest.fixture(scope="session")
def podman() -> Iterator[Engine]:
    """The engine with the image, which ``python -m tests.containers`` may have built just before.

    Where containers cannot run for a cause that lies in the machine, the tests are skipped, unless
    ``WATTLINE_CONTAINERS`` is 1.
    """
    try:
        with engine() as found:
            _have_image(found)
            yield found
            found.podman("container", "rm", "--all", "--force", "--time=0")
            found.podman("volume", "rm", "--all", "--force")
            if not os.environ.get("WATTLINE_CONTAINERS_KEEP"):  # while writing tests
                found.podman("image", "rm", "--force", IMAGE)
                found.podman("image", "prune", "--force")
    except NotPossible as why:
        if os.environ["WATTLINE_CONTAINERS"] == "1":
            raise
        pytest.skip(f"container tests are skipped: {why}")


def _have_image(found: Engine) -> None:
    if not os.environ.get("WATTLINE_CONTAINERS_BUILT"):
        ready(found)
        built(found)
        return
    with machine(f"{IMAGE} was built and is not there; does another run use the same folder?"):
        assert found.has(IMAGE)
    runs(found)
