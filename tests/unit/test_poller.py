"""The poller's beat: slots, jitter, backoff, gateways, rounds; on a clock and a loop of its own."""

from __future__ import annotations

import asyncio
import gc
import selectors
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from app.domain.reading import Reading
from app.errors import DecodeError, DeviceUnreachable
from collectors.base import Poll
from collectors.config import CollectorConfig
from collectors.poller import Device, Poller, Settings, jitter_s, slot_after, slots_to_skip

START = datetime(2026, 11, 23, 10, 0, 0, 250_000, tzinfo=UTC)
QUICK = Settings(longest_jitter_s=0.0, round_s=0.001)


class World:
    """Time that moves only when somebody sleeps: a loop whose clock jumps to the next timer."""

    def __init__(self, start: datetime = START) -> None:
        self.loop = asyncio.get_running_loop()
        self.start, self.zero = start, self.loop.time()
        self.step = timedelta(0)

    def __call__(self) -> datetime:
        return self.start + timedelta(seconds=self.loop.time() - self.zero) + self.step


class LeapingSelector(selectors.DefaultSelector):
    """Never waits: the time it was asked to wait counts as passed."""

    leapt_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.leapt_s += max(timeout or 0.0, 0.0)
        return super().select(timeout if timeout is None else 0)


class LeapingLoop(asyncio.SelectorEventLoop):
    """An event loop on which waiting takes no time."""

    def __init__(self) -> None:
        self._leaping = LeapingSelector()
        super().__init__(self._leaping)

    def time(self) -> float:
        return super().time() + self._leaping.leapt_s


def leap(scenario: object) -> object:
    """Run a coroutine function on a leaping loop."""
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        return runner.run(scenario())  # type: ignore[operator]


class Meter:
    """A collector that does as it is told."""

    def __init__(self, device: str, *, takes_s: float = 0.0, says: object = None) -> None:
        self.device, self.takes_s, self.says = device, takes_s, says
        self.asked: list[datetime] = []
        self.running = self.most_running = 0
        self.closed = 0

    async def poll(self, at: datetime) -> Poll:
        self.asked.append(at)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.running -= 1
        if isinstance(self.says, DeviceUnreachable | DecodeError):
            return Poll(at, failures=(self.says,))
        if isinstance(self.says, Exception):
            raise self.says
        return Poll(at, (f"{self.device}-p",), (1.0,))

    async def close(self) -> None:
        self.closed += 1


class Gatewayed(CollectorConfig):
    line: str = ""
    many: int = 1

    @property
    def gateway(self) -> str:
        return self.line

    @property
    def gateway_concurrency(self) -> int:
        return self.many


def config(interval_s: float = 10.0, **settings: object) -> CollectorConfig:
    return Gatewayed.model_validate({"kind": "test", "interval_s": interval_s, "timeout_s": 1.0, **settings})


def silent(device: str) -> DeviceUnreachable:
    return DeviceUnreachable(device, "no answer")


async def polled(devices: Sequence[Device], for_s: float, **keys: object) -> tuple[Poller, list[Reading]]:
    """Run a poller for so long (in leaping time)."""
    taken: list[Reading] = []

    async def sink(polls: Sequence[Poll]) -> None:
        taken.extend(r for poll in polls for r in poll.readings)

    settings = keys.pop("settings", QUICK)
    clock = keys.pop("clock", None) or World()
    poller = Poller(devices, keys.pop("sink", sink), settings, clock=clock, **keys)  # type: ignore[arg-type]
    running = asyncio.create_task(poller.run())
    await asyncio.sleep(for_s)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    return poller, taken


def test_polls_fall_on_multiples_of_the_interval_and_carry_the_slot() -> None:
    meter = Meter("m", takes_s=1.5)

    async def scenario() -> None:
        _, taken = await polled([Device(meter, config())], 35)
        slots = [datetime(2026, 11, 23, 10, 0, s, tzinfo=UTC) for s in (10, 20, 30)]
        assert meter.asked == slots
        assert [reading.at for reading in taken] == slots

    leap(scenario)
    assert meter.closed == 1


def test_a_slow_meter_never_overlaps_itself_and_delays_no_other() -> None:
    slow, quick = Meter("slow", takes_s=25), Meter("quick")

    async def scenario() -> None:
        devices = [Device(slow, config(timeout_s=60)), Device(quick, config())]
        with structlog.testing.capture_logs() as logs:
            poller, _ = await polled(devices, 100)
        assert slow.most_running == 1
        assert [at.second + 60 * at.minute for at in slow.asked] == [10, 40, 70, 100]
        assert len(quick.asked) == 10
        assert poller.states["slow"].missed_slots == 6
        assert {log["device"] for log in logs} == {"slow"}

    leap(scenario)


def test_a_silent_device_is_asked_ever_more_rarely_and_at_once_as_usual_when_it_is_back() -> None:
    meter = Meter("dead", says=silent("dead"))

    async def scenario() -> None:
        poller = asyncio.create_task(polled([Device(meter, config())], 2000))
        await asyncio.sleep(1500)
        meter.says = None
        await poller

    leap(scenario)
    gaps = [round((b - a).total_seconds()) for a, b in zip(meter.asked, meter.asked[1:], strict=False)]
    assert gaps[:6] == [10, 20, 40, 80, 160, 300]
    assert max(gaps) == 300
    assert gaps[-3:] == [10, 10, 10]


def test_the_culprit_is_named_first_and_then_ever_more_rarely() -> None:
    meter = Meter("ups-7", says=silent("ups-7"))

    async def scenario() -> None:
        with structlog.testing.capture_logs() as logs:
            poller = asyncio.create_task(polled([Device(meter, config(), "site-a")], 1000))
            await asyncio.sleep(800)
            meter.says = None
            await poller
        named = [(log["log_level"], log["device"], log["site"]) for log in logs]
        assert set(named[:-1]) == {("warning", "ups-7", "site-a")}
        assert [log["times"] for log in logs[:-1]] == [1, 2, 4]
        assert logs[-1]["event"] == "device reads well again"

    leap(scenario)


def test_a_device_that_answers_nonsense_is_not_left_alone() -> None:
    meter = Meter("m", says=DecodeError("m", "holds nan", point="p"))

    async def scenario() -> None:
        poller, _ = await polled([Device(meter, config())], 95)
        assert len(meter.asked) == 9
        state = poller.states["m"]
        assert (state.up, state.points_failed, state.problem) == (False, 1, "holds nan")

    leap(scenario)


def test_one_gateway_has_one_poll_at_a_time_and_the_wait_is_not_the_devices() -> None:
    shared = {"line": "gw:502"}
    meters = [Meter(f"m{i}", takes_s=2) for i in range(4)]
    other = Meter("other", takes_s=2)

    async def scenario() -> None:
        devices = [Device(m, config(**shared)) for m in meters] + [Device(other, config())]
        poller, taken = await polled(devices, 19)
        assert len(taken) == 5
        durations = [poller.states[m.device].duration_s for m in meters]
        assert durations == pytest.approx([2.0] * 4, abs=0.1)
        lateness = sorted(poller.states[m.device].lateness_s for m in meters)
        assert lateness == pytest.approx([2, 4, 6, 8], abs=0.1)
        assert poller.states["other"].lateness_s == pytest.approx(2, abs=0.1)

    leap(scenario)


def test_a_gateway_that_takes_two_gets_two() -> None:
    meters = [Meter(f"m{i}", takes_s=2) for i in range(4)]

    async def scenario() -> None:
        devices = [Device(m, config(line="gw", many=2)) for m in meters]
        poller, _ = await polled(devices, 19)
        lateness = sorted(poller.states[m.device].lateness_s for m in meters)
        assert lateness == pytest.approx([2, 2, 4, 4], abs=0.1)

    leap(scenario)


def test_a_collector_that_hangs_is_given_up_and_one_that_raises_does_not_stop_the_others() -> None:
    """Failure story 11: tasks are dead though the component says enabled."""
    hangs, raises, fine = Meter("hangs", takes_s=1e6), Meter("raises", says=KeyError("x")), Meter("fine")

    async def scenario() -> None:
        devices = [Device(m, config()) for m in (hangs, raises, fine)]
        poller, _ = await polled(devices, 300)
        assert len(hangs.asked) > 2
        assert "given up after" in poller.states["hangs"].problem
        assert "fault in the collector" in poller.states["raises"].problem
        assert len(raises.asked) == len(fine.asked) == 30

    leap(scenario)


def test_the_clock_may_be_set_forwards_and_backwards() -> None:
    """Failure story 13: the poller goes on at the new time, once per slot."""
    meter = Meter("m")

    async def scenario() -> None:
        world = World()
        running = asyncio.create_task(polled([Device(meter, config())], 200, clock=world))
        await asyncio.sleep(42)
        world.step = timedelta(minutes=10)
        await asyncio.sleep(40)
        world.step = timedelta(hours=-12)
        await running

    leap(scenario)
    jumps = [round((b - a).total_seconds()) for a, b in zip(meter.asked, meter.asked[1:], strict=False)]
    assert len(meter.asked) == len(set(meter.asked))
    assert [jump for jump in jumps if jump != 10] == [
        pytest.approx(610, abs=11),
        pytest.approx(-43_790, abs=21),
    ]
    assert len(meter.asked) >= 15


def test_a_round_is_handed_over_together_and_kept_while_the_sink_fails() -> None:
    meters = [Meter(f"m{i}") for i in range(50)]
    rounds: list[int] = []
    broken = iter([True, True])

    async def sink(polls: Sequence[Poll]) -> None:
        if next(broken, False):
            raise OSError("disk on fire")
        rounds.append(sum(len(poll.readings) for poll in polls))

    async def scenario() -> None:
        settings = Settings(longest_jitter_s=0.2, round_s=0.5)
        poller, _ = await polled([Device(m, config()) for m in meters], 35, sink=sink, settings=settings)
        assert sum(rounds) == 150
        assert len(rounds) == 3
        assert poller.waiting == 0

    leap(scenario)


def test_a_stuck_sink_stops_polling_instead_of_filling_the_memory() -> None:
    """Failure story 10: the cap holds."""
    meters = [Meter(f"m{i}") for i in range(10)]

    async def stuck(polls: Sequence[Poll]) -> None:
        raise OSError("no space")

    async def scenario() -> None:
        settings = Settings(longest_jitter_s=0.0, waiting_readings=25)
        poller, _ = await polled([Device(m, config()) for m in meters], 500, sink=stuck, settings=settings)
        assert poller.waiting <= 25 + len(meters)

    leap(scenario)


def test_a_plain_function_as_sink_runs_in_a_thread_and_gets_the_last_round_on_stop() -> None:
    threads: set[int] = set()
    taken: list[Reading] = []

    def sink(polls: Sequence[Poll]) -> None:
        threads.add(threading.get_ident())
        taken.extend(r for poll in polls for r in poll.readings)

    async def scenario() -> None:
        poller = Poller([], sink, Settings(round_s=1000))
        running = asyncio.create_task(poller.run())
        poller._rounds.put(Poll(START, ("p",), (1.0,)))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(scenario())
    assert [reading.point for reading in taken] == ["p"]
    assert threads
    assert threading.get_ident() not in threads


def test_neither_tasks_nor_memory_grow() -> None:
    """Failure story 11."""
    meters = [Meter(f"m{i}", says=silent(f"m{i}") if i % 10 == 0 else None) for i in range(100)]

    async def scenario() -> None:
        async def forget(polls: Sequence[Poll]) -> None:
            for meter in meters:
                meter.asked.clear()

        running = asyncio.create_task(polled([Device(m, config()) for m in meters], 2000, sink=forget))
        counts = []
        for _ in range(4):
            await asyncio.sleep(201)
            gc.collect()
            counts.append((len(asyncio.all_tasks()), len(gc.get_objects())))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert len({tasks for tasks, _ in counts}) == 1
        assert counts[-1][1] <= counts[1][1] + 500

    leap(scenario)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.sampled_from([1, 5, 10, 60, 900, 3600]))  # noqa: DTZ001
def test_the_next_slot_is_a_multiple_of_the_interval_and_lies_ahead(naive: datetime, interval_s: int) -> None:
    at = naive.replace(tzinfo=UTC)
    slot = slot_after(at, interval_s)
    assert timedelta(0) < slot - at <= timedelta(seconds=interval_s)
    assert slot.timestamp() % interval_s == 0


def test_jitter_is_steady_spread_and_bounded() -> None:
    settings = Settings()
    spread = [jitter_s(f"meter-{i}", 60, settings) for i in range(500)]
    assert spread == [jitter_s(f"meter-{i}", 60, settings) for i in range(500)]
    assert 0 <= min(spread) < 0.5 < 9.5 < max(spread) <= settings.longest_jitter_s
    assert jitter_s("m", 1, settings) <= 0.2


@pytest.mark.parametrize(("failures", "skip"), [(0, 0), (1, 0), (2, 1), (3, 3), (4, 7), (100, 29)])
def test_backoff_doubles_up_to_its_longest(failures: int, skip: int) -> None:
    assert slots_to_skip(failures, 10, Settings()) == skip


def test_a_device_asked_rarely_is_never_left_alone_longer() -> None:
    assert slots_to_skip(50, 900, Settings()) == 0


class Source(Meter):
    """A collector whose source has a memory and waits for its readings to be kept."""

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self.resumed: list[str] = []
        self.kept = 0

    def resume(self, cursor: str) -> None:
        assert not self.asked, "before the first poll"
        self.resumed.append(cursor)

    async def poll(self, at: datetime) -> Poll:
        self.asked.append(at)
        return Poll(at, dated=(Reading("d", at, 1.0, 900, 900),), cursor=(self.device, "5"), kept=self._keep)

    def _keep(self) -> None:
        self.kept += 1


def test_a_source_goes_on_where_it_was_and_its_readings_count() -> None:
    async def scenario() -> None:
        source, other = Source("db"), Source("new")
        devices = [Device(one, config()) for one in (source, other)]
        poller, taken = await polled(devices, 25, cursors={"db": "4"})
        assert (source.resumed, other.resumed) == (["4"], [""])
        assert Reading("d", source.asked[0], 1.0, 900, 900) in taken
        state = poller.states["db"]
        assert state.up
        assert state.last_reading_at == source.asked[-1]
        assert source.kept == len(source.asked)

    leap(scenario)


def test_a_source_is_told_only_of_what_is_on_disk() -> None:
    async def scenario() -> None:
        source, on_disk, told = Source("db"), [False], []

        async def sink(polls: Sequence[Poll]) -> bool:
            told.append(source.kept)
            on_disk[0] = len(told) > 2
            return on_disk[0]

        await polled([Device(source, config())], 45, sink=sink)
        assert told[:3] == [0, 0, 0]
        assert source.kept == len(source.asked) > 2

    leap(scenario)
