"""AutoGen tools whose every call carries a short-lived, scoped delegation token.

The names are loaded when they are first used: importing this package loads no framework, no HTTP and no cryptography.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from authsec_core._own_files import refuse_foreign_files

if TYPE_CHECKING:
    from authsec_autogen.classic import fetch_secure_data, make_secure_fetch, register_secure_fetch
    from authsec_core import AuthSecClient, AuthSecConfig

__all__ = [
    "AuthSecClient",
    "AuthSecConfig",
    "fetch_secure_data",
    "make_secure_fetch",
    "register_secure_fetch",
]

_CORE = frozenset({"AuthSecClient", "AuthSecConfig"})

refuse_foreign_files(__name__, "authsec-autogen")


def __getattr__(name: str) -> Any:
    """Load a public name from its module (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module("authsec_core" if name in _CORE else f"{__name__}.classic"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
