"""What the tests of the vault share: how an agent asks, and what the audit has of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx
from behaviour.support import Call, Site, at_once

SECRETS = "/v1/secrets"


@dataclass(frozen=True)
class Asking:
    """Somebody who asks the vault.

    Attributes:
        bearer: An agent key or a vault token.
    """

    site: Site
    bearer: str

    def __call__(self, method: str, path: str, *, status: int | None = 200, **more: Any) -> Any:
        """Ask, see that it got this status, and return the body; an error's body where it is one.

        Args:
            path: Below `/v1/secrets`.
        """
        reply = self.reply(method, path, **more)
        assert reply.status_code == status, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    def reply(self, method: str, path: str, *, headers: Any = None, **more: Any) -> httpx.Response:
        """Ask, and return the whole reply."""
        given = {"Authorization": f"Bearer {self.bearer}", **(headers or {})}
        return self.site.http.request(method, f"{self.site.authority.base_url}{SECRETS}{path}", headers=given, **more)

    def raw(self, method: str, *targets: str, body: object = None) -> list[httpx.Response]:
        """Ask at once for these targets, exactly as they are written."""
        base = self.site.authority.base_url
        return at_once([Call(method, f"{base}{target}", bearer=self.bearer, body=body) for target in targets])

    def put(self, path: str, value: str, **more: Any) -> Any:
        """Write a secret."""
        return self("PUT", f"/{path}", json={"value": value, **more})

    def value(self, path: str, **query: Any) -> str:
        """Return a secret's value."""
        return str(self("GET", f"/{path}", params=query)["value"])

    def code(self, method: str, path: str, *, status: int, **more: Any) -> str:
        """Return the code of an error."""
        body = self(method, path, status=status, **more)
        assert set(body) == {"error"}
        assert set(body["error"]) == {"code", "message"}
        return str(body["error"]["code"])

    def token(self, *scopes: str, **more: Any) -> Asking:
        """Return who asks with a token of these scopes."""
        reply = self.site.http.post(
            f"{self.site.authority.base_url}/v1/tokens",
            headers={"Authorization": f"Bearer {self.bearer}"},
            json={"scopes": list(scopes), **more},
        )
        assert reply.status_code == 200, reply.text
        return Asking(self.site, reply.json()["token"])


def agent(site: Site, vault: str = "secrets:*:*", **more: Any) -> Asking:
    """Return a new agent that may do this in the vault."""
    return Asking(site, site.onboard(vault=vault, **more).agent_key)


def vault_entries(site: Site, **filters: str) -> list[dict[str, Any]]:
    """Return what the audit has of the vault's secrets, the oldest first."""
    return [entry for entry in site.entries(**filters) if entry["action"].startswith("vault.secret.")]


def text_of(*things: Any) -> str:
    """Return all of it as one text, to look for something in it."""
    return json.dumps([str(thing) for thing in things])
