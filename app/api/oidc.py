"""Bearer tokens of an OpenID Connect provider.

What is trusted is configured: issuer, audience, and the address of the signing keys. Nothing in a token
decides where anything is fetched from (``jku`` and ``x5u`` are not looked at) or which kind of
algorithm checks it (only signatures with public keys are allowed).
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlsplit

import httpx
import jwt

from app.domain.access import Grant, Principal
from app.errors import ConfigError, NotAuthenticated

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
LEEWAY_S = 30
KEYS_LIFE_S = 3600.0
LEAST_PAUSE_S = 30.0
"""An unknown key id makes the keys be fetched again, but not more often than this. [s]"""
_ANSWER_BYTES = 1 << 20
FETCH_S = 5.0
"""Longest time for a whole answer of the provider. [s]"""
MOST_WAITING = 2
"""Requests that may wait for the provider's keys at the same time."""
_LONGEST_TOKEN = 16_384


@dataclass(frozen=True, kw_only=True)
class OidcSettings:
    """Trusted issuer of tokens, and the roles they grant."""

    issuer: str
    audience: str
    jwks_url: str = ""
    """Address of the signing keys; empty: as the issuer's discovery document says."""
    grants_claim: str = "wattline_grants"
    """Claim with a list of grants, as ``app.domain.access`` writes them."""

    def __post_init__(self) -> None:
        for name in ("issuer", "jwks_url"):
            check_address(getattr(self, name), f"oidc_{name}", optional=name == "jwks_url")
        if not self.audience:
            raise ConfigError(
                "is missing; give the audience that the provider writes for Wattline", key="oidc_audience"
            )


def check_address(url: str, key: str, *, optional: bool = False) -> None:
    """Refuse addresses whose answers anybody on the way could change.

    Raises
    ------
    ConfigError
        If it is neither https nor on loopback.
    """
    if optional and not url:
        return
    parts = urlsplit(url)
    is_local = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not is_local:
        raise ConfigError(f"{url!r}; allowed is an https:// address", key=key)


def fetch(url: str, *, form: Mapping[str, str] | None = None, basic: tuple[str, str] | None = None) -> Any:
    """JSON from a fixed address: no redirects, bounded size and total time. Not for threads with a loop.

    Parameters
    ----------
    form : mapping, optional
        What is sent to it; absent: nothing, it is only read.
    basic : tuple of str, optional
        Name and secret to sign in with, as RFC 6749 wants them: encoded like a form.

    Raises
    ------
    httpx.HTTPError
        If it cannot be had.
    ValueError
        If it is too large or no JSON.
    """
    auth = (quote_plus(basic[0]), quote_plus(basic[1])) if basic else None
    return json.loads(asyncio.run(_fetched(url, form, auth)))


async def _fetched(url: str, form: Mapping[str, str] | None, auth: tuple[str, str] | None) -> bytes:
    """The body of an answer, whose every byte must come within :data:`FETCH_S`."""
    method, body = "GET" if form is None else "POST", bytearray()
    try:
        async with (
            asyncio.timeout(FETCH_S),
            httpx.AsyncClient(timeout=FETCH_S, follow_redirects=False) as client,
            client.stream(method, url, data=form, auth=auth) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise ValueError(f"{url} answers {answer.status_code}")
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > _ANSWER_BYTES:
                    raise ValueError(f"{url} sends more than {_ANSWER_BYTES} bytes")
    except TimeoutError:
        raise ValueError(f"{url} takes longer than {FETCH_S:g} s") from None
    return bytes(body)


class KeyRing:
    """The provider's signing keys, fetched in a thread of their own, once at a time.

    A token whose key is at hand never waits, however old the keys are; one that names an unknown key waits
    for a fetch that is under way or due, and few do at the same time.
    """

    def __init__(self, load: Callable[[], Any], monotonic_s: Callable[[], float]) -> None:
        self._load, self._monotonic_s = load, monotonic_s
        self._keys: dict[str, jwt.PyJWK] = {}
        self._begun_s = -float("inf")
        self._is_loading, self._problem, self._waiting = False, "", 0
        self._changed = threading.Condition()

    def key(self, key_id: str) -> jwt.PyJWK:
        """The key of that id.

        Raises
        ------
        NotAuthenticated
            If the provider has none, or cannot be asked now.
        """
        with self._changed:
            if key_id not in self._keys:
                self._await(key_id)
            elif self._monotonic_s() - self._begun_s > KEYS_LIFE_S:
                self._begin()
            if key_id in self._keys:
                return self._keys[key_id]
            if not self._keys and self._problem:
                raise NotAuthenticated(f"the sign-in provider cannot be reached: {self._problem}")
            raise NotAuthenticated("the token was rejected: its key does not belong to the provider")

    def _await(self, key_id: str) -> None:
        """Wait until the keys are fetched again, where that is due."""
        if not self._is_loading:
            if self._monotonic_s() - self._begun_s <= LEAST_PAUSE_S:
                return
            self._begin()
        if self._waiting >= MOST_WAITING:
            raise NotAuthenticated("the sign-in provider is being asked for its keys; try again shortly")
        self._waiting += 1
        try:
            self._changed.wait_for(lambda: not self._is_loading or key_id in self._keys, 2 * FETCH_S + 1)
        finally:
            self._waiting -= 1

    def _begin(self) -> None:
        if not self._is_loading:
            self._is_loading, self._begun_s = True, self._monotonic_s()
            threading.Thread(target=self._refresh, name="sign-in keys", daemon=True).start()

    def _refresh(self) -> None:
        """Fetch the keys; where that fails the ones at hand go on."""
        keys, problem = None, ""
        try:
            keys = dict(_usable(self._load()))
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            problem = str(error) or type(error).__name__
        finally:
            with self._changed:
                self._keys, self._problem = self._keys if keys is None else keys, problem
                self._is_loading = False
                self._changed.notify_all()


class OidcVerifier:
    """Checks tokens; keeps the provider's keys."""

    def __init__(
        self,
        settings: OidcSettings,
        *,
        fetch: Callable[[str], Any] = fetch,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._fetch = settings, fetch
        self._addresses: dict[str, str] = {}
        self._ring = KeyRing(self._key_document, monotonic_s)

    def principal(self, token: str) -> Principal:
        """Owner of a token, and the roles it grants.

        Raises
        ------
        NotAuthenticated
            If the token is rejected; the text says why.
        """
        claims = self.claims(token, self._settings.audience)
        return Principal(f"oidc:{claims['sub']}", self.grants(claims))

    @property
    def issuer(self) -> str:
        """The trusted issuer."""
        return self._settings.issuer

    @property
    def grants_claim(self) -> str:
        """Claim with the grants."""
        return self._settings.grants_claim

    def claims(self, token: str, audience: str) -> dict[str, Any]:
        """What a token says that was made for `audience`.

        Raises
        ------
        NotAuthenticated
            If the token is rejected; the text says why.
        """
        if len(token) > _LONGEST_TOKEN:
            raise NotAuthenticated("the token is too long")
        try:
            return self._claims(token, jwt.get_unverified_header(token), audience)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise NotAuthenticated(f"the token was rejected: {error}") from None

    def _claims(self, token: str, header: Mapping[str, Any], audience: str) -> dict[str, Any]:
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise NotAuthenticated(f"the token was rejected: allowed are {', '.join(ALGORITHMS)}")
        if "crit" in header:
            raise NotAuthenticated("the token was rejected: it has critical headers")
        key = self._key(header.get("kid"))
        if key.algorithm_name != algorithm:
            raise NotAuthenticated("the token was rejected: its key is for another algorithm")
        claims: dict[str, Any] = jwt.decode(
            token,
            key=key.key,
            algorithms=[algorithm],
            audience=audience,
            issuer=self._settings.issuer,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iat", "iss", "aud", "sub"]},
        )
        return claims

    def _key(self, key_id: object) -> jwt.PyJWK:
        if not isinstance(key_id, str):
            raise NotAuthenticated("the token was rejected: it does not name its key")
        return self._ring.key(key_id)

    def _key_document(self) -> Any:
        return self._fetch(self._settings.jwks_url or self._discovered("jwks_uri"))

    def endpoint(self, name: str) -> str:
        """An address of the provider, as its discovery document has it.

        Raises
        ------
        NotAuthenticated
            If it cannot be had.
        """
        try:
            url = self._addresses.get(name)
            if url is None:
                url = self._addresses[name] = self._discovered(name)
            return url
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise NotAuthenticated(f"the sign-in provider cannot be reached: {error}") from None

    def _discovered(self, name: str) -> str:
        base = self._settings.issuer.rstrip("/")
        document = self._fetch(f"{base}/.well-known/openid-configuration")
        if document["issuer"] != self._settings.issuer:
            raise ValueError("its discovery document names another issuer")
        url = str(document[name])
        check_address(url, name)
        return url

    def grants(self, claims: Mapping[str, Any]) -> tuple[Grant, ...]:
        """What the claims allow; things that are no grants are left out."""
        texts = claims.get(self._settings.grants_claim)
        known = texts if isinstance(texts, list) else []
        return tuple(grant for text in known if (grant := _grant(text)) is not None)


def _grant(text: object) -> Grant | None:
    """A grant; None for other things that a provider may put into the same claim."""
    try:
        return Grant.parse(str(text))
    except ValueError:
        return None


def _usable(document: Any) -> list[tuple[str, jwt.PyJWK]]:
    """Signing keys with an id, for algorithms we allow."""
    found = []
    for raw in document["keys"]:
        if not isinstance(raw.get("kid"), str) or raw.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(raw)
        except jwt.PyJWTError:
            continue
        if key.algorithm_name in ALGORITHMS:
            found.append((raw["kid"], key))
    return found
