"""Which settings the authority runs with, and whether they are safe together. Opens no file and no connection.

Every setting is an argument or an `AUTHSEC_SERVER_*` variable; arguments win. What would work and let someone in is an
`UnsafeSettingsError` that says what to set. What only the disk can tell, `check_files` asks of the TLS files, and
`keys.masterkey` of the master key.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NoReturn

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from authsec_core._origin import check_origin, origin_of
from authsec_core._service_settings import ServiceLayers, is_blank
from authsec_core.errors import ConfigurationError
from authsec_server._described import Setting, described, path_field, text_field
from authsec_server._environment import NAMING, variable
from authsec_server._safety import check_files, check_together

__all__ = ["ServerSettings", "Setting"]

_DAY = 24 * 3600
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
_SEGMENT = re.compile(r"[a-zA-Z0-9._-]{1,64}")  # of a SPIFFE ID's path
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_AUDIENCE = re.compile(r"[\x21-\x7e]{1,255}")


class ServerSettings(BaseSettings):
    """The settings of one authority. Frozen, validated once, safe to share; it cannot be pickled.

    All durations are seconds. `describe` lists each setting with its variable, default and meaning. What follows from
    other settings (`public_url`, `trust_domain`, the paths, `database_url`, `log_format`) is filled in.

    Raises:
        UnsafeSettingsError: The settings would work, and let someone in who should not be.
        ConfigurationError: A setting is missing, wrong or unknown. The message names the variable and the mend.
        TypeError: An argument is no setting.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=NAMING.prefix, frozen=True, extra="ignore", hide_input_in_errors=True, validate_default=False
    )

    dev: bool = Field(
        default=False,
        description="A try-out on this machine: loopback only, a bare client id is proof enough, keys are made at need",
    )
    data_dir: Path | None = path_field(
        "./authsec-data with dev, else none", "Folder for the SQLite database, the master key and exported checkpoints"
    )
    database_url: SecretStr = Field(
        default=SecretStr(""),
        description="`sqlite:///path` or `postgresql://user:password@host/name?sslmode=verify-full`",
        json_schema_extra={"default_text": "sqlite:///{data_dir}/authsec.db"},
    )
    host: str = Field(default="127.0.0.1", description="The address to listen on")
    port: int = Field(default=8321, ge=1, le=65535, description="The port to listen on")
    workers: int = Field(
        default=1, ge=1, le=64, description="The processes that serve at this port; more than one not on Windows"
    )
    public_url: str = text_field(
        "http://{host}:{port} with dev, else required",
        "The authority as its clients reach it: scheme, host and port, such as https://authority.example.com",
    )
    trust_domain: str = text_field(
        "authsec.local with dev, else the host of public_url", "The trust domain of the SPIFFE IDs that it gives"
    )
    tenant_id: str = Field(default="default", description="The `tenant_id` of its tokens; one server serves one tenant")
    master_key: SecretStr | None = Field(
        default=None, description="The key that seals secrets, signing keys and the pepper; instead of master_key_file"
    )
    master_key_file: Path | None = path_field(
        "{data_dir}/master.key", "A file with the master key, which only the server's user can read"
    )
    token_ttl: int = Field(
        default=1800, ge=1, le=_DAY, description="Seconds that a token lives when nothing shorter is asked for"
    )
    max_token_ttl: int = Field(default=3600, ge=1, le=_DAY, description="Seconds that a token lives at most")
    max_vault_token_ttl: int = Field(
        default=_DAY, ge=1, le=30 * _DAY, description="Seconds that a vault token lives at most"
    )
    approval_lifetime: int = Field(
        default=_DAY, ge=60, le=30 * _DAY, description="Seconds after which a request for approval ends"
    )
    critical_delay: int = Field(
        default=900,
        ge=0,
        le=_DAY,
        description="Seconds between the second approval and a token for critical secrets; below approval_lifetime",
    )
    default_audience: str = Field(default="authsec-api", description="The `aud` of a token when none is asked for")
    jwks_max_age: int = Field(
        default=300, ge=1, le=_DAY, description="Seconds that a verifier may keep the public signing keys"
    )
    signing_key_bits: int = Field(
        default=2048, ge=2048, le=4096, multiple_of=1024, description="The size of new signing keys: 2048, 3072 or 4096"
    )
    signing_key_lifetime: int = Field(
        default=30 * _DAY,
        ge=60,
        le=400 * _DAY,
        description="Seconds after which a signing key is replaced by the next",
    )
    status_list_ttl: int = Field(
        default=2,
        ge=1,
        le=300,
        description="Seconds after which a verifier is to fetch a status list again",
    )
    checkpoint_interval: float = Field(
        default=60.0,
        ge=1,
        le=_DAY,
        allow_inf_nan=False,
        description="Seconds between signed checkpoints of the audit, when it has grown",
    )
    checkpoint_file: Path | None = path_field(
        "{data_dir}/checkpoints.jsonl", "The file that signed checkpoints are exported to; best kept on another machine"
    )
    body_limit: int = Field(
        default=131072, ge=1024, le=16 * 1024 * 1024, description="The most bytes that a request's body may have"
    )
    request_timeout: float = Field(
        default=10.0, gt=0, le=300, allow_inf_nan=False, description="Seconds that a request may take in all"
    )
    header_timeout: float = Field(
        default=10.0,
        gt=0,
        le=300,
        allow_inf_nan=False,
        description="Seconds in which a request's head has to arrive",
    )
    max_connections: int = Field(
        default=2048, ge=1, le=100_000, description="The most connections at the same time; further ones are closed"
    )
    address_connections: int = Field(
        default=256,
        ge=1,
        le=100_000,
        description="The most connections from one address that is no trusted proxy; further ones are closed",
    )
    client_rate: float = Field(
        default=50.0,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="Tokens a second for one client, and ten seconds' worth at once; 0 is no limit",
    )
    refusal_rate: float = Field(
        default=5.0,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="Refused proofs a second from one address, and ten seconds' worth at once; 0 is no limit",
    )
    shared_limits: bool = Field(
        default=False, description="Replicas count together, through the database, what the two rates above limit"
    )
    issuer_ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authorities to trust, instead of the usual ones, for keys of registered issuers",
    )
    database_timeout: float = Field(
        default=5.0,
        gt=0,
        le=60,
        allow_inf_nan=False,
        description="Seconds for which a busy database is tried again; shorter than request_timeout",
    )
    pool_size: int = Field(
        default=10, ge=1, le=200, description="The most connections to PostgreSQL for reading; two more write"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        default="INFO", description="The least important messages that are logged"
    )
    log_format: Literal["json", "text"] = Field(
        default="json",
        description="`json`: one object per line; `text`: for people",
        json_schema_extra={"default_text": "text with dev, else json"},
    )
    tls_cert_file: Path | None = Field(default=None, description="PEM file of the certificate and its chain")
    tls_key_file: Path | None = Field(default=None, description="PEM file of the certificate's private key")
    behind_proxy: bool = Field(
        default=False, description="TLS ends at a proxy, which alone can reach this server: plain http is then accepted"
    )
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(), description="Addresses and networks whose `X-Forwarded-For` is believed, separated by commas"
    )
    env_file: Path | None = Field(default=None, description="A `.env` file to read; the environment wins over it")

    if TYPE_CHECKING:  # what the fields accept, which is more than what they hold

        def __init__(
            self,
            *,
            dev: bool | None = None,
            data_dir: str | Path | None = None,
            database_url: str | SecretStr | None = None,
            host: str | None = None,
            port: int | None = None,
            workers: int | None = None,
            public_url: str | None = None,
            trust_domain: str | None = None,
            tenant_id: str | None = None,
            master_key: str | SecretStr | None = None,
            master_key_file: str | Path | None = None,
            token_ttl: int | None = None,
            max_token_ttl: int | None = None,
            max_vault_token_ttl: int | None = None,
            approval_lifetime: int | None = None,
            critical_delay: int | None = None,
            default_audience: str | None = None,
            jwks_max_age: int | None = None,
            signing_key_bits: int | None = None,
            signing_key_lifetime: int | None = None,
            status_list_ttl: int | None = None,
            checkpoint_interval: float | None = None,
            checkpoint_file: str | Path | None = None,
            body_limit: int | None = None,
            request_timeout: float | None = None,
            header_timeout: float | None = None,
            max_connections: int | None = None,
            address_connections: int | None = None,
            client_rate: float | None = None,
            refusal_rate: float | None = None,
            shared_limits: bool | None = None,
            issuer_ca_file: str | Path | None = None,
            database_timeout: float | None = None,
            pool_size: int | None = None,
            log_level: str | None = None,
            log_format: Literal["json", "text"] | None = None,
            tls_cert_file: str | Path | None = None,
            tls_key_file: str | Path | None = None,
            behind_proxy: bool | None = None,
            trusted_proxies: str | Iterable[str] | None = None,
            env_file: str | Path | None = None,
        ) -> None: ...

    else:

        def __init__(self, **given: Any) -> None:
            """Read, validate, fill in what follows from the rest, and check what can go wrong together."""
            try:
                super().__init__(**NAMING.wrapped(given))
            except ValidationError as exc:
                problem = _explain(exc)
            else:
                self._fill_in()
                check_together(self)
                return
            raise ConfigurationError(problem)  # out here: pydantic's error keeps the input, and would ride along

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

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_blank(cls, value: object) -> object:
        if is_blank(value) or (isinstance(value, str) and not value.isprintable()):
            raise ValueError("is blank, or has control characters in it: give it a value or unset it")
        return value

    @field_validator("database_url", mode="after")
    @classmethod
    def _check_database_url(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        if not re.fullmatch(r"sqlite:///[^?]+|postgresql://[^/]+/\S+", url) or url.endswith("/:memory:"):
            raise ValueError("is neither sqlite:///path nor postgresql://user:password@host/name")
        return value

    @field_validator("public_url", mode="after")
    @classmethod
    def _check_public_url(cls, value: str) -> str:
        return str(check_origin(value))  # no path: every address that a token or a reply names follows from it

    @field_validator("trust_domain", "tenant_id", "default_audience", mode="after")
    @classmethod
    def _check_characters(cls, value: str, info: Any) -> str:
        allowed = {"trust_domain": _TRUST_DOMAIN, "tenant_id": _SEGMENT, "default_audience": _AUDIENCE}[info.field_name]
        if not allowed.fullmatch(value):
            raise ValueError(f"has characters that it cannot have, or too many: it must match {allowed.pattern}")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _parse_networks(cls, value: object) -> object:
        items = value.replace(",", " ").split() if isinstance(value, str) else value
        if not isinstance(items, Iterable):
            raise ValueError("is not a list of addresses and networks")
        return tuple(_network(str(item)) for item in items)

    @classmethod
    def describe(cls) -> tuple[Setting, ...]:
        """Return every setting, in the order of the class, for documentation and `--help`."""
        return described(cls.model_fields)

    @property
    def issuer(self) -> str:
        """The `iss` of its tokens."""
        return f"{self.public_url}/authsec"

    @property
    def jwks_url(self) -> str:
        """Where its public signing keys are."""
        return f"{self.issuer}/.well-known/jwks.json"

    @property
    def status_list_base(self) -> str:
        """What a status list's number is appended to, with a slash, to make its URI."""
        return f"{self.issuer}/statuslists"

    @property
    def uses_sqlite(self) -> bool:
        """Whether the database is one file, which carries the workers of one server."""
        return self.database_url.get_secret_value().startswith("sqlite:")

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """The names that a `Host` header may have, without port: another one is a rebound DNS name, or a mistake."""
        return frozenset({*_LOOPBACK_NAMES, origin_of(self.public_url).host})

    @property
    def listen_url(self) -> str:
        """The scheme, host and port that it listens on."""
        scheme = "https" if self.tls_cert_file else "http"
        return f"{scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def check_files(self) -> None:
        """Refuse to serve with TLS files that are missing, or a key that everyone can read. Reads their modes only.

        Raises:
            UnsafeSettingsError: The message names the file, and what to do.
        """
        check_files(self)

    def _fill_in(self) -> None:
        derived: dict[str, Any] = {}
        data_dir = self.data_dir or (Path("authsec-data") if self.dev else None)
        if data_dir is not None:
            data_dir = derived["data_dir"] = data_dir.absolute()
            derived["database_url"] = SecretStr(f"sqlite:///{data_dir / 'authsec.db'}")
            derived["checkpoint_file"] = data_dir / "checkpoints.jsonl"
            if self.master_key is None:
                derived["master_key_file"] = data_dir / "master.key"
        if self.dev:
            derived |= {"public_url": self.listen_url, "trust_domain": "authsec.local", "log_format": "text"}
        elif self.public_url:
            derived["trust_domain"] = origin_of(self.public_url).host
        for name, value in derived.items():
            if name == "data_dir" or name not in self.model_fields_set:
                self.__dict__[name] = value  # frozen for everyone else

    def __reduce__(self) -> NoReturn:
        raise TypeError("ServerSettings may hold keys and is not pickled: let the other process read its environment")


def _network(item: str) -> IPv4Network | IPv6Network:
    try:
        return ipaddress.ip_network(item)
    except ValueError as exc:
        raise ValueError("holds something that is neither an address nor a network such as 10.0.0.0/8") from exc


def _explain(exc: ValidationError) -> str:
    errors = exc.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(
        f"{variable(str(error['loc'][0]))}: {error['msg'].removeprefix('Value error, ')}" for error in errors
    )
