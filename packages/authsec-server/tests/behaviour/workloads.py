"""What the tests of workload identity share: issuers that are registered, and agents that prove where they run."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from behaviour.support import Site

from authsec_core import AuthSecClient, AuthSecConfig
from authsec_core.token import DelegationToken
from authsec_server.testing import ClusterIssuer, OnboardedAgent

POD = ("production", "support-sa")


def register(site: Site, cluster: ClusterIssuer, **more: Any) -> dict[str, Any]:
    """Register a cluster under a name of its own, and return what the authority says of it."""
    body = {
        "name": f"cluster-{secrets.token_hex(4)}",
        "kind": "kubernetes",
        "issuer": cluster.issuer,
        "jwks_url": cluster.jwks_url,
        **more,
    }
    made: dict[str, Any] = site.admin("POST", "/issuers", json=body, status=201)
    return made


def change(site: Site, issuer: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Change a registered issuer."""
    changed: dict[str, Any] = site.admin("PATCH", f"/issuers/{issuer['issuer_id']}", json=changes, status=200)
    return changed


def agent_in(site: Site, issuer: Mapping[str, Any] | None, **selectors: str) -> OnboardedAgent:
    """Onboard an agent of the usual service account, in this cluster or in none that it names."""
    named = {} if issuer is None else {"k8s:cluster": issuer["name"]}
    usual = {"k8s:ns": POD[0], "k8s:sa": POD[1]}
    return site.onboard(platform="kubernetes", selectors={**usual, **named, **selectors})


def bring(site: Site, agent: OnboardedAgent, token: str) -> httpx.Response:
    """Ask for a delegation token with a workload's token as the proof, and again where an issuer has just changed."""
    reply = site.ask(agent, f"Bearer {token}")
    while "at this very moment" in reply.text:  # for a second, at a server where it was not changed
        reply = site.ask(agent, f"Bearer {token}")
    return reply


def sdk(agent: OnboardedAgent, file: Path) -> AuthSecClient:
    """Return an SDK client that has no key, and the workload's token in a file."""
    config = AuthSecConfig(
        base_url=agent.base_url, client_id=agent.client_id, workload_token_file=file, mode="live", retries=0
    )
    return AuthSecClient(config)


def fetch(agent: OnboardedAgent, file: Path) -> DelegationToken:
    """Return a token that the SDK gets by what is in the file."""
    with sdk(agent, file) as client:
        return client.delegation_token("read:metrics")
