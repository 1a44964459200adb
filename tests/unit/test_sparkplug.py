"""Sparkplug B: payloads as they travel, what births name, and what strangers send."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.mqtt.payload import at_path, holds, is_filter, matches
from collectors.mqtt.sparkplug import Broken, Known, Node, decoded, number, place, rebirth, varint

AT = datetime(2026, 11, 30, 4, 0, tzinfo=UTC)
AT_MS = int(AT.timestamp() * 1000)


def metric(
    name: str = "", value: bytes = b"", *, alias: int | None = None, datatype: int = 0, more: bytes = b""
) -> bytes:
    body = b"\x0a" + varint(len(name)) + name.encode() if name else b""
    body += b"" if alias is None else b"\x10" + varint(alias)
    body += b"\x18" + varint(AT_MS)
    body += b"\x20" + varint(datatype) if datatype else b""
    return body + more + value


def double(value: float) -> bytes:
    return b"\x69" + struct.pack("<d", value)


def single(value: float) -> bytes:
    return b"\x65" + struct.pack("<f", value)


def integer(value: int) -> bytes:
    return b"\x50" + varint(value)


def payload(*metrics: bytes, seq: int | None = 0) -> bytes:
    body = b"\x08" + varint(AT_MS) + b"".join(b"\x12" + varint(len(m)) + m for m in metrics)
    return body + (b"" if seq is None else b"\x18" + varint(seq))


def test_a_payload_is_decoded() -> None:
    data = payload(metric("a", double(1.5), alias=3, datatype=10), metric("b", integer(7)), seq=9)
    found = decoded(data)
    assert (found.at, found.seq) == (AT, 9)
    first, second = found.metrics
    assert (first.name, first.alias, first.at, first.datatype, first.value) == ("a", 3, AT, 10, 1.5)
    assert (second.name, second.alias, second.value) == ("b", None, 7)


@pytest.mark.parametrize(
    ("value", "datatype", "expected"),
    [
        (0xFFFF_FFFF, 3, -1.0),
        (0xFFFF, 2, -1.0),
        (0xFFFF_FFF6, 1, -10.0),
        (2**64 - 5, 4, -5.0),
        (0xFFFF_FFFF, 7, 4294967295.0),
        (float("nan"), 10, None),
        (True, 11, None),
        ("7", 12, None),
        (None, 10, None),
    ],
)
def test_values_mean_what_their_type_says(
    value: float | str | None, datatype: int, expected: float | None
) -> None:
    assert number(value, datatype) == expected


def test_aliases_come_with_births_and_end_with_a_gap() -> None:
    node = Node()
    birth = decoded(payload(metric("P", alias=1, datatype=9), metric("bdSeq", integer(4)), seq=0))
    data = decoded(payload(metric(alias=1, value=single(2.5)), seq=2))
    assert node.known("", data.metrics[0]) is None
    node.take("NBIRTH", "", birth)
    node.take("DBIRTH", "m", decoded(payload(metric("Q", alias=2, datatype=3), seq=1)))
    node.take("NDATA", "", data)
    assert node.known("", data.metrics[0]) == Known("", "P", 9)
    assert node.known("m", decoded(payload(metric(alias=2))).metrics[0]) == Known("m", "Q", 3)
    node.take("NDATA", "", decoded(payload(seq=4)))
    assert node.known("", data.metrics[0]) is None, "a message was missed: it may have been a birth"


def test_the_will_of_an_earlier_session_is_not_a_death() -> None:
    node = Node()
    node.take("NBIRTH", "", decoded(payload(metric("P", alias=1), metric("bdSeq", integer(4)))))
    assert not node.take("NDEATH", "", decoded(payload(metric("bdSeq", integer(3)), seq=None)))
    assert node.by_alias
    assert node.take("NDEATH", "", decoded(payload(metric("bdSeq", integer(4)), seq=None)))
    assert not node.by_alias


def test_a_rebirth_is_what_nodes_understand() -> None:
    (asked,) = decoded(rebirth(AT)).metrics
    assert (asked.name, asked.datatype, asked.value, asked.at) == ("Node Control/Rebirth", 11, True, AT)


@given(st.binary(max_size=200))
def test_whatever_is_published(data: bytes) -> None:
    try:
        found = decoded(data)
    except Broken:
        return
    node = Node()
    for kind in ("NBIRTH", "DDATA", "NDEATH"):
        node.take(kind, "d", found)
    for one in found.metrics:
        assert number(one.value, one.datatype) is None or isinstance(number(one.value, one.datatype), float)


def test_topics_name_node_and_device() -> None:
    assert place("spBv1.0/g/DDATA/n/d") == ("g", "DDATA", "n", "d")
    assert place("spBv1.0/g/NDATA/n") == ("g", "NDATA", "n", "")
    assert place("spBv1.0/STATE/host") is None
    assert place("other/g/NDATA/n") is None


@pytest.mark.parametrize(
    ("wanted", "topic", "yes"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("#", "$SYS/x", False),
        ("+/b", "a/b", True),
        ("a/b", "a", False),
    ],
)
def test_filters_mean_topics(wanted: str, topic: str, yes: bool) -> None:
    assert matches(wanted, topic) is yes


def test_paths_lead_to_values() -> None:
    document = {"a": {"b": [{"c": 1}, 2]}, "n": None}
    assert at_path(document, "a.b[0].c") == 1
    assert at_path(document, "a.b[1]") == 2
    assert at_path(document, "") is document
    assert at_path(document, "a.b[9].c") is at_path(document, "x.y") is at_path(5, "x") is None
    assert holds(document, {"a.b[1]": "2"})
    assert is_filter("a/+/b/#")
    assert not any(map(is_filter, ("", "a/#/b", "a+/b", "a#")))
