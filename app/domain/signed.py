"""Definitions that a cell gives to an edge: whole, for this edge, and from the cell.

Signed with HMAC-SHA-256 under what both know of the edge's key, the hash of its secret. Whoever carries them
(a proxy, a hub, a disk) does not know it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import SeriesError

_PURPOSE = b"wattline definitions "


@dataclass(frozen=True, slots=True)
class Definitions:
    """What an edge measures."""

    edge: str
    """Name of the edge that they are for."""
    revision: int
    site_file: str
    """JSON, see :func:`app.config.dump`."""


def secret_of(key: str) -> str:
    """What the cell knows of a key: the hash of its secret, which stands behind the last ``_``."""
    return hashlib.sha256(key.rpartition("_")[2].encode()).hexdigest()


def sign(definitions: Definitions, secret: str) -> dict[str, Any]:
    """Definitions with their signature, as JSON.

    Parameters
    ----------
    secret : str
        See :func:`secret_of`.
    """
    document = {
        "edge": definitions.edge,
        "revision": definitions.revision,
        "site_file": definitions.site_file,
    }
    text = json.dumps(document, separators=(",", ":"), sort_keys=True)
    return {"definitions": text, "signature": _signature(text, secret)}


def verified(signed: Mapping[str, Any], secret: str) -> Definitions:
    """Signed definitions, if the signature is right.

    Raises
    ------
    SeriesError
        If it is not, or these are no definitions.
    """
    text, signature = signed.get("definitions"), signed.get("signature")
    if not isinstance(text, str) or not isinstance(signature, str):
        raise SeriesError("these are no signed definitions")
    if not hmac.compare_digest(signature.encode(), _signature(text, secret).encode()):
        raise SeriesError(
            "the signature of the definitions is wrong: they are of another key, or were changed"
        )
    try:
        document = json.loads(text)
        return Definitions(str(document["edge"]), int(document["revision"]), str(document["site_file"]))
    except (ValueError, TypeError, KeyError) as error:
        raise SeriesError(f"the definitions are not understood: {error}") from None


def _signature(text: str, secret: str) -> str:
    return hmac.new(secret.encode(), _PURPOSE + text.encode(), hashlib.sha256).hexdigest()
