"""What goes along with a request to the vault: a credential, and what the agent says of itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from authsec_core.token import Secret
from authsec_core.vault_values import VaultToken
from authsec_core.wire import is_plain

__all__ = ["HEADER_TEXT", "claims_of", "credential_of", "fits_header", "hidden"]

_LONGEST_CREDENTIAL: Final = 4096  # characters
_CLAIMS: Final = {  # what an agent may say of itself -> its header, and the most characters
    "agent_name": ("X-Agent-Name", 200),
    "reason": ("X-Access-Reason", 500),
    "conversation_id": ("X-Conversation-ID", 200),
}
HEADER_TEXT: Final = frozenset(map(chr, range(0x21, 0x7F)))  # what one word in a header is made of


def hidden(token: str | VaultToken | Secret | None) -> Secret | None:
    """Return a token as what no frame shows. It raises nothing: the caller's frame still shows the text."""
    if isinstance(token, VaultToken):
        return token.secret
    return token if token is None or isinstance(token, Secret) else Secret(token)


def credential_of(shown: Secret) -> Secret:
    """Return a token or a key, once it is known to fit into a header.

    Raises:
        ValueError: It cannot be one.
        TypeError: It is not text.
    """
    if not isinstance(shown(), str):
        raise TypeError("a vault token is text, or a VaultToken")
    if not fits_header(shown()):
        raise ValueError("a vault token is one word of printable ASCII characters: copy it again")
    return shown


def fits_header(text: str) -> bool:
    """Return whether this can be a token or a key: one word, not too long."""
    return 0 < len(text) <= _LONGEST_CREDENTIAL and HEADER_TEXT.issuperset(text)


def claims_of(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Return the headers that tell the vault's audit what the agent says of itself. A blank claim is left out.

    Raises:
        ValueError: A claim has no such name, is too long, or is not one line of text.
        TypeError: A claim is not text.
    """
    headers = {}
    for name, text in (metadata or {}).items():
        if name not in _CLAIMS:
            raise ValueError(f"metadata= takes {', '.join(_CLAIMS)}, and no other name")
        header, longest = _CLAIMS[name]
        if not isinstance(text, str):
            raise TypeError(f"metadata= {name}: not text")
        claim = text.strip(" ")
        if len(claim) > longest or not is_plain(claim):
            raise ValueError(f"metadata= {name}: one line of at most {longest} printable characters")
        if claim:
            headers[header] = claim
    return headers
