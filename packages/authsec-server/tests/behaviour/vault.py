"""What the tests of the vault share: how an agent asks, what operators do there, and what the audit has of it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from behaviour.support import Call, Site, at_once

from authsec_server.testing import OnboardedAgent

WHOLE = "secrets:*:*"
CANARY = "canary-value-of-a-secret"


def say(site: Site, method: str, path: str, bearer: str, *, at: str | None = None, **more: Any) -> httpx.Response:
    """Send a request below `/v1`.

    Args:
        at: The base URL of one server.
    """
    headers = {"Authorization": f"Bearer {bearer}", **more.pop("headers", {})}
    return site.http.request(method, f"{at or site.authority.base_url}/v1{path}", headers=headers, **more)


def ask(site: Site, agent: OnboardedAgent, *scopes: str, **more: Any) -> httpx.Response:
    """Let an agent ask for a token."""
    return say(site, "POST", "/tokens", agent.agent_key, json={"scopes": list(scopes), **more})


def token(site: Site, agent: OnboardedAgent, *scopes: str, **more: Any) -> str:
    """Return a token, which has to be given."""
    reply = ask(site, agent, *scopes, **more)
    assert reply.status_code == 200, reply.text
    assert reply.json()["requires_approval"] is False
    return str(reply.json()["token"])


def approver(site: Site, name: str) -> str:
    """Return an operator's token that nobody else has had in hand: one that they made for themselves."""
    operator, first = site.operator("admin", name=name)
    url = f"{site.authority.base_url}/api/v1/operators/{operator}/tokens"
    own = site.http.post(url, json={}, headers={"Authorization": f"Bearer {first}"}).json()["token"]
    site.admin("PATCH", f"/operators/{operator}", json={"role": "operator"})
    return str(own)


def id_of(credential: str) -> str:
    """Return the public name of a credential."""
    return credential.partition(".")[0]


def secret(site: Site, agent: OnboardedAgent, *, tier: str = "standard", namespace: str = "production") -> str:
    """Let an agent write a new secret, and return its path."""
    path = f"{namespace}/{secrets.token_hex(6)}/key"
    body = {"value": CANARY, "access_tier": tier}
    reply = say(site, "PUT", f"/secrets/{path}", agent.agent_key, json=body)
    assert reply.status_code == 200, reply.text
    return path


def read(site: Site, path: str, bearer: str, *, at: str | None = None, **more: Any) -> int:
    """Read a secret, see that it came with a 200 and nothing of it otherwise, and return the status."""
    reply = say(site, "GET", f"/secrets/{path}", bearer, at=at, **more)
    assert (CANARY in reply.text) == (reply.status_code == 200)
    return reply.status_code


def read_at_once(site: Site, path: str, bearer: str, count: int) -> Sequence[httpx.Response]:
    """Read a secret so many times at once, at one server after the other."""
    urls = site.base_urls
    return at_once([Call("GET", f"{urls[n % len(urls)]}/v1/secrets/{path}", bearer) for n in range(count)])


def code_of(reply: httpx.Response) -> str:
    """Return the code of an error of the vault."""
    return str(reply.json()["error"]["code"])


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
        return say(self.site, method, f"/secrets{path}", self.bearer, headers=headers or {}, **more)

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
        reply = say(self.site, "POST", "/tokens", self.bearer, json={"scopes": list(scopes), **more})
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
