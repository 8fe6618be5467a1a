"""What a delegation token is to its holder: a frozen value that never prints or pickles its secret.

It does not say whether a token is good (`verify`) or still fresh (`_freshness`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NoReturn

from authsec_core._clock import SYSTEM_CLOCK, Clock

__all__ = ["MOCK_ISSUER", "DelegationToken", "Mode", "Secret"]

MOCK_ISSUER = "https://mock.authsec.invalid"  # RFC 6761: no such host can exist

Mode = Literal["live", "mock"]


class Secret:
    """Text that `dataclasses.asdict`, `json` and a debugger's list of locals cannot show. Call it to read it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __call__(self) -> str:
        """Return the text."""
        return self._text

    def __repr__(self) -> str:
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token is not pickled: hand the settings over and let the other process ask for its own")


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegationToken:
    """A short-lived, scoped delegation token and what the authority said of it. Immutable; may be shared freely.

    Its public name is `jti`. The text itself is `value`; it appears in no `repr`, log or pickle.

    Attributes:
        scopes: What was granted. May be more than was asked for: see `excess_scopes`.
        issued_at: Epoch seconds by this machine's clock: when the request for it was sent.
        expires_at: Epoch seconds by this machine's clock: `issued_at` plus the lifetime that the authority gave.
        mode: `"live"`, or `"mock"` for a token that `MockAuthority` minted.
        jti: The token's identifier in the authority's audit, where it has one.
        spiffe_id: The workload identity in `sub`, such as `spiffe://example.org/ns/default/sa/agent`.
        excess_scopes: What was granted without having been asked for.
        sent_at: This process's steady clock when the request was sent; only differences of it mean something.
    """

    secret: Secret
    mode: Mode
    scopes: frozenset[str]
    issued_at: float
    expires_at: float
    client_id: str | None = None
    jti: str | None = None
    spiffe_id: str | None = None
    audience: tuple[str, ...] = ()
    excess_scopes: frozenset[str] = frozenset()
    sent_at: float = field(default=0.0, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        text: str,
        *,
        scopes: Iterable[str],
        lifetime: float,
        jti: str | None = None,
        spiffe_id: str | None = None,
        audience: Iterable[str] = (),
        excess_scopes: Iterable[str] = (),
        clock: Clock = SYSTEM_CLOCK,
    ) -> DelegationToken:
        """Return the LIVE token that was received just now: what a `TokenSource` of one's own hands out.

        Args:
            text: The compact JWS. It is not looked at.
            scopes: What was granted.
            lifetime: Seconds from now until it ends; less what the request took, if that matters.
            jti: Its public name.
            spiffe_id: Its `sub`.
            audience: Its `aud`.
            excess_scopes: Those of `scopes` that were not asked for.
            clock: For tests, which move a `FakeClock`.
        """
        now = clock.wall()
        return cls(
            secret=Secret(text),
            mode="live",
            scopes=frozenset(scopes),
            issued_at=now,
            expires_at=now + lifetime,
            jti=jti,
            spiffe_id=spiffe_id,
            audience=tuple(audience),
            excess_scopes=frozenset(excess_scopes),
            sent_at=clock.steady(),
        )

    @property
    def value(self) -> str:
        """The compact JWS. Send it to the protected API and nowhere else."""
        return self.secret()

    @property
    def authorization(self) -> str:
        """The value of the `Authorization` header (RFC 6750 section 2.1)."""
        return f"Bearer {self.secret()}"

    @property
    def lifetime(self) -> float:
        """Seconds from the moment of asking to the end."""
        return self.expires_at - self.issued_at

    def __str__(self) -> str:
        return f"delegation token {self.jti or '(no jti)'}"
