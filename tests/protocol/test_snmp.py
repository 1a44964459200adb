"""The SNMP collector against simulated agents on loopback: right, slow, silent, hostile, rebooted."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.domain.quantity import ReadingKind, Role
from app.domain.site import Point
from app.errors import ConfigError, DecodeError, DeviceRefused, DeviceUnreachable
from collectors.base import Binding, Collector, Poll
from collectors.profiles.profile import SnmpProfile, load_profile
from collectors.registry import build, parse
from collectors.simulated.snmp_agent import SimulatedSnmp, SnmpUser
from collectors.snmp.probe import probe
from collectors.snmp.session import Agent, SnmpAccess

AT = datetime(2026, 10, 1, tzinfo=UTC)
TRUE = {
    "energy_import_kwh": 74_057.676,
    "power_kw": 1.665,
    "outlet_1_power_kw": 0.143,
    "outlet_2_power_kw": 0.207,
}
NOBODY = SnmpUser("nobody")
SIGNED = SnmpUser("signed", "sha256", "a long password")
SECRET = SnmpUser("secret", "sha512", "a long password", "another password")


def raritan() -> SnmpProfile:
    profile = load_profile("raritan_px")
    assert isinstance(profile, SnmpProfile)
    return profile


def true_value(channel: str, _: datetime) -> float:
    return TRUE[channel]


@pytest.fixture
async def agent() -> AsyncIterator[SimulatedSnmp]:
    async with SimulatedSnmp(raritan(), TRUE, true_value, users=[NOBODY, SIGNED, SECRET]) as simulated:
        yield simulated


def point(channel: str) -> Point:
    kind = ReadingKind.REGISTER if channel.endswith("_kwh") else ReadingKind.POWER
    return Point(id=f"p.{channel}", role=Role.IT_PDU_OUTPUT, kind=kind, channel=channel)


def access(agent: SimulatedSnmp, **extra: Any) -> dict[str, Any]:
    return {"kind": "snmp", "host": "127.0.0.1", "port": agent.port, "timeout_s": 5, "retries": 0, **extra}


def collector(
    agent: SimulatedSnmp, channels: Iterable[str] = TRUE, meter: str = "pdu", **extra: Any
) -> Collector:
    config = parse({**access(agent, **extra), "profile": "raritan_px"})
    return build(config, Binding(meter, tuple(map(point, channels))))


async def polled(agent: SimulatedSnmp, **extra: Any) -> Poll:
    one = collector(agent, **extra)
    try:
        return await one.poll(AT)
    finally:
        await one.close()


def values(poll: Poll) -> dict[str, float]:
    return {reading.point.removeprefix("p."): reading.value for reading in poll.readings}


LEVELS: dict[str, dict[str, Any]] = {
    "v1": {"version": "1"},
    "v2c": {"version": "2c"},
    "v2c as number in YAML": {"version": "2c", "community": "public"},
    "noAuthNoPriv": {"version": 3, "user": "nobody"},
    "authNoPriv": {"version": 3, "user": "signed", "auth_password": "a long password"},
    "authPriv": {
        "version": 3,
        "user": "secret",
        "auth_protocol": "sha512",
        "auth_password": "a long password",
        "priv_password": "another password",
    },
}


@pytest.mark.parametrize("level", LEVELS)
async def test_every_version_and_level_reads_the_same(agent: SimulatedSnmp, level: str) -> None:
    poll = await polled(agent, **LEVELS[level])
    assert poll.failures == ()
    assert values(poll) == pytest.approx(TRUE)
    assert {reading.at for reading in poll.readings} == {AT}


@pytest.mark.parametrize("protocol", ["md5", "sha", "sha224", "sha256", "sha384", "sha512"])
async def test_every_digest(protocol: str) -> None:
    user = SnmpUser("u", protocol, "a long password", "another password")
    secrets = {"auth_password": "a long password", "priv_password": "another password"}
    async with SimulatedSnmp(raritan(), TRUE, true_value, users=[user]) as agent:
        poll = await polled(agent, version=3, user="u", auth_protocol=protocol, **secrets)
    assert values(poll) == pytest.approx(TRUE)


async def test_later_polls_are_one_request(agent: SimulatedSnmp) -> None:
    one = collector(agent)
    await one.poll(AT)
    before = agent.requests
    assert values(await one.poll(AT)) == pytest.approx(TRUE)
    assert agent.requests == before + 1
    await one.close()


async def test_secrets_may_stand_in_files(agent: SimulatedSnmp, tmp_path: Path) -> None:
    (tmp_path / "auth").write_text("a long password\n")
    poll = await polled(agent, version=3, user="signed", auth_password_file=tmp_path / "auth")
    assert values(poll) == pytest.approx(TRUE)


async def test_wrong_community_is_met_with_silence_and_says_so(agent: SimulatedSnmp) -> None:
    poll = await polled(agent, community="wrong", timeout_s=0.1)
    assert isinstance(poll.failures[0], DeviceUnreachable)
    assert "community" in str(poll.failures[0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": "signed", "auth_password": "not the password"},
        {"user": "stranger", "auth_password": "a long password"},
        {"user": "signed", "auth_password": "a long password", "priv_password": "more than it has"},
        {"user": "secret", "auth_protocol": "sha512", "auth_password": "a long password"},
        {**LEVELS["authPriv"], "priv_password": "not the password"},
    ],
    ids=["key", "user", "level above the user's", "level below the user's", "privacy key"],
)
async def test_refused_user_or_key(agent: SimulatedSnmp, wrong: dict[str, Any]) -> None:
    poll = await polled(agent, **{"version": 3, **wrong}, timeout_s=0.5)
    assert poll.readings == ()
    assert len(poll.failures) == 1
    assert "passw" not in str(poll.failures[0]).replace("passwords", "")


@pytest.mark.parametrize("fault", ["in_plain", "forged"])
@pytest.mark.parametrize("level", ["authNoPriv", "authPriv"])
async def test_no_downgrade(agent: SimulatedSnmp, fault: str, level: str) -> None:
    """Answers below the configured level, or with a wrong digest, are never read."""
    one = collector(agent, **LEVELS[level])
    assert values(await one.poll(AT)) == pytest.approx(TRUE)
    await one.close()
    setattr(agent.faults, fault, True)
    poll = await polled(agent, **{**LEVELS[level], "timeout_s": 0.8})
    assert poll.readings == ()
    assert isinstance(poll.failures[0], DeviceRefused)
    assert "security level" in str(poll.failures[0])


@pytest.mark.parametrize("level", ["authNoPriv", "authPriv"])
@pytest.mark.parametrize("event", ["reboot", "reboot that forgets", "ahead", "back"])
async def test_session_survives_reboot_and_clock_of_the_agent(
    agent: SimulatedSnmp, level: str, event: str
) -> None:
    """pysnmp 159: an agent reboots or its clock drifts, and the session is dead for good."""
    one = collector(agent, **{**LEVELS[level], "retries": 1})
    assert values(await one.poll(AT)) == pytest.approx(TRUE)
    happens = {
        "reboot": agent.reboot,
        "reboot that forgets": lambda: agent.reboot(forgets_boots=True),
        "ahead": lambda: agent.jump_time(7_200),
        "back": lambda: agent.jump_time(-7_200),
    }
    agent.jump_time(50_000)
    for _ in range(2):
        happens[event]()
        poll = await one.poll(AT)
        assert poll.failures == ()
        assert values(poll) == pytest.approx(TRUE)
    await one.close()


async def test_one_silent_agent_holds_up_nobody_and_is_named(agent: SimulatedSnmp) -> None:
    """telegraf 3823 and 12530."""
    async with SimulatedSnmp(raritan(), TRUE, true_value) as dead:
        dead.faults.silent = True
        slow = collector(dead, meter="culprit", timeout_s=30)
        waiting = asyncio.create_task(slow.poll(AT))
        others = [collector(agent, meter=f"pdu-{n}") for n in range(20)]
        polls = await asyncio.gather(*(other.poll(AT) for other in others))
        assert all(values(poll) == pytest.approx(TRUE) for poll in polls)
        assert not waiting.done()
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        for one in (slow, *others):
            await one.close()
        poll = await polled(dead, meter="culprit", timeout_s=0.1)
    assert [failure.device for failure in poll.failures] == ["culprit"]
    assert "no answer within 0.1 s" in str(poll.failures[0])


async def test_nothing_leaks_over_many_polls(agent: SimulatedSnmp) -> None:
    """Home Assistant 127275: polling leaks memory. Sockets, tasks and memory stand still."""
    one = collector(agent, timeout_s=0.02)

    async def rounds(count: int) -> None:
        for number in range(count):
            agent.faults.silent = number % 10 == 0
            agent.faults.malformed = b"\x30\x80" if number % 10 == 5 else b""
            await one.poll(AT)

    await rounds(40)
    gc.collect()
    sockets, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
    tracemalloc.start()
    await rounds(20)
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    await rounds(200)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(asyncio.all_tasks()) == tasks
    assert len(os.listdir("/proc/self/fd")) <= sockets + 1
    assert after - before < 50_000
    await one.close()


async def test_lost_answer_is_asked_again(agent: SimulatedSnmp) -> None:
    agent.faults.silent_times = 1
    poll = await polled(agent, retries=1, timeout_s=1)
    assert values(poll) == pytest.approx(TRUE)


async def test_late_answer_is_not_taken_for_the_next(agent: SimulatedSnmp) -> None:
    true: dict[str, float] = dict(TRUE)
    async with SimulatedSnmp(raritan(), TRUE, lambda channel, at: true[channel]) as late:
        one = collector(late, channels=["power_kw"], timeout_s=1)
        assert values(await one.poll(AT)) == {"power_kw": pytest.approx(1.665)}
        late.faults.slow_s = 1.1
        assert (await one.poll(AT)).readings == ()
        late.faults.slow_s, true["power_kw"] = 0.0, 2.5
        for _ in range(3):
            assert values(await one.poll(AT)) == {"power_kw": pytest.approx(2.5)}
        await one.close()


async def test_answer_of_another_request_is_ignored(agent: SimulatedSnmp) -> None:
    agent.faults.wrong_request_id = True
    poll = await polled(agent, timeout_s=0.1)
    assert poll.readings == ()
    assert isinstance(poll.failures[0], DeviceUnreachable)


async def test_no_listener_fails_at_once(agent: SimulatedSnmp) -> None:
    await agent.close()
    poll = await polled(agent, timeout_s=60)
    assert isinstance(poll.failures[0], DeviceUnreachable)
    assert "refused" in str(poll.failures[0])


async def test_refusing_agent_fails_point_by_point(agent: SimulatedSnmp) -> None:
    one = collector(agent)
    await one.poll(AT)
    agent.faults.refuse = True
    poll = await one.poll(AT)
    assert poll.readings == ()
    assert {failure.point for failure in poll.failures} == {f"p.{channel}" for channel in TRUE}
    agent.faults.refuse = False
    assert values(await one.poll(AT)) == pytest.approx(TRUE)
    await one.close()


async def test_lack_of_a_value_is_a_failure_and_never_zero() -> None:
    profile = load_profile("sentry4")
    assert isinstance(profile, SnmpProfile)
    async with SimulatedSnmp(profile, ["infeed_1_power_kw"], lambda channel, at: 1.7) as agent:
        config = parse({**access(agent), "profile": "sentry4"})
        one = build(config, Binding("pdu", (point("power_kw"),)))
        assert values(await one.poll(AT)) == {"power_kw": pytest.approx(1.7)}
        agent.faults.no_value = True
        poll = await one.poll(AT)
        assert poll.readings == ()
        assert isinstance(poll.failures[0], DecodeError)
        await one.close()


async def test_floats_in_opaque_and_nan(agent: SimulatedSnmp) -> None:
    agent.faults.as_floats = True
    assert values(await polled(agent)) == pytest.approx(TRUE)
    agent.faults.no_value = True
    poll = await polled(agent)
    assert poll.readings == ()
    assert len(poll.failures) == len(TRUE)


async def test_missing_channel_leaves_the_others(agent: SimulatedSnmp) -> None:
    poll = await polled(agent, channels=[*TRUE, "outlet_40_power_kw"])
    assert values(poll) == pytest.approx(TRUE)
    assert [(type(f), f.point) for f in poll.failures] == [(DeviceRefused, "p.outlet_40_power_kw")]


async def test_what_was_read_before_the_silence_is_kept(agent: SimulatedSnmp) -> None:
    one = collector(agent, max_oids=1, timeout_s=1)
    await one.poll(AT)
    before = agent.requests
    polling = asyncio.create_task(one.poll(AT))
    await agent.received(before + 4)
    agent.faults.silent = True
    poll = await polling
    assert 0 < len(poll.readings) < len(TRUE)
    assert isinstance(poll.failures[-1], DeviceUnreachable)
    await one.close()


@pytest.mark.parametrize(
    "malformed",
    [b"\x00", b"\x30\x80", b"\x30\x82\xff\xff\x02\x01\x01", b"\x30" * 60_000, bytes(range(256)) * 16],
    ids=["one byte", "indefinite", "cut off", "nested", "noise"],
)
async def test_hostile_answers_are_bounded(agent: SimulatedSnmp, malformed: bytes) -> None:
    agent.faults.malformed = malformed
    poll = await polled(agent, timeout_s=0.2)
    assert poll.readings == ()
    assert isinstance(poll.failures[0], DeviceUnreachable | DecodeError)


async def test_endless_table_is_given_up(agent: SimulatedSnmp) -> None:
    agent.faults.endless = True
    poll = await polled(agent)
    assert poll.readings == ()
    assert len(poll.failures) >= 1


@pytest.mark.parametrize("bulk_too_big", [False, True])
async def test_too_big_answer_is_asked_in_parts(agent: SimulatedSnmp, bulk_too_big: bool) -> None:
    agent.faults.most_bytes, agent.faults.bulk_too_big = 90, bulk_too_big
    one = collector(agent)
    for _ in range(2):
        assert values(await one.poll(AT)) == pytest.approx(TRUE)
    await one.close()


@pytest.mark.parametrize("level", ["v2c", "authNoPriv"])
async def test_broken_off_walk_is_not_taken_for_the_whole_table(agent: SimulatedSnmp, level: str) -> None:
    """A sum over half a table would be a wrong number, not a missing one."""
    one = collector(agent, channels=["power_kw"], **LEVELS[level])
    agent.faults.most_bytes, agent.faults.refuse_after = 60, 2
    poll = await one.poll(AT)
    assert poll.readings == ()
    assert "broke off" in str(poll.failures[0])
    agent.faults.refuse_after = -1
    agent.faults.most_bytes = 8_000
    assert values(await one.poll(AT)) == {"power_kw": pytest.approx(1.665)}
    await one.close()


async def test_cancelled_poll_leaves_nothing_behind(agent: SimulatedSnmp) -> None:
    one = collector(agent, timeout_s=30)
    await one.poll(AT)
    agent.faults.silent = True
    before = agent.requests
    polling = asyncio.create_task(one.poll(AT))
    await agent.received(before + 1)
    polling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await polling
    agent.faults.silent = False
    assert values(await one.poll(AT)) == pytest.approx(TRUE)
    await one.close()
    await one.close()


async def test_questions_to_one_agent_do_not_mix(agent: SimulatedSnmp) -> None:
    client = Agent(SnmpAccess.model_validate(access(agent)), "pdu")
    names = ["1.3.6.1.2.1.1.1.0", "1.3.6.1.2.1.1.2.0", "1.3.6.1.2.1.1.5.0"]
    answers = await asyncio.gather(*(client.get([name]) for name in names * 20))
    assert [list(answer) for answer in answers] == [[name] for name in names * 20]
    client.close()


async def test_stale_agent_repeats_itself(agent: SimulatedSnmp) -> None:
    client = Agent(SnmpAccess.model_validate(access(agent)), "pdu")
    agent.faults.stale = True
    first, second = [await client.get(["1.3.6.1.2.1.1.3.0"]) for _ in range(2)]
    assert first == second
    client.close()


async def test_probe_recognises_and_proposes(agent: SimulatedSnmp) -> None:
    (recognised,) = await probe("127.0.0.1", agent.port, timeout_s=5)
    assert recognised.profile == "raritan_px"
    assert recognised.values["power_kw"] == pytest.approx(1.665)
    assert any("outlets sum to" in finding for finding in recognised.findings)
    assert "community: public" in recognised.yaml


async def test_probe_falls_back_to_v1_where_v2c_is_met_with_silence(agent: SimulatedSnmp) -> None:
    agent.faults.v1_only = True
    (recognised,) = await probe("127.0.0.1", agent.port, timeout_s=1, retries=0)
    assert recognised.values["power_kw"] == pytest.approx(1.665)
    assert "version: '1'" in recognised.yaml
    with pytest.raises(DeviceUnreachable):
        await probe("127.0.0.1", agent.port, timeout_s=0.1, version="2c")


async def test_probe_of_v3_keeps_passwords_out_of_the_yaml(agent: SimulatedSnmp) -> None:
    (recognised,) = await probe("127.0.0.1", agent.port, timeout_s=5, **LEVELS["authPriv"])
    assert "another password" not in recognised.yaml
    assert "priv_password_file" in recognised.yaml


async def test_probe_of_a_silent_address_names_it(agent: SimulatedSnmp) -> None:
    await agent.close()
    with pytest.raises(DeviceUnreachable, match="refused"):
        await probe("127.0.0.1", agent.port, timeout_s=5)


async def test_simulated_agent_understands_another_client(agent: SimulatedSnmp, tmp_path: Path) -> None:
    program = shutil.which("snmpget")
    if program is None:
        pytest.skip("snmpget is absent (Debian package snmp)")
    options = ["-v3", "-u", "signed", "-l", "authNoPriv", "-a", "SHA-256", "-A", "a long password"]
    where = f"127.0.0.1:{agent.port}"
    process = await asyncio.create_subprocess_exec(
        program,
        *options,
        where,
        "1.3.6.1.2.1.1.5.0",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"SNMP_PERSISTENT_DIR": str(tmp_path)},
    )
    said, _ = await process.communicate()
    assert b"simulated" in said


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"version": "4"}, "version"),
        ({"version": 3}, "user: is missing"),
        ({"user": "me"}, "of SNMPv3"),
        ({"version": 3, "user": "u", "community": "public"}, "no community"),
        ({"version": 3, "user": "u", "priv_password": "xxxxxxxx"}, "without authentication"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_configuration_faults_are_named(wrong: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        parse({"kind": "snmp", "host": "192.0.2.1", "profile": "raritan_px", **wrong})


@pytest.mark.parametrize(
    ("profile", "fault"), [("schneider_pm5xxx", "another protocol"), ("none_such", "no profile")]
)
def test_profile_faults_are_named(profile: str, fault: str) -> None:
    config = parse({"kind": "snmp", "host": "192.0.2.1", "profile": profile})
    with pytest.raises(ConfigError, match=fault):
        build(config, Binding("pdu"))


def test_missing_secret_file_is_named(tmp_path: Path) -> None:
    config = parse(
        {"kind": "snmp", "host": "192.0.2.1", "profile": "ups_mib", "community_file": tmp_path / "none"}
    )
    with pytest.raises(ConfigError, match="community_file"):
        build(config, Binding("pdu"))
