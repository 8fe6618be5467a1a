"""How a test gets an agent: over HTTP, through the admin API, as an operator would. It knows nothing of the server."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

__all__ = ["Administered", "OnboardedAgent", "admin_client"]

_TIMEOUT = 30.0  # seconds for one request


@dataclass(frozen=True, slots=True, kw_only=True)
class OnboardedAgent:
    """An agent with one key and one trust delegation.

    Attributes:
        role: What was delegated to it.
        agent_key: Its key. Not in the repr.
    """

    base_url: str
    client_id: str
    name: str
    spiffe_id: str
    role: str
    delegation_id: str
    key_id: str
    agent_key: str = field(repr=False)

    def environ(self, *, api_base_url: str | None = None) -> dict[str, str]:
        """Return the `AUTHSEC_*` variables that make an SDK client this agent."""
        settings = {
            "AUTHSEC_BASE_URL": self.base_url,
            "AUTHSEC_AGENT_CLIENT_ID": self.client_id,
            "AUTHSEC_AGENT_KEY": self.agent_key,
            "AUTHSEC_API_BASE_URL": api_base_url,
        }
        return {name: value for name, value in settings.items() if value is not None}


class Administered:
    """What every authority for tests offers to those who set it up. Thread-safe once it has started."""

    @property
    def client(self) -> httpx.Client:
        """An HTTP client for the admin API, with the first admin's token: `client.get("/clients")`."""
        raise NotImplementedError

    @property
    def base_url(self) -> str:
        """The server's root, for `AUTHSEC_BASE_URL`."""
        raise NotImplementedError

    def onboard(
        self,
        permissions: str | Iterable[str] = "read:metrics",
        *,
        name: str | None = None,
        agent_type: str = "autonomous-workload",
        platform: str = "docker",
        selectors: Mapping[str, str] | None = None,
        role: str | None = None,
        allowed_actions: Iterable[str] | None = None,
        audiences: Iterable[str] | None = None,
        max_duration: int = 3600,
        unit: str = "seconds",
        vault: str | Iterable[str] | None = None,
        vault_namespaces: Iterable[str] = ("*",),
    ) -> OnboardedAgent:
        """Register an agent and delegate a role to it: three requests, and a fourth with `vault`.

        Args:
            permissions: All that the role has; as text, separated by spaces.
            name: A random one by default, like the role's.
            role: One that is there already is changed to these permissions, for everyone who has it.
            allowed_actions: Those of the role's that are delegated; by default all, now and later.
            audiences: By default the authority's.
            max_duration: The longest life of a token, in this unit.
            vault: What it may do in the vault, such as `secrets:read:production/*`; as text, separated by spaces.
            vault_namespaces: Where it may do that; by default wherever the scopes lead.

        Raises:
            RuntimeError: The authority refused it; the message has its words.
        """
        some = secrets.token_hex(4)
        role = role or f"role-{some}"
        self._send("PUT", f"/roles/{role}", {"permissions": _words(permissions)})
        agent = self._send(
            "POST",
            "/clients",
            {
                "name": name or f"agent-{some}",
                "agent_type": agent_type,
                "platform": platform,
                "selectors": dict(selectors or {}),
            },
        )
        delegation = self._send(
            "POST",
            "/trust-delegations",
            {
                "role": role,
                "target_type": agent_type,
                "client_id": agent["client_id"],
                "allowed_actions": None if allowed_actions is None else list(allowed_actions),
                "audiences": None if audiences is None else list(audiences),
                "max_duration": max_duration,
                "unit": unit,
            },
        )
        if vault is not None:
            access = {"namespaces": list(vault_namespaces), "scopes": _words(vault)}
            self._send("PUT", f"/clients/{agent['client_id']}/vault-access", access)
        return OnboardedAgent(
            base_url=self.base_url,
            client_id=agent["client_id"],
            name=agent["name"],
            spiffe_id=agent["spiffe_id"],
            role=role,
            delegation_id=delegation["delegation_id"],
            key_id=agent["key_id"],
            agent_key=agent["agent_key"],
        )

    def _send(self, method: str, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        reply = self.client.request(method, path, json=body)
        if reply.is_success:
            sent: dict[str, Any] = reply.json()
            return sent
        raise RuntimeError(f"{method} {path}: {reply.status_code} {reply.text[:500]}")


def _words(given: str | Iterable[str]) -> list[str]:
    return given.split() if isinstance(given, str) else list(given)


def admin_client(base_url: str, token: str) -> httpx.Client:
    """Return a client for the admin API that takes nothing from the environment."""
    return httpx.Client(
        base_url=f"{base_url}/api/v1",
        headers={"Authorization": f"Bearer {token}"},
        timeout=_TIMEOUT,
        trust_env=False,
    )
