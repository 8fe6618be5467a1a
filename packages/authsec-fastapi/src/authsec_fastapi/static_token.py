"""A token that never changes, for a first try: is this the one, and whom does it stand for?

It is what the rest of the project takes out of agents: it has no end, cannot be revoked, and everyone who has seen it
once is the caller for ever. So a guard has it alone or not at all, and says so at start.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

from authsec_core.errors import BadSignatureError, ConfigurationError
from authsec_core.scopes import parse_scopes
from authsec_fastapi.principal import Principal, Standing

__all__ = ["STATIC_ISSUER", "StaticToken"]

STATIC_ISSUER: Final = "urn:authsec:static"
_SHORTEST = 16  # characters


class StaticToken:
    """One bearer token, and the caller that whoever presents it is taken for. It is never printed, and not pickled.

    Args:
        value: At least 16 characters, without a space.
        subject: Whom it stands for.
        scopes: What it grants.
        roles: What the caller is.

    Raises:
        ConfigurationError: The value is too short, or could not stand in a header; or a name is no text.
    """

    __slots__ = ("_digest", "_principal")

    def __init__(
        self, value: str, *, subject: str = "static", scopes: str | Iterable[str] = (), roles: Iterable[str] = ()
    ) -> None:
        if (
            not isinstance(value, str)
            or len(value) < _SHORTEST
            or not value.isascii()
            or not value.isprintable()
            or " " in value
        ):
            raise ConfigurationError(
                f"the static token needs {_SHORTEST} or more visible ASCII characters: "
                "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"
            )
        given = frozenset([roles] if isinstance(roles, str) else roles)
        if not all(isinstance(text, str) and text for text in (subject, *given)):
            raise ConfigurationError("the static token's subject and roles are texts, and not blank")
        self._digest = _digest(value)
        self._principal = Principal(
            subject=subject,
            issuer=STATIC_ISSUER,
            scopes=(parse_scopes(scopes) if scopes else None) or frozenset(),
            roles=given,
            _standing=_Unchanging(self),
        )

    @property
    def roles(self) -> frozenset[str]:
        """What the caller is."""
        return self._principal.roles

    def authenticate(self, token: str) -> Principal:
        """Return the caller.

        Raises:
            BadSignatureError: It is another token.
        """
        # Digests, so that not even the length is told by the time that it takes.
        if not hmac.compare_digest(_digest(token), self._digest):
            raise BadSignatureError("The token is not the one that is expected here.")
        return self._principal

    def __reduce__(self) -> str:
        raise TypeError("a StaticToken is not pickled: make one in the other process")


class _Unchanging(Standing):
    """A static token has no end, and cannot be revoked."""

    __slots__ = ("_token",)

    def __init__(self, token: StaticToken) -> None:
        self._token = token

    def check(self) -> None:
        pass

    async def acheck(self) -> None:
        pass

    def is_of(self, authenticator: object) -> bool:
        return getattr(authenticator, "token", None) is self._token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
