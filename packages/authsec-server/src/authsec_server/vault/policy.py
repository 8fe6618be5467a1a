"""Who asks the vault, and may they do this with this secret, now? Pure; default deny.

Three limits are AND-ed: what the operator lets the agent do, what its token says, and the tier of the secret. Whatever
may have changed since a token was issued (the agent was disabled, its key revoked, its namespaces cut) is looked at
each time, in the transaction that records the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final, Literal

from authsec_core.vault_scopes import VaultAction, VaultScope
from authsec_server.agents.standing import Standing, StoredKey
from authsec_server.credentials import Credential, Pepper, mac, matches
from authsec_server.errors import RefusedError

__all__ = [
    "TIERS",
    "AccessTier",
    "Holder",
    "Presented",
    "VaultToken",
    "higher",
    "holder_of",
    "permit",
    "permit_listing",
    "token_of",
    "unproven",
]

AccessTier = Literal["standard", "sensitive", "critical"]
TIERS: Final[tuple[AccessTier, ...]] = ("standard", "sensitive", "critical")  # from low to high


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultToken:
    """What is kept of a vault token: never the token. Instants are epoch seconds.

    Attributes:
        mac: HMAC-SHA-256 of the token under the server's pepper.
        key_id: The agent key that it was asked for with; it ends with that.
        tier: The highest that was approved.
        max_uses: How often it can be used; None is as often as it likes.
        addresses: The only networks that it can be used from; None is any.
    """

    token_id: str
    mac: bytes = field(repr=False)
    client_id: str
    key_id: str
    scopes: tuple[VaultScope, ...]
    tier: AccessTier
    max_uses: int | None
    uses: int
    addresses: tuple[IPv4Network | IPv6Network, ...] | None
    expires_at: float
    revoked_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """What came along to show who asks.

    Attributes:
        credential: An agent key or a vault token; unproven as yet.
        mac: HMAC-SHA-256 of it, as what it says it is, under the server's pepper: made once, and compared with what is
            kept before the body is read and again in the transaction.
        client_id: Whose it is said to be, by its id; None where no such id is known.
        address: The peer's, as far as the server knows it.
    """

    credential: Credential
    mac: bytes = field(repr=False)
    client_id: str | None
    address: str | None

    @classmethod
    def of(cls, credential: Credential, pepper: Pepper, *, client_id: str | None, address: str | None) -> Presented:
        """Return a credential with its MAC, which takes the pepper."""
        given = mac(pepper, credential.kind, credential)
        return cls(credential=credential, mac=given, client_id=client_id, address=address)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who asks, proven.

    Attributes:
        token: None where the agent's own key was shown.
        key_id: The agent key that everything rests on.
    """

    client: Standing
    token: VaultToken | None
    key_id: str

    def covers(self, action: VaultAction, path: str) -> bool:
        """Return whether scopes allow this; see `permit` for the rest."""
        by_token = self.token is None or any(scope.covers(action, path) for scope in self.token.scopes)
        return by_token and self.client.vault.covers(action, path)

    def reaches(self, action: VaultAction, namespace: str) -> bool:
        """Return whether something that scopes allow may lie in the namespace or below; `""` is the whole vault."""
        by_token = self.token is None or any(scope.reaches(action, namespace) for scope in self.token.scopes)
        return by_token and self.client.vault.reaches(action, namespace)


def holder_of(presented: Presented, *, standing: Standing | None, token: VaultToken | None, at: float) -> Holder:
    """Return who asks.

    Args:
        standing: Of the client that `presented` names.
        token: The row of the vault token, where one was shown.
        at: Epoch seconds.

    Raises:
        RefusedError: The credential is not good now, or not from this address.
    """
    if standing is None:
        raise unproven()
    credential = presented.credential
    if credential.kind == "agent-key":
        key = _key(standing, credential.id)
        kept = None if key is None else key.mac
    elif credential.kind == "vault-token" and token is not None and token.client_id == standing.client_id:
        key, kept = _key(standing, token.key_id), token.mac
    else:
        raise unproven()
    if not matches(kept, presented.mac) or key is None or not key.is_live(at):
        raise unproven()
    if standing.state != "active":
        raise RefusedError(
            "client_revoked" if standing.state == "revoked" else "client_disabled", f"this agent is {standing.state}"
        )
    if credential.kind == "agent-key":
        return Holder(client=standing, token=None, key_id=key.key_id)
    if token is None or token.revoked_at is not None or at >= token.expires_at:
        raise unproven()
    if token.addresses is not None and not _is_within(presented.address, token.addresses):
        raise RefusedError("address_denied", "this token cannot be used from this address")
    return Holder(client=standing, token=token, key_id=key.key_id)


def permit(holder: Holder, action: VaultAction, path: str, *, tier: AccessTier) -> None:
    """See that the holder may do this with the secret at this path.

    A token that has been used up is refused whatever it is shown for.

    Args:
        tier: The highest that the secret has or had, as far as this concerns it; `standard` where there is none yet.

    Raises:
        RefusedError: They may not.
    """
    token = holder.token
    _require_uses(token)
    if not holder.covers(action, path):
        raise RefusedError("scope_denied", f"no scope of this credential allows to {action} this secret")
    granted = "standard" if token is None else token.tier
    if TIERS.index(tier) > TIERS.index(granted):
        raise RefusedError(
            "approval_required", f"this secret is {tier}: ask for a token of its own, which has to be approved"
        )


def permit_listing(holder: Holder, namespace: str) -> None:
    """See that the holder may see something of what lies in this namespace or below.

    Raises:
        RefusedError: There is nothing that they may see, whatever is there.
    """
    _require_uses(holder.token)
    if not holder.reaches("read", namespace):
        raise RefusedError("scope_denied", "no scope of this credential reaches into this namespace")


def higher(one: AccessTier, other: AccessTier) -> AccessTier:
    """Return the stricter of two tiers."""
    return max(one, other, key=TIERS.index)


def token_of(row: Any) -> VaultToken:
    """Return the token of a row of `vault_tokens`."""
    return VaultToken(
        token_id=row.token_id,
        mac=bytes(row.mac),
        client_id=row.client_id,
        key_id=row.key_id,
        scopes=_scopes(tuple(row.scopes)),
        tier=row.access_tier,
        max_uses=row.max_uses,
        uses=row.uses,
        addresses=None if row.ip_allowlist is None else tuple(map(ip_network, row.ip_allowlist)),
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


@lru_cache(maxsize=4096)  # a token that is read with is read each time
def _scopes(texts: tuple[str, ...]) -> tuple[VaultScope, ...]:
    return tuple(map(VaultScope.parse, texts))


def _key(standing: Standing, key_id: str) -> StoredKey | None:
    return next((key for key in standing.keys if key.key_id == key_id), None)


def _require_uses(token: VaultToken | None) -> None:
    if token is not None and token.max_uses is not None and token.uses >= token.max_uses:
        raise RefusedError("token_exhausted", "this token has been used as often as it can be: ask for another")


def _is_within(address: str | None, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    try:
        found = ip_address((address or "").partition("%")[0])
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in network for network in networks)


def unproven() -> RefusedError:
    """Return what is said to who has proven nothing.

    One text for all cases: which of them it is would tell a thief what to try next.
    """
    return RefusedError("proof_wrong", "an agent key or a vault token is needed, and none that is good was sent")
