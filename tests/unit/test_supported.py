"""Which servers are supported, refused, warned of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.store import supported
from app.store.supported import Server

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("server", "says"),
    [
        (Server((14, 9)), "PostgreSQL 14.9 is too old; 15 to 18 are supported"),
        (Server((17, 2), (2, 21, 3)), "TimescaleDB 2.21.3 is too old; 2.22 to 2.29 .* ALTER EXTENSION"),
    ],
)
def test_an_older_server_is_refused_with_the_remedy(server: Server, says: str) -> None:
    assert re.match(says, server.problem or "")


@pytest.mark.parametrize(
    ("server", "says"),
    [
        (Server((19, 0)), ["PostgreSQL 19.0 is newer"]),
        (Server((18, 4), (2, 32, 0)), ["TimescaleDB 2.32.0 is newer"]),
        (
            Server((18, 7), (2, 29, 2)),
            ["every job of TimescaleDB 2.29.2.* fails on PostgreSQL 18.7"],
        ),
        (Server((15, 20), (2, 22, 1)), ["every job of TimescaleDB 2.22.1"]),
        (Server((17, 12), (2, 28, 3)), ["every job .* 2.28.4"]),
        (Server((16, 17), (2, 32, 0)), ["newer", "every job"]),
    ],
)
def test_what_is_not_tested_or_known_to_fail_is_warned_of(server: Server, says: list[str]) -> None:
    assert server.problem is None
    assert len(server.warnings) == len(says)
    assert all(re.search(want, said) for want, said in zip(says, server.warnings, strict=True))


@pytest.mark.parametrize(
    "server",
    [
        Server((15, 18), (2, 22, 1)),
        Server((18, 6), (2, 29, 2)),
        Server((18, 7), (2, 28, 4)),
        Server((15, 20), (2, 27, 3)),
        Server((18, 7)),
    ],
)
def test_a_tested_pair_is_neither(server: Server) -> None:
    assert (server.problem, server.warnings) == (None, ())


def test_a_mended_release_newer_than_any_tested_is_only_called_newer() -> None:
    for version in ((2, 31, 2), (2, 32, 1), (2, 33, 0)):
        assert [w for w in Server((18, 7), version).warnings if "job" in w] == []


def test_compose_pins_a_pair_of_the_table() -> None:
    image = re.search(r"timescale/timescaledb:(\d+\.\d+)\.\d+-pg(\d+)", (ROOT / "compose.yaml").read_text())
    assert image is not None
    assert int(image[2]) in supported.TIMESCALEDB[supported.parse(image[1])[:2]]


@pytest.mark.parametrize(
    ("text", "version"),
    [("2.29.2", (2, 29, 2)), ("2.30.0-dev", (2, 30, 0)), ("2.22", (2, 22, 0)), ("?", (0, 0, 0))],
)
def test_versions_are_read(text: str, version: tuple[int, int, int]) -> None:
    assert supported.parse(text) == version
