"""Client certificates by their fingerprint: SHA-256 over the DER form."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from urllib.parse import unquote

_PEM = re.compile(r"\s*-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_MOST_CHARACTERS = 32_768


def fingerprint(text: str) -> str:
    """The fingerprint of a certificate, in small hexadecimal digits; empty of an empty text.

    Parameters
    ----------
    text : str
        PEM with one certificate, or the SHA-256 fingerprint itself, with or without colons.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if not text.strip():
        return ""
    digits = text.strip().replace(":", "").lower()
    if _FINGERPRINT.fullmatch(digits):
        return digits
    match = _PEM.fullmatch(text[:_MOST_CHARACTERS])
    if match is None:
        raise ValueError("give one certificate in PEM, or its SHA-256 fingerprint of 64 hexadecimal digits")
    return _of_der("".join(match[1].split()))


def fingerprint_of_header(value: str) -> str:
    """The fingerprint of the certificate in a header ``Client-Cert``; empty where there is none.

    Either as RFC 9440 has it, base64 of DER between colons, or PEM with percent escapes, as nginx writes it.
    """
    if len(value) > _MOST_CHARACTERS:
        return ""
    try:
        if value.startswith(":"):
            return _of_der(value.strip(":")) if len(value) > 2 and value.endswith(":") else ""
        return fingerprint(unquote(value)) if value.startswith("-----BEGIN") else ""
    except ValueError:
        return ""


def _of_der(encoded: str) -> str:
    try:
        der = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError("the certificate is damaged") from None
    if not der.startswith(b"\x30"):
        raise ValueError("this is no certificate")
    return hashlib.sha256(der).hexdigest()
