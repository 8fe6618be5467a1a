"""Secure fetch and the vault as tools for Microsoft Agent Framework, the module `agent_framework` from 1.0 on.

What a call may do is decided in `authsec_core`; here it gets the form that the framework wants. The framework is
imported when a tool is made, and not before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, get_args

from authsec_autogen._coroutine_tool import CoroutineTool, coroutine_tool
from authsec_autogen._vault_coroutines import secret_fetch_tool, vault_tool
from authsec_core import AsyncAuthSecClient, ConfigurationError, __version__
from authsec_core._own_files import refuse_foreign_files

if TYPE_CHECKING:
    from agent_framework import FunctionTool

    from authsec_core import AgentVault, VaultToken

__all__ = ["ApprovalMode", "make_secret_fetch", "make_secure_fetch", "make_vault_tool"]

refuse_foreign_files("authsec_autogen", "authsec-autogen")  # their __init__ may have taken the place of ours

ApprovalMode = Literal["always_require", "never_require"]

_MEND = (
    "install Microsoft Agent Framework with the extra authsec-autogen[agent-framework], from our wheel's file: "
    f"pip install 'dist/authsec_autogen-{__version__}-py3-none-any.whl[agent-framework]'"
)


def make_secure_fetch(
    client: AsyncAuthSecClient | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    per_call: bool = False,
    approval_mode: ApprovalMode = "never_require",
) -> FunctionTool:
    """Return a tool that fetches with this client's identity, for `Agent(..., tools=[make_secure_fetch()])`.

    Making it opens no connection. Copies share the client; what the framework writes down of a tool holds none, so that
    a tool which it restores runs nothing. With the framework's `enable_sensitive_data` its spans and logs hold what the
    tool was asked and what it answered: the fetched data, and no token.

    Args:
        client: Whose tokens the calls carry; by default the client that the environment describes, one for the process.
            A client that you give stays yours to close.
        name: What the model calls the tool; by default `fetch_secure_data`, LIVE with a mark of the identity. The
            framework refuses an agent two tools with one name.
        description: What the model is told; by default with the permitted endpoints and scopes.
        per_call: Ask for a token of its own for each call, instead of using one until it is stale.
        approval_mode: `always_require` has the framework ask a person before each call; nothing is requested before.

    Raises:
        ConfigurationError: There is no Agent Framework, the client's settings do not say where the API is, or those of
            the environment are wrong.
        TypeError: `client` is not an `AsyncAuthSecClient`.
        ValueError: The name is not one that models can call, or there is no such approval mode.
    """
    framework = _load_agent_framework()
    parts = coroutine_tool(client, name=name, description=description, per_call=per_call)
    return _made(framework, parts, approval_mode)


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
    approval_mode: ApprovalMode = "never_require",
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
        approval_mode: `always_require` has the framework ask a person before each call; nothing is requested before.

    Raises:
        ConfigurationError: There is no Agent Framework, the environment does not say where the vault is, or a secret
            may not go to `base_url`.
        TypeError: `vault` is not an `AgentVault`.
        ValueError: The path, the endpoints, the header, the prefix or a name cannot be one, or there is no such
            approval mode.
    """
    framework = _load_agent_framework()
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
    return _made(framework, parts, approval_mode)


def make_vault_tool(
    vault_token: str | VaultToken,
    *,
    agent_name: str | None = None,
    vault: AgentVault | None = None,
    name: str | None = None,
    description: str | None = None,
    approval_mode: ApprovalMode = "never_require",
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
        approval_mode: `always_require` has the framework ask a person before each call; nothing is requested before.

    Raises:
        ConfigurationError: There is no Agent Framework, or the environment does not say where the vault is.
        TypeError: The token is not text, or `vault` is not an `AgentVault`.
        ValueError: The token or a name cannot be one, or there is no such approval mode.
    """
    framework = _load_agent_framework()
    parts = vault_tool(vault_token, agent_name=agent_name, vault=vault, name=name, description=description)
    return _made(framework, parts, approval_mode)


def _made(framework: Any, parts: CoroutineTool, approval_mode: ApprovalMode) -> FunctionTool:
    if approval_mode not in get_args(ApprovalMode):  # the framework would take any other text for "never"
        raise ValueError(f"approval_mode must be one of {', '.join(get_args(ApprovalMode))}, not {approval_mode!r}")
    made: FunctionTool = framework.tool(
        parts.function, name=parts.name, description=parts.description, approval_mode=approval_mode
    )
    return made


def _load_agent_framework() -> Any:
    try:
        import agent_framework
    except ImportError as exc:
        raise ConfigurationError(f"the module 'agent_framework' cannot be imported ({exc}): {_MEND}") from exc
    if not (hasattr(agent_framework, "tool") and hasattr(agent_framework, "FunctionTool")):
        where = getattr(agent_framework, "__file__", None) or "a folder"
        raise ConfigurationError(
            f"the module 'agent_framework' ({where}) is not Microsoft Agent Framework from 1.0 on: rename it if it is "
            f"yours, else {_MEND}"
        )
    return agent_framework
