"""One Redfish service: a session that is reused and renewed, resources, and collections in one request."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from app.errors import CollectError, DecodeError, DeviceRefused
from collectors.http import Answer, HttpAccess, HttpSession, refuse_status, secret

ROOT = "/redfish/v1/"
SESSIONS = "/redfish/v1/SessionService/Sessions"
LOGIN_PAUSE_S = 300.0
"""A service that refused our password is not asked again so soon: accounts are locked by that. [s]"""
MOST_MEMBERS = 2000
_MOST_PAGES = 50
_GONE_S = 3.0
"""Longest time that ending the session may take. [s]"""

Resource = Mapping[str, Any]


@dataclass
class Service:
    """A service and our session with it.

    Parameters
    ----------
    device : str
        Name of the meter, for messages.
    config : HttpAccess
    by_session : bool
        Whether we log in once; else user and password go with every request.
    """

    device: str
    config: HttpAccess
    by_session: bool
    http: HttpSession = field(init=False)
    _token: str = ""
    _session: str = ""
    """Path of our session."""
    _refused: str = ""
    _refused_until: float = 0.0
    _login: asyncio.Lock = field(default_factory=asyncio.Lock)
    _expand: str | None = None
    """What is asked for behind ``?``; empty where the service does not expand; None: not known yet."""

    def __post_init__(self) -> None:
        self.http = HttpSession(self.device, self.config)

    async def get(self, path: str) -> Resource:
        """A resource.

        Raises
        ------
        CollectError
            If there is none, or it is no JSON object.
        """
        answer = await self._asked(path)
        refuse_status(self.device, answer, _said(answer))
        found = answer.json(self.device)
        if not isinstance(found, dict):
            raise DecodeError(self.device, f"{path} is no Redfish resource")
        return found

    async def _asked(self, path: str) -> Answer:
        """GET; a session that the service has ended is renewed once."""
        if not (self.by_session and self.config.user) or path == ROOT:
            return await self.http.ask("GET", path, headers=_HEADERS)
        for is_last in (False, True):
            token = await self._logged_in()
            answer = await self.http.ask("GET", path, headers={**_HEADERS, "x-auth-token": token})
            if answer.status != 401 or is_last:
                return answer
            if token == self._token:
                self._token = self._session = ""
        raise AssertionError

    async def _logged_in(self) -> str:
        """The session's token, of a new session where there is none."""
        async with self._login:
            if self._token:
                return self._token
            now_s = asyncio.get_running_loop().time()
            if now_s < self._refused_until:
                raise DeviceRefused(self.device, self._refused)
            body = {"UserName": self.config.user, "Password": secret(self.config, "password")}
            answer = await self.http.ask(
                "POST", SESSIONS, json.dumps(body).encode(), headers=_HEADERS, anonymous=True
            )
            self._note_refusal(answer, now_s)
            refuse_status(self.device, answer, _said(answer))
            if not (token := answer.headers.get("x-auth-token", "")):
                raise DecodeError(self.device, "the service gave no session; set auth: basic")
            self._token, self._session = token, _path(answer.headers.get("location", ""))
            return token

    def _note_refusal(self, answer: Answer, now_s: float) -> None:
        if answer.status in (400, 401, 403):
            why = f"the service refused the login (HTTP {answer.status}); check user and password"
            self._refused, self._refused_until = (
                f"{why}; tried again after {LOGIN_PAUSE_S:g} s",
                now_s + LOGIN_PAUSE_S,
            )
            raise DeviceRefused(self.device, self._refused)
        if answer.status in (404, 405, 501):
            raise DeviceRefused(self.device, "the service has no sessions; set auth: basic")

    async def members(self, path: str) -> AsyncIterator[tuple[str, Resource | None]]:
        """Members of a collection by path; whole where the service expands them, else None.

        Raises
        ------
        CollectError
            If there is no such collection.
        """
        expand = await self._expansion()
        target: str = f"{path}?{expand}" if expand else path
        seen = 0
        for _ in range(_MOST_PAGES):
            found = await self._page(target, path)
            for member in found.get("Members") or ():
                place = _path(member.get("@odata.id", "")) if isinstance(member, dict) else ""
                if place and (seen := seen + 1) <= MOST_MEMBERS:
                    yield place, member if len(member) > 1 else None
            target = _path(found.get("Members@odata.nextLink", ""), with_query=True)
            if not target or seen >= MOST_MEMBERS:
                return

    async def _page(self, target: str, plain: str) -> Resource:
        """A page of a collection; a service that stumbles over ``$expand`` is asked without it then."""
        try:
            return await self.get(target)
        except DeviceRefused:
            if not self._expand or "$expand" not in target:
                raise
            self._expand = ""
            return await self.get(plain)

    async def _expansion(self) -> str:
        if self._expand is None:
            root = await self.get(ROOT)
            offered = (root.get("ProtocolFeaturesSupported") or {}).get("ExpandQuery") or {}
            sign = "." if offered.get("NoLinks") else "*" if offered.get("ExpandAll") else ""
            levels = "($levels=1)" if offered.get("Levels") else ""
            self._expand = f"$expand={sign}{levels}" if sign else ""
        return self._expand

    async def close(self) -> None:
        """End our session and the connections; harmless when repeated."""
        token, self._token = self._token, ""
        if token and self._session:
            with contextlib.suppress(CollectError, TimeoutError):
                async with asyncio.timeout(_GONE_S):
                    await self.http.ask("DELETE", self._session, headers={"x-auth-token": token})
        await self.http.close()


_HEADERS = {"odata-version": "4.0"}


def _path(text: object, *, with_query: bool = False) -> str:
    """The path of a link within the service; empty where it leads elsewhere."""
    if not isinstance(text, str):
        return ""
    parts = urlsplit(text)
    if not parts.path.startswith("/redfish/") or ".." in parts.path:
        return ""
    return f"{parts.path}?{parts.query}" if with_query and parts.query else parts.path


def _said(answer: Answer) -> str:
    """The first message of an error, as Redfish writes them."""
    try:
        error = json.loads(answer.body)["error"]
        details = error.get("@Message.ExtendedInfo") or [{}]
        return str(details[0].get("Message") or error.get("message", ""))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return ""


_services: dict[tuple[str, str, bool, int], tuple[Service, int]] = {}


def shared(device: str, config: HttpAccess, *, by_session: bool) -> Service:
    """The service at an address: all meters behind it share one session, as services have few."""
    key = (config.url, config.user, by_session, id(asyncio.get_running_loop()))
    service, users = _services.get(key) or (Service(device, config, by_session), 0)
    _services[key] = (service, users + 1)
    return service


async def released(service: Service) -> None:
    """Give a service back; the session ends with the last of its meters."""
    loop = id(asyncio.get_running_loop())
    key = (service.config.url, service.config.user, service.by_session, loop)
    held, users = _services.get(key, (service, 1))
    if users > 1:
        _services[key] = (held, users - 1)
        return
    _services.pop(key, None)
    await service.close()
