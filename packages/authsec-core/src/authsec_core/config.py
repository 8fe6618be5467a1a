"""Which settings an agent runs with, and whether they make sense together. Reads the environment; opens no connection.

Every setting is an argument or an `AUTHSEC_*` variable; arguments win. A `.env` file is read only when it is named,
because code that a model wrote into the working directory must not be able to redirect the agent's key.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NoReturn
from uuid import UUID

from pydantic import AliasChoices, Field, PrivateAttr, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from authsec_core._origin import check_base_url, origin_of
from authsec_core.endpoints import EndpointPolicy
from authsec_core.errors import ConfigurationError
from authsec_core.scopes import parse_scopes
from authsec_core.token import Mode

__all__ = ["AuthSecConfig"]

_PREFIX = "AUTHSEC_"
_RENAMED = {"client_id": ("AUTHSEC_AGENT_CLIENT_ID",), "api_base_url": ("AUTHSEC_API_BASE_URL", "DOWNSTREAM_URL")}
_LIVE_SIGNS = ("agent_key", "workload_token_file", "api_base_url", "ca_file")
_LAYERS = "authsec layers"  # never a field's name
_HEADER_TEXT = frozenset(map(chr, range(0x21, 0x7F)))


class AuthSecConfig(BaseSettings):
    """The settings of one agent. Frozen, validated once, safe to share between threads; it cannot be pickled.

    Attributes:
        base_url: `AUTHSEC_BASE_URL`: the authority's root, such as `https://authority.example.com`.
        client_id: `AUTHSEC_AGENT_CLIENT_ID`: the agent's client id, a UUID.
        mode: `AUTHSEC_MODE`: `auto` (LIVE when base URL and client id are set, MOCK when nothing is), `live` or `mock`.
        api_base_url: `AUTHSEC_API_BASE_URL` or `DOWNSTREAM_URL`: the protected API that `fetch` and `auth` may reach.
        agent_key: `AUTHSEC_AGENT_KEY`: the agent's proof. It goes to the `base_url` that it was configured with only.
        workload_token_file: `AUTHSEC_WORKLOAD_TOKEN_FILE`: a file with a workload JWT as proof, read for each exchange.
        audience: `AUTHSEC_AUDIENCE`: asked for, and then required of each token's `aud`.
        issuer: `AUTHSEC_ISSUER`: required of each token's `iss` when set.
        timeout: `AUTHSEC_TIMEOUT`: seconds for one exchange in all, retries included, and for one fetch.
        connect_timeout: `AUTHSEC_CONNECT_TIMEOUT`: seconds for one connection.
        retries: `AUTHSEC_RETRIES`: how often a failed exchange is repeated, 0 to 3.
        refresh_margin: `AUTHSEC_REFRESH_MARGIN`: seconds before its end that a token is renewed, at most a quarter of
            its lifetime.
        failure_cooldown: `AUTHSEC_FAILURE_COOLDOWN`: seconds after a failed exchange in which it is not repeated.
        allowed_endpoints: `AUTHSEC_ALLOWED_ENDPOINTS`: the only endpoints that a tool may reach, separated by commas.
        endpoint_scopes: `AUTHSEC_ENDPOINT_SCOPES`: JSON, endpoint -> the scopes that may be asked for it.
        max_response_bytes: `AUTHSEC_MAX_RESPONSE_BYTES`: the most that a fetch reads and a model is shown.
        ca_file: `AUTHSEC_CA_FILE`: a PEM file of the certificate authorities to trust instead of the usual ones.
        allow_http: `AUTHSEC_ALLOW_HTTP`: permits `http://` beyond loopback. Everyone on the way can then read tokens.
        trust_env: `AUTHSEC_TRUST_ENV`: permits proxies and certificates that the environment names.
        env_file: `AUTHSEC_ENV_FILE`: a `.env` file to read; the environment wins over it.
        mock_permissions: `AUTHSEC_MOCK_PERMISSIONS`: the scopes that MOCK mode grants, so that denials can be tested.

    Raises:
        ConfigurationError: A setting is missing, wrong or unsafe. The message names the variable and the mend.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=_PREFIX, frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    base_url: str | None = None
    client_id: str | None = Field(default=None, validation_alias=AliasChoices(*_RENAMED["client_id"]))
    mode: Literal["auto", "live", "mock"] = "auto"
    api_base_url: str | None = Field(default=None, validation_alias=AliasChoices(*_RENAMED["api_base_url"]))
    agent_key: SecretStr | None = None
    workload_token_file: Path | None = None
    audience: str | None = None
    issuer: str | None = None
    timeout: float = Field(default=10.0, gt=0, le=300, allow_inf_nan=False)
    connect_timeout: float = Field(default=5.0, gt=0, le=300, allow_inf_nan=False)
    retries: int = Field(default=2, ge=0, le=3)
    refresh_margin: float = Field(default=60.0, ge=0, allow_inf_nan=False)
    failure_cooldown: float = Field(default=1.0, ge=0, le=60, allow_inf_nan=False)
    allowed_endpoints: Annotated[tuple[str, ...] | None, NoDecode] = None
    endpoint_scopes: Annotated[dict[str, tuple[str, ...]] | None, NoDecode] = None
    max_response_bytes: int = Field(default=65536, ge=1024, le=16 * 1024 * 1024)
    ca_file: Path | None = None
    allow_http: bool = False
    trust_env: bool = False
    mock_permissions: Annotated[frozenset[str] | None, NoDecode] = None
    env_file: Path | None = None

    _set_by: dict[str, str] = PrivateAttr(default_factory=dict)
    _resolved_mode: Mode = PrivateAttr(default="mock")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then the environment, then the `.env` file that one of them names. Called by pydantic."""
        return (_Layers(settings_cls, argument=init_settings, environment=env_settings),)

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, data: Any, handler: Callable[[Any], AuthSecConfig]) -> AuthSecConfig:
        layers: dict[str, dict[str, Any]] = data.pop(_LAYERS, {}) if isinstance(data, dict) else {}
        try:
            config = handler(data)
        except ValidationError as exc:
            # Not `from exc`: pydantic keeps the rejected input, which may be a secret.
            raise ConfigurationError(_explain(exc)) from None
        config._set_by = {field: label for label, layer in reversed(layers.items()) for field in layer}
        config._check_together()
        config._check_proof(layers)
        config._resolved_mode = config._resolve_mode()
        return config

    @field_validator("base_url", "client_id", "api_base_url", "audience", "issuer", mode="after")
    @classmethod
    def _refuse_blank(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("is set but blank: give it a value or unset it")
        return value

    @field_validator("client_id", mode="after")
    @classmethod
    def _check_client_id(cls, value: str | None) -> str | None:
        try:
            return value and str(UUID(value))
        except ValueError as exc:
            raise ValueError("is not a UUID: copy the Client ID from the agent's page at the authority") from exc

    @field_validator("agent_key", mode="after")
    @classmethod
    def _check_agent_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not (value.get_secret_value() and _HEADER_TEXT.issuperset(value.get_secret_value())):
            raise ValueError("is blank or has spaces or line ends in it: copy the key again")
        return value

    @field_validator("ca_file", "env_file", mode="after")
    @classmethod
    def _check_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError("names a file that does not exist")
        return value

    @field_validator("allowed_endpoints", "mock_permissions", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [item for item in re.split(r"[\s,]+", value) if item] if isinstance(value, str) else value

    @field_validator("endpoint_scopes", mode="before")
    @classmethod
    def _parse_scope_map(cls, value: object) -> object:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError as exc:
                raise ValueError('is not JSON such as {"secure-vault/metrics": "read:metrics"}') from exc
        if not isinstance(value, Mapping):
            return value
        return {endpoint: tuple(sorted(parse_scopes(scopes) or ())) for endpoint, scopes in value.items()}

    @property
    def resolved_mode(self) -> Mode:
        """Which mode these settings mean: `"live"` or `"mock"`. Decided once; nothing that happens later changes it."""
        return self._resolved_mode

    @property
    def set_by(self) -> Mapping[str, str]:
        """Where each setting came from: `argument`, `environment` or `env file`. Defaults are not listed."""
        return dict(self._set_by)

    def policy(self, base_url: str) -> EndpointPolicy:
        """Return the endpoint policy of these settings for the API at `base_url`."""
        return EndpointPolicy(base_url, allowed=self.allowed_endpoints, scopes=self.endpoint_scopes)

    def _check_together(self) -> None:
        for field, url in (("base_url", self.base_url), ("api_base_url", self.api_base_url)):
            with _naming(field):
                _ = url and check_base_url(url, allow_http=self.allow_http)
        if self.agent_key is not None and self.workload_token_file is not None:
            raise ConfigurationError("AUTHSEC_AGENT_KEY and AUTHSEC_WORKLOAD_TOKEN_FILE are both set: keep one proof")
        with _naming("mock_permissions"):
            parse_scopes(self.mock_permissions or None)
        with _naming("endpoint_scopes"):
            self.policy("https://api.invalid")

    def _check_proof(self, layers: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse to carry a key that was configured beside one authority to another one."""
        for proof in ("agent_key", "workload_token_file"):
            beside = layers.get(self._set_by.get(proof, ""), {}).get("base_url")
            if beside and self.base_url and origin_of(str(beside)) != origin_of(self.base_url):
                raise ConfigurationError(
                    f"{variable(proof)} was configured for {origin_of(str(beside))}, not for "
                    f"{origin_of(self.base_url)}: pass {proof}= beside base_url="
                )

    def _resolve_mode(self) -> Mode:
        names = {"AUTHSEC_BASE_URL": self.base_url, "AUTHSEC_AGENT_CLIENT_ID": self.client_id}
        missing = [name for name, value in names.items() if value is None]
        if self.mode == "mock":
            return "mock"
        if not missing:
            return "live"
        if self.mode == "live" or len(missing) == 1:
            raise ConfigurationError(f"{' and '.join(missing)} is missing: set it, or set AUTHSEC_MODE=mock")
        signs = [variable(field) for field in _LIVE_SIGNS if getattr(self, field) is not None]
        signs += [name for name in ("KUBERNETES_SERVICE_HOST",) if os.environ.get(name)]
        if signs:
            raise ConfigurationError(
                f"AUTHSEC_BASE_URL and AUTHSEC_AGENT_CLIENT_ID are missing, but {signs[0]} says that this is no "
                "offline try-out: set both, or set AUTHSEC_MODE=mock to work on sample data"
            )
        return "mock"

    def __reduce__(self) -> NoReturn:
        raise TypeError("AuthSecConfig may hold a key and is not pickled: let the other process read its environment")


def variable(field: str) -> str:
    """Return the environment variable that sets `field`."""
    return _RENAMED.get(field, (_PREFIX + field.upper(),))[0]


class _Layers(PydanticBaseSettingsSource):
    """Arguments over environment over `.env` file, by field name, remembering which layer said what."""

    def __init__(self, settings_cls: type[BaseSettings], **layers: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        self._sources = layers

    def __call__(self) -> dict[str, Any]:
        layers = {label: self._by_field(source()) for label, source in self._sources.items()}
        for field in layers["argument"].keys() - self.settings_cls.model_fields.keys():
            raise TypeError(f"AuthSecConfig() has no setting {field!r}")
        _refuse_misspelt(os.environ)
        named = layers["argument"].get("env_file") or layers["environment"].get("env_file")
        if named:
            source = DotEnvSettingsSource(self.settings_cls, env_file=named)
            _refuse_misspelt({name.upper(): "" for name in source.env_vars})
            layers["env file"] = self._by_field(source())
        merged = {field: value for layer in reversed(layers.values()) for field, value in layer.items()}
        return merged | {_LAYERS: layers}

    def get_field_value(self, field: Any, field_name: str) -> NoReturn:
        raise NotImplementedError  # abstract in pydantic-settings; `__call__` above never asks field by field

    def _by_field(self, values: Mapping[str, Any]) -> dict[str, Any]:
        fields = {name: field for field, names in _RENAMED.items() for name in names}
        named = {fields.get(key, key): value for key, value in values.items()}
        # A typed-in None means "not given", so that optional arguments can be passed through.
        return {key: value for key, value in named.items() if value is not None}


@contextmanager
def _naming(field: str) -> Iterator[None]:
    try:
        yield
    except ValueError as exc:
        raise ConfigurationError(f"{variable(field)}: {exc}") from exc


def _explain(exc: ValidationError) -> str:
    lines = []
    for error in exc.errors(include_input=False, include_url=False, include_context=False):
        where = f"{variable(str(error['loc'][0]))}: " if error["loc"] else ""
        lines.append(where + error["msg"].removeprefix("Value error, "))
    return "; ".join(lines)


def _refuse_misspelt(environ: Mapping[str, str]) -> None:
    """Refuse a variable that is nearly one of ours: `AUTHSEC_ALOWED_ENDPOINTS` would leave every endpoint open."""
    known = {name for field in AuthSecConfig.model_fields for name in _RENAMED.get(field, (variable(field),))}
    for name in environ:
        if name.startswith(_PREFIX) and name not in known:
            for meant in difflib.get_close_matches(name, known, n=1, cutoff=0.86):
                raise ConfigurationError(f"{name} is not a setting: did you mean {meant}?")
