"""`authsec token`: what does a token for these scopes say? It never shows the token, and no switch makes it.

What is printed ends up in scrollback, shell history and CI logs, and whoever reads it there is the agent until it ends.
A program that needs a token asks `AuthSecClient.get_delegation_token`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from authsec_core._clock import Clock
from authsec_core._version import __version__
from authsec_core.cli._arguments import Arguments
from authsec_core.cli._observed import decoded
from authsec_core.cli._outcome import Outcome, error_outcome, known_secrets, outcome
from authsec_core.client import AuthSecClient
from authsec_core.config import AuthSecConfig
from authsec_core.errors import AuthSecError
from authsec_core.scopes import parse_scopes
from authsec_core.token import DelegationToken, Mode, Secret
from authsec_core.wire import format_time

__all__ = ["token"]


def token(arguments: Arguments, clock: Clock, notify: Callable[[str], None]) -> Outcome:
    """Get one token and return what it says."""
    mode: Mode | None = None
    secrets: tuple[Secret, ...] = ()
    try:
        config = AuthSecConfig(**arguments.settings)
        mode, secrets = config.resolved_mode, known_secrets(config)
        with AuthSecClient(config, product=f"authsec-cli/{__version__}", clock=clock) as client:
            notify("Getting a token")
            granted = client.delegation_token(arguments.scope, ttl=arguments.ttl, cache=False)
    except AuthSecError as exc:
        return error_outcome(exc, mode, secrets=secrets)
    return _described(granted, parse_scopes(arguments.scope), (*secrets, granted.secret), clock)


def _described(
    granted: DelegationToken, asked: frozenset[str] | None, secrets: tuple[Secret, ...], clock: Clock
) -> Outcome:
    header, claims = decoded(granted)
    document = {
        "status": "success",
        "mode": granted.mode,
        "jti": granted.jti,
        "asked": None if asked is None else sorted(asked),
        "granted": sorted(granted.scopes),
        "excess": sorted(granted.excess_scopes),
        "seconds_left": max(0.0, round(granted.expires_at - clock.wall(), 3)),
        "expires_at": _instant(granted.expires_at),
        "header": header,
        "claims": claims,
    }
    return outcome("token", document, failed=False, secrets=secrets)


def _instant(at: float) -> str | None:
    with suppress(ValueError, OverflowError, OSError):
        return format_time(at)
    return None  # a year that calendars have no form for
