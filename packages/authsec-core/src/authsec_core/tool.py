"""The one tool that every adapter hands to its framework: endpoint and scope in, JSON text out.

The arguments come from a model and are hostile until the policy has passed them. Nothing is ever raised for what a
model, an authority or an API does; the text that comes back says it instead, and holds no token.
"""

from __future__ import annotations

import logging

from authsec_core.client import AsyncAuthSecClient, AuthSecClient
from authsec_core.errors import AuthSecError, EndpointRefusedError, ScopeRefusedError
from authsec_core.fetch import FetchResult
from authsec_core.token import Mode

__all__ = ["describe_secure_fetch", "secure_fetch", "secure_fetch_async"]

_log = logging.getLogger("authsec.tool")


def secure_fetch(client: AuthSecClient, endpoint: str, scope: str, *, per_call: bool = False) -> str:
    """Fetch protected data for a model and return bounded JSON text.

    Args:
        endpoint: A path relative to the operator's API.
        scope: The scopes to ask for; they can only narrow what the operator allows.
        per_call: Use a token of its own for this one call, instead of a held one.
    """
    try:
        _check(endpoint, scope)
        result = client.fetch(endpoint, scope, cache=not per_call)
    except Exception as exc:  # noqa: BLE001 -- the rim: the model is told and the conversation goes on
        result = _error(exc, client.mode)
    return _report(result, client)


async def secure_fetch_async(client: AsyncAuthSecClient, endpoint: str, scope: str, *, per_call: bool = False) -> str:
    """Do what `secure_fetch` does, without blocking the loop. Cancellation passes through."""
    try:
        _check(endpoint, scope)
        result = await client.fetch(endpoint, scope, cache=not per_call)
    except Exception as exc:  # noqa: BLE001 -- the rim, as above
        result = _error(exc, client.mode)
    return _report(result, client)


def describe_secure_fetch(client: AuthSecClient | AsyncAuthSecClient) -> str:
    """Return the tool's description for a model: what it does, what the arguments mean, what is permitted.

    Raises:
        ConfigurationError: LIVE without `AUTHSEC_API_BASE_URL`.
    """
    return (
        "Fetch data from a protected API. The call is authorised with a short-lived token behind the scenes: never ask "
        "for credentials. 'endpoint' is a path relative to the API; 'scope' is the permission that it needs. "
        f"{client.policy.describe()} The answer is JSON: status is 'success' with data, or 'error' with a code and a "
        "message; do not repeat a call whose error is not retryable."
    )


def _check(endpoint: object, scope: object) -> None:
    """Some frameworks hand over whatever the model typed: null, numbers, objects."""
    if not isinstance(endpoint, str):
        raise EndpointRefusedError("The endpoint must be text: a path relative to the API.")
    if not isinstance(scope, str) or not scope.strip():
        raise ScopeRefusedError("Name the scope that the endpoint needs, as text.")


def _error(exc: Exception, mode: Mode) -> FetchResult:
    if isinstance(exc, AuthSecError):
        return FetchResult.of_error(exc, mode)
    _log.error("secure fetch failed unexpectedly", exc_info=exc)
    return FetchResult(
        status="error",
        mode=mode,
        code="internal_error",
        message="The tool failed: its operator has to look at the log.",
    )


def _report(result: FetchResult, client: AuthSecClient | AsyncAuthSecClient) -> str:
    _log.info("secure fetch: %s %s %s", result.mode, result.code, result.token or "without a token")
    return result.to_json(limit=client.config.max_response_bytes)
