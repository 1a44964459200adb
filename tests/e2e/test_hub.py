"""An edge, a hub and a cell, each a process of its own, as an operator starts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.e2e.test_edges import (
    LIVE_S,
    MOST_BYTES,
    RETURN_S,
    SLACK_S,
    Meters,
    World,
    metric,
    until_delivered,
    until_waiting,
)
from tests.hub import Cluster
from tests.waiting import until


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Cluster]:
    """One server, as for a trial, behind TLS."""
    authority = Authority("bank")
    certificate, key = authority.issue("hub", tmp_path)
    (tmp_path / "hub-ca.pem").write_text(authority.pem)
    tls = f'tls {{ cert_file: "{certificate}", key_file: "{key}", handshake_first: true }}'
    with Cluster(tmp_path, 1, tls) as cluster:
        yield cluster


def test_readings_wait_at_the_edge_while_the_hub_is_away_and_lose_nothing_with_its_disk(
    tmp_path: Path, database_url: str, hub: Cluster
) -> None:
    url, trusted = f"{hub.url}/north", str(tmp_path / "hub-ca.pem")
    with ExitStack() as stack:
        meters = stack.enter_context(Meters().serving())
        more = {"WATTLINE_HUB_URL": url, "WATTLINE_CELL_ID": "north", "WATTLINE_HUB_REPLICAS": "1"}
        more["WATTLINE_HUB_CA_FILE"] = trusted
        world = World(tmp_path, database_url, meters, stack, more)
        key = world.key("cut")
        to_hub = {"WATTLINE_CENTRE_URL": url, "WATTLINE_CENTRE_CA_FILE": trusted}
        with world.edge(key, more=to_hub) as edge:
            until_delivered(edge)
            until(lambda: world.shown("cut").is_current, 60, "the definitions of the centre")
            hub.kill(0)
            hub.lose_disk(0)
            until_waiting(edge, 5)
            until(lambda: "Connection</th><td class=bad" in edge.get("/").text, 90, "a word about it")
            hub.start(0)
            until(lambda: world.newest_age_s("cut") <= LIVE_S, RETURN_S + SLACK_S, "live readings")
            until(lambda: metric(edge, "wattline_spool_readings") < 5, 60, "an empty spool")
            assert metric(edge, "process_resident_memory_bytes") <= MOST_BYTES
            assert edge.stop() == 0
        seconds = sorted(at_us / 1e6 for _, at_us, _ in world.rows("cut"))
        assert world.counted("SELECT sum(readings) FROM dropped_readings") == 0
        assert max(later - first for first, later in pairwise(seconds)) < 3
