"""`authsec fetch`: what does an agent's tool get from this endpoint? Same policy, same token, same bounded result."""

from __future__ import annotations

import json
from collections.abc import Callable

from authsec_core._clock import Clock
from authsec_core._version import __version__
from authsec_core.cli._arguments import Arguments
from authsec_core.cli._outcome import Outcome, error_outcome, known_secrets, outcome
from authsec_core.client import AuthSecClient
from authsec_core.config import AuthSecConfig
from authsec_core.errors import AuthSecError
from authsec_core.fetch import FetchResult
from authsec_core.token import DelegationToken, Mode, Secret

__all__ = ["fetch"]


def fetch(arguments: Arguments, clock: Clock, notify: Callable[[str], None]) -> Outcome:
    """Fetch one endpoint and return what a model would be shown of it, beside the token's public name."""
    mode: Mode | None = None
    secrets: tuple[Secret, ...] = ()
    try:
        config = AuthSecConfig(**arguments.settings)
        mode, secrets = config.resolved_mode, known_secrets(config)
        with AuthSecClient(config, product=f"authsec-cli/{__version__}", clock=clock) as client:
            notify("Fetching")
            result = client.fetch(arguments.endpoint, arguments.scope, cache=False)
    except AuthSecError as exc:
        return error_outcome(exc, mode, secrets=secrets)
    return _shown(result, config.max_response_bytes, secrets)


def _shown(result: FetchResult, limit: int, secrets: tuple[Secret, ...]) -> Outcome:
    document = json.loads(result.to_json(limit=limit))
    failed = document["status"] != "success"  # the data may be more than a model is shown
    if result.token is None or failed:
        return outcome("error", document, failed=failed, secrets=secrets)
    document["token"] = _named(result.token)
    return outcome("fetch", document, failed=False, secrets=(*secrets, result.token.secret))


def _named(token: DelegationToken) -> dict[str, object]:
    return {"jti": token.jti, "scopes": sorted(token.scopes)}
