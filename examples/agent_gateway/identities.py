"""Three callers to try the gateway with: a real authority on this machine, and a token of each role.

The authority's tokens say in `delegated_by` which role was delegated, and the guard takes that for the caller's role.
What an operator delegates there and what stands in the gateway's policy together decide who may do what.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent_gateway.folder import write_private
from authsec_core import AuthSecClient, AuthSecConfig
from authsec_fastapi import TrustedIssuer
from authsec_server.testing import DevAuthority, OnboardedAgent

__all__ = ["AUDIENCE", "CALLERS", "SampleIdentities", "sample_identities"]

AUDIENCE: Final = "agent-gateway"
CALLERS: Final[Mapping[str, tuple[str, ...]]] = {
    "viewer": ("read:orders",),
    "agent": ("read:orders", "write:refunds"),
    "admin": ("read:orders", "write:refunds"),
}
_LIFE: Final = 8 * 3600  # seconds: a day of trying it out
_MAX_AGE: Final = 2.0  # seconds that a status list counts: so long a revoked token may still work


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleIdentities:
    """The authority, and who has a token of it.

    Attributes:
        agents: By role.
        tokens: By role. Not in the repr.
    """

    authority: DevAuthority
    agents: Mapping[str, OnboardedAgent]
    tokens: Mapping[str, str] = field(repr=False)

    @property
    def trusted(self) -> TrustedIssuer:
        """On which terms the gateway accepts its tokens."""
        return TrustedIssuer(
            issuer=self.authority.issuer,
            audience=AUDIENCE,
            roles_claim="delegated_by",
            revocation_max_age=_MAX_AGE,
        )

    @property
    def names(self) -> dict[str, str]:
        """What the callers are called, by client id."""
        return {agent.client_id: role for role, agent in self.agents.items()}

    def revoke(self, role: str) -> None:
        """Revoke whoever has this role, and their tokens."""
        self.authority.client.post(f"/clients/{self.agents[role].client_id}/revoke").raise_for_status()

    def write(self, folder: Path) -> dict[str, Path]:
        """Write a file for each role that `curl -H @FILE` takes, readable by nobody else, and return where they are."""
        files = {}
        for role, token in self.tokens.items():
            files[role] = write_private(folder / f"{role}.header", f"Authorization: Bearer {token}\n")
        return files

    def write_revocation(self, folder: Path, role: str) -> Path:
        """Write a file by which `curl -K FILE` revokes whoever has this role, as the authority's admin."""
        url = self.authority.client.base_url.join(f"clients/{self.agents[role].client_id}/revoke")
        lines = [
            "request = POST",
            f'url = "{url}"',
            f'header = "Authorization: Bearer {self.authority.admin_token}"',
            r'write-out = " %{http_code}\n"',
        ]
        return write_private(folder / f"revoke-{role}.curl", "\n".join([*lines, ""]))


@contextlib.contextmanager
def sample_identities() -> Iterator[SampleIdentities]:
    """Provide an authority with the three, until the end of the block."""
    with DevAuthority(environ={"AUTHSEC_SERVER_MAX_TOKEN_TTL": str(_LIFE)}) as authority:
        agents = {
            role: authority.onboard(scopes, name=role, role=role, audiences=[AUDIENCE], max_duration=_LIFE)
            for role, scopes in CALLERS.items()
        }
        yield SampleIdentities(
            authority=authority, agents=agents, tokens={role: _token(agent) for role, agent in agents.items()}
        )


def _token(agent: OnboardedAgent) -> str:
    config = AuthSecConfig(
        mode="live",
        base_url=agent.base_url,
        client_id=agent.client_id,
        agent_key=agent.agent_key,
        audience=AUDIENCE,
    )
    with AuthSecClient(config) as client:
        return client.delegation_token(ttl=_LIFE).value
