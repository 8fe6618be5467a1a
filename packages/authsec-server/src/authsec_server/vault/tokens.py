"""Vault tokens: an agent asks for one with its key, for less than it may do itself, and can take it back.

What is kept of a token is an HMAC. Whether it is good is looked at each time that it is shown: see `policy`. What is
above `standard` takes somebody's consent first: see `approvals`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from authsec_core.vault_scopes import format_vault_scopes
from authsec_server import credentials
from authsec_server.audit.ledger import Change, Ledger, Slot, Verdict
from authsec_server.credentials import Credential, Pepper
from authsec_server.db.tables import approval_votes, approvals, vault_tokens
from authsec_server.errors import ConflictError, RefusedError
from authsec_server.ids import random_uuid
from authsec_server.tokens.service import PURGED_AT_ONCE
from authsec_server.vault.approvals import Approval, read_approvals, read_makers, read_open, votes_of
from authsec_server.vault.asking import Asking
from authsec_server.vault.policy import AccessTier, Holder, VaultToken, higher
from authsec_server.vault.questions import VaultQuestion, VaultRequest, read_tokens
from authsec_server.vault.reach import read_tiers, tier_of
from authsec_server.vault.wanted import WantedToken

__all__ = ["IssuedToken", "TokenLimits", "VaultTokens", "Waiting"]

MOST_OPEN: Final = 32  # requests of one agent that wait for consent, or for it to come and get the token
_KEPT_AFTER_END: Final = 86_400  # seconds: for "what became of this?"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLimits:
    """How long things may take; seconds."""

    max_ttl: int
    critical_delay: int
    approval_lifetime: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """A new token, which is shown this once. Instants are epoch seconds."""

    credential: Credential
    wanted: WantedToken
    tier: AccessTier
    created_at: float
    expires_at: float


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


class VaultTokens:
    """Issues vault tokens, takes them back, and forgets those that ended. For one event loop."""

    def __init__(self, asking: Asking, ledger: Ledger, *, limits: TokenLimits) -> None:
        self.limits: Final = limits
        self._asking = asking
        self._ledger = ledger

    async def issue(self, request: VaultRequest, wanted: WantedToken) -> IssuedToken | Waiting:
        """Return a token, or what is being waited for: who asks for the same again waits for the same.

        Raises:
            RefusedError: The agent may not do that itself, or did not show its key; nothing is issued.
            ConflictError: It has asked for too much that nobody has consented to.
            StorageUnavailableError: It could not be recorded. Nothing is issued.
        """
        return await self._answer(request, _Issue(request, self._asking.pepper, self.limits, wanted))

    async def redeem(self, request: VaultRequest, approval_id: str) -> IssuedToken | Waiting:
        """Return the token that was asked for, once, after all have consented to it.

        Raises:
            RefusedError: Somebody denied it, it has ended or been redeemed, or it is not this agent's.
            StorageUnavailableError: It could not be recorded. Nothing is issued.
        """
        return await self._answer(request, _Redeem(request, self._asking.pepper, self.limits, approval_id))

    async def revoke(self, request: VaultRequest, token_id: str) -> None:
        """Take back one of the agent's own tokens; with a token, that one alone. Harmless where it was done before.

        Raises:
            RefusedError: Who asks has no such token.
            StorageUnavailableError: It could not be recorded. The token is as it was.
        """

        async def work(change: Change, token: VaultToken) -> VaultToken:
            this = vault_tokens.c.token_id == token.token_id
            living = this & vault_tokens.c.revoked_at.is_(None)
            await change.connection.execute(sa.update(vault_tokens).where(living).values(revoked_at=change.at))
            return token

        question = _Revoke(request, self._asking.pepper, token_id)
        await self._asking.change(question, request.presented.address, work)

    async def purge(self) -> int:
        """Forget what ended a day ago, some thousands at once, and return how many rows that were.

        The audit keeps them. A token that is forgotten is as dead as one that ended.
        """

        async def work(change: Change) -> int:
            before = change.at - _KEPT_AFTER_END
            old = sa.select(approvals.c.approval_id).where(approvals.c.expires_at < before).limit(PURGED_AT_ONCE)
            votes = sa.delete(approval_votes).where(approval_votes.c.approval_id.in_(old))
            await change.connection.execute(votes)
            asked = await change.connection.execute(sa.delete(approvals).where(approvals.c.approval_id.in_(old)))
            over = sa.select(vault_tokens.c.token_id).where(vault_tokens.c.expires_at < before).limit(PURGED_AT_ONCE)
            ended = await change.connection.execute(sa.delete(vault_tokens).where(vault_tokens.c.token_id.in_(over)))
            return asked.rowcount + ended.rowcount

        return await self._ledger.change(work)

    async def _answer(self, request: VaultRequest, question: _Issue | _Redeem) -> IssuedToken | Waiting:
        async def work(change: Change, answer: _Grant | Waiting) -> _Grant | Waiting:
            if isinstance(answer, _Grant):
                await _store(change, answer, question.credential, self._asking.pepper)
            elif answer.is_new:
                await _keep_waiting(change, answer.approval)
            return answer

        answer = await self._asking.change(question, request.presented.address, work)
        if isinstance(answer, Waiting):
            return answer
        return IssuedToken(
            credential=question.credential,
            wanted=answer.wanted,
            tier=answer.tier,
            created_at=answer.at,
            expires_at=answer.expires_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grant:
    client_id: str
    key_id: str
    wanted: WantedToken
    tier: AccessTier
    at: float
    approval_id: str | None = None

    @property
    def expires_at(self) -> float:
        return self.at + self.wanted.ttl


class _Asks(VaultQuestion[_Grant | Waiting]):
    """What asking for a token and coming for it have in common."""

    def __init__(self, request: VaultRequest, pepper: Pepper, limits: TokenLimits, **more: Any) -> None:
        super().__init__(request, "vault.token.issue", pepper, **more)
        self.credential: Final = credentials.generate("vault-token")
        self.approval_id: Final = random_uuid()
        self._limits = limits

    def _may_do_itself(self, holder: Holder, wanted: WantedToken) -> None:
        if holder.token is not None:
            raise RefusedError("scope_denied", "a vault token is good for no other token: use the agent's key")
        if not all(holder.client.vault.includes(scope) for scope in wanted.scopes):
            raise RefusedError("scope_denied", "the agent itself may not do all of this: ask for less")

    def _granted(self, holder: Holder, grant: _Grant) -> Verdict[_Grant | Waiting | RefusedError]:
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


class _Issue(_Asks):
    """An agent asks for a token."""

    def __init__(self, request: VaultRequest, pepper: Pepper, limits: TokenLimits, wanted: WantedToken) -> None:
        self._wanted = wanted
        self._tier = (read_tiers, tier_of(wanted.scopes))
        self._open = (read_open, request.presented.client_id or "")
        scopes = format_vault_scopes(wanted.scopes)
        super().__init__(request, pepper, limits, asked=scopes, wants=(self._tier, self._open))

    def _allowed(self, holder: Holder, slot: Slot) -> Verdict[_Grant | Waiting | RefusedError]:
        wanted = self._wanted
        self._may_do_itself(holder, wanted)
        tier = higher(wanted.tier, slot.found[self._tier])
        client_id = holder.client.client_id
        if tier == "standard":
            grant = _Grant(client_id=client_id, key_id=holder.key_id, wanted=wanted, tier=tier, at=slot.at)
            return self._granted(holder, grant)
        living = [each for each in slot.found.get(self._open, ()) if each.state(slot.at) != "ended"]
        for approval in living:
            if (approval.wanted, approval.tier) == (wanted, tier):
                return Verdict(result=self._waits(approval), entry=None)  # nothing new was asked, and nothing given
        if len(living) >= MOST_OPEN:
            raise ConflictError(f"the agent waits for {MOST_OPEN} approvals: let operators decide on them first")
        approval = Approval(
            approval_id=self.approval_id,
            client_id=client_id,
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


class _Redeem(_Asks):
    """An agent comes for the token that it asked for."""

    def __init__(self, request: VaultRequest, pepper: Pepper, limits: TokenLimits, approval_id: str) -> None:
        self._approval = (read_approvals, approval_id)
        self._votes = (votes_of, approval_id)
        self._maker = (read_makers, request.presented.credential.id)
        wants = (self._approval, self._votes, self._maker)
        super().__init__(request, pepper, limits, details={"approval_id": approval_id}, wants=wants)

    def _allowed(self, holder: Holder, slot: Slot) -> Verdict[_Grant | Waiting | RefusedError]:
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
        if any(vote.operator == slot.found.get(self._maker) for vote in slot.found.get(self._votes, ())):
            raise RefusedError("approval_required", "whoever approved this has made this key: use another one")
        waiting = self._waits(approval)
        if waiting.good_from is None or slot.at < waiting.good_from:
            return Verdict(result=waiting, entry=None)  # nothing new was asked, and nothing given
        grant = _Grant(
            client_id=approval.client_id,
            key_id=holder.key_id,
            wanted=approval.wanted,
            tier=approval.tier,
            at=slot.at,
            approval_id=approval.approval_id,
        )
        return self._granted(holder, grant)


class _Revoke(VaultQuestion[VaultToken]):
    """Who has a token, or the key that it was asked for with, takes it back."""

    def __init__(self, request: VaultRequest, pepper: Pepper, token_id: str) -> None:
        self._target = (read_tokens, token_id)
        super().__init__(request, "vault.token.revoke", pepper, details={"token_id": token_id}, wants=(self._target,))

    def _allowed(self, holder: Holder, slot: Slot) -> Verdict[VaultToken | RefusedError]:
        target: VaultToken | None = slot.found.get(self._target)
        is_own = target is not None and target.client_id == holder.client.client_id
        if target is None or not is_own or (holder.token is not None and holder.token.token_id != target.token_id):
            raise RefusedError("not_found", "there is no such token, or it is not one's own")
        if target.revoked_at is not None:
            return Verdict(result=target, entry=None)
        scope = format_vault_scopes(target.scopes)
        return Verdict(result=target, entry=self._entry(holder, decision="allow", jti=target.token_id, scope=scope))


async def _store(change: Change, grant: _Grant, credential: Credential, pepper: Pepper) -> None:
    wanted = grant.wanted
    await change.connection.execute(
        sa.insert(vault_tokens).values(
            token_id=credential.id,
            mac=credentials.mac(pepper, "vault-token", credential),
            client_id=grant.client_id,
            key_id=grant.key_id,
            scopes=[str(scope) for scope in wanted.scopes],
            access_tier=grant.tier,
            max_uses=wanted.max_uses,
            uses=0,
            ip_allowlist=None if wanted.addresses is None else list(wanted.addresses),
            description=wanted.description,
            created_at=grant.at,
            expires_at=grant.expires_at,
        )
    )
    if grant.approval_id is not None:
        this = approvals.c.approval_id == grant.approval_id
        redeemed = {"status": "redeemed", "token_id": credential.id}
        await change.connection.execute(sa.update(approvals).where(this).values(redeemed))


async def _keep_waiting(change: Change, approval: Approval) -> None:
    await change.connection.execute(
        sa.insert(approvals).values(
            approval_id=approval.approval_id,
            client_id=approval.client_id,
            access_tier=approval.tier,
            wanted=approval.wanted.kept(),
            status=approval.status,
            created_at=approval.created_at,
            expires_at=approval.expires_at,
        )
    )


def _said(wanted: WantedToken) -> dict[str, Any]:
    addresses = None if wanted.addresses is None else list(wanted.addresses)
    return {"ttl": wanted.ttl, "max_uses": wanted.max_uses, "ip_allowlist": addresses}


def _claims(claimed: Mapping[str, str], wanted: WantedToken) -> Mapping[str, str]:
    return {**claimed, "description": wanted.description} if wanted.description else claimed
