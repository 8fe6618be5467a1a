"""Secure fetch as a tool for Microsoft Agent Framework, the module `agent_framework` from 1.0 on.

What a call may do is decided in `authsec_core`; here it gets the form that the framework wants. The framework is
imported when a tool is made, and not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from authsec_autogen._coroutine_tool import coroutine_tool
from authsec_core import AsyncAuthSecClient, ConfigurationError, __version__
from authsec_core._own_files import refuse_foreign_files

if TYPE_CHECKING:
    from agent_framework import FunctionTool

__all__ = ["ApprovalMode", "make_secure_fetch"]

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
    if approval_mode not in get_args(ApprovalMode):  # the framework would take any other text for "never"
        raise ValueError(f"approval_mode must be one of {', '.join(get_args(ApprovalMode))}, not {approval_mode!r}")
    parts = coroutine_tool(client, name=name, description=description, per_call=per_call)
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
