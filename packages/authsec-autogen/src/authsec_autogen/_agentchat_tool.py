"""The AgentChat tool: endpoint and scope in, JSON text out. It imports the framework."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ClassVar

from autogen_core import Component
from pydantic import BaseModel, ConfigDict, Field

from authsec_autogen import _coroutine_tool
from authsec_autogen._agentchat_base import TextTool
from authsec_autogen._agentchat_config import SecureFetchToolConfig, ToolIdentity, check_identity

if TYPE_CHECKING:
    from typing_extensions import Self

    from authsec_core import AsyncAuthSecClient

__all__ = ["AuthSecSecureFetchTool"]


class SecureFetchArguments(BaseModel):
    """What to fetch, and with which permission."""

    model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True)

    endpoint: str = Field(description="A path relative to the API, one of those that the tool's description permits.")
    scope: str = Field(description="The permission that the endpoint needs.")


class AuthSecSecureFetchTool(TextTool[SecureFetchArguments], Component[SecureFetchToolConfig]):
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

    def _call(self, args: SecureFetchArguments) -> Coroutine[Any, Any, str]:
        return self._fetch(args.endpoint, args.scope)

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
