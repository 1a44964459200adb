"""BER, USM and the cipher against the vectors of their standards."""

from __future__ import annotations

import pytest

from collectors.simulated import snmp_aes
from collectors.snmp import ber as ber
from collectors.snmp.usm import AnswerGuard, localized, localized_key, master_key

ENGINE = bytes.fromhex("000000000000000000000002")


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "020100"),
        (127, "02017f"),
        (128, "02020080"),
        (-1, "0201ff"),
        (-129, "0202ff7f"),
        (2**32 - 1, "020500ffffffff"),
    ],
)
def test_numbers(value: int, encoded: str) -> None:
    assert ber.integer(value).hex() == encoded
    assert ber.Span(bytes.fromhex(encoded)).integer() == value


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("1.3.6.1.2.1", "06052b06010201"),
        ("1.3.6.1.4.1.13742.6", "06082b06010401eb2e06"),
        ("2.999", "06028837"),
    ],
)
def test_object_identifiers(text: str, encoded: str) -> None:
    arcs = ber.parse_oid(text)
    assert ber.oid(arcs).hex() == encoded
    assert ber.Span(bytes.fromhex(encoded)).oid() == arcs


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "30",
        "3080",
        "308500000000010000",
        "30ff",
        "0205",
        "020a00000000000000000000",
        "0600",
        "060180",
        "06" + "06" + "ffffffffff7f",
        "0200",
    ],
)
def test_malformed_is_refused(encoded: str) -> None:
    span = ber.Span(bytes.fromhex(encoded))
    readers = {"06": span.oid, "02": span.integer}
    with pytest.raises(ber.BerError):
        readers.get(encoded[:2], lambda: span.take(ber.SEQUENCE).integer())()


@pytest.mark.parametrize("encoded", ["", "30", "3082", "3003020501", "30053003020501", "3004300302"])
def test_a_message_that_is_not_whole_is_told(encoded: str) -> None:
    with pytest.raises(ber.BerError):
        ber.require_nested(bytes.fromhex(encoded))


def test_a_whole_message_is_told_whatever_it_holds() -> None:
    inner = ber.element(ber.RESPONSE, ber.integer(1), ber.octets(b"\x30\xff"))
    ber.require_nested(ber.element(ber.SEQUENCE, inner, ber.element(ber.SEQUENCE)))


def test_long_content_gets_a_long_length() -> None:
    tag, content = ber.Span(ber.octets(bytes(300))).element()
    assert (tag, len(content.octets())) == (ber.OCTETS, 300)


def test_float_in_opaque() -> None:
    encoded = ber.opaque_float(21.5)
    assert ber.float_in_opaque(encoded[2:]) == 21.5
    assert ber.float_in_opaque(bytes.fromhex("9f79084035800000000000")) == 21.5
    assert ber.float_in_opaque(b"21.5") is None


@pytest.mark.parametrize(
    ("protocol", "master", "key"),
    [
        ("md5", "9faf3283884e92834ebc9847d8edd963", "526f5eed9fcce26f8964c2930787d82b"),
        ("sha", "9fb5cc0381497b3793528939ff788d5d79145211", "6695febc9288e36282235fc7151f128497b38f3f"),
    ],
)
def test_keys_of_rfc_3414(protocol: str, master: str, key: str) -> None:
    assert master_key(protocol, b"maplesyrup").hex() == master
    assert localized_key(protocol, b"maplesyrup", ENGINE).hex() == key
    assert localized(protocol, bytes.fromhex(master), ENGINE).hex() == key


def test_empty_password_gives_no_key() -> None:
    with pytest.raises(ValueError, match="empty password"):
        master_key("sha", b"")


def test_cipher_of_sp_800_38a() -> None:
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    start = bytes(range(16))
    plain = bytes.fromhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51")
    cipher = "3b3fd92eb72dad20333449f8e83cfb4ac8a64537a0b3a93fcde3cdad9f1ce58b"
    assert snmp_aes.encrypt(plain, key, start).hex() == cipher
    assert snmp_aes.decrypt(bytes.fromhex(cipher), key, start) == plain
    assert snmp_aes.decrypt(snmp_aes.encrypt(b"odd length", key, start), key, start) == b"odd length"


def test_guard_without_a_level_lets_everything_pass() -> None:
    assert AnswerGuard().passes(b"anything")


def test_guard_with_a_level_refuses_what_is_no_message() -> None:
    guard = AnswerGuard(protocol="sha256", master=bytes(32), private=True)
    assert not guard.passes(b"anything")
    assert guard.refused == 1
