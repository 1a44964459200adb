"""The codec and the agent meet anything with an answer or with silence, never with an exception."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.profiles.profile import SnmpProfile, load_profile
from collectors.simulated.snmp_agent import SimulatedSnmp, SnmpUser
from collectors.snmp import ber as ber
from collectors.snmp.usm import AnswerGuard

_ARCS = st.lists(st.integers(0, 2**32 - 1), max_size=20).map(lambda tail: (1, 3, *tail))


def _agent() -> SimulatedSnmp:
    profile = load_profile("raritan_px")
    assert isinstance(profile, SnmpProfile)
    users = [SnmpUser("open"), SnmpUser("closed", "sha256", "password1", "password2")]
    return SimulatedSnmp(profile, ["power_kw"], lambda channel, at: 1.0, users=users)


AGENT = _agent()


def _request(tag: int, names: list[tuple[int, ...]], numbers: tuple[int, int, int]) -> bytes:
    bindings = [ber.element(ber.SEQUENCE, ber.oid(name), ber.element(ber.NULL)) for name in names]
    pdu = ber.element(tag, *(ber.integer(n) for n in numbers), ber.element(ber.SEQUENCE, *bindings))
    return ber.element(ber.SEQUENCE, ber.integer(1), ber.octets(b"public"), pdu)


_REQUESTS = st.builds(
    _request,
    st.sampled_from([ber.GET, ber.GET_NEXT, ber.GET_BULK]),
    st.lists(_ARCS, max_size=30),
    st.tuples(*[st.integers(-(2**31), 2**31 - 1)] * 3),
)


@given(st.integers(-(2**63), 2**64 - 1))
def test_numbers_come_back(value: int) -> None:
    assert ber.Span(ber.integer(value)).integer() == value


@given(_ARCS)
def test_object_identifiers_come_back(arcs: tuple[int, ...]) -> None:
    assert ber.Span(ber.oid(arcs)).oid() == arcs


@given(st.binary(max_size=300))
def test_noise_is_met_with_silence_or_an_answer(data: bytes) -> None:
    AGENT.answer(data)
    AnswerGuard(protocol="sha256", master=bytes(32), private=True).passes(data)


@given(_REQUESTS)
def test_every_request_is_answered_within_bounds(request: bytes) -> None:
    answer = AGENT.answer(request)
    assert answer is not None
    assert len(answer) <= 9_000


@settings(max_examples=300)
@given(_REQUESTS, st.data())
def test_damaged_requests_raise_nothing(request: bytes, data: st.DataObject) -> None:
    damaged = bytearray(request)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    AGENT.answer(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
