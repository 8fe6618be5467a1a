"""How a setting is described: for the documentation, and beside the field itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from authsec_server._environment import variable

__all__ = ["Setting", "described", "path_field", "text_field"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting, as it is documented.

    Attributes:
        name: The argument.
        variable: The environment variable.
        default: What it is when nothing is set; text for people.
        meaning: What it does, with its unit.
    """

    name: str
    variable: str
    default: str
    meaning: str


def text_field(default: str, meaning: str) -> Any:
    return Field(default="", description=meaning, json_schema_extra={"default_text": default})


def path_field(default: str, meaning: str) -> Any:
    return Field(default=None, description=meaning, json_schema_extra={"default_text": default})


def described(fields: Mapping[str, Any]) -> tuple[Setting, ...]:
    """Return what there is to say of a model's fields, in their order."""
    return tuple(_described(name, field) for name, field in fields.items())


def _described(name: str, field: Any) -> Setting:
    extra = field.json_schema_extra or {}
    default = extra.get("default_text") or _default_text(field.default)
    return Setting(name=name, variable=variable(name), default=default, meaning=field.description or "")


def _default_text(default: object) -> str:
    if default is None or default == ():
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:.12g}" if isinstance(default, float) else str(default)
