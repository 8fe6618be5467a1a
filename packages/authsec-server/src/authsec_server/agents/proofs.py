"""Does this prove that the one who asks is this client, now? Pure.

Whatever takes I/O or keys of others (a signature, a foreign token) was done before. What may have changed since (a key
that was revoked, an issuer that is trusted no more, a proof that was used) is looked at inside the transaction that
records the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from authsec_server.agents.standing import Standing, StoredKey
from authsec_server.credentials import Credential, Pepper, mac, matches
from authsec_server.errors import RefusedError
from authsec_server.issuers.identity import WorkloadIdentity, still_counts

__all__ = ["AgentKey", "BareId", "Facts", "NoGoodProof", "Proof", "Proven", "SignedAssertion", "Workload"]

_CLUSTER = "k8s:cluster"


class Facts(Protocol):
    """What the transaction knows; see `audit.questions.Slot`."""

    @property
    def at(self) -> float:
        """Epoch seconds."""
        ...

    @property
    def issuers(self) -> frozenset[tuple[str, int]]:
        """The issuers that are trusted now."""
        ...

    @property
    def is_used(self) -> bool:
        """Whether the proof was used before."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """The proof is good.

    Attributes:
        key_id: The key or the issuer that it rests on: when that ends, so do the tokens that it got.
        not_after: When the proof ends, which no token outlives; epoch seconds.
        used_until: Until when it must be known that it was used; None where it may be used again.
        details: For the audit.
    """

    key_id: str | None = None
    not_after: float | None = None
    used_until: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class Proof(Protocol):
    """What came along with a request to show who makes it."""

    @property
    def mark(self) -> str | None:
        """The name of what can be used once only; None where it can be used again."""
        ...

    def check(self, standing: Standing, facts: Facts) -> Proven:
        """Return on what the proof rests.

        Raises:
            RefusedError: It is not good for this client at this moment.
        """
        ...


@dataclass(frozen=True, slots=True)
class BareId:
    """Nothing but the client id.

    Attributes:
        is_enough: With `--dev` it is.
    """

    is_enough: bool
    mark: None = None

    def check(self, standing: Standing, facts: Facts) -> Proven:
        """See `Proof`."""
        if not self.is_enough:
            raise RefusedError("proof_missing", "an agent key is needed: Authorization: Bearer <agent key>")
        return Proven(details={"proof": "none"})


@dataclass(frozen=True, slots=True)
class NoGoodProof:
    """Something that proves nothing, whoever it was brought for.

    Attributes:
        why: For the audit: what is wrong with it, where that can be said.
    """

    why: str | None = None
    mark: None = None

    def check(self, standing: Standing, facts: Facts) -> Proven:
        """See `Proof`."""
        raise _wrong()


@dataclass(frozen=True, slots=True)
class AgentKey:
    """A key that the authority made, shown by who has it."""

    credential: Credential
    pepper: Pepper
    mark: None = None

    def check(self, standing: Standing, facts: Facts) -> Proven:
        """See `Proof`."""
        given = mac(self.pepper, "agent-key", self.credential)
        for key in standing.keys:
            if key.mac is not None and key.key_id == self.credential.id and matches(key.mac, given):
                return _live(key, facts.at)
        raise _wrong()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedAssertion:
    """A JWT that the agent signed with a key of its own, whose signature and claims were found good (RFC 7523).

    Attributes:
        key_id: The registered key that verified it.
        jwk: That key's public half, as it was then.
        mark: Made of client and `jti`.
        expires_at: Epoch seconds.
    """

    key_id: str
    jwk: Mapping[str, str]
    mark: str
    expires_at: float

    def check(self, standing: Standing, facts: Facts) -> Proven:
        """See `Proof`."""
        key = next((key for key in standing.keys if key.key_id == self.key_id and key.jwk == self.jwk), None)
        if key is None or facts.is_used or facts.at >= self.expires_at:
            raise _wrong()
        proven = _live(key, facts.at)
        return Proven(
            key_id=proven.key_id, not_after=proven.not_after, used_until=self.expires_at, details=proven.details
        )


@dataclass(frozen=True, slots=True)
class Workload:
    """A token of the platform that the agent runs on."""

    identity: WorkloadIdentity
    mark: None = None

    def check(self, standing: Standing, facts: Facts) -> Proven:
        """See `Proof`."""
        identity = self.identity
        if not still_counts(identity, facts.issuers, facts.at) or not _is_here(standing.selectors, identity):
            raise _wrong()
        return Proven(
            key_id=identity.issuer_id,
            not_after=identity.expires_at,
            details={"proof": "workload", "issuer": identity.issuer_name, "workload": identity.subject},
        )


def _is_here(wanted: Mapping[str, str], identity: WorkloadIdentity) -> bool:
    """Return whether the token proves every selector of the agent, and enough of them to be one workload.

    Namespaces and accounts of two clusters may have the same names: an agent says which cluster it means, or it is the
    default one.
    """
    found = identity.selectors
    if not all(found.get(name) == value for name, value in wanted.items()):
        return False
    if "k8s:ns" in wanted and "k8s:sa" in wanted:
        return _CLUSTER in wanted or identity.is_default
    return "spiffe:id" in wanted or ("oidc:iss" in wanted and len(wanted) > 1)


def _live(key: StoredKey, now: float) -> Proven:
    if not key.is_live(now):
        raise _wrong()
    return Proven(key_id=key.key_id, not_after=key.not_after, details={"key_id": key.key_id})


def _wrong() -> RefusedError:
    # One text for all cases: which of them it is would tell a thief what to try next.
    return RefusedError("proof_wrong", "the proof is not a live key of this client")
