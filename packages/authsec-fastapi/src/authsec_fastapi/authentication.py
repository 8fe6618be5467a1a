"""Whose token is this, and who is the caller? Picks the issuer that a token claims to be from, and asks its verifier.

What the caller may do is for `requirement`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from authsec_core._claims import PROFILES, claims_issuer
from authsec_core._clock import Clock
from authsec_core._jws import RS256_OR_ES256, parse_jws
from authsec_core.errors import ConfigurationError, WrongIssuerError
from authsec_core.verify import TokenVerifier, VerifiedToken
from authsec_fastapi._issuer_hint import IssuerHint
from authsec_fastapi.introspection import Introspector
from authsec_fastapi.issuers import TrustedIssuer
from authsec_fastapi.principal import Principal, Standing
from authsec_fastapi.static_token import StaticToken

if TYPE_CHECKING:
    import httpx

__all__ = ["Authenticator", "StaticAuthenticator", "TokenAuthenticator"]

_LONGEST_TOKEN: Final = 8 * 1024  # characters


class Authenticator(Protocol):
    """Says who presents a token."""

    def authenticate(self, token: str) -> Principal:
        """Return the caller; may block.

        Raises:
            TokenRejectedError: The token is not good.
            VerificationUnavailableError: Nobody can tell.
        """
        ...

    async def aauthenticate(self, token: str) -> Principal:
        """Do what `authenticate` does, without blocking the loop."""
        ...


class TokenAuthenticator:
    """Knows the callers that several issuers vouch for. Thread-safe, loop-safe, and there is nothing to close.

    Args:
        issuers: At least one.
        transport: An httpx transport for blocking fetches.
        async_transport: An httpx transport for the others.

    Raises:
        ConfigurationError: There is none, two cannot be told apart, or one cannot be trusted on its terms.
    """

    def __init__(
        self,
        issuers: Iterable[TrustedIssuer],
        *,
        clock: Clock,
        transport: httpx.BaseTransport | None = None,
        async_transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._known = [
            _Known(
                issuer,
                issuer.verifier(clock=clock, transport=transport, async_transport=async_transport),
                issuer.introspector(clock=clock, transport=transport, async_transport=async_transport),
            )
            for issuer in issuers
        ]
        if not self._known:
            raise ConfigurationError(
                "a guard needs an issuer whose tokens it accepts: pass issuer= and audience=, or set "
                "AUTHSEC_GUARD_ISSUER and AUTHSEC_GUARD_AUDIENCE"
            )
        trusted = [known.issuer for known in self._known]
        _refuse_ambiguity(trusted)
        self._hint = IssuerHint(trusted)

    def authenticate(self, token: str) -> Principal:
        """Return the caller; may block on a fetch of keys or of a status list, and on introspection.

        Raises:
            TokenRejectedError: The token is not good.
            VerificationUnavailableError: Nobody can tell.
        """
        try:
            known = self._choose(token)
            return _principal(known, token, known.check(token))
        except WrongIssuerError:
            self._hint.note(token)
            raise

    async def aauthenticate(self, token: str) -> Principal:
        """Do what `authenticate` does, without blocking the loop."""
        try:
            known = self._choose(token)
            return _principal(known, token, await known.acheck(token))
        except WrongIssuerError:
            self._hint.note(token)
            raise

    def _choose(self, token: str) -> _Known:
        if len(self._known) == 1:
            return self._known[0]
        # To read the token takes as long as all the rest of a decision about one that is remembered, and was done: it
        # is only remembered by the verifier that was picked below.
        for known in self._known:
            if known.verifier.remembers(token):
                return known
        # Nobody has vouched for what is read here: it only picks the verifier, which then checks all of it.
        jws = parse_jws(token, limit=_LONGEST_TOKEN, algorithms=RS256_OR_ES256)
        claims = jws.claims()
        for known in self._known:
            profile = known.issuer.profile
            if jws.header.typ in PROFILES[profile].types and claims_issuer(claims, profile) == known.issuer.issuer:
                return known
        raise WrongIssuerError("the token was issued by another authority, or is of another type, or of MOCK mode")


class StaticAuthenticator:
    """Knows the one caller of a static token."""

    def __init__(self, token: StaticToken) -> None:
        self.token = token

    def authenticate(self, token: str) -> Principal:
        """Return the caller.

        Raises:
            TokenRejectedError: It is another token.
        """
        return self.token.authenticate(token)

    async def aauthenticate(self, token: str) -> Principal:
        """Do the same: there is nothing to wait for."""
        return self.token.authenticate(token)


@dataclass(frozen=True, slots=True)
class _Known:
    issuer: TrustedIssuer
    verifier: TokenVerifier
    introspector: Introspector | None

    def check(self, token: str) -> VerifiedToken:
        # In this order, so that a token that somebody made up is refused without asking the issuer about it.
        verified = self.verifier.verify(token)
        if self.introspector is not None:
            self.introspector.check(token, verified)
        return verified

    async def acheck(self, token: str) -> VerifiedToken:
        verified = await self.verifier.averify(token)
        if self.introspector is not None:
            await self.introspector.acheck(token, verified)
        return verified


class _Presented(Standing):
    """The token that a caller presented: looked at again, it costs a digest and a look at its status list."""

    __slots__ = ("_known", "_token")

    def __init__(self, token: str, known: _Known) -> None:
        self._token = token
        self._known = known

    def check(self) -> None:
        self._known.check(self._token)

    async def acheck(self) -> None:
        await self._known.acheck(self._token)

    def is_of(self, authenticator: object) -> bool:
        return isinstance(authenticator, TokenAuthenticator) and any(one is self._known for one in authenticator._known)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a caller's token is not pickled: authenticate again in the other process")


def _principal(known: _Known, token: str, verified: VerifiedToken) -> Principal:
    return Principal.of(
        verified,
        roles_claim=known.issuer.roles_claim,
        scopes_claim=known.issuer.scopes_claim,
        workloads=known.issuer.workloads,
        standing=_Presented(token, known),
    )


def _refuse_ambiguity(issuers: Sequence[TrustedIssuer]) -> None:
    for place, one in enumerate(issuers):
        for other in issuers[:place]:
            types = PROFILES[one.profile].types & PROFILES[other.profile].types
            if one.issuer == other.issuer and types:
                raise ConfigurationError(
                    f"two entries for the issuer {one.issuer!r} accept tokens of the same type: merge their audiences"
                )
