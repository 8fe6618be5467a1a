"""One request for a token, from what was sent to the signed token. Knows no HTTP.

The decision is made and recorded inside the ledger's transaction, so that it sees every revocation that was
acknowledged before; only when it is durable is the token signed and handed out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from authsec_core.scopes import format_scopes
from authsec_server.agents.proofs import NoGoodProof, Proof, Proven
from authsec_server.agents.standing import Standing
from authsec_server.audit.entry import ANONYMOUS, Actor, Caller, Entry
from authsec_server.audit.ledger import Ledger
from authsec_server.audit.memory import Want, parents
from authsec_server.audit.questions import Slot, Verdict
from authsec_server.errors import RefusedError
from authsec_server.ids import random_uuid
from authsec_server.keys.keyring import Keyring
from authsec_server.limits.service import Limits
from authsec_server.tokens.claims import IssuedToken, TokenKind
from authsec_server.tokens.policy import Ask, Caps, Grant, decide
from authsec_server.tokens.subjects import Moment, Subject, bounded

__all__ = [
    "ClientQuestion",
    "ClientRequest",
    "ExchangeRequest",
    "Issuing",
    "SignedToken",
    "TokenRequest",
    "TokenService",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRequest:
    """A request in which a client shows who it is, taken apart.

    Attributes:
        claimed: The agent's own words, for the audit.
    """

    client_id: str
    proof: Proof
    request_id: str
    address: str | None = None
    claimed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest(ClientRequest):
    """A request for a token of the client's own."""

    ask: Ask
    kind: TokenKind = "JWT"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRequest(TokenRequest):
    """A request for a token with which the client acts for somebody else (RFC 8693).

    Attributes:
        subject: Whose token came along, and what it allows.
    """

    subject: Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuing:
    """What all requests have in common."""

    issuer: str
    tenant_id: str
    caps: Caps


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A token that is on record and signed."""

    token: IssuedToken
    text: str = field(repr=False)

    def reply(self) -> dict[str, Any]:
        """Return the body for the SDK's endpoint."""
        return self.token.reply(self.text)

    def oauth_reply(self) -> dict[str, Any]:
        """Return the body for the standard endpoint."""
        return self.token.oauth_reply(self.text)


class TokenService:
    """Issues tokens, and finds out which client is asking. For one event loop."""

    def __init__(self, ledger: Ledger, keyring: Keyring, issuing: Issuing, *, limits: Limits) -> None:
        self._ledger = ledger
        self._keyring = keyring
        self._issuing = issuing
        self._limits = limits

    async def issue(self, request: TokenRequest) -> SignedToken:
        """Return a token for the client, or for whom it acts.

        Raises:
            RefusedError: There is no token for this; the refusal is in the audit.
            RateLimitedError: This client, or this address, has to wait.
            StorageUnavailableError: The decision could not be recorded, so that there is no token.
        """
        issued = await self.judge(request, _Grant(request, self._issuing))
        return SignedToken(issued, await self._keyring.sign(issued.kid, issued.header, issued.claims))

    async def authenticate(self, request: ClientRequest, action: str) -> Standing:
        """Return the client that proved who it is.

        Args:
            action: What it wants, for the entry in the audit if it is refused.

        Raises:
            RefusedError: It did not; the refusal is in the audit.
            RateLimitedError: This client, or this address, has to wait.
            StorageUnavailableError: It could not be looked up, or the refusal not be recorded.
        """
        return await self.judge(request, _Introduction(request, action))

    async def judge(self, request: ClientRequest, question: ClientQuestion[T]) -> T:
        """Return the answer to what a client asks.

        Raises:
            RefusedError: It is no; the refusal is in the audit.
            RateLimitedError: This client, or this address, has to wait.
            StorageUnavailableError: It could not be recorded, so that nothing was done.
        """
        self._limits.enter(request.address, request.client_id)
        outcome = await self._ledger.judge(question)
        self._limits.judged(outcome, address=request.address, client_id=request.client_id)
        if isinstance(outcome, RefusedError):
            raise outcome
        return outcome


class ClientQuestion(Generic[T]):
    """Whatever a client asks for: its proof is looked at first, and a refusal is on record."""

    wants: tuple[Want, ...] = ()

    def __init__(self, request: ClientRequest, action: str) -> None:
        self.client_id = request.client_id
        self.mark = request.proof.mark
        self._asked = request
        self._action = action

    def judge(self, standing: Standing | None, slot: Slot) -> Verdict[T | RefusedError]:
        """Decide: who is it, is that proven, and what may it have?"""
        proven: Proven | None = None
        try:
            if standing is None:
                raise RefusedError("client_unknown", "no agent is registered under this client id")
            proven = self._asked.proof.check(standing, slot)
            verdict = self._allowed(standing, proven, slot)
        except RefusedError as refusal:
            entry = self._refused(standing, proven, refusal)
            return Verdict(result=refusal, entry=entry, used_until=proven.used_until if proven else None)
        return replace(verdict, used_until=proven.used_until)

    def _allowed(self, standing: Standing, proven: Proven, slot: Slot) -> Verdict[T | RefusedError]:
        raise NotImplementedError

    def _refused(self, standing: Standing | None, proven: Proven | None, refusal: RefusedError) -> Entry:
        if standing is not None:
            proof = self._asked.proof
            why = {"proof": proof.why} if isinstance(proof, NoGoodProof) and proof.why else {}
            return self._entry(standing, proven, decision="deny", reason=refusal.reason, details=why)
        # Of a client that does not exist no words are kept: else anyone could fill the audit with theirs.
        request = self._asked
        return Entry(
            action=self._action,
            decision="deny",
            caller=Caller(actor=ANONYMOUS, request_id=request.request_id, address=request.address),
            client_id=request.client_id,
            reason=refusal.reason,
        )

    def _details(self) -> dict[str, Any]:
        return {}

    def _entry(
        self, standing: Standing | None, proven: Proven | None, *, details: Mapping[str, Any] | None = None, **more: Any
    ) -> Entry:
        request, known = self._asked, standing if proven is not None else None
        actor = ANONYMOUS if known is None else Actor(kind="agent", id=known.client_id, name=known.name)
        return Entry(
            action=self._action,
            caller=Caller(actor=actor, request_id=request.request_id, address=request.address),
            client_id=request.client_id,
            subject=known.spiffe_id if known is not None else None,
            details={**(proven.details if proven is not None else {}), **self._details(), **(details or {})},
            claimed=request.claimed,
            **more,
        )


class _Introduction(ClientQuestion[Standing]):
    """Is this the client?"""

    def _allowed(self, standing: Standing, proven: Proven, slot: Slot) -> Verdict[Standing | RefusedError]:
        if standing.state != "active":
            reason = "client_revoked" if standing.state == "revoked" else "client_disabled"
            raise RefusedError(reason, f"this client is {standing.state}")  # type: ignore[arg-type]
        return Verdict(result=standing, entry=None)


class _Grant(ClientQuestion[IssuedToken]):
    """May this client have this token?"""

    def __init__(self, request: TokenRequest, issuing: Issuing) -> None:
        self._subject = request.subject if isinstance(request, ExchangeRequest) else None
        super().__init__(request, "token.issue" if self._subject is None else "token.exchange")
        self._request = request
        self._issuing = issuing
        self._jti = random_uuid()
        self._parent: Want | None = None
        if self._subject is not None and self._subject.parent_jti is not None:
            self._parent = (parents, self._subject.parent_jti)
            self.wants = (self._parent,)

    def _allowed(self, standing: Standing, proven: Proven, slot: Slot) -> Verdict[IssuedToken | RefusedError]:
        ask, on_behalf = self._request.ask, None
        if self._subject is not None:
            parent = None if self._parent is None else slot.found.get(self._parent)
            moment = Moment(at=slot.at, issuers=slot.issuers, parent=parent)
            ask, on_behalf = bounded(self._subject, ask, standing, moment, self._issuing.caps)
        grant = decide(standing, ask, self._issuing.caps, slot.at)
        if not isinstance(grant, Grant):
            raise RefusedError(grant.code, grant.message)
        if proven.not_after is not None:  # a token does not outlive what proved who asked for it
            grant = replace(grant, ttl=min(grant.ttl, int(proven.not_after - slot.at)))
        issued = IssuedToken(
            issuer=self._issuing.issuer,
            tenant_id=self._issuing.tenant_id,
            standing=standing,
            grant=grant,
            jti=self._jti,
            issued_at=int(slot.at),
            index=slot.index,
            kid=slot.kid,
            kind=self._request.kind,
            on_behalf=on_behalf,
        )
        return Verdict(
            result=issued,
            entry=self._granted(standing, proven, issued),
            token={**issued.row, "key_id": proven.key_id},
        )

    def _granted(self, standing: Standing, proven: Proven, issued: IssuedToken) -> Entry:
        grant = issued.grant
        details: dict[str, Any] = {
            "audience": grant.audience,
            "delegations": list(grant.delegations),
            "ttl": grant.ttl,
            "kid": issued.kid,
        }
        if (on_behalf := issued.on_behalf) is not None:
            details |= {"on_behalf_of": on_behalf.subject, "actors": list(on_behalf.actors)}
        scope = format_scopes(grant.scopes)
        return self._entry(standing, proven, decision="allow", jti=issued.jti, scope=scope, details=details)

    def _details(self) -> dict[str, Any]:
        details: dict[str, Any] = {} if self._subject is None else dict(self._subject.named)
        if self._request.ask.audience is not None:
            details["asked_audience"] = self._request.ask.audience
        return details

    def _entry(self, standing: Standing | None, proven: Proven | None, **more: Any) -> Entry:
        scopes = self._request.ask.scopes
        return super()._entry(standing, proven, asked=None if scopes is None else format_scopes(scopes), **more)
