"""One request for a delegation token, from what was sent to the signed token. Knows no HTTP.

The decision is made and recorded inside the ledger's transaction, so that it sees every revocation that was
acknowledged before; only when it is durable is the token signed and handed out.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from authsec_core.scopes import format_scopes
from authsec_server.agents.standing import Standing, StoredKey
from authsec_server.audit.entry import ANONYMOUS, Actor, Caller, Entry
from authsec_server.audit.ledger import Ledger, Slot, Verdict
from authsec_server.credentials import Credential, Pepper, mac, matches
from authsec_server.errors import RefusedError
from authsec_server.keys.keyring import Keyring
from authsec_server.tokens.claims import IssuedToken
from authsec_server.tokens.policy import Ask, Caps, Grant, decide

__all__ = ["Issuing", "TokenRequest", "TokenService"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What was sent, taken apart.

    Attributes:
        proof: The credential that came along, if one did.
        proof_given: Whether anything came along as a proof, readable or not.
        claimed: The agent's own words, for the audit.
    """

    client_id: str
    ask: Ask
    proof: Credential | None
    proof_given: bool
    request_id: str
    address: str | None = None
    claimed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuing:
    """What all requests have in common.

    Attributes:
        pepper: Under which keys are kept.
        bare_ids: Accept a client id without any proof: for `--dev`.
    """

    issuer: str
    tenant_id: str
    caps: Caps
    pepper: Pepper
    bare_ids: bool


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
        self._jti = str(uuid.uuid4())

    @property
    def client_id(self) -> str:
        return self._request.client_id

    def judge(self, standing: Standing | None, slot: Slot) -> Verdict[IssuedToken | RefusedError]:
        """Decide: who is it, is that proven, and what may it have?"""
        key_id: str | None = None
        try:
            if standing is None:
                raise RefusedError("client_unknown", "no agent is registered under this client id")
            key = self._proven_by(standing, slot.at)
            key_id = None if key is None else key.key_id
            grant = decide(standing, self._request.ask, self._issuing.caps, slot.at)
            if not isinstance(grant, Grant):
                raise RefusedError(grant.code, grant.message)
            if key is not None and key.not_after is not None:  # a token does not outlive the key that asked for it
                grant = replace(grant, ttl=min(grant.ttl, int(key.not_after - slot.at)))
        except RefusedError as refusal:
            proven = refusal.reason not in ("client_unknown", "proof_missing", "proof_wrong")
            return Verdict(result=refusal, entry=self._entry(standing if proven else None, key_id, refusal=refusal))
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
        entry = self._entry(standing, key_id, issued=issued)
        return Verdict(result=issued, entry=entry, token={**issued.row, "key_id": key_id})

    def _proven_by(self, standing: Standing, now: float) -> StoredKey | None:
        """Return the key that proves it is this client; None where nothing needs to be proven."""
        request, issuing = self._request, self._issuing
        if not request.proof_given:
            if issuing.bare_ids:
                return None
            raise RefusedError("proof_missing", "an agent key is needed: Authorization: Bearer <agent key>")
        if request.proof is not None:
            given = mac(issuing.pepper, "agent-key", request.proof)
            for key in standing.keys:
                if key.key_id == request.proof.id and matches(key.mac, given):
                    if not key.revoked and (key.not_after is None or key.not_after - now >= 1):
                        return key
                    break
        raise RefusedError("proof_wrong", "the proof is not a live key of this client")

    def _entry(
        self,
        standing: Standing | None,
        key_id: str | None,
        *,
        refusal: RefusedError | None = None,
        issued: IssuedToken | None = None,
    ) -> Entry:
        request = self._request
        actor = ANONYMOUS
        if standing is not None and (key_id is not None or self._issuing.bare_ids):
            actor = Actor(kind="agent", id=standing.client_id, name=standing.name)
        details: dict[str, Any] = {} if key_id is None else {"key_id": key_id}
        if standing is not None and key_id is None:
            details["proof"] = "none"
        if request.ask.audience is not None:
            details["asked_audience"] = request.ask.audience
        if issued is not None:
            details |= {
                "audience": issued.grant.audience,
                "delegations": list(issued.grant.delegations),
                "ttl": issued.grant.ttl,
                "kid": issued.kid,
            }
        return Entry(
            action="token.issue",
            decision="deny" if refusal is not None else "allow",
            caller=Caller(actor=actor, request_id=request.request_id, address=request.address),
            client_id=request.client_id,
            subject=standing.spiffe_id if standing is not None else None,
            jti=issued.jti if issued is not None else None,
            asked=format_scopes(request.ask.scopes) if request.ask.scopes is not None else None,
            scope=format_scopes(issued.grant.scopes) if issued is not None else None,
            reason=refusal.reason if refusal is not None else None,
            details=details,
            claimed=request.claimed,
        )
