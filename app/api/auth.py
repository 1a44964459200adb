"""Who the caller is: an API key, a token of the sign-in provider, or everybody on loopback."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog
from fastapi import Request

from app.api import proxies
from app.api.oidc import OidcSettings, OidcVerifier
from app.api.rate import RateLimiter
from app.api.recorder import Recorder, network_of
from app.api.single_sign_on import Client, SingleSignOn
from app.domain.access import KEY_COOKIE, Grant, Principal, Role, cookie_name, why_not_separate
from app.errors import ConfigError, NotAuthenticated, StoreUnavailable, TooBusy
from app.store import administration, identity
from app.store.audit import Entry
from app.store.engine import Engine, begin, glance

_log = structlog.get_logger(__name__)
_LOCAL_NAMES = {"localhost", "127.0.0.1", "[::1]"}


class Authenticator(Protocol):
    """Finds out who sent a request."""

    @property
    def single_sign_on(self) -> SingleSignOn | None:
        """The way to sign in at a provider; None where there is none."""

    @property
    def session_idle(self) -> timedelta:
        """A browser's session that is not used for so long is over."""

    def principal(self, request: Request, source: str) -> Principal:
        """The caller.

        Raises
        ------
        NotAuthenticated
            If the caller did not authenticate, or the credentials are invalid.
        TooBusy
            If the caller asks too often.
        """


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class OpenToLoopback:
    """No keys asked: everybody who can connect is the local administrator.

    A page in a browser on this machine can connect, too, under a name that its owner points here; so
    the request must name this machine itself.

    Parameters
    ----------
    engine : Engine, optional
        The store, which says whether administration is separate: then nobody is administrator of everything.
    """

    single_sign_on = None
    session_idle = identity.IDLE
    _LOCAL = Principal("local", (Grant(Role.ADMIN),), is_local=True)

    def __init__(self, engine: Engine | None = None) -> None:
        self._engine, self._was_separate = engine, False

    def principal(self, request: Request, source: str) -> Principal:
        """The local administrator."""
        self._refuse_others(request, source)
        if self._is_separate():
            raise NotAuthenticated(
                "administration is separate, so everybody needs a key; set WATTLINE_REQUIRE_KEYS=true"
            )
        return self._LOCAL

    def _is_separate(self) -> bool:
        """As the store says; while it is away, as it said last."""
        with suppress(StoreUnavailable):
            self._was_separate = self._engine is not None and bool(_why_refused(self._engine, self._LOCAL))
        return self._was_separate

    @staticmethod
    def _refuse_others(request: Request, source: str) -> None:
        if proxies.is_forwarded(request.headers):
            raise NotAuthenticated(
                "this request came through a proxy, so others can reach this service; "
                "set WATTLINE_REQUIRE_KEYS=true"
            )
        host = request.headers.get("host", "")
        if not {host, host.rsplit(":", 1)[0]} & _LOCAL_NAMES:
            raise NotAuthenticated(
                "without access keys, requests are accepted from localhost only; set "
                "WATTLINE_REQUIRE_KEYS=true"
            )
        if not is_loopback(source):
            raise NotAuthenticated("without access keys, requests are accepted from this machine only")


class KeyAuthenticator:
    """Asks for a key, or for a token of the sign-in provider."""

    def __init__(
        self,
        engine: Engine,
        *,
        oidc: OidcVerifier | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        requests_per_minute: int = 1200,
        failures_per_minute: int = 30,
        client: Client | None = None,
        idle: timedelta = identity.IDLE,
    ) -> None:
        self.session_idle = idle
        self._locked = RateLimiter(1, 1)
        self.single_sign_on = (
            SingleSignOn(oidc, client, engine, clock, self.failed) if oidc and client else None
        )
        self._engine, self._oidc, self._clock = engine, oidc, clock
        self._requests = RateLimiter(requests_per_minute, max(requests_per_minute // 10, 1))
        self._failures = RateLimiter(failures_per_minute, failures_per_minute)
        self._recorder = Recorder(engine, clock)

    def principal(self, request: Request, source: str) -> Principal:
        """The caller; every failure is audited, as long as there are not too many."""
        try:
            principal = self._believed(token_of(request), request.scope.get(proxies.CERTIFICATE, ""))
            if problem := _why_refused(self._engine, principal):
                raise NotAuthenticated(problem)
        except NotAuthenticated as error:
            self.failed(source, request.url.path, str(error))
            raise
        self._requests.check(principal.name)
        return principal

    def failed(self, source: str, path: str, reason: str) -> None:
        """Count and write down a login that failed.

        Raises
        ------
        TooBusy
            If there are too many from there.
        """
        try:
            self._failures.check(network_of(source))
        except TooBusy:
            self._tell_locked(source)
            raise
        self._recorder.record(Entry("nobody", "login.failed", path[:200], source, {"reason": reason}))

    def _tell_locked(self, source: str) -> None:
        """A sender with too many failures is locked out for a while: said once a minute."""
        if self._locked.wait_s(network_of(source)) == 0:
            _log.warning("too many failed logins; further ones are refused", source=source)
            self._recorder.record(Entry("lock-out", "login.locked", "", source))

    def _believed(self, token: str, certificate_sha256: str) -> Principal:
        if not token:
            raise NotAuthenticated("a key is needed, as: Authorization: Bearer wl_...")
        if not token.startswith("wl_") and self._oidc is not None:
            return self._oidc.principal(token)
        with begin(self._engine) as connection:
            found = identity.find(connection, token, self._clock(), self.session_idle, certificate_sha256)
        if found is None:
            raise NotAuthenticated("the key is unknown, has expired or was revoked")
        return found


def _why_refused(engine: Engine, principal: Principal) -> str:
    """Why somebody with these grants gets in no more; empty: does. The store is asked about few."""
    problem = why_not_separate(principal.grants)
    if not problem:
        return ""
    with glance(engine) as connection:
        return problem if administration.is_separate(connection) else ""


def authenticator_for(
    engine: Engine,
    host: str,
    *,
    require_keys: bool | None = None,
    oidc: OidcSettings | None = None,
    client: Client | None = None,
    idle: timedelta = identity.IDLE,
) -> Authenticator:
    """What fits an address that is listened on.

    Parameters
    ----------
    engine : Engine
        The store, which has the keys.
    host : str
        Address that is bound.
    require_keys : bool, optional
        Default: unless the address is loopback and no sign-in provider is configured.
    oidc : OidcSettings, optional
        Sign-in provider.
    client : Client, optional
        Wattline as that provider knows it; for signing in with a browser.
    idle : timedelta
        A browser's session that is not used for so long is over.

    Raises
    ------
    ConfigError
        If no keys are to be asked on an address that others can reach.
    """
    local = is_loopback(host)
    if require_keys is False and not local:
        raise ConfigError(
            f"false, but {host} can be reached by others; bind to 127.0.0.1, or ask for keys",
            key="WATTLINE_REQUIRE_KEYS",
        )
    if require_keys is False or (require_keys is None and local and oidc is None):
        return OpenToLoopback(engine)
    return KeyAuthenticator(engine, oidc=OidcVerifier(oidc) if oidc else None, client=client, idle=idle)


def token_of(request: Request) -> str:
    """The key or token of a request; empty where there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return request.cookies.get(cookie_name(KEY_COOKIE, is_https(request)), "")


def is_https(request: Request) -> bool:
    """Whether the browser speaks https, to this service or to the proxy before it."""
    return request.url.scheme == "https"
