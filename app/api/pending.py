"""The word beside every figure of a site whose definitions changed: a header, until all is computed again.

Documents that can say it themselves do so too (`pending`); this header stands on all answers about a site, so
that none shows an old figure in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.domain.pue import redefined
from app.errors import StoreUnavailable

HEADER = "Wattline-Pending"
_SITE = re.compile(r"/api/v1/sites/([^/]+)(/.*)?")


class PendingNote:
    """Adds the header to answers about sites of which stretches wait to be computed again."""

    def __init__(self, app: ASGIApp, stretches_of: Callable[[str], int]) -> None:
        self._app, self._stretches_of = app, stretches_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        match = _SITE.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if match is None or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                await self._note(message, match[1])
            await send(message)

        await self._app(scope, receive, noting)

    async def _note(self, message: Message, site: str) -> None:
        try:
            count = await run_in_threadpool(self._stretches_of, site)
        except StoreUnavailable:  # the answer stands, and its figures were read before
            return
        if count:
            MutableHeaders(scope=message)[HEADER] = redefined(count)
