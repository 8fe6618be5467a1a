"""What a dumped AgentChat tool says of itself, and whether the environment in which it is loaded is the one it means.

Names and addresses only: a dump is a file that people share. Keys come from the environment, always. This module needs
no framework.
"""

from __future__ import annotations

import hashlib
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from authsec_core import AuthSecConfig, ConfigurationError
from authsec_core._layers import named
from authsec_core.token import Mode

__all__ = ["SecureFetchToolConfig", "ToolIdentity", "check_identity"]


class ToolIdentity(BaseModel):
    """As whom a tool acts, towards whom, and what it may reach. All of it has to be the same where a dump is loaded.

    Attributes:
        client_id: A digest, since a client id may be all that an authority asks for.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    mode: Mode
    base_url: str | None = None
    client_id: str | None = None
    issuer: str | None = None
    audience: str | None = None
    api_base_url: str | None = None
    allowed_endpoints: tuple[str, ...] | None = None
    endpoint_scopes: dict[str, tuple[str, ...]] | None = None

    @classmethod
    def of(cls, config: AuthSecConfig) -> ToolIdentity:
        """Return what these settings mean."""
        endpoints, scopes = config.allowed_endpoints, config.endpoint_scopes
        return cls(
            mode=config.resolved_mode,
            base_url=config.base_url,
            client_id=config.client_id and hashlib.sha256(config.client_id.encode()).hexdigest(),
            issuer=config.issuer,
            audience=config.audience,
            api_base_url=config.api_base_url,
            allowed_endpoints=None if endpoints is None else tuple(sorted(set(endpoints))),
            endpoint_scopes=scopes and {endpoint: tuple(sorted(set(scopes[endpoint]))) for endpoint in sorted(scopes)},
        )


class SecureFetchToolConfig(BaseModel):
    """The `config` of a dumped tool.

    Attributes:
        description: None where it was the default one, which names the permitted endpoints.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str
    description: str | None = None
    per_call: bool = False
    identity: ToolIdentity


def check_identity(dumped: ToolIdentity, config: AuthSecConfig) -> None:
    """Refuse to load a tool that would act as somebody else, elsewhere, or within other limits.

    Raises:
        ConfigurationError: These settings are not those that the dump means. Names the variables, not their values.
    """
    here = ToolIdentity.of(config)
    differing = [named(field) for field in ToolIdentity.model_fields if getattr(dumped, field) != getattr(here, field)]
    if differing:
        raise ConfigurationError(
            f"the tool was dumped with other settings than those of this environment ({', '.join(differing)}): load it "
            "where they are the same, or put a new AuthSecSecureFetchTool into the agent's tools"
        )
