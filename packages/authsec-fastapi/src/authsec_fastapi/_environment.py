"""What the guard's settings are called: the variable of each, and which hold secrets. Read by the core."""

from __future__ import annotations

from typing import Final

from authsec_core._service_settings import Naming

__all__ = ["NAMING", "named", "variable"]

NAMING: Final = Naming(
    prefix="AUTHSEC_GUARD_",
    secrets=("client_key", "issuers", "static_token"),
    advice="unset it, or mend its name",
)


def variable(field: str) -> str:
    """Return the environment variable that sets `field`."""
    return NAMING.variable(field)


def named(field: str) -> str:
    """Return what to call `field` in a message: the argument and the variable, of which either can have set it."""
    return f"{field} ({variable(field)})"
