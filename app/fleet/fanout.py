"""Ask all cells the same question at the same time; whoever is late, away or not understood is named.

One deadline holds for the whole answer of a cell, its last byte included, so a cell that sends a byte now and
then is as absent as one that is switched off.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar

import httpx

from app.errors import ConfigError
from app.fleet.cells import Cell

T = TypeVar("T")

Scope = Literal["all", "cell"]
"""Query parameter `scope`: of all cells, or of the one that is asked alone, so that cells which list each
other do not ask in circles."""
SCOPE_ALL: Scope = "all"
_OWN: Scope = "cell"
DEADLINE_S = 5.0
"""Longest time that a cell has while somebody waits for the answer. [s]"""
MOST_BYTES = 64 << 20
"""A longer answer is not read. [B]"""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What one cell said."""

    cell: Cell
    said: T | None
    """None where it is missing."""
    problem: str = ""
    """Why it is missing."""
    took_s: float = 0.0


class NotUnderstood(Exception):
    """An answer is not what was asked for; the text says why."""


def ask(
    cells: Sequence[Cell],
    path: str,
    query: Mapping[str, str],
    understand: Callable[[Cell, Any], T],
    *,
    deadline_s: float,
    without: T | None = None,
) -> list[Answer[T]]:
    """The answers of all cells, in their order, after `deadline_s` at most.

    Parameters
    ----------
    path : str
        Behind ``/api/v1``.
    understand : callable
        Makes of a cell and its JSON document what is wanted.

        Raises
        ------
        NotUnderstood
            If it is something else.
    without : optional
        What a cell says that has nothing of that name; by default it is missing then.
    """
    return asyncio.run(_ask_all(cells, path, query, understand, deadline_s, without))


async def _ask_all(
    cells: Sequence[Cell],
    path: str,
    query: Mapping[str, str],
    understand: Callable[[Cell, Any], T],
    deadline_s: float,
    without: T | None,
) -> list[Answer[T]]:
    own = {**query, "scope": _OWN}
    asked = (_ask(cell, path, own, understand, deadline_s, without) for cell in cells)
    return list(await asyncio.gather(*asked))


async def _ask(
    cell: Cell,
    path: str,
    query: Mapping[str, str],
    understand: Callable[[Cell, Any], T],
    deadline_s: float,
    without: T | None,
) -> Answer[T]:
    began = time.monotonic()
    said, problem = None, ""
    try:
        async with asyncio.timeout(deadline_s):
            status, content = await _get(cell, f"{cell.url}/api/v1{path}", query)
        is_without = status == httpx.codes.NOT_FOUND and without is not None
        said = without if is_without else understand(cell, _document(status, content))
    except TimeoutError:
        problem = f"no whole answer within {deadline_s:g} s"
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        problem = f"cannot be reached: {error or type(error).__name__}"
    except (NotUnderstood, ConfigError) as error:
        problem = str(error)
    return Answer(cell, said, problem, time.monotonic() - began)


def _trust(cell: Cell) -> ssl.SSLContext | bool:
    """What a certificate is verified against; to load the system's takes longer than most answers."""
    if cell.url.startswith("http://"):
        return False
    return cell.trust() if cell.ca_file else _of_system()


@lru_cache(maxsize=1)
def _of_system() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


async def _get(cell: Cell, url: str, query: Mapping[str, str]) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {cell.key()}", "Accept": "application/json"}
    async with (
        httpx.AsyncClient(verify=_trust(cell), trust_env=False, timeout=None) as client,
        client.stream("GET", url, params=dict(query), headers=headers) as response,
    ):
        parts, size = [], 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > MOST_BYTES:
                raise NotUnderstood(f"the answer is longer than {MOST_BYTES >> 20} MiB")
            parts.append(part)
    return response.status_code, b"".join(parts)


_REFUSALS = {
    401: "it does not know our key; make a viewer's key there and put it into key_file",
    403: "our key may not see this; give it the role viewer there",
    404: "it has no such address; is the url that of a Wattline of this version?",
    429: "it is asked too often",
    503: "its database is away",
}


def _document(status: int, content: bytes) -> Any:
    if status != httpx.codes.OK:
        raise NotUnderstood(_REFUSALS.get(status, f"it answers HTTP {status}"))
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise NotUnderstood("the answer is no JSON; is the url that of a Wattline?") from None
