"""The AgentChat tool: endpoint and scope in, JSON text out, whatever is cancelled meanwhile. It imports the framework.

AgentChat from 0.6.4 waits for ever for a tool call that ends with a `BaseException`, which `CancelledError` is
(https://github.com/microsoft/autogen/issues/7956). So none leaves the tool, but for what asyncio itself has to see.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Generator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from autogen_core import CancellationToken, Component
from autogen_core.tools import BaseTool
from pydantic import BaseModel, ConfigDict, Field

from authsec_autogen import _coroutine_tool
from authsec_autogen._agentchat_config import SecureFetchToolConfig, ToolIdentity, check_identity
from authsec_core import FetchResult

if TYPE_CHECKING:
    from typing_extensions import Self

    from authsec_core import AsyncAuthSecClient

__all__ = ["AuthSecSecureFetchTool"]

_log = logging.getLogger("authsec.autogen")


class SecureFetchArguments(BaseModel):
    """What to fetch, and with which permission."""

    model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True)

    endpoint: str = Field(description="A path relative to the API, one of those that the tool's description permits.")
    scope: str = Field(description="The permission that the endpoint needs.")


class AuthSecSecureFetchTool(BaseTool[SecureFetchArguments, Any], Component[SecureFetchToolConfig]):
    """Fetches data from the protected API with a short-lived, scoped token of this agent.

    `AuthSecSecureFetchTool()` reads the environment. Constructing it opens no connection. It may serve several agents,
    calls at once and event loops in turn; agents with identities of their own need a client, and so a tool, each.

    A call never raises for what a model, an authority or an API does. Cancelled by its `CancellationToken` it answers
    with an error at once; cancelled with its asyncio task it ends with it.

    A dumped component holds names and addresses, no key and no token. Loading it reads the environment and refuses
    where that describes another agent, authority, API or policy than the dump.

    Args:
        client: Whose tokens the calls carry; by default the client that the environment describes, one for the process.
            A client that you give stays yours to close.
        name: What the model calls the tool; by default `fetch_secure_data`, LIVE with a mark of the identity. Two tools
            of one agent must not share a name; AgentChat refuses them.
        description: What the model is told; by default with the permitted endpoints and scopes.
        per_call: Ask for a token of its own for each call, instead of using one until it is stale.

    Raises:
        ConfigurationError: The settings are missing, wrong or unsafe.
        TypeError: `client` is not an `AsyncAuthSecClient`.
        ValueError: The name is not one that models can call.
    """

    __module__ = "authsec_autogen.agentchat"  # where users import it from: dumps name it
    component_config_schema = SecureFetchToolConfig

    def __init__(
        self,
        *,
        client: AsyncAuthSecClient | None = None,
        name: str | None = None,
        description: str | None = None,
        per_call: bool = False,
    ) -> None:
        client = _coroutine_tool.ENVIRONMENT.client() if client is None else client
        parts = _coroutine_tool.coroutine_tool(client, name=name, description=description, per_call=per_call)
        self._fetch, self._mode = parts.function, parts.mode
        self._settings, self._given_description, self._per_call = client.config, description, per_call
        # strict: models then send both arguments, as text; and agents with structured output accept no other tools.
        super().__init__(SecureFetchArguments, str, parts.name, parts.description, strict=True)

    async def run(self, args: SecureFetchArguments, cancellation_token: CancellationToken) -> str:
        """Fetch and return bounded JSON text. Called by the framework, through `run_json`."""
        # A task of its own, because what ends inside it can then be told from what is done to this one.
        fetching = cancellation_token.link_future(asyncio.ensure_future(self._fetch(args.endpoint, args.scope)))
        try:
            await asyncio.wait({fetching})
        except asyncio.CancelledError:
            fetching.cancel()
            if not cancellation_token.is_cancelled():  # then it is the task that is cancelled, and all of the run
                raise
        return self._outcome(fetching, cancellation_token)

    def run_json(
        self, args: Mapping[str, Any], cancellation_token: CancellationToken, call_id: str | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Return the coroutine of one call. Called by the framework; its older versions have no `call_id`."""
        named = {} if call_id is None else {"call_id": call_id}
        return _Begun(super().run_json(args, cancellation_token, **named), cancellation_token)

    def _outcome(self, fetching: asyncio.Future[str], cancellation_token: CancellationToken) -> str:
        if cancellation_token.is_cancelled():
            return self._error("cancelled", "The call was cancelled.")
        try:
            return fetching.result()
        except BaseException:  # noqa: BLE001 -- the rim: also what is no Exception; the run goes on
            _log.exception("secure fetch ended unexpectedly")
            return self._error("internal_error", "The tool failed: its operator has to look at the log.")

    def _error(self, code: str, message: str) -> str:
        return FetchResult(status="error", mode=self._mode, code=code, message=message).to_json()

    def _to_config(self) -> SecureFetchToolConfig:
        return SecureFetchToolConfig(
            name=self.name,
            description=self._given_description,
            per_call=self._per_call,
            identity=ToolIdentity.of(self._settings),
        )

    @classmethod
    def _from_config(cls, config: SecureFetchToolConfig) -> Self:
        client = _coroutine_tool.ENVIRONMENT.client()
        check_identity(config.identity, client.config)
        return cls(client=client, name=config.name, description=config.description, per_call=config.per_call)


class _Begun(Coroutine[Any, Any, Any]):
    """A call's coroutine that begins even if its token was cancelled before it could.

    AgentChat makes a task of the coroutine and cancels it in the same breath when its token is cancelled already. A
    coroutine of Python's own would end there, with the error for which nobody waits.
    """

    def __init__(self, call: Coroutine[Any, Any, Any], cancellation_token: CancellationToken) -> None:
        self._call, self._cancellation_token, self._begun = call, cancellation_token, False

    def send(self, value: Any) -> Any:
        self._begun = True
        return self._call.send(value)

    def throw(self, error: Any, *older: Any) -> Any:
        if not self._begun and isinstance(error, asyncio.CancelledError) and self._cancellation_token.is_cancelled():
            return self.send(None)
        return self._call.throw(error, *older)

    def close(self) -> None:
        self._call.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._call.__await__()
