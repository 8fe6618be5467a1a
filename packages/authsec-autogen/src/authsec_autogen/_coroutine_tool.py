"""What a tool for a framework of coroutines is made of: whose client, which name, which function.

It knows no framework; those that use it hand the parts to theirs. It has no `from __future__ import annotations`, and
its function takes plain `str` and has no default: frameworks read both, and defaults are shown to models.
"""

import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from authsec_autogen._environment import AsyncEnvironment
from authsec_autogen._naming import check_name, dressed
from authsec_core import AsyncAuthSecClient, AuthSecConfig
from authsec_core.token import Mode
from authsec_core.tool import describe_secure_fetch, secure_fetch_async

__all__ = ["ENVIRONMENT", "CoroutineTool", "coroutine_tool", "parts_of"]

_DEFAULT_NAME = "fetch_secure_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class CoroutineTool:
    """The parts of a tool.

    Attributes:
        function: It takes texts and returns text, whatever a model, an authority or an API does; cancellation passes.
    """

    name: str
    description: str
    function: Callable[..., Coroutine[Any, Any, str]]
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
    if name is not None:
        check_name(name)
    client = ENVIRONMENT.client() if client is None else client
    if not isinstance(client, AsyncAuthSecClient):
        raise TypeError(
            f"client must be an AsyncAuthSecClient, not {type(client).__name__}: these frameworks run coroutines, "
            "which a client for threads would block"
        )
    identity = _name_for(client.config)
    described = describe_secure_fetch(client)  # also where it is not used: it refuses settings that cannot work
    return parts_of(_function(client, per_call), name, identity, description or described, mode=client.mode)


def parts_of(function: Any, name: str | None, identity: str, description: str, *, mode: Mode) -> CoroutineTool:
    """Dress the function and return it with the rest; `identity` is the name that nothing else has."""
    made = dressed(function, name=name or identity, doc=description)
    # ag2 grants "always" to what has this qualified name; it must not cover another identity's tool of one name.
    made.__qualname__ = identity
    return CoroutineTool(name=made.__name__, description=description, function=made, mode=mode)


def _function(client: AsyncAuthSecClient, per_call: bool) -> Callable[..., Coroutine[Any, Any, str]]:
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
