"""Client certificates by their fingerprint."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import quote

import pytest

from app.domain.certificate import fingerprint, fingerprint_of_header

DER = b"\x30\x82\x01\x00" + bytes(range(200))
SHA256 = hashlib.sha256(DER).hexdigest()
BASE64 = base64.b64encode(DER).decode()
PEM = f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(DER).decode()}-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("text", [PEM, PEM.replace("\n", " "), SHA256, SHA256.upper(), f" {SHA256} "])
def test_a_certificate_or_its_fingerprint_is_understood(text: str) -> None:
    assert fingerprint(text) == SHA256
    assert fingerprint(":".join(SHA256[i : i + 2] for i in range(0, 64, 2))) == SHA256


def test_no_certificate_is_needed() -> None:
    assert fingerprint("") == fingerprint(" \n") == ""


@pytest.mark.parametrize(
    "text",
    ["a", SHA256[1:], PEM + PEM, PEM.replace("CERTIFICATE", "PRIVATE KEY"), PEM.replace("A", "=", 1), "\x00"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"certificate"):
        fingerprint(text)


def test_headers_of_the_standard_and_of_nginx() -> None:
    assert fingerprint_of_header(f":{BASE64}:") == SHA256
    assert fingerprint_of_header(quote(PEM)) == SHA256


@pytest.mark.parametrize(
    "value",
    [
        *("", ":", "::", ":a:", "%00", BASE64, SHA256),
        *(f":{BASE64}", f":{BASE64}:, :{BASE64}:", quote(PEM + PEM), f":{'A' * 40_000}:"),
    ],
)
def test_a_header_that_is_none_names_no_certificate(value: str) -> None:
    assert fingerprint_of_header(value) == ""
