"""Secure fetch and the vault as tools for ag2 from 1.0 on, the AG2 whose module is called `ag2`.

What a call may do is decided in `authsec_core`; here it gets the form that ag2 wants. The framework is imported when a
tool is made, and not before. For AG2 below 1, whose module is called `autogen`, see `authsec_autogen.classic`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from authsec_autogen._coroutine_tool import CoroutineTool, coroutine_tool
from authsec_autogen._vault_coroutines import secret_fetch_tool, vault_tool
from authsec_core import AsyncAuthSecClient, ConfigurationError, EndpointRefusedError, FetchResult, __version__
from authsec_core._own_files import refuse_foreign_files

if TYPE_CHECKING:
    from ag2 import Context
    from ag2.events import ToolCallEvent
    from ag2.middleware import ToolExecution, ToolMiddleware, ToolResultType
    from ag2.tools.final import FunctionTool

    from authsec_core import AgentVault, VaultToken
    from authsec_core.token import Mode

__all__ = ["make_secret_fetch", "make_secure_fetch", "make_vault_tool"]

refuse_foreign_files("authsec_autogen", "authsec-autogen")  # their __init__ may have taken the place of ours

_log = logging.getLogger("authsec.autogen")

_MEND = (
    "install ag2 1.0 or later with the extra authsec-autogen[ag2], from our wheel's file: "
    f"pip install 'dist/authsec_autogen-{__version__}-py3-none-any.whl[ag2]'"
)
_TWO_TEXTS = "Call this tool with two texts, 'endpoint' and 'scope'."
_ENDPOINT = "Call this tool with a text, 'endpoint', and a 'reason'."
_PATH = "Call this tool with a text, 'path', and a 'reason'."


def make_secure_fetch(
    client: AsyncAuthSecClient | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    per_call: bool = False,
) -> FunctionTool:
    """Return a tool that fetches with this client's identity, for `Agent(..., tools=[make_secure_fetch()])`.

    Making it opens no connection. Copies, of which ag2 makes one for each agent, share the client. A call whose
    arguments ag2 cannot use is answered in JSON too: ag2's own answer is a traceback, which shows models the files of
    this machine and what the turn's context holds.

    ag2 tells the tools of an agent apart by their names alone. Of two with the same name 1.0 runs both, and later
    versions the last; give a `name` only where no other tool of that agent has it.

    Args:
        client: Whose tokens the calls carry; by default the client that the environment describes, one for the process.
            A client that you give stays yours to close.
        name: What the model calls the tool; by default `fetch_secure_data`, LIVE with a mark of the identity.
        description: What the model is told; by default with the permitted endpoints and scopes.
        per_call: Ask for a token of its own for each call, instead of using one until it is stale.

    Raises:
        ConfigurationError: There is no ag2 from 1.0 on, the client's settings do not say where the API is, or those of
            the environment are wrong.
        TypeError: `client` is not an `AsyncAuthSecClient`.
        ValueError: The name is not one that models can call.
    """
    framework = _load_ag2()
    parts = coroutine_tool(client, name=name, description=description, per_call=per_call)
    return _made(framework, parts, _TWO_TEXTS)


def make_secret_fetch(
    path: str,
    *,
    base_url: str,
    header: str = "Authorization",
    prefix: str | None = None,
    allowed_endpoints: Iterable[str] | None = None,
    vault: AgentVault | None = None,
    token: str | VaultToken | None = None,
    agent_name: str | None = None,
    name: str | None = None,
    description: str | None = None,
) -> FunctionTool:
    """Return a tool that asks an API with a secret which no model sees. For the rest, see `make_secure_fetch`.

    The model gives an endpoint and, for the audit, a reason. The secret is read for each call, goes to `base_url` and
    nowhere else, and is taken out of an answer that repeats it.

    Args:
        path: Where the secret lies, such as `production/tavily/api-key`.
        base_url: The API's address. The secret goes nowhere else.
        header: Where the secret goes.
        prefix: What stands before it; by default `Bearer ` in `Authorization`, and nothing elsewhere.
        allowed_endpoints: The only endpoints that may be asked; by default all below `base_url`.
        vault: Where the secret is; by default where the environment says. It stays yours to close.
        token: What to read it with, instead of the agent's own key.
        agent_name: The agent's name for the vault's audit.
        name: What the model calls the tool; by default `fetch_with_secret` with a mark of all of the above.
        description: What the model is told; by default with the permitted endpoints.

    Raises:
        ConfigurationError: There is no ag2 from 1.0 on, the environment does not say where the vault is, or a secret
            may not go to `base_url`.
        TypeError: `vault` is not an `AgentVault`.
        ValueError: The path, the endpoints, the header, the prefix or a name cannot be one.
    """
    framework = _load_ag2()
    parts = secret_fetch_tool(
        path,
        base_url,
        header=header,
        prefix=prefix,
        allowed_endpoints=allowed_endpoints,
        vault=vault,
        token=token,
        agent_name=agent_name,
        name=name,
        description=description,
    )
    return _made(framework, parts, _ENDPOINT)


def make_vault_tool(
    vault_token: str | VaultToken,
    *,
    agent_name: str | None = None,
    vault: AgentVault | None = None,
    name: str | None = None,
    description: str | None = None,
) -> FunctionTool:
    """Return a tool that gives a model the secrets which a token covers. For the rest, see `make_secure_fetch`.

    The secret is in the conversation from then on. Where a model only has to use one, `make_secret_fetch` keeps it
    unseen.

    Args:
        vault_token: What `request_token` returned, or its `value`. It covers all that the tool can read.
        agent_name: The agent's name for the vault's audit. It is kept as a claim: the token proves who reads.
        vault: Where the secrets are; by default where the environment says. It stays yours to close.
        name: What the model calls the tool; by default `get_secret` with a mark of the token.
        description: What the model is told.

    Raises:
        ConfigurationError: There is no ag2 from 1.0 on, or the environment does not say where the vault is.
        TypeError: The token is not text, or `vault` is not an `AgentVault`.
        ValueError: The token or a name cannot be one.
    """
    framework = _load_ag2()
    parts = vault_tool(vault_token, agent_name=agent_name, vault=vault, name=name, description=description)
    return _made(framework, parts, _PATH)


def _made(framework: Any, parts: CoroutineTool, arguments: str) -> FunctionTool:
    answer = _answer_in_json(parts.mode, arguments)
    made: FunctionTool = framework.tool(
        parts.function, name=parts.name, description=parts.description, middleware=[answer]
    )
    return made


def _load_ag2() -> Any:
    try:
        import ag2
    except ImportError as exc:
        raise ConfigurationError(
            f"the module 'ag2' cannot be imported ({exc}); ag2 below 1.0 has 'autogen' in its place, for which there "
            f"is authsec_autogen.classic: {_MEND}"
        ) from exc
    if not (hasattr(ag2, "tool") and hasattr(ag2, "Agent")):
        where = getattr(ag2, "__file__", None) or "a folder"
        raise ConfigurationError(f"the module 'ag2' ({where}) is not ag2: rename it if it is yours, else {_MEND}")
    return ag2


def _answer_in_json(mode: Mode, arguments: str) -> ToolMiddleware:
    """Return a hook that stands around the tool's function, and around ag2's reading of the arguments."""
    from ag2.events import ToolErrorEvent, ToolResultEvent

    refused = FetchResult.of_error(EndpointRefusedError(arguments), mode).to_json()

    async def answer_in_json(call_next: ToolExecution, event: ToolCallEvent, context: Context) -> ToolResultType:
        result = await call_next(event, context)
        if not isinstance(result, ToolErrorEvent):
            return result
        # The kind only: its message shows the arguments, and what the turn's context holds.
        _log.warning("ag2 refused the arguments of %s: %s", event.name, type(result.error).__name__)
        return ToolResultEvent.from_call(event, result=refused)

    return answer_in_json
