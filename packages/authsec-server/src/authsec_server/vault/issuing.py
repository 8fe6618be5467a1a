"""May this agent have this token now, or what does it wait for? Decided in the ledger's transaction.

An agent gives what it may do itself, or less. What is above `standard` takes somebody's consent first: see `approvals`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from authsec_core.vault_scopes import format_vault_scopes
from authsec_server import credentials
from authsec_server.audit.questions import Slot, Verdict
from authsec_server.errors import RefusedError
from authsec_server.ids import random_uuid
from authsec_server.vault.approvals import Approval, read_approvals, read_open
from authsec_server.vault.policy import AccessTier, Holder, VaultToken, higher
from authsec_server.vault.questions import VaultQuestion, VaultRequest, read_tokens
from authsec_server.vault.reach import read_tiers, tier_of
from authsec_server.vault.wanted import WantedToken

__all__ = ["Grant", "IssueQuestion", "RedeemQuestion", "RevokeQuestion", "TokenLimits", "Waiting"]

MOST_OPEN: Final = 32  # requests of one agent that wait for consent, or for it to come and get the token


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLimits:
    """How long things may take; seconds."""

    max_ttl: int
    critical_delay: int
    approval_lifetime: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A token that is to be issued. Instants are epoch seconds.

    Attributes:
        key_id: The agent key that it will rest on.
        approval_id: What it was approved as.
    """

    client_id: str
    key_id: str
    wanted: WantedToken
    tier: AccessTier
    at: float
    approval_id: str | None = None

    @property
    def expires_at(self) -> float:
        """When it will end."""
        return self.at + self.wanted.ttl


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """No token as yet: somebody has to consent, or a delay has to pass.

    Attributes:
        good_from: When it can be had, where all have consented; epoch seconds.
        is_new: Whether this request is the first that asks for it.
    """

    approval: Approval
    good_from: float | None
    is_new: bool


class _Asks(VaultQuestion[Grant | Waiting]):
    """What asking for a token and coming for it have in common."""

    def __init__(self, request: VaultRequest, limits: TokenLimits, **more: Any) -> None:
        super().__init__(request, "vault.token.issue", **more)
        self.credential: Final = credentials.generate("vault-token")
        self.approval_id: Final = random_uuid()
        self._limits = limits

    def _may_do_itself(self, holder: Holder, wanted: WantedToken) -> None:
        if holder.token is not None:
            raise RefusedError("scope_denied", "a vault token is good for no other token: use the agent's key")
        if not all(holder.client.vault.includes(scope) for scope in wanted.scopes):
            raise RefusedError("scope_denied", "the agent itself may not do all of this: ask for less")

    def _granted(self, holder: Holder, grant: Grant) -> Verdict[Grant | Waiting | RefusedError]:
        wanted = grant.wanted
        entry = self._entry(
            holder,
            decision="allow",
            jti=self.credential.id,
            scope=format_vault_scopes(wanted.scopes),
            details={**_said(wanted), "access_tier": grant.tier},
        )
        return Verdict(result=grant, entry=replace(entry, claimed=_claims(entry.claimed, wanted)))

    def _waits(self, approval: Approval, *, is_new: bool = False) -> Waiting:
        good_from = approval.good_from(self._limits.critical_delay)
        return Waiting(approval=approval, good_from=good_from, is_new=is_new)


class IssueQuestion(_Asks):
    """An agent asks for a token."""

    def __init__(self, request: VaultRequest, limits: TokenLimits, wanted: WantedToken) -> None:
        self._wanted = wanted
        self._tier = (read_tiers, tier_of(wanted.scopes))
        self._open = (read_open, request.presented.client_id or "")
        scopes = format_vault_scopes(wanted.scopes)
        super().__init__(request, limits, asked=scopes, wants=(self._tier, self._open))

    def _allowed(self, holder: Holder, slot: Slot) -> Verdict[Grant | Waiting | RefusedError]:
        wanted = self._wanted
        self._may_do_itself(holder, wanted)
        tier = higher(wanted.tier, slot.found[self._tier])
        client_id = holder.client.client_id
        if tier == "standard":
            grant = Grant(client_id=client_id, key_id=holder.key_id, wanted=wanted, tier=tier, at=slot.at)
            return self._granted(holder, grant)
        keys = {key.key_id for key in holder.client.keys if key.is_live(slot.at)}
        found: tuple[Approval, ...] = slot.found.get(self._open, ())
        living = [each for each in found if each.key_id in keys and each.state(slot.at) != "ended"]
        for approval in living:
            if (approval.key_id, approval.wanted, approval.tier) == (holder.key_id, wanted, tier):
                return Verdict(result=self._waits(approval), entry=None)  # nothing new was asked, and nothing given
        if len(living) >= MOST_OPEN:
            raise RefusedError(
                "limit_reached", f"the agent waits for {MOST_OPEN} approvals: let operators decide on them first"
            )
        approval = Approval(
            approval_id=self.approval_id,
            client_id=client_id,
            key_id=holder.key_id,
            tier=tier,
            wanted=wanted,
            status="pending",
            created_at=slot.at,
            expires_at=slot.at + self._limits.approval_lifetime,
        )
        details = {**_said(wanted), "access_tier": tier, "approval_id": approval.approval_id}
        entry = self._entry(holder, action="vault.approval.request", decision="allow", details=details)
        entry = replace(entry, claimed=_claims(entry.claimed, wanted))
        return Verdict(result=self._waits(approval, is_new=True), entry=entry)


class RedeemQuestion(_Asks):
    """An agent comes for the token that it asked for."""

    def __init__(self, request: VaultRequest, limits: TokenLimits, approval_id: str) -> None:
        self._approval = (read_approvals, approval_id)
        super().__init__(request, limits, details={"approval_id": approval_id}, wants=(self._approval,))

    def _allowed(self, holder: Holder, slot: Slot) -> Verdict[Grant | Waiting | RefusedError]:
        approval: Approval | None = slot.found.get(self._approval)
        if approval is None or approval.client_id != holder.client.client_id:
            raise RefusedError("not_found", "the agent has asked for no approval of this id")
        self._may_do_itself(holder, approval.wanted)
        state = approval.state(slot.at)
        if state == "denied":
            raise RefusedError("approval_denied", "an operator denied this token")
        if state in ("redeemed", "ended"):
            how = "was used" if state == "redeemed" else "has ended"
            raise RefusedError("approval_ended", f"the approval {how}: ask for another token")
        if approval.key_id != holder.key_id:
            # An operator who approved may have made this one, or have it from who did.
            raise RefusedError(
                "approval_required", "this was asked for with another key: come with that one, or ask with this one"
            )
        waiting = self._waits(approval)
        if waiting.good_from is None or slot.at < waiting.good_from:
            return Verdict(result=waiting, entry=None)  # nothing new was asked, and nothing given
        grant = Grant(
            client_id=approval.client_id,
            key_id=holder.key_id,
            wanted=approval.wanted,
            tier=approval.tier,
            at=slot.at,
            approval_id=approval.approval_id,
        )
        return self._granted(holder, grant)


class RevokeQuestion(VaultQuestion[VaultToken]):
    """Who has a token, or the key that it was asked for with, takes it back."""

    def __init__(self, request: VaultRequest, token_id: str) -> None:
        self._target = (read_tokens, token_id)
        super().__init__(request, "vault.token.revoke", details={"token_id": token_id}, wants=(self._target,))

    def _allowed(self, holder: Holder, slot: Slot) -> Verdict[VaultToken | RefusedError]:
        target: VaultToken | None = slot.found.get(self._target)
        is_own = target is not None and target.client_id == holder.client.client_id
        if target is None or not is_own or (holder.token is not None and holder.token.token_id != target.token_id):
            raise RefusedError("not_found", "there is no such token, or it is not one's own")
        if target.revoked_at is not None:
            return Verdict(result=target, entry=None)
        scope = format_vault_scopes(target.scopes)
        return Verdict(result=target, entry=self._entry(holder, decision="allow", jti=target.token_id, scope=scope))


def _said(wanted: WantedToken) -> dict[str, Any]:
    addresses = None if wanted.addresses is None else list(wanted.addresses)
    return {"ttl": wanted.ttl, "max_uses": wanted.max_uses, "ip_allowlist": addresses}


def _claims(claimed: Mapping[str, str], wanted: WantedToken) -> Mapping[str, str]:
    return {**claimed, "description": wanted.description} if wanted.description else claimed
