"""Who delivers readings from outside: over HTTP, as uploads, as files in a watched folder.

Each sends a batch again until it is confirmed, and goes on to the next. What was tried and what was
confirmed is kept for the reckoning.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from tests.faults.collector import Said, said
from tests.faults.world import World

START = datetime(2026, 1, 1, tzinfo=UTC)
_PAUSE_S = 0.2


class Sender(ABC, threading.Thread):
    """Delivers batch after batch until told to stop; the last one is still brought home."""

    rows = 100
    pause_s = _PAUSE_S
    patience_s = 10.0
    """Longest wait for an answer. [s]"""

    def __init__(self, world: World, point: str) -> None:
        super().__init__(name=f"sender of {point}", daemon=True)
        self.world, self.point = world, point
        self.tried: set[Said] = set()
        self.confirmed: set[Said] = set()
        self.batches = 0
        self.wrong: list[str] = []
        """Answers that must not be, whatever happens around."""
        self._stop_asked, self._left = threading.Event(), threading.Event()

    def run(self) -> None:
        """Deliver."""
        while not self._stop_asked.is_set():
            batch = self._batch()
            self.tried |= batch
            while not self.deliver(batch):
                if self._left.wait(self.pause_s):
                    return
            self.confirmed |= batch
            self.batches += 1
            self._stop_asked.wait(self.pause_s)

    def finish(self, timeout_s: float) -> None:
        """Wait until the batch at hand is confirmed, and deliver no more.

        Raises
        ------
        TimeoutError
            If it is not confirmed in time.
        """
        self._stop_asked.set()
        self.join(timeout_s)
        if self.is_alive():
            raise TimeoutError(f"batch {self.batches} of {self.point} was not confirmed within {timeout_s} s")

    def leave(self) -> None:
        """Deliver no more, confirmed or not."""
        self._stop_asked.set()
        self._left.set()
        if self.ident is not None:
            self.join()

    @abstractmethod
    def deliver(self, batch: set[Said]) -> bool:
        """Try once; whether it was confirmed."""

    def _batch(self) -> set[Said]:
        first = self.batches * self.rows
        return {
            said(self.point, START + timedelta(seconds=n), n * 0.001) for n in range(first, first + self.rows)
        }

    def csv(self, batch: set[Said]) -> str:
        """The batch as a file."""
        lines = (f"{_text(one)},{one.value!r}" for one in sorted(batch))
        return "\n".join([f"time,{self.point}", *lines, ""])

    def ask(self, send: Callable[[str], httpx.Response]) -> httpx.Response | None:
        """An answer of the service, or None where there is none; 5xx other than 503 must not be."""
        base = self.world.service.base
        try:
            answer = send(base) if base else None
        except httpx.TransportError:
            return None
        if answer is not None and answer.status_code not in (200, 429, 503):
            self.wrong.append(f"{answer.status_code} {answer.text}")
        return answer


class Poster(Sender):
    """POST /readings, with one row in every batch that is refused."""

    def deliver(self, batch: set[Said]) -> bool:
        """Whether the service answered 200; its counts must add up to the batch."""
        rows = [{"point": one.point, "at": _text(one), "value": one.value} for one in sorted(batch)]
        bad = {"point": self.point, "at": "9999-01-01T00:00:00Z", "value": 1.0}
        body = {"readings": [*rows, bad]}
        answer = self.ask(
            lambda base: httpx.post(f"{base}/api/v1/readings", json=body, timeout=self.patience_s)
        )
        if answer is None or answer.status_code != 200:
            return False
        told = answer.json()
        counts = told["accepted"] + told["duplicate"], [r["row"] for r in told["rejected"]]
        if counts != (len(rows), [len(rows)]):
            self.wrong.append(answer.text)
        return True


class SlowPoster(Poster):
    """A site of which a batch comes now and then."""

    pause_s = 5.0


class Uploader(Sender):
    """POST /imports of a CSV file."""

    rows = 400

    def deliver(self, batch: set[Said]) -> bool:
        """Whether the service answered 200, that is after the commit."""
        files = {"file": (f"{self.batches}.csv", self.csv(batch))}
        form = {"site": "pushed"}
        answer = self.ask(
            lambda base: httpx.post(f"{base}/api/v1/imports", data=form, files=files, timeout=self.patience_s)
        )
        return answer is not None and answer.status_code == 200


class Dropper(Sender):
    """Files in a watched folder, which are moved aside when they are stored."""

    rows = 50

    def deliver(self, batch: set[Said]) -> bool:
        """Whether the file was taken."""
        folder = self.world.watched
        file = folder / f"{self.batches}.csv"
        if (folder / "done" / file.name).exists():
            return True
        if (folder / "refused" / file.name).exists():
            self.wrong.append((folder / "refused" / f"{file.name}.reason.txt").read_text())
            return True
        if not file.exists():
            self._write(file, self.csv(batch))
        return False

    def _write(self, file: Path, text: str) -> None:
        unfinished = file.with_suffix(".tmp")
        unfinished.write_text(text)
        unfinished.replace(file)


def _text(one: Said) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=one.at_us)).isoformat()
