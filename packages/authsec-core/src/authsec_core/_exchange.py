"""One token exchange: what to send, when to try again, and whether what came back is a token for us.

The decisions are a generator that yields what to do (`Call`, `Pause`) and is told what happened (`Reply`, `Failure`),
so that `exchange` and `exchange_async` differ in nothing but how they do it. Contract: wire.md section 1, RFC 6750.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import httpx

from authsec_core._clock import Clock
from authsec_core._driving import Pause, Steps, drive, drive_async, http_date, retry_after, usual_pause
from authsec_core._http import Call, Failure, Reply, send, send_async
from authsec_core._proof import Proof
from authsec_core._telemetry import UNOBSERVED, Observation
from authsec_core.errors import (
    AuthorityUnreachableError,
    BadReplyError,
    DelegationRefusedError,
    InsecureTransportError,
    ScopeNotGrantedError,
    TokenUnavailableError,
)
from authsec_core.scopes import format_scopes
from authsec_core.token import MOCK_ISSUER, DelegationToken
from authsec_core.wire import (
    REPLY_LIMIT,
    DelegationReply,
    DelegationRequest,
    WireError,
    granted,
    parse_reply,
    seconds,
)

__all__ = ["ExchangeRules", "exchange", "exchange_async"]

_log = logging.getLogger("authsec.exchange")

_STORED = 5.0  # seconds between `iat` and the reply's Date from which a token counts as one that was kept, not made
_RETRIED = frozenset({408, 429})
_REFUSALS = {
    400: ("bad_request", "check AUTHSEC_AGENT_CLIENT_ID and {asked}"),
    401: ("proof_rejected", "check AUTHSEC_AGENT_KEY or AUTHSEC_WORKLOAD_TOKEN_FILE"),
    403: ("not_delegated", "no trust delegation of this agent covers {asked}: ask its operator"),
    404: (
        "unknown_client",
        "check AUTHSEC_AGENT_CLIENT_ID, the agent's delegations, and the path in AUTHSEC_BASE_URL",
    ),
    410: ("delegation_ended", "the delegation has expired or was revoked: ask its operator"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRules:
    """How patient to be, and what the token must say beyond what was asked.

    Attributes:
        timeout: Seconds for everything: connecting, waiting, retrying.
        retries: How often a failed attempt is repeated.
        issuer: The `iss` to insist on; None accepts any, since the hosted service's is not known in advance.
    """

    timeout: float
    retries: int
    issuer: str | None = None


def exchange(
    request: DelegationRequest,
    proof: Proof,
    rules: ExchangeRules,
    http: httpx.Client,
    clock: Clock,
    seen: Observation = UNOBSERVED,
) -> DelegationToken:
    """Get one token, blocking.

    Raises:
        TokenUnavailableError: One of its subclasses, by what to do next.
    """
    return drive(_steps(request, proof, rules, clock, seen), lambda call: send(http, call, clock), clock)


async def exchange_async(
    request: DelegationRequest,
    proof: Proof,
    rules: ExchangeRules,
    http: httpx.AsyncClient,
    clock: Clock,
    seen: Observation = UNOBSERVED,
) -> DelegationToken:
    """Get one token without blocking the loop. Raises what `exchange` raises."""
    steps = _steps(request, proof, rules, clock, seen)
    return await drive_async(steps, lambda call: send_async(http, call, clock), clock)


def _steps(
    request: DelegationRequest, proof: Proof, rules: ExchangeRules, clock: Clock, seen: Observation
) -> Steps[DelegationToken]:
    deadline = clock.steady() + rules.timeout
    seen.asked(request.scopes)
    attempt = 0
    while True:
        sent_at, issued_at = clock.steady(), clock.wall()
        headers = proof.headers()
        seen.calls(request.url)
        outcome = yield Call(
            url=request.url, params=request.params, headers=headers, deadline=deadline, limit=REPLY_LIMIT
        )
        del headers  # no frame of ours holds the proof when an error is raised
        seen.answered(outcome)
        if isinstance(outcome, Reply) and outcome.status == 200:
            token = _accept(outcome, request, rules, sent_at=sent_at, issued_at=issued_at)
            seen.got(token)
            _log.debug("granted %s for %s: scopes %s", token, request.client_id, sorted(token.scopes))
            return token
        error, cause = _error(outcome, request, clock)
        pause = _pause(error, attempt, clock)
        if not _repeatable(outcome) or attempt >= rules.retries or clock.steady() + pause >= deadline:
            _log.info("exchange for %s failed: %s", request.client_id, error.code)
            raise error from cause
        attempt += 1
        _log.debug("exchange for %s: attempt %d after %.2f s", request.client_id, attempt + 1, pause)
        yield Pause(pause)


def _repeatable(outcome: Reply | Failure | None) -> bool:
    """Only what cannot have issued a token already, or says itself that it may be repeated."""
    if isinstance(outcome, Reply):
        return outcome.status in _RETRIED or outcome.status >= 500
    return isinstance(outcome, Failure) and outcome.kind == "connect"


def _pause(error: TokenUnavailableError, attempt: int, clock: Clock) -> float:
    usual = usual_pause(attempt, clock)
    return max(usual, error.retry_after or 0.0) if isinstance(error, AuthorityUnreachableError) else usual


def _error(
    outcome: Reply | Failure | None, request: DelegationRequest, clock: Clock
) -> tuple[TokenUnavailableError, BaseException | None]:
    if isinstance(outcome, Reply):
        return _status_error(outcome, request, clock), None
    kind, cause = (outcome.kind, outcome.cause) if outcome else ("cut", None)
    if kind == "tls":
        return InsecureTransportError("TLS to the authority failed: check its certificate and AUTHSEC_CA_FILE."), cause
    if kind == "too_large":
        return BadReplyError("The authority's reply is larger than 64 KiB: check AUTHSEC_BASE_URL."), cause
    why = {"connect": "cannot be reached", "timeout": "did not answer in time"}.get(kind, "broke the connection off")
    return AuthorityUnreachableError(f"The authority {why}: check AUTHSEC_BASE_URL, then try again."), cause


def _status_error(reply: Reply, request: DelegationRequest, clock: Clock) -> TokenUnavailableError:
    status = reply.status
    if status in _REFUSALS:
        reason, mend = _REFUSALS[status]
        mend = mend.format(asked=_asked(request))
        return DelegationRefusedError(f"The authority refused ({status}): {mend}.", reason=reason, status=status)
    if status in _RETRIED or status >= 500:
        return AuthorityUnreachableError(
            f"The authority answered {status}: try again later.", retry_after=retry_after(reply.headers, clock)
        )
    if 300 <= status < 400:
        return BadReplyError(
            f"The authority answered {status}; redirects are not followed: set AUTHSEC_BASE_URL to the final address."
        )
    return BadReplyError(f"The authority answered {status}, which this protocol does not know: check AUTHSEC_BASE_URL.")


def _asked(request: DelegationRequest) -> str:
    """Return what was asked for, in words; what of it was refused stands in the reply, which is not read."""
    named = [] if request.scopes is None else [f"scope {format_scopes(request.scopes)!r}"]
    named += [] if request.audience is None else [f"audience {request.audience!r}"]
    return " for ".join(named) or "the request"


def _accept(
    http: Reply, request: DelegationRequest, rules: ExchangeRules, *, sent_at: float, issued_at: float
) -> DelegationToken:
    try:
        reply = parse_reply(http.body)
        permitted = granted(reply)
        audience = _check_claims(reply, request, rules)
        lifetime = _lifetime(reply, http, issued_at)
    except WireError as exc:
        exc.__traceback__ = None  # its frames hold the body
        raise BadReplyError(
            f"The authority's reply cannot be used: {exc}. Check AUTHSEC_BASE_URL, or tell its operator."
        ) from exc
    scopes = permitted or frozenset()
    if missing := (request.scopes or frozenset()) - scopes:
        raise ScopeNotGrantedError(
            f"The authority granted less than was asked: ask its operator to delegate {format_scopes(missing)!r}.",
            missing=missing,
        )
    excess = frozenset() if request.scopes is None else scopes - request.scopes
    if excess:
        _log.warning("the authority granted more than was asked: %s", sorted(excess))
    return DelegationToken(
        secret=reply.token,
        mode="live",
        scopes=scopes,
        issued_at=issued_at,
        expires_at=issued_at + lifetime,
        client_id=request.client_id,
        jti=reply.jti,
        spiffe_id=reply.spiffe_id,
        audience=audience,
        excess_scopes=excess,
        sent_at=sent_at,
    )


def _check_claims(reply: DelegationReply, request: DelegationRequest, rules: ExchangeRules) -> tuple[str, ...]:
    """Check what can be checked without the authority's keys, and return the audience."""
    claims = reply.claims
    if reply.token_type.lower() != "bearer":
        raise WireError("its token_type is not Bearer")
    if reply.header.get("alg") != "RS256":
        raise WireError("the token is not signed with RS256")
    if claims.get("mock") or claims.get("iss") == MOCK_ISSUER:
        raise WireError("it is a MOCK token")
    for named in (reply.client_id, claims.get("client_id")):  # what the body says of the token proves nothing
        if named is not None and str(named).lower() != request.client_id.lower():
            raise WireError("the token is for another client_id")
    if rules.issuer is not None and claims.get("iss") != rules.issuer:
        raise WireError("the token's iss is not AUTHSEC_ISSUER")
    aud = claims.get("aud")
    audience = [] if aud is None else [aud] if isinstance(aud, str) else aud
    if not isinstance(audience, list) or not all(isinstance(member, str) for member in audience):
        raise WireError("the token's aud is not text")
    if request.audience is not None and request.audience not in audience:
        raise WireError("the token's aud is not AUTHSEC_AUDIENCE")
    return tuple(audience)


def _lifetime(reply: DelegationReply, http: Reply, issued_at: float) -> float:
    """Return for how many seconds the token is good, counted from the moment that the request was sent.

    Everything is measured by the authority's clock, so that a wrong clock here does no harm.
    """
    exp, iat = seconds(reply.claims, "exp"), seconds(reply.claims, "iat")
    date = http_date(http.headers.get("Date", ""))
    start = iat if iat is not None else date if date is not None else issued_at
    if iat is not None and date is not None and date - iat > _STORED:
        start = date  # issued a while ago and kept: some of its life is gone
    ends = [
        *([] if reply.expires_at is None else [reply.expires_at - start]),
        *([] if reply.expires_in is None or reply.expires_at is not None else [reply.expires_in]),
        *([] if exp is None else [exp - start]),
    ]
    if not ends:
        raise WireError("it does not say when the token ends")
    if min(ends) <= 0:
        raise WireError("the token has already ended")
    return min(ends)
