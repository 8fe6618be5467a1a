"""The CrewAI tool: endpoint and scope in, JSON text out, and the token never where the model, a log or a file sees it.

What a call means is decided in `authsec_core.tool`; here is only what CrewAI would otherwise get wrong: it caches
results by the tool's name for all agents, copies tools deeply, and writes their fields into checkpoints.
"""

# No `from __future__ import annotations`: CrewAI reads the annotations of `_run`.
import hashlib
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from authsec_core._layers import wrapped
from authsec_core._version import __version__
from authsec_core.client import AuthSecClient
from authsec_core.config import AuthSecConfig
from authsec_core.errors import ConfigurationError
from authsec_core.fetch import FetchResult
from authsec_core.tool import describe_secure_fetch, secure_fetch
from authsec_crewai._framework import BaseTool, declare_env_vars
from authsec_crewai._retention import warn_of_retention

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewai.tools.structured_tool import CrewStructuredTool
    from typing_extensions import Self

__all__ = ["AuthSecSecureFetchTool"]

_NAME = "authsec_secure_fetch"
_MADE_BY = "authsec: made by"  # no field's name
_FIXED = {"args_schema", "cache_function", "env_vars"}
_ENV_VARS = {
    "AUTHSEC_BASE_URL": "The authority's address; unset with the client id for MOCK mode.",
    "AUTHSEC_AGENT_CLIENT_ID": "The agent's client id at the authority.",
    "AUTHSEC_AGENT_KEY": "The agent's proof, where the authority asks for one.",
    "AUTHSEC_API_BASE_URL": "The protected API that the tool may reach.",
}
_RESTORED = (
    "This tool was restored from a copy that holds no identity, so it fetches nothing: its operator has to put a new "
    "AuthSecSecureFetchTool into the agents' and the tasks' tools."
)


class SecureFetchArguments(BaseModel):
    """What to fetch, and with which permission."""

    model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True)

    endpoint: str = Field(description="A path relative to the API, one of those that the tool's description permits.")
    scope: str = Field(description="The permission that the endpoint needs.")


class AuthSecSecureFetchTool(BaseTool):
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
        restored = fields.pop(_MADE_BY, None) is not None
        made = None
        if not restored:
            _check(fields)
            made = _client(client, config, settings)
            fields = {"name": _name(made), "description": describe_secure_fetch(made), **fields}
        fixed = {"args_schema": SecureFetchArguments, "cache_function": never_cache, **declare_env_vars(_ENV_VARS)}
        super().__init__(**{**fields, **fixed, "per_call": per_call, _MADE_BY: "__init__"})
        self._client = made
        if made is not None and made.mode == "live":
            warn_of_retention(stacklevel=2)

    @model_validator(mode="wrap")
    @classmethod
    def _mark_restored(cls, data: Any, build: "Callable[[Any], Self]") -> "Self":
        # pydantic restores a dump by calling __init__ with it, which must then not make a client.
        return build({**data, _MADE_BY: "validation"} if isinstance(data, dict) else data)

    def _run(self, endpoint: str = "", scope: str = "", **_unknown: Any) -> str:
        """Fetch and return JSON text; never raises. CrewAI up to 1.9 passes on whatever arguments a model makes up."""
        if self._client is None:
            return FetchResult.of_error(ConfigurationError(_RESTORED), "live").to_json()
        return secure_fetch(self._client, endpoint, scope, per_call=self.per_call)

    def to_structured_tool(self) -> "CrewStructuredTool":
        """Return the form in which CrewAI runs the tool."""
        tool = super().to_structured_tool()
        tool.cache_function = never_cache  # CrewAI 0.114 to 1.8 drops it here, and then caches
        return tool

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> "Self":
        return self.model_copy()

    def __reduce__(self) -> NoReturn:
        raise TypeError("AuthSecSecureFetchTool holds a client and is not pickled: make one in the other process")


def never_cache(_arguments: Any = None, _result: Any = None) -> bool:
    """Tell CrewAI not to keep a result: it would serve it to other agents, and after a revocation."""
    return False


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


def _check(fields: dict[str, Any]) -> None:
    unknown = sorted(fields.keys() - (AuthSecSecureFetchTool.model_fields.keys() - _FIXED))
    if unknown:
        wrapped(fields)  # the key by another name, perhaps
        raise TypeError(f"AuthSecSecureFetchTool() does not take {', '.join(unknown)}")
