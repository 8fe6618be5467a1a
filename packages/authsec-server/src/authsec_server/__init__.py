"""The authority that one can run oneself: agents, trust delegations, tokens, revocation and audit.

`authsec-server serve` runs it; `create_app` is the same as an ASGI application. The names are loaded when they are
first used: importing this package loads no web framework, no database and no cryptography.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from authsec_server.app import create_app
    from authsec_server.settings import ServerSettings

__all__ = ["ServerSettings", "create_app"]

_HOMES = {"ServerSettings": "authsec_server.settings", "create_app": "authsec_server.app"}


def __getattr__(name: str) -> Any:
    """Load a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
