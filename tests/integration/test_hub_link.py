"""The connection to a hub that does not answer: nothing of it stays open."""

from __future__ import annotations

import gc
import socket
import threading
import warnings
from collections.abc import Iterator

import pytest

from app.domain.hub_message import address
from app.errors import LineSlow, StoreUnavailable
from app.hub_link import Link


@pytest.fixture
def mute() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take)
        thread.start()
        yield f"nats://127.0.0.1:{server.getsockname()[1]}/cell"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in taken:
        connection.close()


def test_attempts_that_failed_leave_no_connection_open(mute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.hub_link.CONNECT_S", 0.2)
    gc.collect()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        link = Link(address(mute, "url"), None, None)
        for _ in range(3):
            with pytest.raises((StoreUnavailable, LineSlow)):
                link.run(link.client(), 5.0)
        link.close()
        del link
        gc.collect()
    assert [str(one.message) for one in seen] == []
