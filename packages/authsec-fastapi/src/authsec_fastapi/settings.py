"""Which settings a guard runs with: its arguments, and the `AUTHSEC_GUARD_*` variables of the service that it guards.

Arguments win. A `.env` file is read only when it is named. What an issuer's terms mean is for `issuers`, and whether
they are safe is found out when the guard is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, NoReturn

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from authsec_core._service_settings import LAYERS, ServiceLayers
from authsec_core.errors import ConfigurationError
from authsec_core.verify import Profile
from authsec_fastapi._environment import NAMING, named
from authsec_fastapi._terms import Given, claim_path, trusted_issuers
from authsec_fastapi.issuers import RevocationCheck, TrustedIssuer
from authsec_fastapi.principal import ClaimPath
from authsec_fastapi.static_token import StaticToken

__all__ = ["GuardSettings"]

# What says whose keys to trust, how to read their tokens and how strictly: where it was right for one issuer, it may
# open the door to another's. Durations are the service's own patience, whoever the issuer is.
_OF_ONE_ISSUER: Final = (
    "jwks_url",
    "profile",
    "roles_claim",
    "scopes_claim",
    "revocation",
    "ca_file",
    "allow_http",
    "client_key",
    "introspection_url",
)
_Seconds = Annotated[float | None, Field(gt=0, le=86400, allow_inf_nan=False)]


class GuardSettings(BaseSettings):
    """The settings of one guard. Frozen, validated once, safe to share between threads; it cannot be pickled.

    Every variable is the attribute's name in upper case after `AUTHSEC_GUARD_`. What is not set has the default of
    `TrustedIssuer`, where it means the same as here.

    Attributes:
        issuer: Whose tokens to accept, if it is one issuer.
        audience: The names of your API, separated by commas.
        jwks_url: Where it publishes its keys.
        profile: The kind of its tokens.
        roles_claim: Where they say the roles: `realm_access.roles`, or JSON where a name has a dot:
            `["https://shop.example/roles"]`.
        scopes_claim: Where they say the scopes, if that is neither `scope` nor `permissions`.
        revocation: `required`, `when-present` or `introspection`.
        revocation_max_age: Seconds.
        jwks_refresh: Seconds.
        jwks_max_age: Seconds.
        leeway: Seconds.
        remember: How many tokens to know again.
        ca_file: A PEM file of the authorities to trust instead of the usual ones.
        allow_http: Permits `http` beyond loopback.
        client_id: The guard's own at the issuer, for introspection.
        client_key: What proves it.
        introspection_url: Where to ask, if the issuer is not our own authority.
        introspection_max_age: Seconds for which a good answer counts.
        issuers: Several issuers: a JSON list of objects with the names of `TrustedIssuer`.
        static_token: One token for a first try, instead of any issuer.
        static_subject: Whom it stands for.
        static_scopes: What it grants, separated by spaces or commas.
        static_roles: What that caller is, separated by commas.
        policy_file: Which role may do what, and which tool and route needs what: see `authsec_fastapi.policy_file`.
        audit_first: Refuse with 503 what could not be put on record.
        realm: What the challenge of a 401 calls your API.
        env_file: A `.env` file to read; the environment wins over it.

    Raises:
        ConfigurationError: A setting is missing, wrong, unknown or unsafe. The message names the variable and the mend.
        TypeError: An argument is no setting.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=NAMING.prefix, frozen=True, extra="ignore", hide_input_in_errors=True
    )

    issuer: str | None = None
    audience: Annotated[tuple[str, ...] | None, NoDecode] = None
    jwks_url: str | None = None
    profile: Profile | None = None
    roles_claim: Annotated[ClaimPath | None, NoDecode] = None
    scopes_claim: Annotated[ClaimPath | None, NoDecode] = None
    revocation: RevocationCheck | None = None
    revocation_max_age: _Seconds = None
    jwks_refresh: _Seconds = None
    jwks_max_age: _Seconds = None
    leeway: float | None = Field(default=None, ge=0, le=300, allow_inf_nan=False)
    remember: int | None = Field(default=None, ge=0, le=1_000_000)
    ca_file: Path | None = None
    allow_http: bool | None = None
    client_id: str | None = None
    client_key: SecretStr | None = None
    introspection_url: str | None = None
    introspection_max_age: float | None = Field(default=None, ge=0, le=300, allow_inf_nan=False)
    issuers: SecretStr | None = None  # among an issuer's terms may be a client key
    static_token: SecretStr | None = None
    static_subject: str | None = None
    static_scopes: Annotated[tuple[str, ...] | None, NoDecode] = None
    static_roles: Annotated[tuple[str, ...] | None, NoDecode] = None
    policy_file: Path | None = None
    audit_first: bool = True
    realm: str = "authsec"
    env_file: Path | None = None

    _set_by: dict[str, str] = PrivateAttr(default_factory=dict)

    if TYPE_CHECKING:  # what the fields accept, which is more than what they hold

        def __init__(
            self,
            *,
            issuer: str | None = None,
            audience: str | Iterable[str] | None = None,
            jwks_url: str | None = None,
            profile: Profile | None = None,
            roles_claim: ClaimPath | None = None,
            scopes_claim: ClaimPath | None = None,
            revocation: RevocationCheck | None = None,
            revocation_max_age: float | None = None,
            jwks_refresh: float | None = None,
            jwks_max_age: float | None = None,
            leeway: float | None = None,
            remember: int | None = None,
            ca_file: str | Path | None = None,
            allow_http: bool | None = None,
            client_id: str | None = None,
            client_key: str | SecretStr | None = None,
            introspection_url: str | None = None,
            introspection_max_age: float | None = None,
            issuers: str | SecretStr | None = None,
            static_token: str | SecretStr | None = None,
            static_subject: str | None = None,
            static_scopes: str | Iterable[str] | None = None,
            static_roles: str | Iterable[str] | None = None,
            policy_file: str | Path | None = None,
            audit_first: bool | None = None,
            realm: str | None = None,
            env_file: str | Path | None = None,
        ) -> None: ...

    else:

        def __init__(self, **given: Any) -> None:
            """Wrap the secrets before any frame holds them in the clear."""
            super().__init__(**NAMING.wrapped(given))

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
        return (ServiceLayers(settings_cls, init_settings, NAMING),)

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, data: Any, handler: Callable[[Any], GuardSettings]) -> GuardSettings:
        layers = data.pop(LAYERS, None) if isinstance(data, dict) else None
        try:
            made = handler(data)
        except ValidationError as exc:
            problem = _explain(exc)
        else:
            if layers is not None:
                made._set_by = {name: label for label, layer in layers.items() for name in layer}
                _refuse_terms_of_another(made, layers)
            return made
        raise ConfigurationError(problem)  # out here: pydantic's error keeps the rejected input, and would ride along

    @field_validator("audience", "static_roles", "static_scopes", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return tuple(value) if isinstance(value, Iterable) else value
        items = tuple(item for item in re.split(r"[\s,]+", value) if item)
        if not items:
            raise ValueError("names nothing: give it a value or unset it")
        return items

    @field_validator("roles_claim", "scopes_claim", mode="before")
    @classmethod
    def _path(cls, value: object) -> object:
        return claim_path(value) if isinstance(value, str) else value

    @field_validator("profile", "revocation", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @property
    def set_by(self) -> Mapping[str, str]:
        """Where each setting came from: `argument`, `environment` or `env file`. Defaults are not listed."""
        return dict(self._set_by)

    def trusted_issuers(
        self,
        given: Iterable[TrustedIssuer] = (),
        *,
        jwks: Mapping[str, Any] | None = None,
        static_token: StaticToken | None = None,
    ) -> list[TrustedIssuer]:
        """Return whom to trust, by these settings and by what only code can say.

        Args:
            given: Issuers on terms of their own. They win over those of the environment.
            jwks: The keys of `issuer`.
            static_token: What is trusted instead of any issuer.

        Raises:
            ConfigurationError: The settings contradict each other, or a term is missing or wrong.
        """
        return trusted_issuers(self, Given(tuple(given), jwks, static_token))

    def token(self) -> StaticToken | None:
        """Return the token for a first try, if there is one.

        Raises:
            ConfigurationError: It is too short, or only what it grants is set.
        """
        if self.static_token is None:
            for name in ("static_subject", "static_scopes", "static_roles"):
                if getattr(self, name) is not None:
                    raise ConfigurationError(f"{named(name)} says something of a static_token that is not set")
            return None
        return StaticToken(
            self.static_token.get_secret_value(),
            subject=self.static_subject or "static",
            scopes=self.static_scopes or (),
            roles=self.static_roles or (),
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("GuardSettings may hold a key and are not pickled: let the other process read its environment")


def _refuse_terms_of_another(made: GuardSettings, layers: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to take what was said of one issuer for true of another, and to carry a client key there."""
    for name in _OF_ONE_ISSUER:
        beside = layers.get(made.set_by.get(name, ""), {}).get("issuer")
        if made.issuer is not None and beside not in (None, made.issuer):
            raise ConfigurationError(
                f"{named(name)} was set for another issuer: pass {name}= beside issuer=, to the guard or in a "
                "TrustedIssuer, or unset it"
            )


def _explain(exc: ValidationError) -> str:
    lines = []
    for error in exc.errors(include_input=False, include_url=False, include_context=False):
        where = f"{named(str(error['loc'][0]))}: " if error["loc"] else ""
        lines.append(where + error["msg"].removeprefix("Value error, "))
    return "; ".join(dict.fromkeys(lines))
