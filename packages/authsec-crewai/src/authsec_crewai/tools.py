"""The CrewAI tool: endpoint and scope in, JSON text out, and the token never where the model, a log or a file sees it.

What a call means is decided in `authsec_core.tool`, and what CrewAI would get wrong is put right in `_closed_tool`.
"""

# No `from __future__ import annotations`: CrewAI reads the annotations of `_run`.
import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from authsec_core._layers import wrapped
from authsec_core._version import __version__
from authsec_core.client import AuthSecClient
from authsec_core.config import AuthSecConfig
from authsec_core.tool import describe_secure_fetch, secure_fetch
from authsec_crewai._closed_tool import ClosedTool
from authsec_crewai._retention import warn_of_retention

__all__ = ["AuthSecSecureFetchTool"]

_NAME = "authsec_secure_fetch"
_ENV_VARS = {
    "AUTHSEC_BASE_URL": "The authority's address; unset with the client id for MOCK mode.",
    "AUTHSEC_AGENT_CLIENT_ID": "The agent's client id at the authority.",
    "AUTHSEC_AGENT_KEY": "The agent's proof, where the authority asks for one.",
    "AUTHSEC_API_BASE_URL": "The protected API that the tool may reach.",
}


class SecureFetchArguments(BaseModel):
    """What to fetch, and with which permission."""

    model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True)

    endpoint: str = Field(description="A path relative to the API, one of those that the tool's description permits.")
    scope: str = Field(description="The permission that the endpoint needs.")


class AuthSecSecureFetchTool(ClosedTool):
    """Fetches data from the protected API with a short-lived, scoped token of this agent. Thread-safe.

    `AuthSecSecureFetchTool()` reads the environment; otherwise give a `client`, a `config`, or single settings such as
    `base_url` and `client_id`. Constructing it opens no connection.

    Copies share the client. A tool that CrewAI restores from a checkpoint has none and answers every call with an
    error, rather than act as whoever the environment names: replace it.

    Args:
        client: Whose tokens to use; it stays the caller's to close.
        config: The settings of a client of the tool's own.
        per_call: Use a token of its own for each call, instead of a held one.
        fields: Fields of CrewAI's `BaseTool`, such as `name`. The default name ends in a mark of the identity, because
            CrewAI tells tools apart by their names alone.

    Raises:
        ConfigurationError: The settings are missing, wrong or unsafe.
    """

    _arguments: ClassVar[type[BaseModel]] = SecureFetchArguments
    _variables: ClassVar[Mapping[str, str]] = _ENV_VARS
    per_call: bool = Field(default=False, description="Whether each call gets a token of its own.")
    _client: AuthSecClient | None = PrivateAttr(default=None)

    def __init__(
        self,
        *,
        client: AuthSecClient | None = None,
        config: AuthSecConfig | None = None,
        base_url: str | None = None,
        client_id: str | None = None,
        agent_key: str | None = None,
        api_base_url: str | None = None,
        per_call: bool = False,
        **fields: Any,
    ) -> None:
        given = {"base_url": base_url, "client_id": client_id, "api_base_url": api_base_url}
        settings = wrapped({**given, "agent_key": agent_key})
        del agent_key  # an error that is raised below may be reported with this frame's locals
        made = None
        if not self._is_restored(fields):
            made = _client(client, config, settings)
            fields = {"name": _name(made), "description": describe_secure_fetch(made), **fields}
        self._fill({**fields, "per_call": per_call})
        self._client = made
        if made is not None and made.mode == "live":
            warn_of_retention(stacklevel=2)

    def _run(self, endpoint: str = "", scope: str = "", **_unknown: Any) -> str:
        """Fetch and return JSON text; never raises. CrewAI up to 1.9 passes on whatever arguments a model makes up."""
        if self._client is None:
            return self._answer_restored()
        return secure_fetch(self._client, endpoint, scope, per_call=self.per_call)


def _client(given: AuthSecClient | None, config: AuthSecConfig | None, settings: dict[str, Any]) -> AuthSecClient:
    single = any(value is not None for value in settings.values())
    if (given is not None) + (config is not None) + single > 1:
        raise TypeError("give a client, a config or single settings, not several of them")
    if given is None:
        config = AuthSecConfig(**settings) if config is None else config
        return AuthSecClient(config, product=f"authsec-crewai/{__version__}")
    if not isinstance(given, AuthSecClient):
        raise TypeError(f"client must be an AuthSecClient, not {type(given).__name__}")
    return given


def _name(client: AuthSecClient) -> str:
    config = client.config
    if config.client_id is None:
        return _NAME
    # A digest, since a client id may be all that an authority asks for.
    identity = "\n".join(map(str, (config.base_url, config.client_id, config.audience, config.api_base_url)))
    return f"{_NAME}_{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
