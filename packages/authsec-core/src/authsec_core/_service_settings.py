"""Where a service's settings come from: arguments over environment over a named `.env` file, and which said what.

The authority and the guard read theirs here, each under a prefix of its own; whether the settings make sense is for
them to say. A name that begins like theirs and is none is refused: pydantic would pass it over, and a misspelt limit
would limit nothing. An agent's settings, which share their prefix with others, are for `_layers`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from pydantic import SecretStr
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, PydanticBaseSettingsSource

from authsec_core._layers import LAYERS
from authsec_core.errors import ConfigurationError

__all__ = ["LAYERS", "Naming", "ServiceLayers", "is_blank"]

# What Kubernetes sets, after the prefix, for each Service of the namespace whose name begins like the prefix.
_SERVICE_LINK: Final = re.compile(r"(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
# It sets this one, too, which may also be a setting or a mistake for one: it sets an address there.
_SERVICE_PORT: Final = re.compile(r"(\w+_)?PORT")
_SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How a service calls its settings.

    Attributes:
        prefix: What all of its variables begin with.
        secrets: The fields that hold secrets.
        advice: What to do about a variable that is like none of them.
    """

    prefix: str
    secrets: tuple[str, ...]
    advice: str

    def variable(self, field: str) -> str:
        """Return the environment variable that sets `field`."""
        return self.prefix + field.upper()

    def wrapped(self, values: dict[str, Any]) -> dict[str, Any]:
        """Wrap the secrets, in place: an error may be reported with its frames' locals."""
        for name in self.secrets:
            if isinstance(values.get(name), str):
                values[name] = SecretStr(values[name])
        return values

    def is_service_link(self, name: str, value: str | None) -> bool:
        """Return whether Kubernetes sets this variable, for a Service that is called like the service."""
        if not name.startswith(self.prefix):
            return False
        if _SERVICE_LINK.fullmatch(name, len(self.prefix)):
            return True
        is_port = _SERVICE_PORT.fullmatch(name, len(self.prefix)) is not None
        return is_port and _SERVICE_ADDRESS.fullmatch(value or "") is not None

    def check_names(self, names: Iterable[str], fields: Iterable[str]) -> None:
        """Refuse a variable that sets none of the fields.

        Raises:
            ConfigurationError: The message names it, and the one that was meant.
        """
        fields = tuple(fields)
        for name in sorted(set(names) - {self.variable(field) for field in fields}):
            # Without what all of them begin with, which would make any two look alike.
            near = difflib.get_close_matches(name.removeprefix(self.prefix).lower(), fields, n=1, cutoff=0.7)
            raise ConfigurationError(
                f"{name} is not a setting: " + (f"did you mean {self.variable(near[0])}?" if near else self.advice)
            )


class ServiceLayers(PydanticBaseSettingsSource):
    """Arguments over environment over `.env` file, by field name; under `LAYERS` also what each of them said."""

    def __init__(self, settings_cls: type[BaseSettings], arguments: PydanticBaseSettingsSource, naming: Naming) -> None:
        super().__init__(settings_cls)
        self._arguments, self._naming = arguments, naming

    def __call__(self) -> dict[str, Any]:
        # A typed-in None means "not given", so that optional arguments can be passed through.
        arguments = {name: value for name, value in self._arguments().items() if value is not None}
        for name in arguments.keys() - self.settings_cls.model_fields.keys():
            raise TypeError(f"{self.settings_cls.__name__}() has no setting {name!r}")
        environment = self._read(EnvSettingsSource(self.settings_cls))
        from_file = arguments.get("env_file") or environment.get("env_file")
        file = self._read(self._env_file(from_file)) if from_file else {}
        layers = {"env file": file, "environment": environment, "argument": arguments}
        return {**file, **environment, **arguments, LAYERS: layers}

    def _read(self, source: EnvSettingsSource) -> dict[str, Any]:
        # No value is kept in the clear here: an error may be reported with this frame's locals.
        naming, fields = self._naming, self.settings_cls.model_fields
        names = {name.upper() for name in source.env_vars if name.upper().startswith(naming.prefix)}
        links = {name.upper() for name, value in source.env_vars.items() if naming.is_service_link(name.upper(), value)}
        naming.check_names(names - links, fields)
        values = naming.wrapped({name: value for name, value in source().items() if name in fields})
        for name in sorted(values):
            if is_blank(values[name]):
                raise ConfigurationError(f"{naming.variable(name)} is set but blank: give it a value or unset it")
        return {name: value for name, value in values.items() if naming.variable(name) not in links}

    def _env_file(self, from_file: Path | str) -> DotEnvSettingsSource:
        try:
            if Path(from_file).is_file():
                return DotEnvSettingsSource(self.settings_cls, env_file=from_file)
            why = "not there"
        except (OSError, ValueError) as exc:
            why = "not UTF-8" if isinstance(exc, ValueError) else "not readable"
        # Raised out here: a UnicodeDecodeError carries the file's content, and would ride along as the context.
        raise ConfigurationError(f"{self._naming.variable('env_file')}: the file is {why}: mend it, or name another")

    def get_field_value(self, field: Any, field_name: str) -> NoReturn:
        raise NotImplementedError  # abstract in pydantic-settings; `__call__` above never asks field by field


def is_blank(value: object) -> bool:
    """Return whether a value is text with nothing in it."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    return isinstance(text, str) and not text.strip()
