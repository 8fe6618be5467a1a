"""Vault tokens: how they are issued and kept, taken back and forgotten.

What is kept of a token is an HMAC. Who gets one is for `issuing`, and whether one is good, each time that it is shown,
for `policy`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from authsec_server import credentials
from authsec_server.audit.ledger import Change, Ledger
from authsec_server.credentials import Credential, Pepper
from authsec_server.db.tables import approval_votes, approvals, vault_tokens
from authsec_server.tokens.service import PURGED_AT_ONCE
from authsec_server.vault.approvals import Approval
from authsec_server.vault.asking import Asking
from authsec_server.vault.issuing import (
    Grant,
    IssueQuestion,
    RedeemQuestion,
    RevokeQuestion,
    TokenLimits,
    Waiting,
)
from authsec_server.vault.policy import AccessTier, VaultToken
from authsec_server.vault.questions import VaultRequest
from authsec_server.vault.wanted import WantedToken

__all__ = ["IssuedToken", "VaultTokens"]

_KEPT_AFTER_END: Final = 86_400  # seconds: for "what became of this?"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """A new token, which is shown this once. Instants are epoch seconds."""

    credential: Credential
    wanted: WantedToken
    tier: AccessTier
    created_at: float
    expires_at: float


class VaultTokens:
    """Issues vault tokens, takes them back, and forgets those that ended. For one event loop."""

    def __init__(self, asking: Asking, ledger: Ledger, *, limits: TokenLimits) -> None:
        self.limits: Final = limits
        self._asking = asking
        self._ledger = ledger

    async def issue(self, request: VaultRequest, wanted: WantedToken) -> IssuedToken | Waiting:
        """Return a token, or what is being waited for: who asks for the same again waits for the same.

        Raises:
            RefusedError: The agent may not do that itself, did not show its key, or has asked for too much that nobody
                has consented to; nothing is issued.
            StorageUnavailableError: It could not be recorded. Nothing is issued.
        """
        return await self._answer(request, IssueQuestion(request, self.limits, wanted))

    async def redeem(self, request: VaultRequest, approval_id: str) -> IssuedToken | Waiting:
        """Return the token that was asked for, once, after all have consented to it.

        Raises:
            RefusedError: Somebody denied it, it has ended or been redeemed, or it is not this agent's.
            StorageUnavailableError: It could not be recorded. Nothing is issued.
        """
        return await self._answer(request, RedeemQuestion(request, self.limits, approval_id))

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

        question = RevokeQuestion(request, token_id)
        await self._asking.change(question, request.presented.address, work)

    async def purge(self) -> int:
        """Forget what ended a day ago, some thousands at once, and return how many rows that were.

        The audit keeps them. A token that is forgotten is as dead as one that ended.
        """

        async def work(change: Change) -> int:
            before = change.at - _KEPT_AFTER_END
            old = sa.select(approvals.c.approval_id).where(approvals.c.expires_at < before).limit(PURGED_AT_ONCE)
            ids = (await change.connection.execute(old)).scalars().all()
            for table in (approval_votes, approvals):
                await change.connection.execute(sa.delete(table).where(table.c.approval_id.in_(ids)))
            over = sa.select(vault_tokens.c.token_id).where(vault_tokens.c.expires_at < before).limit(PURGED_AT_ONCE)
            ended = await change.connection.execute(sa.delete(vault_tokens).where(vault_tokens.c.token_id.in_(over)))
            return len(ids) + ended.rowcount

        return await self._ledger.change(work)

    async def _answer(self, request: VaultRequest, question: IssueQuestion | RedeemQuestion) -> IssuedToken | Waiting:
        async def work(change: Change, answer: Grant | Waiting) -> Grant | Waiting:
            if isinstance(answer, Grant):
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


async def _store(change: Change, grant: Grant, credential: Credential, pepper: Pepper) -> None:
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
            key_id=approval.key_id,
            access_tier=approval.tier,
            wanted=approval.wanted.kept(),
            status=approval.status,
            created_at=approval.created_at,
            expires_at=approval.expires_at,
        )
    )
