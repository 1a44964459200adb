"""How an edge empties its spool: a clock that the tests move, a spool on disk, a cell that may fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.domain.edge_message import Answer, Claim, Message
from app.domain.reading import Reading
from app.domain.signed import Definitions as Signed
from app.domain.signed import secret_of, sign
from app.edge.clock import Offset
from app.edge.definitions import Definitions
from app.edge.sender import SILENT_S, Delivery, Sender
from app.edge.transport import FileAnswer
from app.errors import EdgeReplaced, StoreUnavailable, TooBusy, WorkTooLarge
from collectors.spool import Spool

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEY = "wl_000000000000_00000000000000000000000000000000"
PACE = 1000.0


class Ended(Exception):
    """The time of a test is over."""


class Cell:
    """Takes what comes, unless it is told to fail; and the clock of the test."""

    def __init__(self, lasts_s: float) -> None:
        self.now_s, self._lasts_s = 100.0, 100.0 + lasts_s
        self.taken: list[tuple[float, tuple[Reading, ...]]] = []
        self.fails: Callable[[float], Exception | None] = lambda now_s: None
        self.begun: list[float] = []
        self.asked_s: list[float] = []
        self.at: list[tuple[float, Callable[[], object]]] = []
        self.revision, self.signed = 0, dict[str, Any]()

    problem = ""

    def begin(self, process: str) -> Claim:
        self.begun.append(self.now_s)
        self._maybe_fail()
        return Claim(process, len(self.begun))

    def _maybe_fail(self) -> None:
        self.asked_s.append(self.now_s)
        error = self.fails(self.now_s - 100.0)
        if error is not None:
            raise error

    def send(self, message: Message) -> Answer:
        self._maybe_fail()
        self.taken.append((self.now_s - 100.0, message.readings))
        return Answer(NOW, self.revision, PACE, len(message.readings))

    def send_file(self, claim: Claim, meter: str, file: Path) -> FileAnswer:
        raise NotImplementedError

    def definitions(self) -> Mapping[str, Any]:
        return self.signed

    def release(self, claim: Claim) -> None:
        pass

    def close(self) -> None:
        pass

    async def sleep(self, seconds: float) -> None:
        self.now_s += max(seconds, 0.01)
        while self.at and self.at[0][0] <= self.now_s - 100.0:
            self.at.pop(0)[1]()
        if self.now_s > self._lasts_s:
            raise Ended
        await asyncio.sleep(0)

    @property
    def points(self) -> list[str]:
        return [r.point for _, batch in self.taken for r in batch]


def readings(name: str, count: int) -> list[Reading]:
    return [Reading(f"{name}{n}", NOW + timedelta(seconds=n), 1.0) for n in range(count)]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "readings.sqlite")


def ran(cell: Cell, spool: Spool, tmp_path: Path) -> Sender:
    definitions = Definitions(tmp_path / "definitions.json", KEY)
    sender = Sender(cell, "p", definitions, steady=lambda: cell.now_s, sleep=cell.sleep)
    with pytest.raises(Ended):
        asyncio.run(sender.run(spool))
    return sender


def reopened(tmp_path: Path, waiting: int) -> Spool:
    """A spool with readings that waited through a restart."""
    first = Spool(tmp_path / "readings.sqlite")
    first.append(readings("old", waiting))
    first.close()
    return Spool(tmp_path / "readings.sqlite")


def test_live_readings_overtake_what_waited_which_comes_at_the_pace_of_the_cell(tmp_path: Path) -> None:
    spool, cell = reopened(tmp_path, 10_000), Cell(60)
    for second in range(1, 20):
        live = [Reading(f"live{second}", NOW, 1.0)]
        cell.at.append((second, lambda live=live: spool.append(live)))  # type: ignore[misc]
    ran(cell, spool, tmp_path)
    sent_at = {r.point: at_s for at_s, batch in cell.taken for r in batch}
    assert all(sent_at[f"live{s}"] - s <= 2.1 for s in range(1, 20))
    old = [(at_s, sum(r.point.startswith("old") for r in batch)) for at_s, batch in cell.taken]
    so_far = 0
    for at_s, count in old:
        so_far += count
        assert so_far <= PACE * at_s + 2000
    assert so_far == 10_000
    assert sent_at["old9999"] <= 15
    assert len(spool) == 0
    assert all(
        batch[0].point.startswith("live") for _, batch in cell.taken if any("live" in r.point for r in batch)
    )


def test_nothing_leaves_the_spool_before_it_is_committed(spool: Spool, tmp_path: Path) -> None:
    cell = Cell(300)
    spool.append(readings("a", 10))
    cell.fails = lambda now_s: StoreUnavailable("away") if now_s < 200 else None
    sender = ran(cell, spool, tmp_path)
    assert cell.points == [f"a{n}" for n in range(10)]
    assert cell.taken[0][0] <= 200 + 15
    assert 10 < len([s for s in cell.asked_s if s < 300.0]) < 40  # ever more rarely, up to every 15 s
    assert (sender.delivery.problem, sender.delivery.delivered, len(spool)) == ("", 10, 0)


def test_it_comes_again_when_the_cell_says(spool: Spool, tmp_path: Path) -> None:
    cell = Cell(100)
    spool.append(readings("a", 10))
    cell.fails = lambda now_s: TooBusy("too many", retry_after_s=40) if now_s < 30 else None
    ran(cell, spool, tmp_path)
    assert len([s for s in cell.asked_s if s < 130.0]) == 1
    assert len(cell.points) == 10


def test_a_process_that_was_replaced_keeps_its_readings_and_asks_again(spool: Spool, tmp_path: Path) -> None:
    cell = Cell(50)
    spool.append(readings("a", 10))
    cell.fails = lambda now_s: EdgeReplaced("another process speaks") if now_s > 5 else None
    cell.at.append((6, lambda: spool.append(readings("b", 3))))
    sender = ran(cell, spool, tmp_path)
    assert cell.points == [f"a{n}" for n in range(10)]
    assert len(spool) == 3
    assert sender.delivery.claim is None
    assert len(cell.begun) > 2
    assert "another process" in sender.delivery.problem


def test_an_edge_with_nothing_to_send_says_that_it_is_there(spool: Spool, tmp_path: Path) -> None:
    cell = Cell(61)
    ran(cell, spool, tmp_path)
    assert 5 <= len(cell.taken) <= 8


def test_definitions_with_a_wrong_signature_change_nothing(tmp_path: Path) -> None:
    file = tmp_path / "definitions.json"
    good = sign(Signed("box", 1, '{"institutions":[{"id":"b","institution_class":"other"}]}'), secret_of(KEY))
    definitions = Definitions(file, KEY)
    assert definitions.take(good)
    assert not definitions.take({**good, "definitions": good["definitions"].replace("box", "bix")})
    assert "signature" in definitions.problem
    newer = sign(Signed("box", 2, '{"sites":[{"nonsense":1}]}'), secret_of(KEY))
    assert not definitions.take(newer)
    assert definitions.in_force.revision == 1
    assert Definitions(file, KEY).in_force == definitions.in_force
    assert file.stat().st_mode & 0o077 == 0
    file.write_text(file.read_text().replace("box", "bix"))
    tampered = Definitions(file, KEY)
    assert (tampered.in_force.revision, "signature" in tampered.problem) == (0, True)


def test_the_quickest_answer_says_how_far_the_clock_is_ahead() -> None:
    wall, steady = 1000.0, 0.0
    offset = Offset(lambda: wall, lambda: steady)
    assert offset.seconds is None
    for took_s, cell_s in ((4.0, 990.0), (0.2, 990.1), (9.0, 970.0)):
        sent = offset.sending()
        steady += took_s
        wall += took_s
        offset.answered(sent, datetime.fromtimestamp(cell_s + sent.wall_s - 1000.0, UTC))
    assert offset.seconds == pytest.approx(10.0)
    wall += 600.0  # somebody sets the clock
    sent = offset.sending()
    assert offset.seconds is None
    offset.answered(sent, datetime.fromtimestamp(wall - 610.0, UTC))
    assert offset.seconds == pytest.approx(610.0)


def test_a_batch_that_the_cell_finds_too_large_comes_in_smaller_ones(tmp_path: Path) -> None:
    cell, most = Cell(lasts_s=600), 7

    def send(message: Message) -> Answer:
        if len(message.readings) > most:
            raise WorkTooLarge("the database refuses so much in one transaction")
        cell.taken.append((cell.now_s - 100.0, message.readings))
        return Answer(NOW, cell.revision, PACE, len(message.readings))

    cell.send = send  # type: ignore[method-assign]
    spool = reopened(tmp_path, 100)
    sender = ran(cell, spool, tmp_path)
    assert sorted(cell.points) == sorted(f"old{n}" for n in range(100))
    assert len(spool) == 0
    assert sender.delivery.delivered == 100


def test_a_centre_that_does_not_answer_is_said_before_the_time_of_the_batch_is_up() -> None:
    done = Delivery(problem="")
    assert done.problem_at(1000.0) == ""
    done.asked_s = 1000.0
    assert done.problem_at(1000.0 + SILENT_S - 0.1) == ""
    assert done.problem_at(1007.0) == "the centre has not answered for 7 s"
    done.asked_s = None
    assert done.problem_at(1007.0) == ""


def test_what_waited_comes_seldom_and_not_in_many_small_batches(tmp_path: Path) -> None:
    cell = Cell(lasts_s=200)

    def send(message: Message) -> Answer:
        cell.taken.append((cell.now_s - 100.0, message.readings))
        return Answer(NOW, cell.revision, 25.0, len(message.readings))

    cell.send = send  # type: ignore[method-assign]
    spool = reopened(tmp_path, 2100)
    ran(cell, spool, tmp_path)
    sizes = [len(batch) for _, batch in cell.taken if batch]
    assert sum(sizes) == 2100
    assert min(sizes[:-1]) >= 500
    assert max(at for at, batch in cell.taken if batch) <= 2100 / 25.0 + 5.0


def test_where_answers_are_slow_or_refused_live_readings_go_first(tmp_path: Path) -> None:
    cell = Cell(lasts_s=400)

    def send(message: Message) -> Answer:
        if len(cell.asked_s) == 3:
            cell._maybe_fail()
            raise TooBusy("too many", retry_after_s=1)
        cell._maybe_fail()
        cell.now_s += 20.0  # ten times as long as an edge waits from batch to batch
        cell.taken.append((cell.now_s - 100.0, message.readings))
        return Answer(NOW, cell.revision, PACE, len(message.readings))

    cell.send = send  # type: ignore[method-assign]
    spool = reopened(tmp_path, 100_000)
    cell.at = [(50.0, lambda: spool.append(readings("live", 10)))]
    ran(cell, spool, tmp_path)
    old = sum(r.point.startswith("old") for _, batch in cell.taken for r in batch)
    assert 0 < old <= 0.1 * PACE * 400
    assert any(r.point == "live3" for at, batch in cell.taken for r in batch if at <= 100.0)
