"""What the server's settings are called: the variable of each, and which hold secrets. Read by the core."""

from __future__ import annotations

from typing import Final

from authsec_core._service_settings import Naming

__all__ = ["NAMING", "variable"]

NAMING: Final = Naming(
    prefix="AUTHSEC_SERVER_",
    secrets=("database_url", "master_key"),
    advice="unset it (docs/authority/settings.md)",
)


def variable(field: str) -> str:
    """Return the environment variable that sets `field`."""
    return NAMING.variable(field)
