"""Where settings come from: arguments over environment over a named `.env` file, and which of them said what.

It reads; whether the settings make sense is for `config` to say. A name that is nearly a setting, or that must have
been meant as a limit, is refused here, since pydantic would pass it over.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from pydantic import SecretStr
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, PydanticBaseSettingsSource

from authsec_core.errors import ConfigurationError

__all__ = ["LAYERS", "PREFIX", "RENAMED", "Layers", "named", "unknown_names", "variable", "wrapped"]

PREFIX = "AUTHSEC_"
RENAMED = {
    "client_id": ("AUTHSEC_AGENT_CLIENT_ID",),
    "api_base_url": ("AUTHSEC_API_BASE_URL", "DOWNSTREAM_URL"),
    # Of vault clients that were there before this one.
    "ass_api_url": ("ASS_API_URL",),
    "ass_agent_key": ("ASS_AGENT_KEY",),
}
# What people type who have not looked it up, and what no measure of likeness would find.
_MEANT = {
    "AUTHSEC_API_KEY": "AUTHSEC_AGENT_KEY",
    "AUTHSEC_API_URL": "AUTHSEC_API_BASE_URL",
    "AUTHSEC_CLIENT_ID": "AUTHSEC_AGENT_CLIENT_ID",
    "AUTHSEC_ENDPOINTS": "AUTHSEC_ALLOWED_ENDPOINTS",
    "AUTHSEC_KEY": "AUTHSEC_AGENT_KEY",
    "AUTHSEC_SCOPES": "AUTHSEC_ENDPOINT_SCOPES",
    "AUTHSEC_TOKEN_FILE": "AUTHSEC_WORKLOAD_TOKEN_FILE",
    "AUTHSEC_URL": "AUTHSEC_BASE_URL",
}
# Of other packages, and of the command line, which also read variables that begin like ours.
_OTHERS = ("AUTHSEC_ADMIN_", "AUTHSEC_CONSOLE_", "AUTHSEC_GUARD_", "AUTHSEC_SERVER_", "AUTHSEC_VAULT_TOKEN")
# What Kubernetes sets for each Service of the namespace, of which one may be called authsec-policy.
_SERVICE_LINK = r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$"
_LIMITS = (  # compiled, as the one above, when a name is unknown: that takes half a millisecond
    "_(ALLOW(ED|LIST)?|BLOCK(ED|LIST)?|DEN(Y|IED|YLIST)|ENDPOINTS?|FORBID(DEN)?|LIMITS?|PERMI(T|TTED|SSIONS?)|"
    "POLICY|READ_?ONLY|RESTRICT(ED|IONS?)?|SCOPES?|WHITELIST)(_|$)"
)
_SECRETLY = re.compile("key|secret|password|credential|token$")
LAYERS = "authsec layers"  # the key under which `Layers` hands on what each layer said; never a field's name

_log = logging.getLogger("authsec")
_told: set[str] = set()  # of which unknown names this process was told


class Layers(PydanticBaseSettingsSource):
    """Arguments over environment over `.env` file, by field name, remembering which layer said what."""

    def __init__(
        self, settings_cls: type[BaseSettings], arguments: PydanticBaseSettingsSource, environment: EnvSettingsSource
    ) -> None:
        super().__init__(settings_cls)
        self._arguments, self._environment = arguments, environment

    def __call__(self) -> dict[str, Any]:
        layers = {"argument": _by_field(self._arguments())}
        for field in layers["argument"].keys() - self.settings_cls.model_fields.keys():
            raise TypeError(f"AuthSecConfig() has no setting {field!r}")
        layers["environment"] = self._read(self._environment)
        named = layers["argument"].get("env_file") or layers["environment"].get("env_file")
        if named:
            layers["env file"] = self._read(_env_file(self.settings_cls, named))
        merged = {field: value for layer in reversed(layers.values()) for field, value in layer.items()}
        return merged | {LAYERS: layers}

    def _read(self, source: EnvSettingsSource) -> dict[str, Any]:
        """Return the settings that have a variable of ours there; pydantic would also take others, by field name."""
        _check_names(map(str.upper, source.env_vars), self.settings_cls.model_fields)
        return {
            field: value
            for field, value in _by_field(source()).items()
            if field in self.settings_cls.model_fields
            and not source.env_vars.keys().isdisjoint(name.lower() for name in _variables(field))
        }

    def get_field_value(self, field: Any, field_name: str) -> NoReturn:
        raise NotImplementedError  # abstract in pydantic-settings; `__call__` above never asks field by field


def _by_field(values: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: field for field, names in RENAMED.items() for name in names}
    named = {fields.get(key, key): value for key, value in values.items()}
    # A typed-in None means "not given", so that optional arguments can be passed through.
    return wrapped({key: value for key, value in named.items() if value is not None})


def wrapped(values: dict[str, Any]) -> dict[str, Any]:
    """Wrap, in place, the key and all that is called like one, so that no frame holds it in the clear."""
    for name, value in values.items():
        if _SECRETLY.search(str(name).lower()) and isinstance(value, str | bytes | bytearray):
            values[name] = SecretStr(value if isinstance(value, str) else value.decode("utf-8", "replace"))
    return values


def _env_file(settings_cls: type[BaseSettings], named: Path | str) -> DotEnvSettingsSource:
    try:
        return DotEnvSettingsSource(settings_cls, env_file=named)
    except (OSError, ValueError, RuntimeError) as exc:
        why = "not UTF-8" if isinstance(exc, ValueError) else "not readable"
    # Raised out here: a UnicodeDecodeError carries the file's content, and would ride along as the context.
    raise ConfigurationError(f"{variable('env_file')}: the file is {why}: mend it, or name another")


def variable(field: str) -> str:
    """Return the environment variable that sets `field`."""
    return _variables(field)[0]


def named(field: str) -> str:
    """Return what to call `field` in a message: each variable that can have set it."""
    first, *others = _variables(field)
    return first + "".join(f" (or {other})" for other in others)


def _variables(field: str) -> tuple[str, ...]:
    return RENAMED.get(field, (PREFIX + field.upper(),))


def unknown_names(names: Iterable[str], fields: Iterable[str]) -> list[str]:
    """Return those of these upper-case names that begin like ours, and are nobody's that we know of."""
    known = {name for field in fields for name in _variables(field)}
    return [
        name
        for name in names
        if name.startswith(PREFIX)
        and name not in known
        and not name.startswith(_OTHERS)
        and not re.search(_SERVICE_LINK, name)
    ]


def _check_names(names: Iterable[str], fields: Iterable[str]) -> None:
    """Refuse a variable that is nearly one of ours, or that must be meant as a limit; tell of others that are not read.

    `AUTHSEC_ALOWED_ENDPOINTS` and `AUTHSEC_ALLOWED_PATHS` would both leave every endpoint open.
    """
    fields = tuple(fields)
    known = {name for field in fields for name in _variables(field)}
    for name in unknown_names(names, fields):
        import difflib  # here, because settings are rarely misspelt

        meant = _MEANT.get(name) or next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.86)), None)
        if meant is not None:
            raise ConfigurationError(f"{name} is not a setting: did you mean {meant}?")
        if re.search(_LIMITS, name):
            raise ConfigurationError(
                f"{name} is not a setting, so that it would limit nothing: use AUTHSEC_ALLOWED_ENDPOINTS or "
                "AUTHSEC_ENDPOINT_SCOPES, or unset it"
            )
        if name not in _told:
            _told.add(name)
            _log.warning("%s is not a setting and is ignored", name)
