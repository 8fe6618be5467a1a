"""Secure fetch as a tool for ag2 from 1.0 on, the AG2 whose module is called `ag2`.

What a call may do is decided in `authsec_core`; here it gets the form that ag2 wants. The framework is imported when a
tool is made, and not before. For AG2 below 1, whose module is called `autogen`, see `authsec_autogen.classic`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from authsec_autogen._coroutine_tool import coroutine_tool
from authsec_core import AsyncAuthSecClient, ConfigurationError, EndpointRefusedError, FetchResult, __version__
from authsec_core._own_files import refuse_foreign_files

if TYPE_CHECKING:
    from ag2 import Context
    from ag2.events import ToolCallEvent
    from ag2.middleware import ToolExecution, ToolMiddleware, ToolResultType
    from ag2.tools.final import FunctionTool

    from authsec_core.token import Mode

__all__ = ["make_secure_fetch"]

refuse_foreign_files("authsec_autogen", "authsec-autogen")  # their __init__ may have taken the place of ours

_log = logging.getLogger("authsec.autogen")

_MEND = (
    "install ag2 1.0 or later with the extra authsec-autogen[ag2], from our wheel's file: "
    f"pip install 'dist/authsec_autogen-{__version__}-py3-none-any.whl[ag2]'"
)
_TWO_TEXTS = "Call this tool with two texts, 'endpoint' and 'scope'."


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
    made: FunctionTool = framework.tool(
        parts.function, name=parts.name, description=parts.description, middleware=[_answer_in_json(parts.mode)]
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


def _answer_in_json(mode: Mode) -> ToolMiddleware:
    """Return a hook that stands around the tool's function, and around ag2's reading of the arguments."""
    from ag2.events import ToolErrorEvent, ToolResultEvent

    refused = FetchResult.of_error(EndpointRefusedError(_TWO_TEXTS), mode).to_json()

    async def answer_in_json(call_next: ToolExecution, event: ToolCallEvent, context: Context) -> ToolResultType:
        result = await call_next(event, context)
        if not isinstance(result, ToolErrorEvent):
            return result
        # The kind only: its message shows the arguments, and what the turn's context holds.
        _log.warning("ag2 refused the arguments of %s: %s", event.name, type(result.error).__name__)
        return ToolResultEvent.from_call(event, result=refused)

    return answer_in_json
