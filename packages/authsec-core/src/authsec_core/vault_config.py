"""Where the vault is, and which key or token goes there: the same settings as `AuthSecConfig`, read for the vault.

A credential goes to no other origin than the one that it was given for: who can set one variable of an agent must not
be able to have the key of another sent to them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import AliasChoices, Field, PrivateAttr, SecretStr, field_validator

from authsec_core._layers import RENAMED, variable
from authsec_core._origin import Origin, origin_of, origin_or_none
from authsec_core._vault_shown import fits_header
from authsec_core.config import AuthSecConfig
from authsec_core.errors import ConfigurationError
from authsec_core.token import Mode

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["VaultConfig"]

_LIVE_SIGNS = ("agent_key", "ass_agent_key", "vault_token", "ca_file", "env_file")
_ADDRESSES = ("vault_url", "base_url", "ass_api_url")  # the first one that is set is the vault's
_NO_KEY = (
    "There is no agent key: set AUTHSEC_AGENT_KEY beside AUTHSEC_VAULT_URL, or AUTHSEC_VAULT_TOKEN for what a vault "
    "token may do."
)
_NOT_FOR_IT = (
    "The agent key that is set was given for another address than {}: name key and address in one place, be it the "
    "environment, a .env file or the call."
)
_FOR_ELSEWHERE = (
    "AUTHSEC_VAULT_TOKEN was given for another address than {}: unset it, or name token and address in one place, be "
    "it the environment or a .env file."
)


class VaultConfig(AuthSecConfig):
    """The settings of one agent, for the vault. Frozen, validated once, safe to share; it cannot be pickled.

    LIVE where there is an address; MOCK where `AUTHSEC_MODE` says so, or where nothing but secrets to play with is set.

    Attributes:
        vault_token: `AUTHSEC_VAULT_TOKEN`: what is shown where a call names no token; the key then stays here.
        ass_api_url: `ASS_API_URL`, which is used where neither `AUTHSEC_VAULT_URL` nor `AUTHSEC_BASE_URL` is set.
        ass_agent_key: `ASS_AGENT_KEY`, which goes there and nowhere else.

    Raises:
        ConfigurationError: A setting is missing, wrong or unsafe. The message names the variable and the mend.
    """

    vault_token: SecretStr | None = None
    ass_api_url: str | None = Field(default=None, validation_alias=AliasChoices(*RENAMED["ass_api_url"]))
    ass_agent_key: SecretStr | None = Field(default=None, validation_alias=AliasChoices(*RENAMED["ass_agent_key"]))

    _ADDRESSES: ClassVar[tuple[str, ...]] = ("base_url", "api_base_url", "vault_url", "ass_api_url")

    _address: str | None = PrivateAttr(default=None)
    _key: SecretStr | None = PrivateAttr(default=None)
    _token: SecretStr | None = PrivateAttr(default=None)
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

    @field_validator("vault_token", mode="after")
    @classmethod
    def _check_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not fits_header(value.get_secret_value()):
            raise ValueError("does not hold one vault token, as authsec tokens issue prints it: copy it again")
        return value

    @property
    def address(self) -> str:
        """The vault's root, without a trailing slash. LIVE only."""
        return str(self._address)

    @property
    def address_variable(self) -> str:
        """The setting that says where the vault is."""
        field = next((field for field in _ADDRESSES if getattr(self, field) is not None), "vault_url")
        return "url=" if self.set_by.get(field) == "argument" else variable(field)

    @property
    def key_variable(self) -> str:
        """The setting that holds the key."""
        if self.set_by.get("agent_key") == "argument":
            return "agent_key="
        return "AUTHSEC_AGENT_KEY" if self.ass_agent_key is None or self._key is self.agent_key else "ASS_AGENT_KEY"

    @property
    def key(self) -> SecretStr | None:
        """The key that goes to `address`."""
        return self._key

    @property
    def token(self) -> SecretStr | None:
        """The vault token that goes to `address` where a call names none."""
        return self._token

    @property
    def keyless(self) -> str:
        """Why there is no key."""
        return self._keyless

    def _check_proof(self, layers: Mapping[str, Mapping[str, Any]]) -> None:
        """Decide where the vault is, and whether the key that is set was given for that place."""
        url = next((getattr(self, field) for field in _ADDRESSES if getattr(self, field)), None)
        if url is None:
            return
        self._address = url.rstrip("/").removesuffix("/authsec")
        if self.set_by.get("agent_key") == "argument":  # it wins over the environment's token, as arguments do
            self._key = self.agent_key
            return
        origin = origin_of(url)
        if self.vault_token is not None:
            if _vault_beside(layers[self.set_by["vault_token"]]) not in (None, origin):
                self._keyless = _FOR_ELSEWHERE.format(origin)  # and the key, which may do more, takes no token's place
                return
            self._token = self.vault_token
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
                "AUTHSEC_MODE=mock to work with invented secrets"
            )
        if self.mock_secrets is None:
            raise ConfigurationError(
                "AUTHSEC_VAULT_URL and AUTHSEC_AGENT_KEY are missing: set both; or, to work offline, set "
                "AUTHSEC_MOCK_SECRETS"
            )
        return "mock"


def _vault_beside(layer: Mapping[str, Any]) -> Origin | str | None:
    """Return where the vault is that a token of this layer is for; None where the layer does not say."""
    url = next((str(layer[field]) for field in _ADDRESSES if layer.get(field)), None)
    return None if url is None else origin_or_none(url) or url


def _origins_beside(layer: Mapping[str, Any]) -> set[Origin | None]:
    """Return the one origin that the key of a layer was given for, where the layer names one."""
    origins = {origin_or_none(str(layer[field])) for field in ("vault_url", "base_url") if layer.get(field)}
    if len(origins) > 1:
        raise ConfigurationError(
            "AUTHSEC_AGENT_KEY stands beside an AUTHSEC_VAULT_URL and an AUTHSEC_BASE_URL that are different places: "
            "keep the one that it is for; for the other, name key and address in the call"
        )
    return origins
