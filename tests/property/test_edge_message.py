"""What edges send: everything arrives as it was sent, and nothing else is taken."""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.edge_message import (
    MOST_BYTES,
    Answer,
    Claim,
    Dropped,
    Message,
    SetAside,
    State,
    decode,
    decode_answer,
    encode,
    encode_answer,
)
from app.domain.reading import Reading
from app.domain.signed import Definitions, secret_of, sign, verified
from app.errors import SeriesError

NOW = datetime(2026, 3, 1, tzinfo=UTC)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=100)
instants = st.datetimes(timezones=st.just(UTC))
counts = st.integers(0, 2**60)
readings = st.builds(
    Reading, texts, instants, st.floats(allow_nan=False), st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)
)
states = st.builds(
    State,
    spool=st.uuids().map(str),
    sent_at=instants,
    version=texts,
    revision=counts,
    problem=texts,
    clock_offset_s=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    waiting=counts,
    oldest_at=st.none() | instants,
    dropped=st.lists(st.builds(Dropped, texts, st.just("too_old"), counts), max_size=3).map(tuple),
    set_aside=st.none() | st.lists(st.builds(SetAside, texts, texts, texts, instants), max_size=3).map(tuple),
)
messages = st.builds(
    Message, st.builds(Claim, st.just("a1"), counts), states, st.lists(readings, max_size=20).map(tuple)
)


@given(messages)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    assert decode(encode(message)) == message


@given(messages, st.data())
def test_a_message_that_was_changed_is_refused_or_a_message(message: Message, data: st.DataObject) -> None:
    packed = bytearray(encode(message))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    with suppress(SeriesError):
        assert isinstance(decode(bytes(packed)), Message)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
FIELDS = tuple(json.loads(zlib.decompress(encode(Message(Claim("p"), State("s", NOW))))))


@given(messages, st.sampled_from(FIELDS), json_values)
def test_a_field_of_another_kind_is_refused_or_understood(
    message: Message, field: str, value: object
) -> None:
    document = json.loads(zlib.decompress(encode(message)))
    document[field] = value
    with suppress(SeriesError):
        assert isinstance(decode(zlib.compress(json.dumps(document).encode())), Message)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    with pytest.raises(SeriesError, match=f"at most {MOST_BYTES} bytes"):
        decode(zlib.compress(b" " * (MOST_BYTES + 1)))


def test_what_was_cut_off_is_refused() -> None:
    whole = encode(Message(Claim("p"), State("s", NOW), (Reading("a", NOW, 1.0),)))
    with pytest.raises(SeriesError, match="cut off"):
        decode(whole[:-4])


@given(instants, st.integers(0, 10**9), st.floats(1, 1e6))
def test_an_answer_arrives_as_it_was_given(at: datetime, count: int, pace: float) -> None:
    answer = Answer(at, 7, pace, count, 1, 2, 3, 4)
    assert decode_answer(json.loads(json.dumps(encode_answer(answer)))) == answer


@given(texts, st.integers(0, 2**31), texts)
def test_definitions_are_for_the_key_they_were_signed_with(edge: str, revision: int, text: str) -> None:
    own, other = secret_of("wl_0_aa"), secret_of("wl_0_ab")
    signed = sign(Definitions(edge, revision, text), own)
    assert verified(signed, own) == Definitions(edge, revision, text)
    with pytest.raises(SeriesError, match="signature"):
        verified(signed, other)
    with pytest.raises(SeriesError, match="signature"):
        verified({**signed, "definitions": signed["definitions"] + " "}, own)


def test_a_reading_keeps_its_microsecond() -> None:
    at = NOW + timedelta(microseconds=1)
    (reading,) = decode(encode(Message(Claim("p"), State("s", NOW), (Reading("a", at, 0.1),)))).readings
    assert (reading.at, reading.value) == (at, 0.1)
