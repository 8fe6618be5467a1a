"""Is a token that was refused for its issuer perhaps from the one that was meant, spelled in another way?

Nobody has vouched for what such a token says, and whoever reads a log may copy from it what to trust. So its issuer is
written down only where it is a plain URL of a host that the guard trusts already, and each kind of hint only once. It
decides nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from authsec_core._jws import RS256_OR_ES256, parse_jws
from authsec_core.errors import TokenRejectedError
from authsec_core.token import MOCK_ISSUER
from authsec_fastapi._policy_checks import shown
from authsec_fastapi.issuers import TrustedIssuer

__all__ = ["IssuerHint"]

_LONGEST_TOKEN: Final = 8 * 1024  # characters
_LONGEST: Final = 200  # characters
_PLAIN: Final = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_log = logging.getLogger("authsec.guard")


class IssuerHint:
    """Tells the operator, in the log and once, of an issuer that is trusted under another name than its tokens have.

    Thread-safe: at worst two threads say the same.
    """

    def __init__(self, issuers: Sequence[TrustedIssuer]) -> None:
        self._trusted = [one.issuer for one in issuers]
        self._told: set[str] = set()

    def note(self, token: str) -> None:
        """Look at a token that was refused for its issuer. Cheap, and it raises nothing."""
        kind, words = self._hint(_claimed(token))
        if kind not in self._told:
            self._told.add(kind)
            _log.warning("%s. Nobody has vouched for this token; this is said once", words)

    def _hint(self, claimed: Any) -> tuple[str, str]:
        if claimed == MOCK_ISSUER:
            return "mock", "a token of MOCK mode was refused: its agent has to go LIVE"
        if claimed in self._trusted:
            return "type", f"a token of {shown(claimed)} was refused for its type: is profile= the one of its tokens?"
        for issuer in self._trusted:
            if _is_plain(claimed) and _host(claimed) == _host(issuer) is not None:
                return "near", (
                    f"a token was refused because it says iss {shown(claimed)}, and this guard trusts {shown(issuer)}: "
                    "if they are meant to be the same, write issuer= as the issuer's tokens have it"
                )
        trusted = ", ".join(map(shown, self._trusted))
        return "far", f"a token that says to be of another issuer was refused: this guard trusts {trusted}"


def _claimed(token: str) -> Any:
    try:
        return parse_jws(token, limit=_LONGEST_TOKEN, algorithms=RS256_OR_ES256).claims().get("iss")
    except TokenRejectedError:
        return None


def _is_plain(claimed: Any) -> bool:
    return isinstance(claimed, str) and len(claimed) <= _LONGEST and _PLAIN.fullmatch(claimed) is not None


def _host(url: str) -> str | None:
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return None
    return "loopback" if host in _LOOPBACK else host
