"""The CrewAI tools of the vault: a secret that is used and never seen, and one that a model is given.

What a call means is decided in `authsec_core.vault_tool`, and what CrewAI would get wrong is put right in
`_closed_tool`.
"""

# No `from __future__ import annotations`: CrewAI reads the annotations of `_run`.
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from authsec_core._version import __version__
from authsec_core.token import Secret
from authsec_core.vault_sync import AgentVaultSync
from authsec_core.vault_tool import (
    check_agent_name,
    describe_secret_fetch,
    describe_vault_secret,
    hold_token,
    mark_of_fetch,
    mark_of_token,
    secret_fetch,
    vault_secret_text,
)
from authsec_core.vault_use import SecretUse
from authsec_core.vault_values import VaultToken
from authsec_crewai._closed_tool import ClosedTool
from authsec_crewai._retention import warn_of_retention

__all__ = ["AuthSecSecretFetchTool", "AuthSecVaultTool"]

_ENV_VARS = {
    "AUTHSEC_VAULT_URL": "The vault's address; by default that of AUTHSEC_BASE_URL.",
    "AUTHSEC_AGENT_KEY": "The agent's key, for what is read without a token.",
    "AUTHSEC_MOCK_SECRETS": "Invented secrets for MOCK mode: a JSON object of paths and values.",
}
_REASON = "What it is needed for, in one line; the vault's audit keeps it."


class VaultToolArguments(BaseModel):
    """Which secret, and what for."""

    model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True)

    path: str = Field(description="Where the secret lies, such as 'production/openai/api-key'.")
    reason: str = Field(default="", description=_REASON)


class SecretFetchArguments(BaseModel):
    """What to fetch, and what for."""

    model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True)

    endpoint: str = Field(description="A path relative to the API, one of those that the tool's description permits.")
    reason: str = Field(default="", description=_REASON)


class AuthSecVaultTool(ClosedTool):
    """Gives a model the secrets that one token covers, and tells the vault's audit for whom and what for. Thread-safe.

    The secret is in the conversation from then on. Where a model only has to use one, `AuthSecSecretFetchTool` keeps it
    unseen.

    Copies share the token. A tool that CrewAI restores from a checkpoint has none and answers every call with an error:
    replace it.

    Args:
        vault_token: What `request_token` returned, or its `value`. It covers all that the tool can read.
        agent_name: The agent's name for the vault's audit. It is kept as a claim: the token proves who reads.
        vault: Where the secrets are; by default where the environment says. It stays yours to close.
        fields: Fields of CrewAI's `BaseTool`, such as `name`. The default name ends in a mark of the token, because
            CrewAI tells tools apart by their names alone.

    Raises:
        ConfigurationError: The environment does not say where the vault is.
        TypeError: The token is not text, or `vault` is not an `AgentVaultSync`.
        ValueError: The token or the name cannot be one.
    """

    _arguments: ClassVar[type[BaseModel]] = VaultToolArguments
    _variables: ClassVar[Mapping[str, str]] = _ENV_VARS
    _vault: AgentVaultSync | None = PrivateAttr(default=None)
    _token: Secret | None = PrivateAttr(default=None)
    _agent_name: str | None = PrivateAttr(default=None)

    def __init__(
        self,
        *,
        vault_token: str | VaultToken,
        agent_name: str | None = None,
        vault: AgentVaultSync | None = None,
        **fields: Any,
    ) -> None:
        shown = _hidden(vault_token)
        del vault_token  # an error that is raised below may be reported with this frame's locals
        token = used = None
        if not self._is_restored(fields):
            token, used = hold_token(shown()), _vault(vault)
            if agent_name is not None:
                check_agent_name(agent_name)
            name = f"authsec_get_secret_{mark_of_token(used, token)}"
            fields = {"name": name, "description": describe_vault_secret(), **fields}
        self._fill(fields)
        self._vault, self._token, self._agent_name = used, token, agent_name
        if used is not None and used.mode == "live":
            warn_of_retention(stacklevel=2)

    def _run(self, path: str = "", reason: str = "", **_unknown: Any) -> str:
        """Return the secret, or JSON text that says why not; never raises. CrewAI up to 1.9 passes on what it gets."""
        if self._vault is None:
            return self._answer_restored()
        return vault_secret_text(self._vault, path, token=self._token, reason=reason, agent_name=self._agent_name)


class AuthSecSecretFetchTool(ClosedTool):
    """Asks an API with a secret which no model sees. Thread-safe.

    The model gives an endpoint and, for the audit, a reason. The secret is read for each call, goes to `base_url` and
    nowhere else, and is taken out of an answer that repeats it.

    Copies share vault and token. A tool that CrewAI restores from a checkpoint has neither and answers every call with
    an error, rather than act as whoever the environment names: replace it.

    Args:
        path: Where the secret lies, such as `production/tavily/api-key`.
        base_url: The API's address.
        header: Where the secret goes.
        prefix: What stands before it; by default `Bearer ` in `Authorization`, and nothing elsewhere.
        allowed_endpoints: The only endpoints that may be asked; by default all below `base_url`.
        token: What to read the secret with, instead of the agent's own key.
        agent_name: The agent's name for the vault's audit.
        vault: Where the secret is; by default where the environment says. It stays yours to close.
        fields: Fields of CrewAI's `BaseTool`, such as `name`. The default name ends in a mark of all of the above.

    Raises:
        ConfigurationError: The environment does not say where the vault is, or a secret may not go to `base_url`.
        TypeError: `vault` is not an `AgentVaultSync`.
        ValueError: The path, the endpoints, the header, the prefix or the name cannot be one.
    """

    _arguments: ClassVar[type[BaseModel]] = SecretFetchArguments
    _variables: ClassVar[Mapping[str, str]] = _ENV_VARS
    _vault: AgentVaultSync | None = PrivateAttr(default=None)
    _use: SecretUse | None = PrivateAttr(default=None)

    def __init__(
        self,
        *,
        path: str,
        base_url: str,
        header: str = "Authorization",
        prefix: str | None = None,
        allowed_endpoints: Iterable[str] | None = None,
        token: str | VaultToken | None = None,
        agent_name: str | None = None,
        vault: AgentVaultSync | None = None,
        **fields: Any,
    ) -> None:
        shown = None if token is None else _hidden(token)
        del token  # an error that is raised below may be reported with this frame's locals
        use = used = None
        if not self._is_restored(fields):
            used = _vault(vault)
            use = SecretUse.of(
                path,
                base_url,
                header=header,
                prefix=prefix,
                allowed_endpoints=allowed_endpoints,
                token=shown and shown(),
                agent_name=agent_name,
            )
            name = f"authsec_secret_fetch_{mark_of_fetch(used, use)}"
            fields = {"name": name, "description": describe_secret_fetch(use), **fields}
        self._fill(fields)
        self._vault, self._use = used, use
        if used is not None and used.mode == "live":
            warn_of_retention(stacklevel=2)

    def _run(self, endpoint: str = "", reason: str = "", **_unknown: Any) -> str:
        """Fetch and return JSON text; never raises. CrewAI up to 1.9 passes on whatever arguments a model makes up."""
        if self._vault is None or self._use is None:
            return self._answer_restored()
        return secret_fetch(self._vault, self._use, endpoint, reason)


def _hidden(token: Any) -> Secret:
    return token.secret if isinstance(token, VaultToken) else Secret(token)


def _vault(given: Any) -> AgentVaultSync:
    if given is None:
        return AgentVaultSync(product=f"authsec-crewai/{__version__}")
    if not isinstance(given, AgentVaultSync):
        raise TypeError(f"vault must be an AgentVaultSync, not {type(given).__name__}")
    return given
