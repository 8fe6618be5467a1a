"""Secure fetch as a tool for Microsoft AutoGen AgentChat: `autogen_agentchat` and `autogen_core` 0.4.9 to 0.7.

This module imports no framework. The tool's class is one of the framework's, so it is made, in `_agentchat_tool`, when
its name is first used; what a call may do is decided in `authsec_core`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from authsec_autogen._framework import check_agentchat
from authsec_core._own_files import refuse_foreign_files

if TYPE_CHECKING:
    from authsec_autogen._agentchat_tool import AuthSecSecureFetchTool
    from authsec_core import AsyncAuthSecClient

__all__ = ["AuthSecSecureFetchTool", "make_secure_fetch"]

_TOOL = "AuthSecSecureFetchTool"

refuse_foreign_files("authsec_autogen", "authsec-autogen")  # their __init__ may have taken the place of ours


def make_secure_fetch(
    client: AsyncAuthSecClient | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    per_call: bool = False,
) -> AuthSecSecureFetchTool:
    """Return a new tool for `tools=[...]`: the same as `AuthSecSecureFetchTool`, named as in the other lineages.

    Args:
        client: Whose tokens the calls carry; by default the client that the environment describes, one for the process.
            A client that you give stays yours to close.
        name: What the model calls the tool; by default `fetch_secure_data`, LIVE with a mark of the identity.
        description: What the model is told; by default with the permitted endpoints and scopes.
        per_call: Ask for a token of its own for each call, instead of using one until it is stale.

    Raises:
        ConfigurationError: There is no AgentChat, or the settings are missing, wrong or unsafe.
        TypeError: `client` is not an `AsyncAuthSecClient`.
        ValueError: The name is not one that models can call.
    """
    kind: type[AuthSecSecureFetchTool] = __getattr__(_TOOL)
    return kind(client=client, name=name, description=description, per_call=per_call)


def __getattr__(name: str) -> Any:
    """Make the tool's class when it is first asked for (PEP 562); the framework takes half a second to import."""
    if name != _TOOL:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check_agentchat()
    kind = globals()[name] = getattr(import_module("authsec_autogen._agentchat_tool"), name)
    return kind


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
