"""What may this agent have, now, and if less than it asked for, why? Pure, and it refuses whatever nothing allows.

granted = asked ∩ delegated ∩ the role's permissions at this moment, over all delegations that are in force for the
audience; the lifetime is the smallest of all caps. It knows no HTTP, no database and no credentials: whoever calls has
proven who asks, and has read the facts inside the transaction that records the answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from authsec_server.agents.standing import Delegation, Standing
from authsec_server.errors import RefusalCode

__all__ = ["LONGEST_AUDIENCE", "Ask", "Caps", "Check", "Explanation", "Grant", "Line", "Refusal", "decide", "explain"]

LONGEST_AUDIENCE: Final = 512  # characters, of one that is asked for

Check = Literal["revoked", "expired", "disabled", "audience", "actions", "scopes"]

_ENDED = frozenset({"revoked", "expired"})
_NAMES_SHOWN = 8  # in one sentence of an explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What an agent asks for.

    Attributes:
        scopes: None is all that is delegated to it; an empty set is nothing, and gets nothing.
        audience: The API that the token is for; None is the authority's default.
        ttl: The longest life wanted, in whole seconds; None is the authority's default.
    """

    scopes: frozenset[str] | None = None
    audience: str | None = None
    ttl: int | None = None

    def __post_init__(self) -> None:
        if self.ttl is not None and self.ttl < 1:
            raise ValueError("ttl must be at least 1 second")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """What the authority's settings say of every token; lifetimes in whole seconds."""

    default_audience: str
    default_ttl: int
    max_ttl: int

    def __post_init__(self) -> None:
        if min(self.default_ttl, self.max_ttl) < 1:
            raise ValueError("default_ttl and max_ttl must be at least 1 second")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A token may be issued.

    Attributes:
        ttl: Whole seconds, at least 1. Counted from a moment that is not later than `now`, the token ends no later
            than any delegation in it.
        delegations: The ids of those that contribute, in the standing's order.
        delegated_by: Their roles, each once, sorted: `"reader,writer"`.
    """

    scopes: frozenset[str]
    audience: str
    ttl: int
    delegations: tuple[str, ...]
    delegated_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """No token. The message is for the agent, and names nothing that it did not name itself."""

    code: RefusalCode
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one delegation adds to a decision, or the first check that it failed.

    Attributes:
        failed: None if it contributes.
        scopes: What it gives of what was asked.
        missing: What the failed check looked for; of a delegation that contributes, what was asked and is not in it.
        ttl: The longest life that it allows now, in seconds; 0 once it has ended.
        message: The same in words, and what to do; for operators.
    """

    delegation_id: str
    role: str
    failed: Check | None
    scopes: frozenset[str]
    missing: frozenset[str]
    ttl: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A decision and how it came about.

    Attributes:
        missing: What was asked for and is not granted.
        lines: One per delegation, in the standing's order; also of a client that is disabled.
    """

    verdict: Grant | Refusal
    audience: str
    missing: frozenset[str]
    lines: tuple[Line, ...]


def decide(standing: Standing, ask: Ask, caps: Caps, now: float) -> Grant | Refusal:
    """Return what this client is given.

    Args:
        now: Epoch seconds.
    """
    return _verdict(standing, ask, caps, _findings(standing, ask, caps, now))


def explain(standing: Standing, ask: Ask, caps: Caps, now: float) -> Explanation:
    """Return what `decide` returns, and why: what the dry run shows to an operator."""
    findings = _findings(standing, ask, caps, now)
    verdict = _verdict(standing, ask, caps, findings)
    granted = verdict.scopes if isinstance(verdict, Grant) else frozenset()
    return Explanation(
        verdict=verdict,
        audience=_audience(ask, caps),
        missing=(ask.scopes or frozenset()) - granted,
        lines=tuple(_line(finding, ask, caps) for finding in findings),
    )


class _Finding(NamedTuple):
    delegation: Delegation
    failed: Check | None
    scopes: frozenset[str]
    ttl: int


_NOTHING: frozenset[str] = frozenset()

_DISABLED = Refusal(code="client_disabled", message="this client is disabled: ask an operator to enable it")
_REVOKED = Refusal(code="client_revoked", message="this client was revoked: ask an operator to onboard a new one")
_NO_DELEGATION = Refusal(
    code="no_delegation", message="nothing is delegated to this client: ask an operator for a trust delegation"
)
_DELEGATION_ENDED = Refusal(
    code="delegation_ended",
    message="what was delegated to this client has expired or was revoked: ask an operator for a new trust delegation",
)
_NO_ACTIONS = Refusal(
    code="not_covered",
    message="what is delegated to this client allows no action: ask an operator to look at the delegation and its role",
)


def _findings(standing: Standing, ask: Ask, caps: Caps, now: float) -> list[_Finding]:
    audience = _audience(ask, caps)
    return [_find(delegation, ask.scopes, audience, now) for delegation in standing.delegations]


def _audience(ask: Ask, caps: Caps) -> str:
    return caps.default_audience if ask.audience is None else ask.audience


def _find(delegation: Delegation, asked: frozenset[str] | None, audience: str, now: float) -> _Finding:
    """Return what this delegation gives. What ended comes first: enabling it again would not help."""
    ttl = _seconds_left(delegation, now)
    if delegation.revoked:
        return _Finding(delegation, "revoked", _NOTHING, 0)
    if ttl < 1:
        return _Finding(delegation, "expired", _NOTHING, 0)
    if not delegation.enabled:
        return _Finding(delegation, "disabled", _NOTHING, ttl)
    if audience not in delegation.audiences:
        return _Finding(delegation, "audience", _NOTHING, ttl)
    offered = _offered(delegation)
    if not offered:
        return _Finding(delegation, "actions", _NOTHING, ttl)
    given = offered if asked is None else offered & asked
    return _Finding(delegation, None if given else "scopes", given, ttl)


def _seconds_left(delegation: Delegation, now: float) -> int:
    if delegation.not_after is None:
        return delegation.max_duration
    left = delegation.not_after - now
    # Asked this way round, so that a NaN is an end.
    return int(min(delegation.max_duration, left)) if left >= 1 else 0


def _offered(delegation: Delegation) -> frozenset[str]:
    allowed = delegation.allowed_actions
    return delegation.permissions if allowed is None else delegation.permissions & allowed


def _verdict(standing: Standing, ask: Ask, caps: Caps, findings: list[_Finding]) -> Grant | Refusal:
    if standing.state != "active":
        return _REVOKED if standing.state == "revoked" else _DISABLED
    giving = [finding for finding in findings if finding.failed is None]
    if not giving:
        return _refusal({finding.failed for finding in findings}, ask)
    wanted = caps.default_ttl if ask.ttl is None else ask.ttl
    return Grant(
        scopes=_NOTHING.union(*[finding.scopes for finding in giving]),
        audience=_audience(ask, caps),
        ttl=min(wanted, caps.max_ttl, *[finding.ttl for finding in giving]),
        delegations=tuple([finding.delegation.delegation_id for finding in giving]),
        delegated_by=",".join(sorted({finding.delegation.role for finding in giving})),
    )


def _refusal(failed: set[Check | None], ask: Ask) -> Refusal:
    """Return the refusal of whichever delegation came nearest to giving something."""
    if "scopes" in failed:
        return Refusal(code="not_covered", message=_no_scopes(ask))
    if "actions" in failed:
        return _NO_ACTIONS
    if "audience" in failed:
        message = f"nothing is delegated to this client for {_for_whom(ask)}: ask for another audience"
        return Refusal(code="audience_not_covered", message=message)
    return _NO_DELEGATION if failed.isdisjoint(_ENDED) else _DELEGATION_ENDED


def _no_scopes(ask: Ask) -> str:
    if not ask.scopes:  # as an exchange leaves it, where the subject token has none of those that were asked for
        return "no scope is asked for, or in an exchange none that the subject token has: ask for one that it has"
    return (
        f"none of these scopes is delegated to this client for {_for_whom(ask)}: {_listed(ask.scopes)}. Ask for others"
    )


def _for_whom(ask: Ask) -> str:
    # As repr has it: a name from afar stays on its line. The default's name is not one that the client has said.
    return "the default audience" if ask.audience is None else f"the audience {ask.audience!r}"


def _line(finding: _Finding, ask: Ask, caps: Caps) -> Line:
    delegation, failed, scopes, ttl = finding
    missing, message = _reason(finding, ask.scopes or _NOTHING, _audience(ask, caps))
    return Line(
        delegation_id=delegation.delegation_id,
        role=delegation.role,
        failed=failed,
        scopes=scopes,
        missing=missing,
        ttl=ttl,
        message=message,
    )


def _reason(finding: _Finding, asked: frozenset[str], audience: str) -> tuple[frozenset[str], str]:
    delegation, failed, scopes, ttl = finding
    if failed == "revoked":
        return _NOTHING, "revoked: make a new delegation"
    if failed == "expired":
        return _NOTHING, "expired: move its end, or make a new delegation"
    if failed == "disabled":
        return _NOTHING, "disabled: enable it"
    if failed == "audience":
        return frozenset({audience}), f"not for the audience {audience}, only for {_listed(delegation.audiences)}"
    if failed == "actions":
        return _without_actions(delegation)
    missing = asked - scopes
    gives = f"gives {_listed(scopes)} for up to {ttl} s" if scopes else "gives none of the scopes asked for"
    return missing, "; ".join([gives, *_absent(delegation, missing)])


def _without_actions(delegation: Delegation) -> tuple[frozenset[str], str]:
    allowed = delegation.allowed_actions
    if not delegation.permissions:
        return allowed or _NOTHING, f"the role {delegation.role} has no permissions: add some"
    if not allowed:
        return _NOTHING, "its list of allowed actions is empty, which allows nothing: list some"
    return allowed, f"the role {delegation.role} has none of the allowed actions any more: {_listed(allowed)}"


def _absent(delegation: Delegation, missing: frozenset[str]) -> list[str]:
    """Say of each missing scope where it would have to be added: to the role, or to the delegation."""
    no_permission, not_allowed = missing - delegation.permissions, missing & delegation.permissions
    clauses = []
    if no_permission:
        clauses.append(f"not in the role {delegation.role}: {_listed(no_permission)}")
    if not_allowed:
        clauses.append(f"in the role but not among the allowed actions: {_listed(not_allowed)}")
    return clauses


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = len(ordered) - _NAMES_SHOWN
    return ", ".join(ordered[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "") or "none"
