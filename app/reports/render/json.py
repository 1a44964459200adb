"""The document as JSON: the same in every language."""

from __future__ import annotations

import json

from app.reports.document import Document, as_data


def render(document: Document) -> bytes:
    """Indented JSON in UTF-8; its canonical form is what the hash is of."""
    return (json.dumps(as_data(document), ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()
