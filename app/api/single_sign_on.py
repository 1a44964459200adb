"""Sign-in in the browser at an OpenID Connect provider: authorization code with PKCE, state and nonce.

The provider is asked once, at the end; what it says becomes a key of the store, valid for a working day,
which the browser keeps like any other key. So every request is checked in one way, signing out and
revoking work at once, and no token of the provider is ever kept.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import httpx

from app.api.admission import Places
from app.api.oidc import OidcVerifier, fetch
from app.errors import NotAuthenticated, SeriesError
from app.store import audit, identity
from app.store.audit import Entry
from app.store.engine import Engine, begin

MOST_AT_PROVIDER = 4
"""Sign-ins that may wait for the provider at the same time; all other requests go on."""
_PROVIDER_BUSY = "many are signing in, and the sign-in provider is slow; try again shortly"


@dataclass(frozen=True, kw_only=True)
class Client:
    """Wattline as the provider knows it."""

    id: str
    secret: str = field(default="", repr=False)
    """Empty: a public client, which PKCE alone protects."""
    scope: str = "openid profile"
    public_url: str = ""
    """Address under which browsers reach Wattline; empty: the one they ask for."""


@dataclass(frozen=True)
class Pending:
    """A sign-in that is under way; only the browser that began it has this."""

    state: str
    nonce: str
    verifier: str
    callback: str
    next: str

    def packed(self) -> str:
        """As a cookie holds it."""
        return base64.urlsafe_b64encode(json.dumps(asdict(self)).encode()).decode()

    @classmethod
    def unpacked(cls, text: str) -> Pending:
        """From a cookie.

        Raises
        ------
        NotAuthenticated
            If there is none, or it is not whole.
        """
        try:
            values = json.loads(base64.urlsafe_b64decode(text))
            return cls(**{name: str(values[name]) for name in cls.__dataclass_fields__})
        except (ValueError, KeyError, TypeError):
            raise NotAuthenticated("the sign-in was not started in this browser, or took too long") from None


class SingleSignOn:
    """Sends browsers to the provider and verifies its response.

    Parameters
    ----------
    verifier : OidcVerifier
        Checks the provider's tokens.
    client : Client
        Who asks.
    engine : Engine
        The store, which keeps the session.
    failed : callable
        Called for each failed sign-in: address of the browser, path, reason.
    """

    def __init__(
        self,
        verifier: OidcVerifier,
        client: Client,
        engine: Engine,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        failed: Callable[[str, str, str], None] = lambda source, path, reason: None,
    ) -> None:
        self._verifier, self._client, self._engine = verifier, client, engine
        self._clock, self._failed = clock, failed
        self._at_provider = Places(MOST_AT_PROVIDER, MOST_AT_PROVIDER)

    def begin(self, base: str, next: str, source: str) -> tuple[str, Pending]:
        """Where to send the browser, and what it has to bring back.

        Parameters
        ----------
        base : str
            Address under which the browser reached this service.
        next : str
            Page to be shown afterwards.
        source : str
            Address of the browser.

        Raises
        ------
        NotAuthenticated
            If the provider cannot be asked.
        TooBusy
            If too many sign-ins fail.
        """
        callback = f"{(self._client.public_url or base).rstrip('/')}/sign-in/callback"
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        asked = {
            "response_type": "code",
            "client_id": self._client.id,
            "redirect_uri": callback,
            "scope": self._client.scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge(verifier),
            "code_challenge_method": "S256",
        }
        try:
            with self._at_provider.taken("", _PROVIDER_BUSY):
                address = self._verifier.endpoint("authorization_endpoint")
        except NotAuthenticated as error:
            self._failed(source, "/sign-in/start", str(error))
            raise
        mark = "&" if "?" in address else "?"
        return f"{address}{mark}{urlencode(asked)}", Pending(state, nonce, verifier, callback, next)

    @staticmethod
    def unpacked(cookie: str) -> Pending:
        """The sign-in of a cookie; raises as :meth:`Pending.unpacked`."""
        return Pending.unpacked(cookie)

    def finish(self, pending: Pending, answer: Mapping[str, str], source: str) -> str:
        """The key of a new session, for what the provider sent back through the browser.

        Raises
        ------
        NotAuthenticated
            If the answer is not that to the question, or the provider does not stand by it.
        TooBusy
            If too many sign-ins fail.
        """
        try:
            with self._at_provider.taken("", _PROVIDER_BUSY):
                claims = self._claims(pending, answer)
            return self._session(claims, source)
        except NotAuthenticated as error:
            self._failed(source, "/sign-in/callback", str(error))
            raise

    def _claims(self, pending: Pending, answer: Mapping[str, str]) -> dict[str, Any]:
        if not hmac.compare_digest(answer.get("state", "").encode(), pending.state.encode()):
            raise NotAuthenticated("the sign-in was not started in this browser; start again")
        if answer.get("iss", self._verifier.issuer) != self._verifier.issuer:
            raise NotAuthenticated("the response came from another sign-in provider")
        if "code" not in answer:
            reason = answer.get("error_description") or answer.get("error") or "it sent no code"
            raise NotAuthenticated(f"the sign-in provider refused the sign-in: {reason[:200]}")
        claims = self._verifier.claims(self._id_token(pending, answer["code"]), self._client.id)
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), pending.nonce.encode()):
            raise NotAuthenticated("the token was rejected: it belongs to another sign-in")
        return claims

    def _id_token(self, pending: Pending, code: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": pending.callback,
            "client_id": self._client.id,
            "code_verifier": pending.verifier,
        }
        secret = (self._client.id, self._client.secret) if self._client.secret else None
        try:
            said: Any = fetch(self._verifier.endpoint("token_endpoint"), form=form, basic=secret)
            return str(said["id_token"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise NotAuthenticated(f"the sign-in provider did not confirm the sign-in: {error}") from None

    def _session(self, claims: Mapping[str, Any], source: str) -> str:
        name, grants = f"oidc:{claims['sub']}", self._verifier.grants(claims)
        if not grants:
            raise NotAuthenticated(
                f"{_known_as(claims)} may not see anything here: the sign-in provider's claim "
                f"{self._verifier.grants_claim} grants no role; contact its administrator"
            )
        now = self._clock()
        with begin(self._engine) as connection:
            try:
                key = identity.begin_session(connection, name, grants, now)
            except SeriesError as error:
                raise NotAuthenticated(f"{_known_as(claims)} may not sign in: {error}") from None
            detail = {"grants": [str(grant) for grant in grants], "known_as": _known_as(claims)}
            audit.append(connection, Entry(name, "login", "single sign-on", source, detail), now)
        return key


def challenge(verifier: str) -> str:
    """What is shown of a secret before the secret itself (RFC 7636, S256)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _known_as(claims: Mapping[str, Any]) -> str:
    """Display name of the owner of a token."""
    return str(claims.get("preferred_username") or claims.get("email") or claims["sub"])[:200]
