"""What a tool for a framework of coroutines is made of: whose client, which name, which function.

It knows no framework; those that use it hand the parts to theirs. It has no `from __future__ import annotations`, and
its function takes plain `str` and has no default: frameworks read both, and defaults are shown to models.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Protocol

from authsec_autogen._environment import AsyncEnvironment
from authsec_core import AsyncAuthSecClient, AuthSecConfig
from authsec_core.token import Mode
from authsec_core.tool import describe_secure_fetch, secure_fetch_async

__all__ = ["ENVIRONMENT", "CoroutineTool", "SecureFetchCoroutine", "coroutine_tool"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what OpenAI permits
_DEFAULT_NAME = "fetch_secure_data"


class SecureFetchCoroutine(Protocol):
    """The function that a framework awaits."""

    async def __call__(self, endpoint: str, scope: str) -> str:
        """Return bounded JSON text, whatever a model, an authority or an API does; let cancellation pass."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CoroutineTool:
    """The parts of a tool."""

    name: str
    description: str
    function: SecureFetchCoroutine
    mode: Mode


def coroutine_tool(
    client: AsyncAuthSecClient | None, *, name: str | None, description: str | None, per_call: bool
) -> CoroutineTool:
    """Return the parts of a tool that fetches with this client's identity; without a client, the environment's.

    Raises:
        ConfigurationError: The client's settings do not say where the API is, or those of the environment are wrong.
        TypeError: `client` is not an `AsyncAuthSecClient`.
        ValueError: The name is not one that models can call.
    """
    if name is not None and not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a tool's name: use 1 to 64 letters, digits, '_' and '-'")
    client = ENVIRONMENT.client() if client is None else client
    if not isinstance(client, AsyncAuthSecClient):
        raise TypeError(
            f"client must be an AsyncAuthSecClient, not {type(client).__name__}: these frameworks run coroutines, "
            "which a client for threads would block"
        )
    identity = _name_for(client.config)
    described = describe_secure_fetch(client)  # also where it is not used: it refuses settings that cannot work
    function: Any = _function(client, per_call)
    function.__name__ = name or identity
    # ag2 grants "always" to what has this qualified name; it must not cover another identity's tool of one name.
    function.__qualname__ = identity
    function.__doc__ = described
    return CoroutineTool(
        name=name or identity, description=description or described, function=function, mode=client.mode
    )


def _function(client: AsyncAuthSecClient, per_call: bool) -> SecureFetchCoroutine:
    # A closure: ag2 copies tools deeply, and what hangs on an object or a partial would be copied or shown.
    async def fetch_secure_data(endpoint: str, scope: str) -> str:
        return await secure_fetch_async(client, endpoint, scope, per_call=per_call)

    return fetch_secure_data


def _name_for(config: AuthSecConfig) -> str:
    """Return a name that no two identities share, nor two policies: of two tools with one name ag2 1.0 runs both."""
    if config.client_id is None:
        return _DEFAULT_NAME
    # A digest, since a client id may be all that an authority asks for.
    who = (config.base_url, config.client_id, config.issuer, config.audience, config.api_base_url)
    endpoints, scopes = config.allowed_endpoints, config.endpoint_scopes
    limits = (endpoints and sorted(endpoints), scopes and sorted((path, sorted(scopes[path])) for path in scopes))
    identity = "\n".join(map(str, (*who, *limits)))
    return f"{_DEFAULT_NAME}_{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


ENVIRONMENT = AsyncEnvironment()
