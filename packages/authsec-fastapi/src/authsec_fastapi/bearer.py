"""Which token does a request carry? RFC 6750 section 2.1: in the Authorization header, and nowhere else. Pure.

Not in the query, which stands in every log, and not in a form.
"""

from __future__ import annotations

from collections.abc import Iterable

from authsec_core.errors import MalformedTokenError
from authsec_fastapi.errors import CredentialsError, TokenMissingError

__all__ = ["bearer_token"]

_SCHEME = b"bearer"
_VISIBLE = bytes(range(0x21, 0x7F))  # of ASCII: no space, no control character


def bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the bearer token among these headers of an ASGI scope.

    Raises:
        TokenMissingError: There is none, or the credentials are of another scheme.
        CredentialsError: There are several.
        MalformedTokenError: There is one that has nothing in it, or a space, or something beyond ASCII.
    """
    found = [value for name, value in headers if name.lower() == b"authorization"]
    if not found:
        raise TokenMissingError("The request has no bearer token.")
    if len(found) > 1:
        # Whoever stands before us may have looked at the other one.
        raise CredentialsError("The request has more than one Authorization header.")
    scheme, _, token = found[0].partition(b" ")
    if scheme.lower() != _SCHEME:
        raise TokenMissingError("The request has credentials of another kind, and no bearer token.")
    token = token.strip(b" ")
    if not token or token.translate(None, _VISIBLE):
        raise MalformedTokenError("What follows 'Bearer' is not a token.")
    return token.decode("ascii")
