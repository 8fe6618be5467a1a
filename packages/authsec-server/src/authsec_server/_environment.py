"""Where the server's settings come from: arguments over environment over a named `.env` file.

It reads; whether the settings make sense is for `settings` to say. A name that begins like ours and is none is refused
here: pydantic would pass it over, and a misspelt limit would limit nothing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from pydantic import SecretStr
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, PydanticBaseSettingsSource

from authsec_core.errors import ConfigurationError

__all__ = ["PREFIX", "SECRETS", "Layers", "is_blank", "variable", "wrapped"]

PREFIX = "AUTHSEC_SERVER_"
SECRETS = ("database_url", "master_key")
# What Kubernetes sets for a Service that is called authsec-server, or authsec-server-postgres.
_SERVICE_LINK = re.compile(
    PREFIX + r"(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_SERVICE_PORT = re.compile(r"(tcp|udp|sctp)://\S+")


class Layers(PydanticBaseSettingsSource):
    """Arguments over environment over `.env` file, by field name."""

    def __init__(self, settings_cls: type[BaseSettings], arguments: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        self._arguments = arguments

    def __call__(self) -> dict[str, Any]:
        # A typed-in None means "not given", so that optional arguments can be passed through.
        arguments = {name: value for name, value in self._arguments().items() if value is not None}
        for name in arguments.keys() - self.settings_cls.model_fields.keys():
            raise TypeError(f"{self.settings_cls.__name__}() has no setting {name!r}")
        environment = self._read(EnvSettingsSource(self.settings_cls))
        named = arguments.get("env_file") or environment.get("env_file")
        file = self._read(_env_file(self.settings_cls, named)) if named else {}
        return {**file, **environment, **arguments}

    def _read(self, source: EnvSettingsSource) -> dict[str, Any]:
        # No value is kept in the clear here: an error may be reported with this frame's locals.
        names = {name.upper() for name in source.env_vars if name.upper().startswith(PREFIX)}
        links = {name.upper() for name, value in source.env_vars.items() if _is_service_link(name.upper(), value)}
        _check_names(names - links, self.settings_cls.model_fields)
        values = wrapped({name: value for name, value in source().items() if name in self.settings_cls.model_fields})
        for name in sorted(values):
            if is_blank(values[name]):
                raise ConfigurationError(f"{variable(name)} is set but blank: give it a value or unset it")
        return {name: value for name, value in values.items() if variable(name) not in links}

    def get_field_value(self, field: Any, field_name: str) -> NoReturn:
        raise NotImplementedError  # abstract in pydantic-settings; `__call__` above never asks field by field


def wrapped(values: dict[str, Any]) -> dict[str, Any]:
    """Wrap the secrets, in place: an error may be reported with its frames' locals."""
    for name in SECRETS:
        if isinstance(values.get(name), str):
            values[name] = SecretStr(values[name])
    return values


def is_blank(value: object) -> bool:
    """Return whether a value is text with nothing in it."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    return isinstance(text, str) and not text.strip()


def variable(field: str) -> str:
    """Return the environment variable that sets `field`."""
    return PREFIX + field.upper()


def _is_service_link(name: str, value: str | None) -> bool:
    match = _SERVICE_LINK.fullmatch(name)
    # One of its names is ours too: AUTHSEC_SERVER_PORT, which Kubernetes sets to `tcp://10.0.0.7:8321`.
    return match is not None and (not name.endswith("_PORT") or _SERVICE_PORT.fullmatch(value or "") is not None)


def _check_names(names: Iterable[str], fields: Mapping[str, Any]) -> None:
    known = {variable(field) for field in fields}
    for name in sorted(set(names) - known):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        raise ConfigurationError(
            f"{name} is not a setting: "
            + (f"did you mean {near[0]}?" if near else "unset it (docs/authority/settings.md)")
        )


def _env_file(settings_cls: type[BaseSettings], named: Path | str) -> DotEnvSettingsSource:
    try:
        if Path(named).is_file():
            return DotEnvSettingsSource(settings_cls, env_file=named)
        why = "not there"
    except (OSError, ValueError) as exc:
        why = "not UTF-8" if isinstance(exc, ValueError) else "not readable"
    # Raised out here: a UnicodeDecodeError carries the file's content, and would ride along as the context.
    raise ConfigurationError(f"{variable('env_file')}: the file is {why}: mend it, or name another")
