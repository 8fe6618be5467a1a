"""For whom may a client act, and within which bounds? The subject of a token exchange (RFC 8693). Pure.

An exchanged token allows no more than the token that it was exchanged for, and no more than is delegated to the client
that acts: scopes and audience are cut to both, and it ends with the first of them. A token of ours is looked up again
in the transaction that decides. The chain of actors is kept, and has an end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from authsec_server.agents.standing import Standing
from authsec_server.errors import RefusedError
from authsec_server.issuers.identity import UserIdentity
from authsec_server.tokens.claims import OnBehalf
from authsec_server.tokens.policy import Ask, Caps

__all__ = ["MOST_ACTORS", "BadSubject", "Moment", "OwnSubject", "Subject", "UserSubject", "bounded"]

MOST_ACTORS: Final = 4  # in one chain


class Moment(Protocol):
    """What the transaction knows; see `audit.ledger.Slot`."""

    @property
    def at(self) -> float:
        """Epoch seconds."""
        ...

    @property
    def issuers(self) -> frozenset[tuple[str, int]]:
        """The issuers that are trusted now."""
        ...

    @property
    def parent(self) -> Any:
        """The row of the token that it rests on."""
        ...


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
    """The subject of a token that this authority issued; its signature and form were found good.

    Attributes:
        actors: The `sub` of each actor in it, the current one first.
        holder: The client that it was issued to.
    """

    jti: str
    subject: str
    subject_id: Mapping[str, str] | None
    actors: tuple[str, ...]
    holder: str
    scopes: frozenset[str]
    audience: tuple[str, ...]
    expires_at: int

    @property
    def parent_jti(self) -> str:
        """Its own: what is exchanged for it ends with it."""
        return self.jti

    @property
    def named(self) -> Mapping[str, str]:
        """See `Subject`."""
        return {"subject_jti": self.jti}

    def bounds(self, actor: Standing, moment: Moment) -> Bounds:
        """See `Subject`."""
        if moment.parent is None or moment.parent.revoked_at is not None or self.expires_at - moment.at < 1:
            raise _rejected()
        actors = self.actors
        if self.holder != actor.client_id:  # who narrows a token of its own adds nobody
            actors = (actor.spiffe_id, *actors)
        if len(actors) > MOST_ACTORS:
            raise RefusedError("subject_rejected", f"the subject token has passed through {MOST_ACTORS} actors already")
        return Bounds(
            scopes=self.scopes,
            audiences=self.audience,
            ends_at=self.expires_at,
            on_behalf=OnBehalf(subject=self.subject, subject_id=self.subject_id, actors=actors, parent=self.jti),
        )


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
        if (user.issuer_id, user.revision) not in moment.issuers or user.expires_at - moment.at < 1:
            raise _rejected()
        if user.may_act is not None and user.may_act not in (actor.client_id, actor.spiffe_id):
            raise RefusedError("subject_rejected", "the subject token names somebody else in may_act")
        subject_id = {"format": "iss_sub", "iss": user.issuer, "sub": user.subject}
        return Bounds(
            scopes=None,  # its scopes are in the words of another issuer: what the client may do is what is delegated
            audiences=None,
            ends_at=user.expires_at,
            on_behalf=OnBehalf(
                subject=user.subject, subject_id=subject_id, actors=(actor.spiffe_id,), parent=user.issuer_id
            ),
        )


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
            raise RefusedError("audience_not_covered", "the subject token is for another audience: ask for its own")
    if bounds.scopes is not None:
        scopes = bounds.scopes if scopes is None else scopes & bounds.scopes
    ttl = min(caps.default_ttl if ask.ttl is None else ask.ttl, int(bounds.ends_at - moment.at))
    return Ask(scopes=scopes, audience=audience, ttl=ttl), bounds.on_behalf


def _rejected() -> RefusedError:
    return RefusedError("subject_rejected", "the subject token has ended, was revoked, or is trusted no more")
