"""Bearer tokens of an OpenID Connect provider.

What is trusted is configured: issuer, audience, and the address of the signing keys. Nothing in a token
decides where anything is fetched from (``jku`` and ``x5u`` are not looked at) or which kind of
algorithm checks it (only signatures with public keys are allowed).
"""

from __future__ import annotations

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
_TIMEOUT_S = 5.0
_LONGEST_TOKEN = 16_384


@dataclass(frozen=True, kw_only=True)
class OidcSettings:
    """Whose tokens are believed, and what they may do."""

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
    """JSON from a fixed address: no redirects, bounded size and time.

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
    body = bytearray()
    method, auth = "GET" if form is None else "POST", tuple(map(quote_plus, basic)) if basic else None
    options: dict[str, Any] = {"data": form, "auth": auth, "timeout": _TIMEOUT_S, "follow_redirects": False}
    with httpx.stream(method, url, **options) as answer:
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"{url} answers {answer.status_code}")
        for chunk in answer.iter_bytes():
            body += chunk
            if len(body) > _ANSWER_BYTES:
                raise ValueError(f"{url} sends more than {_ANSWER_BYTES} bytes")
    return json.loads(bytes(body))


class OidcVerifier:
    """Checks tokens; keeps the provider's keys."""

    def __init__(
        self,
        settings: OidcSettings,
        *,
        fetch: Callable[[str], Any] = fetch,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._fetch, self._monotonic_s = settings, fetch, monotonic_s
        self._keys: dict[str, jwt.PyJWK] = {}
        self._addresses: dict[str, str] = {}
        self._fetched_s = -float("inf")
        self._lock = threading.Lock()

    def principal(self, token: str) -> Principal:
        """Whom a token is of, and what they may do.

        Raises
        ------
        NotAuthenticated
            If the token is not believed; the text says why.
        """
        claims = self.claims(token, self._settings.audience)
        return Principal(f"oidc:{claims['sub']}", self.grants(claims))

    @property
    def issuer(self) -> str:
        """Whose tokens are believed."""
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
            If the token is not believed; the text says why.
        """
        if len(token) > _LONGEST_TOKEN:
            raise NotAuthenticated("the token is too long")
        try:
            return self._claims(token, jwt.get_unverified_header(token), audience)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise NotAuthenticated(f"the token is not believed: {error}") from None

    def _claims(self, token: str, header: Mapping[str, Any], audience: str) -> dict[str, Any]:
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise NotAuthenticated(f"the token is not believed: allowed are {', '.join(ALGORITHMS)}")
        if "crit" in header:
            raise NotAuthenticated("the token is not believed: it has critical headers")
        key = self._key(header.get("kid"))
        if key.algorithm_name != algorithm:
            raise NotAuthenticated("the token is not believed: its key is for another algorithm")
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
            raise NotAuthenticated("the token is not believed: it names no key")
        with self._lock:
            age_s = self._monotonic_s() - self._fetched_s
            if age_s > KEYS_LIFE_S or (key_id not in self._keys and age_s > LEAST_PAUSE_S):
                self._refresh()
            if key_id not in self._keys:
                raise NotAuthenticated("the token is not believed: its key is not the provider's")
            return self._keys[key_id]

    def _refresh(self) -> None:
        """Fetch the keys; where that fails the ones at hand go on for a while."""
        self._fetched_s = self._monotonic_s()
        try:
            document = self._fetch(self._settings.jwks_url or self._discovered("jwks_uri"))
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            if not self._keys:
                raise NotAuthenticated(f"the sign-in provider cannot be asked: {error}") from None
            return
        self._keys = dict(_usable(document))

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
            raise NotAuthenticated(f"the sign-in provider cannot be asked: {error}") from None

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
