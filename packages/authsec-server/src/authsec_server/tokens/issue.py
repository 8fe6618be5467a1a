"""One request for a delegation token, from what was sent to the signed token. Knows no HTTP.

The decision is made and recorded inside the ledger's transaction, so that it sees every revocation that was
acknowledged before; only when it is durable is the token signed and handed out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from authsec_core.scopes import format_scopes
from authsec_server.agents.proofs import Proof, Proven
from authsec_server.agents.standing import Standing
from authsec_server.audit.entry import ANONYMOUS, Actor, Caller, Entry
from authsec_server.audit.ledger import Ledger, Slot, Verdict
from authsec_server.errors import RefusedError
from authsec_server.ids import random_uuid
from authsec_server.keys.keyring import Keyring
from authsec_server.tokens.claims import IssuedToken
from authsec_server.tokens.policy import Ask, Caps, Grant, decide

__all__ = ["Issuing", "TokenRequest", "TokenService"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What was sent, taken apart.

    Attributes:
        claimed: The agent's own words, for the audit.
    """

    client_id: str
    ask: Ask
    proof: Proof
    request_id: str
    address: str | None = None
    claimed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuing:
    """What all requests have in common."""

    issuer: str
    tenant_id: str
    caps: Caps


class TokenService:
    """Issues delegation tokens. For one event loop."""

    def __init__(self, ledger: Ledger, keyring: Keyring, issuing: Issuing) -> None:
        self._ledger = ledger
        self._keyring = keyring
        self._issuing = issuing

    async def issue(self, request: TokenRequest) -> dict[str, Any]:
        """Return the body of the reply, with the token in it.

        Raises:
            RefusedError: There is no token for this; the refusal is in the audit.
            StorageUnavailableError: The decision could not be recorded, so that there is no token.
        """
        outcome = await self._ledger.judge(_Question(request, self._issuing))
        if isinstance(outcome, RefusedError):
            raise outcome
        return outcome.reply(await self._keyring.sign(outcome.kid, outcome.header, outcome.claims))


class _Question:
    """May this agent have this token?"""

    def __init__(self, request: TokenRequest, issuing: Issuing) -> None:
        self._request = request
        self._issuing = issuing
        self._jti = random_uuid()

    @property
    def client_id(self) -> str:
        return self._request.client_id

    @property
    def parent_jti(self) -> None:
        return None

    @property
    def mark(self) -> str | None:
        return self._request.proof.mark

    def judge(self, standing: Standing | None, slot: Slot) -> Verdict[IssuedToken | RefusedError]:
        """Decide: who is it, is that proven, and what may it have?"""
        proven: Proven | None = None
        try:
            if standing is None:
                raise RefusedError("client_unknown", "no agent is registered under this client id")
            proven = self._request.proof.check(standing, slot)
            grant = decide(standing, self._request.ask, self._issuing.caps, slot.at)
            if not isinstance(grant, Grant):
                raise RefusedError(grant.code, grant.message)
            if proven.not_after is not None:  # a token does not outlive what proved who asked for it
                grant = replace(grant, ttl=min(grant.ttl, int(proven.not_after - slot.at)))
        except RefusedError as refusal:
            entry = self._entry(standing, proven, refusal=refusal)
            return Verdict(result=refusal, entry=entry, used_until=proven.used_until if proven else None)
        issued = IssuedToken(
            issuer=self._issuing.issuer,
            tenant_id=self._issuing.tenant_id,
            standing=standing,
            grant=grant,
            jti=self._jti,
            issued_at=int(slot.at),
            index=slot.index,
            kid=slot.kid,
        )
        return Verdict(
            result=issued,
            entry=self._entry(standing, proven, issued=issued),
            token={**issued.row, "key_id": proven.key_id},
            used_until=proven.used_until,
        )

    def _entry(
        self,
        standing: Standing | None,
        proven: Proven | None,
        *,
        refusal: RefusedError | None = None,
        issued: IssuedToken | None = None,
    ) -> Entry:
        request, known = self._request, standing if proven is not None else None
        details: dict[str, Any] = {} if proven is None else dict(proven.details)
        if request.ask.audience is not None:
            details["asked_audience"] = request.ask.audience
        if issued is not None:
            details |= {
                "audience": issued.grant.audience,
                "delegations": list(issued.grant.delegations),
                "ttl": issued.grant.ttl,
                "kid": issued.kid,
            }
        actor = ANONYMOUS if known is None else Actor(kind="agent", id=known.client_id, name=known.name)
        return Entry(
            action="token.issue",
            decision="deny" if refusal is not None else "allow",
            caller=Caller(actor=actor, request_id=request.request_id, address=request.address),
            client_id=request.client_id,
            subject=known.spiffe_id if known is not None else None,
            jti=issued.jti if issued is not None else None,
            asked=format_scopes(request.ask.scopes) if request.ask.scopes is not None else None,
            scope=format_scopes(issued.grant.scopes) if issued is not None else None,
            reason=refusal.reason if refusal is not None else None,
            details=details,
            claimed=request.claimed,
        )
