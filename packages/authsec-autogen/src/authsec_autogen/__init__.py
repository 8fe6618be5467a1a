"""AutoGen tools whose every call carries a short-lived, scoped delegation token, or a secret of the vault.

The names are loaded when they are first used: importing this package loads no framework, no HTTP and no cryptography.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from authsec_core._own_files import refuse_foreign_files

if TYPE_CHECKING:
    from authsec_autogen.classic import fetch_secure_data, make_secure_fetch, register_secure_fetch
    from authsec_autogen.secret_fetch import make_secret_fetch, register_secret_fetch
    from authsec_autogen.vault import make_audited_vault_tool, make_vault_tool, register_vault_tool
    from authsec_core import AuthSecClient, AuthSecConfig

__all__ = [
    "AuthSecClient",
    "AuthSecConfig",
    "fetch_secure_data",
    "make_audited_vault_tool",
    "make_secret_fetch",
    "make_secure_fetch",
    "make_vault_tool",
    "register_secret_fetch",
    "register_secure_fetch",
    "register_vault_tool",
]

_HOMES = {
    "AuthSecClient": "authsec_core",
    "AuthSecConfig": "authsec_core",
    "fetch_secure_data": "authsec_autogen.classic",
    "make_audited_vault_tool": "authsec_autogen.vault",
    "make_secret_fetch": "authsec_autogen.secret_fetch",
    "make_secure_fetch": "authsec_autogen.classic",
    "make_vault_tool": "authsec_autogen.vault",
    "register_secret_fetch": "authsec_autogen.secret_fetch",
    "register_secure_fetch": "authsec_autogen.classic",
    "register_vault_tool": "authsec_autogen.vault",
}

refuse_foreign_files(__name__, "authsec-autogen")


def __getattr__(name: str) -> Any:
    """Load a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
