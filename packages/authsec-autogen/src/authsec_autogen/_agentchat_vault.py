"""The vault's tools for AgentChat: a secret that is used and never seen, or one that a model is given.

A dumped one holds its name alone, so that the dump of an agent or a team around it works. Loading it is refused: whose
token it had, and for which secret, is in no file. It imports the framework.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from autogen_core import Component
from pydantic import BaseModel, ConfigDict, Field

from authsec_autogen._agentchat_base import TextTool
from authsec_autogen._vault_coroutines import secret_fetch_tool, vault_tool
from authsec_core import ConfigurationError

if TYPE_CHECKING:
    from typing_extensions import Self

    from authsec_core import AgentVault, VaultToken

__all__ = ["AuthSecSecretFetchTool", "AuthSecVaultTool"]

_REASON = "What it is needed for, in one line; the vault's audit keeps it."


class SecretFetchArguments(BaseModel):
    """What to fetch, and what for."""

    model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True)

    endpoint: str = Field(description="A path relative to the API, one of those that the tool's description permits.")
    reason: str = Field(description=_REASON)


class VaultToolArguments(BaseModel):
    """Which secret, and what for."""

    model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True)

    path: str = Field(description="Where the secret lies, such as 'production/openai/api-key'.")
    reason: str = Field(description=_REASON)


class VaultToolConfig(BaseModel):
    """The `config` of a dumped tool."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str


class AuthSecSecretFetchTool(TextTool[SecretFetchArguments], Component[VaultToolConfig]):
    """Asks an API with a secret which no model sees. Constructing it opens no connection.

    The model gives an endpoint and, for the audit, a reason. The secret is read for each call, goes to `base_url` and
    nowhere else, and is taken out of an answer that repeats it.

    It may serve several agents, calls at once and event loops in turn. A call never raises for what a model, the vault
    or an API does. A dumped one is not loaded again: put a new one in its place.

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
        ConfigurationError: The environment does not say where the vault is, or a secret may not go to `base_url`.
        TypeError: `vault` is not an `AgentVault`.
        ValueError: The path, the endpoints, the header, the prefix or a name cannot be one.
    """

    __module__ = "authsec_autogen.agentchat"  # where users import it from: dumps name it
    component_config_schema = VaultToolConfig

    def __init__(
        self,
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
    ) -> None:
        self._parts = secret_fetch_tool(
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
        self._mode = self._parts.mode
        # strict: models then send both arguments, as text; and agents with structured output accept no other tools.
        super().__init__(SecretFetchArguments, str, self._parts.name, self._parts.description, strict=True)

    def _call(self, args: SecretFetchArguments) -> Coroutine[Any, Any, str]:
        return self._parts.function(args.endpoint, args.reason)

    def _to_config(self) -> VaultToolConfig:
        return VaultToolConfig(name=self.name)

    @classmethod
    def _from_config(cls, config: VaultToolConfig) -> Self:
        raise _not_loaded(cls, config)


class AuthSecVaultTool(TextTool[VaultToolArguments], Component[VaultToolConfig]):
    """Gives a model the secrets that one token covers, and tells the vault's audit for whom and what for.

    The secret is in the conversation from then on. Where a model only has to use one, `AuthSecSecretFetchTool` keeps
    it unseen.

    It may serve calls at once and event loops in turn. A call never raises for what a model or the vault does. A dumped
    one is not loaded again: put a new one in its place.

    Args:
        vault_token: What `request_token` returned, or its `value`. It covers all that the tool can read.
        agent_name: The agent's name for the vault's audit. It is kept as a claim: the token proves who reads.
        vault: Where the secrets are; by default where the environment says. It stays yours to close.
        name: What the model calls the tool; by default `get_secret` with a mark of the token.
        description: What the model is told.

    Raises:
        ConfigurationError: The environment does not say where the vault is.
        TypeError: The token is not text, or `vault` is not an `AgentVault`.
        ValueError: The token or a name cannot be one.
    """

    __module__ = "authsec_autogen.agentchat"  # where users import it from: dumps name it
    component_config_schema = VaultToolConfig

    def __init__(
        self,
        vault_token: str | VaultToken,
        *,
        agent_name: str | None = None,
        vault: AgentVault | None = None,
        name: str | None = None,
        description: str | None = None,
    ) -> None:
        self._parts = vault_tool(vault_token, agent_name=agent_name, vault=vault, name=name, description=description)
        self._mode = self._parts.mode
        super().__init__(VaultToolArguments, str, self._parts.name, self._parts.description, strict=True)

    def _call(self, args: VaultToolArguments) -> Coroutine[Any, Any, str]:
        return self._parts.function(args.path, args.reason)

    def _to_config(self) -> VaultToolConfig:
        return VaultToolConfig(name=self.name)

    @classmethod
    def _from_config(cls, config: VaultToolConfig) -> Self:
        raise _not_loaded(cls, config)


def _not_loaded(kind: type, config: VaultToolConfig) -> ConfigurationError:
    return ConfigurationError(
        f"the tool {config.name!r} acted with a token or a key that no dump holds: put a new {kind.__name__} into the "
        "agent's tools"
    )
