"""Which settings an agent runs with, and whether they make sense together. Reads the environment; opens no connection.

Every setting is an argument or an `AUTHSEC_*` variable; arguments win. A `.env` file is read only when it is named,
because code that a model wrote into the working directory must not be able to redirect the agent's key.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NoReturn
from uuid import UUID

from pydantic import AliasChoices, Field, PrivateAttr, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from authsec_core._layers import LAYERS, PREFIX, RENAMED, Layers, named, variable, wrapped
from authsec_core._origin import check_base_url, origin_of, origin_or_none
from authsec_core.endpoints import EndpointPolicy
from authsec_core.errors import ConfigurationError
from authsec_core.scopes import parse_scopes
from authsec_core.token import Mode

__all__ = ["AuthSecConfig"]

_LIVE_SIGNS = ("vault_url", "agent_key", "workload_token_file", "api_base_url", "ca_file", "issuer", "env_file")
_BLANK = "is set but blank: give it a value or unset it"
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
        timeout: `AUTHSEC_TIMEOUT`: seconds for one token exchange, retries included; and again for one fetch. A
            blocking fetch that must renew its token may take twice that.
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
        vault_url: `AUTHSEC_VAULT_URL`: the vault's root, where that is not `base_url`.
        mock_secrets: `AUTHSEC_MOCK_SECRETS`: JSON, path -> secret: what lies in the vault in MOCK mode.

    Raises:
        ConfigurationError: A setting is missing, wrong or unsafe. The message names the variable and the mend.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    base_url: str | None = None
    client_id: str | None = Field(default=None, validation_alias=AliasChoices(*RENAMED["client_id"]))
    mode: Literal["auto", "live", "mock"] = "auto"
    api_base_url: str | None = Field(default=None, validation_alias=AliasChoices(*RENAMED["api_base_url"]))
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
    vault_url: str | None = None
    mock_secrets: SecretStr | None = None
    env_file: Path | None = None

    _ADDRESSES: ClassVar[tuple[str, ...]] = ("base_url", "api_base_url", "vault_url")

    _set_by: dict[str, str] = PrivateAttr(default_factory=dict)
    _resolved_mode: Mode = PrivateAttr(default="mock")

    if TYPE_CHECKING:  # what the fields accept, which is more than what they hold

        def __init__(
            self,
            *,
            base_url: str | None = None,
            client_id: str | None = None,
            mode: Literal["auto", "live", "mock"] | None = None,
            api_base_url: str | None = None,
            agent_key: str | SecretStr | None = None,
            workload_token_file: str | Path | None = None,
            audience: str | None = None,
            issuer: str | None = None,
            timeout: float | None = None,
            connect_timeout: float | None = None,
            retries: int | None = None,
            refresh_margin: float | None = None,
            failure_cooldown: float | None = None,
            allowed_endpoints: str | Iterable[str] | None = None,
            endpoint_scopes: str | Mapping[str, str | Iterable[str]] | None = None,
            max_response_bytes: int | None = None,
            ca_file: str | Path | None = None,
            allow_http: bool | None = None,
            trust_env: bool | None = None,
            mock_permissions: str | Iterable[str] | None = None,
            vault_url: str | None = None,
            mock_secrets: str | SecretStr | None = None,
            env_file: str | Path | None = None,
        ) -> None: ...

    else:

        def __init__(self, **given: Any) -> None:
            """Wrap the key before any frame holds it in the clear: an error may be reported with its frames' locals."""
            super().__init__(**wrapped(given))

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
        return (Layers(settings_cls, init_settings, EnvSettingsSource(settings_cls)),)

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, data: Any, handler: Callable[[Any], AuthSecConfig]) -> AuthSecConfig:
        # Only what `__init__` has read has layers: pydantic hands a dict from elsewhere to `__init__`, below, and takes
        # settings that are made already as they are.
        layers = data.pop(LAYERS, None) if isinstance(data, dict) else None
        try:
            config = handler(data)
            if layers is not None:
                config._check(layers)
            return config
        except ValidationError as exc:
            problem = _explain(exc)
        except BaseException:  # of `__init__`, where the dict is the caller's own
            _hide_key(data)
            raise
        raise ConfigurationError(problem)  # out here: pydantic's error keeps the rejected input, and would ride along

    @field_validator("base_url", "client_id", "api_base_url", "audience", "issuer", "vault_url", mode="after")
    @classmethod
    def _refuse_blank(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError(_BLANK)
        if value is not None and not value.isprintable():
            raise ValueError("has control characters in it, or is not UTF-8")
        return value

    @field_validator("mode", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

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

    @field_validator("mock_secrets", mode="after")
    @classmethod
    def _refuse_blank_secrets(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().strip():
            raise ValueError(_BLANK)
        return value

    @field_validator("workload_token_file", "ca_file", "env_file", mode="before")
    @classmethod
    def _refuse_blank_path(cls, value: object) -> object:
        if isinstance(value, str) and not value.strip():  # a Path would make the working directory of it
            raise ValueError(_BLANK)
        return value

    @field_validator("ca_file", "env_file", mode="after")
    @classmethod
    def _check_file(cls, value: Path | None) -> Path | None:
        try:
            found = value is None or value.is_file()
        except OSError as exc:
            raise ValueError(f"names a file that cannot be used ({exc.strerror}): mend the path") from exc
        if not found:
            raise ValueError("names a file that does not exist: mend the path")
        return value

    @field_validator("allowed_endpoints", "mock_permissions", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        items = [item for item in re.split(r"[\s,]+", value) if item]
        if not items:
            raise ValueError(_BLANK)
        return items

    @field_validator("endpoint_scopes", mode="before")
    @classmethod
    def _parse_scope_map(cls, value: object) -> object:
        if isinstance(value, str):
            value = _json_object(value)
        if not isinstance(value, Mapping):
            return value
        return {endpoint: _scopes_of(endpoint, scopes) for endpoint, scopes in value.items()}

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

    def _check(self, layers: dict[str, dict[str, Any]]) -> None:
        self._set_by = {field: label for label, layer in reversed(layers.items()) for field in layer}
        self._check_together()
        self._check_proof(layers)
        self._resolved_mode = self._resolve_mode()

    def _check_together(self) -> None:
        for field in self._ADDRESSES:
            url = getattr(self, field)
            with _naming(field):
                _ = url and _checked_address(url, allow_http=self.allow_http)
        if self.agent_key is not None and self.workload_token_file is not None:
            raise ConfigurationError("AUTHSEC_AGENT_KEY and AUTHSEC_WORKLOAD_TOKEN_FILE are both set: keep one proof")
        with _naming("mock_permissions"):
            parse_scopes(self.mock_permissions)
        with _naming("allowed_endpoints"):
            EndpointPolicy("https://api.invalid", allowed=self.allowed_endpoints)
        with _naming("endpoint_scopes"):
            self.policy("https://api.invalid")

    def _check_proof(self, layers: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse to carry a key that was configured beside one authority to another one."""
        for proof in ("agent_key", "workload_token_file"):
            beside = layers.get(self._set_by.get(proof, ""), {}).get("base_url")
            if beside and self.base_url and (bound := origin_or_none(str(beside))) != origin_of(self.base_url):
                raise ConfigurationError(
                    f"{variable(proof)} was configured for {bound or 'another address'}, not for "
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
            raise ConfigurationError(f"{' and '.join(missing)} must be set: set what is missing, or AUTHSEC_MODE=mock")
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


def _hide_key(data: Any) -> None:
    """Wrap the key of a dict that is the caller's own: pydantic's frames hold it too, where an error is reported."""
    if isinstance(data, dict):
        wrapped(data)


def _checked_address(url: str, *, allow_http: bool) -> str:
    check_base_url(url, allow_http=True)
    try:
        return check_base_url(url, allow_http=allow_http)
    except ValueError as exc:  # which is then about http alone
        raise ValueError(f"{exc}, or set AUTHSEC_ALLOW_HTTP=true where nobody else is on the way") from exc


def _json_object(text: str) -> Mapping[str, Any]:
    repeated: list[str] = []

    def note_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated.extend(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=note_repeated)
    except (ValueError, RecursionError) as exc:
        raise ValueError('is not JSON such as {"secure-vault/metrics": "read:metrics"}') from exc
    if not isinstance(value, Mapping):  # null above all, which would mean "no limits"
        raise ValueError('is not a JSON object such as {"secure-vault/metrics": "read:metrics"}')
    if repeated:  # the last one would count, which need not be the narrower one
        raise ValueError(f"names {repeated[0]!r} more than once: name it once, with all of its scopes")
    return value


def _scopes_of(endpoint: str, scopes: Any) -> tuple[str, ...]:
    if scopes is None or isinstance(scopes, Mapping):  # whose names would pass for scopes
        raise ValueError(f"of {endpoint!r}: the scopes must be text, or a list of text")
    try:
        return tuple(sorted(parse_scopes(scopes) or ()))
    except ValueError as exc:
        raise ValueError(f"of {endpoint!r}: {exc}") from exc


@contextmanager
def _naming(field: str) -> Iterator[None]:
    try:
        yield
    except ValueError as exc:
        raise ConfigurationError(f"{named(field)}: {exc}") from exc


def _explain(exc: ValidationError) -> str:
    lines = []
    for error in exc.errors(include_input=False, include_url=False, include_context=False):
        where = f"{named(str(error['loc'][0]))}: " if error["loc"] else ""
        lines.append(where + error["msg"].removeprefix("Value error, "))
    return "; ".join(lines)
