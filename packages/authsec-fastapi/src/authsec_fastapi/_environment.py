"""Where the guard's settings come from: arguments over environment over a named `.env` file, and which said what.

It reads; whether the settings make sense is for `settings` to say. A name that begins like ours and is none is refused
here: pydantic would pass it over, and a misspelt condition would be no condition.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from pydantic import SecretStr
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, PydanticBaseSettingsSource

from authsec_core.errors import ConfigurationError

__all__ = ["LAYERS", "PREFIX", "Layers", "named", "variable", "wrapped"]

PREFIX: Final = "AUTHSEC_GUARD_"
LAYERS: Final = "authsec layers"  # the key under which `Layers` hands on what each layer said; never a field's name
_SECRETS: Final = ("client_key", "issuers", "static_token")
# What Kubernetes sets for each Service of the namespace, of which one may be called authsec-guard.
_SERVICE_LINK: Final = re.compile(
    PREFIX + r"(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


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
        from_file = arguments.get("env_file") or environment.get("env_file")
        file = self._read(_env_file(self.settings_cls, from_file)) if from_file else {}
        layers = {"env file": file, "environment": environment, "argument": arguments}
        return {**file, **environment, **arguments, LAYERS: layers}

    def _read(self, source: EnvSettingsSource) -> dict[str, Any]:
        names = {name.upper() for name in source.env_vars if name.upper().startswith(PREFIX)}
        _check_names(names, self.settings_cls.model_fields)
        # No value is kept in the clear here: an error may be reported with this frame's locals.
        values = wrapped({name: value for name, value in source().items() if name in self.settings_cls.model_fields})
        for name in sorted(values):
            if _is_blank(values[name]):
                raise ConfigurationError(f"{variable(name)} is set but blank: give it a value or unset it")
        return values

    def get_field_value(self, field: Any, field_name: str) -> NoReturn:
        raise NotImplementedError  # abstract in pydantic-settings; `__call__` above never asks field by field


def wrapped(values: dict[str, Any]) -> dict[str, Any]:
    """Wrap the secrets, in place, so that no frame holds them in the clear."""
    for name in _SECRETS:
        if isinstance(values.get(name), str):
            values[name] = SecretStr(values[name])
    return values


def variable(field: str) -> str:
    """Return the environment variable that sets `field`."""
    return PREFIX + field.upper()


def named(field: str) -> str:
    """Return what to call `field` in a message: the argument and the variable, of which either can have set it."""
    return f"{field} ({variable(field)})"


def _is_blank(value: object) -> bool:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    return isinstance(text, str) and not text.strip()


def _check_names(names: Iterable[str], fields: Mapping[str, Any]) -> None:
    known = {variable(field) for field in fields}
    for name in sorted(name for name in set(names) - known if not _SERVICE_LINK.fullmatch(name)):
        # Without what all of them begin with, which would make any two look alike.
        near = difflib.get_close_matches(name.removeprefix(PREFIX).lower(), fields, n=1, cutoff=0.7)
        raise ConfigurationError(
            f"{name} is not a setting: "
            + (f"did you mean {variable(near[0])}?" if near else "unset it, or mend its name")
        )


def _env_file(settings_cls: type[BaseSettings], from_file: Path | str) -> DotEnvSettingsSource:
    try:
        if Path(from_file).is_file():
            return DotEnvSettingsSource(settings_cls, env_file=from_file)
        why = "not there"
    except (OSError, ValueError) as exc:
        why = "not UTF-8" if isinstance(exc, ValueError) else "not readable"
    # Raised out here: a UnicodeDecodeError carries the file's content, and would ride along as the context.
    raise ConfigurationError(f"{variable('env_file')}: the file is {why}: mend it, or name another")
