"""What the tests of fetching share: an authority and a protected API in the network's place, which remember everything.

It checks nothing itself.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable
from typing import Any

import httpx
from core_support import CLIENT_ID, AnyClient, Driver, compact

from authsec_core import AuthSecConfig, FetchResult
from authsec_core.client import AuthSecClient
from authsec_core.tool import secure_fetch, secure_fetch_async

__all__ = ["API", "AUTHORITY", "World", "fetch", "tool"]

AUTHORITY = "https://authority.test"
API = "https://api.test/v2"


class World:
    """Issues a new token for each exchange, and lets the test answer for the API.

    Attributes:
        answer: What the API answers.
        refusal: The status with which the authority refuses everyone, if it does.
        exchanges: Every request to the authority.
        calls: Every request to anyone else.
        authorizations: What each of them carried; a request that is repeated is one object with another header.
        tokens: What was issued.
    """

    def __init__(self) -> None:
        self.answer: Callable[[httpx.Request], httpx.Response] = lambda _: httpx.Response(200, json={"answer": 42})
        self.refusal: int | None = None
        self.exchanges: list[httpx.Request] = []
        self.calls: list[httpx.Request] = []
        self.authorizations: list[str | None] = []
        self.tokens: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer for the network."""
        if request.url.host != "authority.test":
            self.calls.append(request)
            self.authorizations.append(request.headers.get("Authorization"))
            return self.answer(request)
        self.exchanges.append(request)
        return httpx.Response(self.refusal) if self.refusal else self._issue(request)

    @property
    def silent(self) -> bool:
        """Whether nothing was asked of anyone."""
        return not self.exchanges and not self.calls

    @property
    def asked_scopes(self) -> list[str | None]:
        """The scope of each exchange; None where none was named."""
        return [request.url.params.get("scope") for request in self.exchanges]

    def config(self, **settings: Any) -> AuthSecConfig:
        """Return the settings of an agent of this authority and this API."""
        given = {"base_url": AUTHORITY, "client_id": CLIENT_ID, "api_base_url": API, "retries": 0}
        return AuthSecConfig(**{**given, **settings})

    def client(self, driver: Driver, **settings: Any) -> AnyClient:
        """Return a client in this world."""
        return driver.client(self.config(**settings), handler=self)

    def _issue(self, request: httpx.Request) -> httpx.Response:
        scope = request.url.params.get("scope", "read:all")
        now = int(time.time())  # noqa: TID251 -- the clients here go by the real clock; nothing depends on the instant
        number = len(self.tokens) + 1
        signature = base64.urlsafe_b64encode(hashlib.sha512(str(number).encode()).digest()).rstrip(b"=").decode()
        token = compact(
            {"exp": now + 1800, "iat": now, "jti": f"jti-{number}", "permissions": scope.split()}, signature=signature
        )
        self.tokens.append(token)
        return httpx.Response(200, json={"token": token})


def fetch(driver: Driver, client: AnyClient, *args: Any, **kwargs: Any) -> FetchResult:
    """Call `client.fetch`."""
    return driver.run(client.fetch(*args, **kwargs))


def tool(driver: Driver, client: AnyClient, endpoint: Any, scope: Any, *, per_call: bool = False) -> str:
    """Call the tool as a framework would, with whatever the model typed."""
    if isinstance(client, AuthSecClient):
        return secure_fetch(client, endpoint, scope, per_call=per_call)
    return driver.run(secure_fetch_async(client, endpoint, scope, per_call=per_call))
