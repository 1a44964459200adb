"""A small OpenID Connect provider over HTTP on loopback: authorization code, PKCE, one RSA key."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any
from urllib.parse import unquote_plus, urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI, Form, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from jwt.algorithms import RSAAlgorithm

from tests.integration.api_helpers import served

CLIENT_ID, CLIENT_SECRET = "wattline", "se cret:+"


class Provider:
    """Signs in whoever comes, as `claims` say; keeps to RFC 6749, 7636 and OpenID Connect."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.issuer = ""
        self.claims: dict[str, Any] = {
            "sub": "4711",
            "preferred_username": "anna",
            "wattline_grants": ["operator"],
        }
        self.refuses = False
        self.asked: dict[str, dict[str, str]] = {}
        """Questions whose answer waits, by code."""
        self.app = FastAPI()
        for path, method, endpoint in (
            ("/.well-known/openid-configuration", "GET", self.discovery),
            ("/authorize", "GET", self.authorize),
            ("/token", "POST", self.token),
            ("/keys", "GET", self.keys),
        ):
            self.app.add_api_route(path, endpoint, methods=[method], response_model=None)

    def discovery(self) -> dict[str, str]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
        }

    def authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        back = {"state": asked["state"], "iss": self.issuer}
        sound = (
            asked["response_type"] == "code"
            and asked["client_id"] == CLIENT_ID
            and asked["code_challenge_method"] == "S256"
            and "openid" in asked["scope"].split()
        )
        if self.refuses or not sound:
            return self._redirect(asked, {**back, "error": "access_denied"})
        code = secrets.token_urlsafe(16)
        self.asked[code] = asked
        return self._redirect(asked, {**back, "code": code})

    @staticmethod
    def _redirect(asked: dict[str, str], answer: dict[str, str]) -> Response:
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", 302)

    def token(
        self,
        request: Request,
        grant_type: Annotated[str, Form()],
        code: Annotated[str, Form()],
        redirect_uri: Annotated[str, Form()],
        code_verifier: Annotated[str, Form()],
    ) -> Response:
        asked = self.asked.pop(code, None)
        digest = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest())
        sound = (
            asked is not None
            and grant_type == "authorization_code"
            and self._client(request) == (CLIENT_ID, CLIENT_SECRET)
            and redirect_uri == asked["redirect_uri"]
            and digest.decode().rstrip("=") == asked["code_challenge"]
        )
        if not sound or asked is None:
            return JSONResponse({"error": "invalid_grant"}, 400)
        return JSONResponse({"token_type": "Bearer", "id_token": self.id_token(asked["nonce"])})

    @staticmethod
    def _client(request: Request) -> tuple[str, ...]:
        text = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        return tuple(map(unquote_plus, text.split(":")))

    def id_token(self, nonce: str) -> str:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": nonce}
        return jwt.encode({**claims, **self.claims}, self.key, algorithm="RS256", headers={"kid": "r"})

    def keys(self) -> dict[str, Any]:
        public = json.loads(RSAAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [{**public, "kid": "r", "alg": "RS256", "use": "sig"}]}


@contextmanager
def provider() -> Iterator[Provider]:
    """A provider that answers until the end of the block."""
    one = Provider()
    with served(one.app) as base:
        one.issuer = base
        yield one
