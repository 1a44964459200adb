"""Answers are compressed where they are text and the client takes it."""

from __future__ import annotations

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

LEAST_BYTES = 1024
"""Shorter answers are sent as they are."""
_LEVEL = 5
"""Beyond it, time grows faster than size shrinks."""
_PACKED = ("/readings", "/reports/")
"""Parts of paths whose answers are streamed in bulk, or are packed already (Parquet, PDF, Excel)."""


class Compression:
    """ASGI middleware: gzip, except of exports and reports."""

    def __init__(self, app: ASGIApp) -> None:
        self._plain = app
        self._packing = GZipMiddleware(app, minimum_size=LEAST_BYTES, compresslevel=_LEVEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with or without compression."""
        is_packed = scope["type"] != "http" or any(part in scope["path"] for part in _PACKED)
        await (self._plain if is_packed else self._packing)(scope, receive, send)
