"""Where the vault is, and which key goes there: the same settings as `AuthSecConfig`, read for the vault.

A key goes to no other origin than the one that it was given for: who can set one variable of an agent must not be able
to have the key of another sent to them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import AliasChoices, Field, PrivateAttr, SecretStr, field_validator

from authsec_core._layers import RENAMED, variable
from authsec_core._origin import Origin, origin_of, origin_or_none
from authsec_core.config import AuthSecConfig
from authsec_core.errors import ConfigurationError
from authsec_core.token import Mode

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["VaultConfig"]

_LIVE_SIGNS = ("agent_key", "ass_agent_key", "ca_file", "env_file")
_NO_KEY = "There is no agent key: set AUTHSEC_AGENT_KEY beside AUTHSEC_VAULT_URL, or pass token=."
_NOT_FOR_IT = "The agent key that is set was given for another address than {}: pass agent_key= beside url=."


class VaultConfig(AuthSecConfig):
    """The settings of one agent, for the vault. Frozen, validated once, safe to share; it cannot be pickled.

    LIVE where there is an address; MOCK where `AUTHSEC_MODE` says so, or where nothing but secrets to play with is set.

    Attributes:
        ass_api_url: `ASS_API_URL`, which is used where neither `AUTHSEC_VAULT_URL` nor `AUTHSEC_BASE_URL` is set.
        ass_agent_key: `ASS_AGENT_KEY`, which goes there and nowhere else.

    Raises:
        ConfigurationError: A setting is missing, wrong or unsafe. The message names the variable and the mend.
    """

    ass_api_url: str | None = Field(default=None, validation_alias=AliasChoices(*RENAMED["ass_api_url"]))
    ass_agent_key: SecretStr | None = Field(default=None, validation_alias=AliasChoices(*RENAMED["ass_agent_key"]))

    _ADDRESSES: ClassVar[tuple[str, ...]] = ("base_url", "api_base_url", "vault_url", "ass_api_url")

    _address: str | None = PrivateAttr(default=None)
    _key: SecretStr | None = PrivateAttr(default=None)
    _keyless: str = PrivateAttr(default=_NO_KEY)

    if TYPE_CHECKING:  # a vault takes these of its caller; the rest is the environment's

        def __init__(
            self,
            *,
            vault_url: str | None = None,
            agent_key: str | SecretStr | None = None,
            mock_secrets: str | SecretStr | None = None,
            timeout: float | None = None,
            ca_file: str | Path | None = None,
            env_file: str | Path | None = None,
            allow_http: bool | None = None,
        ) -> None: ...

    @field_validator("ass_api_url", mode="after")
    @classmethod
    def _refuse_blank_address(cls, value: str | None) -> str | None:
        return cls._refuse_blank(value)

    @field_validator("ass_agent_key", mode="after")
    @classmethod
    def _check_other_key(cls, value: SecretStr | None) -> SecretStr | None:
        return cls._check_agent_key(value)

    @property
    def address(self) -> str:
        """The vault's root, without a trailing slash. LIVE only."""
        return str(self._address)

    @property
    def key(self) -> SecretStr | None:
        """The key that goes to `address`."""
        return self._key

    @property
    def keyless(self) -> str:
        """Why there is no key."""
        return self._keyless

    def _check_proof(self, layers: Mapping[str, Mapping[str, Any]]) -> None:
        """Decide where the vault is, and whether the key that is set was given for that place."""
        url = self.vault_url or self.base_url or self.ass_api_url
        if url is None:
            return
        self._address = url.rstrip("/").removesuffix("/authsec")
        if self.set_by.get("agent_key") == "argument":
            self._key = self.agent_key
            return
        origin = origin_of(url)
        ours = self.vault_url is not None or self.base_url is not None
        if ours and self.agent_key is not None and _origins_beside(layers[self.set_by["agent_key"]]) <= {origin}:
            self._key = self.agent_key
        elif self.ass_agent_key is not None and self.ass_api_url and origin_of(self.ass_api_url) == origin:
            self._key = self.ass_agent_key
        elif self.agent_key is not None or self.ass_agent_key is not None:
            self._keyless = _NOT_FOR_IT.format(origin)

    def _resolve_mode(self) -> Mode:
        if self.mode == "mock":
            return "mock"
        if self._address is not None:
            return "live"
        signs = [variable(field) for field in _LIVE_SIGNS if getattr(self, field) is not None]
        if "KUBERNETES_SERVICE_HOST" in os.environ and self.set_by.get("mock_secrets") != "argument":
            signs.append("KUBERNETES_SERVICE_HOST")
        if self.mode == "live" or signs:
            why = next(iter(signs), "AUTHSEC_MODE")
            raise ConfigurationError(
                f"AUTHSEC_VAULT_URL is missing, but {why} says that this is no offline try-out: set it, or set "
                "AUTHSEC_MODE=mock to work with secrets that are none"
            )
        if self.mock_secrets is None:
            raise ConfigurationError(
                "AUTHSEC_VAULT_URL and AUTHSEC_AGENT_KEY are missing: set both; or, to work offline, set "
                "AUTHSEC_MOCK_SECRETS or pass secrets="
            )
        return "mock"


def _origins_beside(layer: Mapping[str, Any]) -> set[Origin | None]:
    """Return the one origin that the key of a layer was given for, where the layer names one."""
    origins = {origin_or_none(str(layer[field])) for field in ("vault_url", "base_url") if layer.get(field)}
    if len(origins) > 1:
        raise ConfigurationError(
            "AUTHSEC_AGENT_KEY stands beside an AUTHSEC_VAULT_URL and an AUTHSEC_BASE_URL that are different places: "
            "pass agent_key= beside url="
        )
    return origins
