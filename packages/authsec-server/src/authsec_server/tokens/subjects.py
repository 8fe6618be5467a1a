"""For whom may a client act, and within which bounds? The subject of a token exchange (RFC 8693). Pure.

An exchanged token allows no more than the token that it was exchanged for, and no more than is delegated to the client
that acts: scopes and audience are cut to both, and it ends with the first of them. A token of ours has to be the one
that is on record, in the transaction that decides: a signature alone could be that of a key which leaked. The chain of
actors is kept, and has an end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from authsec_core._claims import VerifiedToken
from authsec_core.errors import VerificationUnavailableError
from authsec_core.scopes import format_scopes
from authsec_server.agents.standing import Standing
from authsec_server.errors import RefusedError
from authsec_server.issuers.identity import UserIdentity, still_counts
from authsec_server.tokens.claims import OnBehalf
from authsec_server.tokens.policy import Ask, Caps

__all__ = [
    "MOST_ACTORS",
    "MOST_EXCHANGES",
    "BadSubject",
    "Bounds",
    "Moment",
    "OwnSubject",
    "Subject",
    "UnverifiedSubject",
    "UserSubject",
    "bounded",
    "is_on_record",
]

MOST_ACTORS: Final = 4  # in one chain
MOST_EXCHANGES: Final = 8  # of one token, those included with which a client narrows its own: a revocation follows them


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What the transaction knows; see `audit.questions.Slot`.

    Attributes:
        at: Epoch seconds.
        issuers: The issuers that are trusted now.
        parent: The row of the token that it rests on; None where there is none.
    """

    at: float
    issuers: frozenset[tuple[str, int]]
    parent: Any


class Subject(Protocol):
    """Whose token came along."""

    @property
    def parent_jti(self) -> str | None:
        """The `jti`, if it is a token of ours."""
        ...

    @property
    def named(self) -> Mapping[str, str]:
        """Who it is, for the audit."""
        ...

    def bounds(self, actor: Standing, moment: Moment) -> Bounds:
        """Return what the token allows to this client.

        Raises:
            RefusedError: Nothing, at this moment.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What an exchanged token must stay within.

    Attributes:
        scopes: None is no bound of its own.
        audiences: None is no bound of its own.
        ends_at: Epoch seconds.
    """

    scopes: frozenset[str] | None
    audiences: tuple[str, ...] | None
    ends_at: float
    on_behalf: OnBehalf


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSubject:
    """The subject of a token that this authority signed, and that has its form.

    Attributes:
        token: What it says.
    """

    token: VerifiedToken

    @property
    def parent_jti(self) -> str:
        """Its own: what is exchanged for it ends with it."""
        return str(self.token.jti)

    @property
    def named(self) -> Mapping[str, str]:
        """See `Subject`."""
        return {"subject_jti": self.parent_jti}

    def bounds(self, actor: Standing, moment: Moment) -> Bounds:
        """See `Subject`."""
        token, row = self.token, moment.parent
        if row is None or row.revoked_at is not None or not is_on_record(token, row):
            raise _rejected()
        if token.expires_at - moment.at < 1:
            raise _rejected()
        actors = _actors(token.claims)
        if token.client_id != actor.client_id:  # who narrows a token of its own adds nobody
            actors = (actor.spiffe_id, *actors)
        depth = (row.depth or 0) + 1
        if len(actors) > MOST_ACTORS or depth > MOST_EXCHANGES:
            raise RefusedError("subject_rejected", "the subject token was exchanged too often already")
        on_behalf = OnBehalf(
            subject=token.subject,
            subject_id=token.claims.get("sub_id"),
            actors=actors,
            depth=depth,
            parent=self.parent_jti,
        )
        return Bounds(scopes=token.scopes, audiences=token.audience, ends_at=token.expires_at, on_behalf=on_behalf)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSubject:
    """A user of a registered identity provider, whose token was found good."""

    user: UserIdentity
    parent_jti: None = None

    @property
    def named(self) -> Mapping[str, str]:
        """See `Subject`."""
        return {"subject_issuer": self.user.issuer_name}

    def bounds(self, actor: Standing, moment: Moment) -> Bounds:
        """See `Subject`."""
        user = self.user
        if not still_counts(user, moment.issuers, moment.at):
            raise _rejected()
        if user.may_act is not None and user.may_act not in (actor.client_id, actor.spiffe_id):
            raise RefusedError("subject_rejected", "the subject token names somebody else in may_act")
        subject_id = {"format": "iss_sub", "iss": user.issuer, "sub": user.subject}
        return Bounds(
            scopes=None,  # its scopes are in the words of another issuer: what the client may do is what is delegated
            audiences=None,
            ends_at=user.expires_at,
            on_behalf=OnBehalf(
                subject=user.subject,
                subject_id=subject_id,
                actors=(actor.spiffe_id,),
                depth=1,
                parent=user.issuer_id,
            ),
        )


@dataclass(frozen=True, slots=True)
class UnverifiedSubject:
    """A subject token that nobody can verify at this moment; told to nobody but who has shown who it is."""

    why: str
    parent_jti: None = None

    @property
    def named(self) -> Mapping[str, str]:
        """See `Subject`."""
        return {}

    def bounds(self, actor: Standing, moment: Moment) -> Bounds:
        """See `Subject`.

        Raises:
            VerificationUnavailableError: Always.
        """
        raise VerificationUnavailableError(self.why)


@dataclass(frozen=True, slots=True)
class BadSubject:
    """A subject token that is not good. It is refused once the client has shown who it is: strangers learn nothing.

    Attributes:
        why: In words.
    """

    why: str
    parent_jti: None = None

    @property
    def named(self) -> Mapping[str, str]:
        """See `Subject`."""
        return {}

    def bounds(self, actor: Standing, moment: Moment) -> Bounds:
        """See `Subject`."""
        raise RefusedError("subject_rejected", f"the subject token is not good: {self.why}")


def bounded(subject: Subject, ask: Ask, actor: Standing, moment: Moment, caps: Caps) -> tuple[Ask, OnBehalf]:
    """Return what is left of what was asked, and whom the token will speak for.

    Raises:
        RefusedError: Nothing is left.
    """
    bounds = subject.bounds(actor, moment)
    audience, scopes = ask.audience, ask.scopes
    if bounds.audiences is not None:
        audience = bounds.audiences[0] if audience is None else audience
        if audience not in bounds.audiences:
            problem = f"the subject token is not for the audience {audience!r}: ask for its own"
            raise RefusedError("audience_not_covered", problem)
    if bounds.scopes is not None:
        scopes = bounds.scopes if scopes is None else scopes & bounds.scopes
    ttl = min(caps.default_ttl if ask.ttl is None else ask.ttl, int(bounds.ends_at - moment.at))
    return Ask(scopes=scopes, audience=audience, ttl=ttl), bounds.on_behalf


def is_on_record(token: VerifiedToken, row: Any) -> bool:
    """Return whether a token is the one that was issued under its `jti`, and signed by the key of then."""
    return (
        token.key_id == row.kid
        and token.client_id == row.client_id
        and format_scopes(token.scopes) == row.scope
        and token.audience == (row.audience,)
        and (token.issued_at, token.expires_at) == (row.issued_at, row.expires_at)
        and row.subject in (None, token.subject)
    )


def _actors(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the `sub` of each actor in a token of ours, the current one first."""
    actors: list[str] = []
    act = claims.get("act")
    while act is not None:
        actors.append(str(act["sub"]))
        act = act.get("act")
    return tuple(actors)


def _rejected() -> RefusedError:
    return RefusedError("subject_rejected", "the subject token has ended, was revoked, or is trusted no more")
