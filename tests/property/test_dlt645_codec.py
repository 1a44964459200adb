"""Frames and digits of DL/T 645 hold for every input."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.dlt645.codec import Frame, NoValue, digits, frame, frames, moment, number, request

ADDRESSES = st.integers(0, 10**12 - 1).map("{:012d}".format)
FRAMES = st.tuples(ADDRESSES, st.integers(0, 255), st.binary(max_size=200))


@given(FRAMES, st.binary(max_size=40).filter(lambda noise: b"\x68" not in noise), st.binary(max_size=40))
def test_a_frame_is_found_in_noise(made: tuple[str, int, bytes], before: bytes, after: bytes) -> None:
    sent = frame(*made)
    found, end = next(frames(before + sent + after))
    assert found == Frame(*made)
    assert end == len(before + sent)


@given(st.binary(max_size=600))
def test_only_sound_frames_are_found_in_anything(data: bytes) -> None:
    last = 0
    for found, end in frames(data):
        assert data[:end].endswith(frame(found.address, found.control, found.data))
        assert end > last
        last = end


@given(FRAMES, st.data())
def test_a_frame_with_one_changed_byte_is_no_frame_of_another_content(
    made: tuple[str, int, bytes], data: st.DataObject
) -> None:
    sent = bytearray(frame(*made))
    at = data.draw(st.integers(0, len(sent) - 1))
    sent[at] ^= data.draw(st.integers(1, 255))
    assert all(end != len(sent) or len(found.data) < len(made[2]) for found, end in frames(bytes(sent)))


@given(st.integers(0, 8).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, 10 ** (2 * size) - 1))))
def test_digits_come_back(sized: tuple[int, int]) -> None:
    size, value = sized
    if size:
        assert number(digits(value, size)) == value


@given(st.integers(-799_999, 799_999))
def test_signed_digits_come_back(value: int) -> None:
    assert number(digits(value, 3, signed=True), signed=True) == value


@given(st.binary(min_size=1, max_size=8), st.booleans())
def test_bytes_are_a_number_or_none(data: bytes, signed: bool) -> None:
    with contextlib.suppress(NoValue):
        value = number(data, signed=signed)
        assert abs(value) < 10 ** (2 * len(data))
        kept = data[:-1] + bytes([data[-1] & 0x7F]) if signed else data
        assert digits(abs(value), len(data)) == kept


@given(st.binary(max_size=7))
def test_bytes_are_a_time_or_none(data: bytes) -> None:
    with contextlib.suppress(NoValue):
        assert moment(data, "%y%m%d%H%M").strftime("%y%m%d%H%M") == data[::-1].hex()


def test_what_does_not_fit_is_refused() -> None:
    for value, signed in ((1_000_000, False), (-1, False), (800_000, True)):
        with pytest.raises(OverflowError):
            digits(value, 3, signed=signed)


@given(ADDRESSES, st.sampled_from(["00010000", "0201FF00", "9010"]))
def test_a_request_is_a_frame_of_its_address_and_identifier(address: str, identifier: str) -> None:
    ((found, _),) = frames(request(address, identifier))
    assert found.address == address
    assert found.data[::-1].hex().upper() == identifier
