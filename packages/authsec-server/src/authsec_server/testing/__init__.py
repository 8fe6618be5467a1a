"""What it takes to run the authority for tests and demos: PostgreSQL, a server here or beside us, a cluster's tokens.

Everything here listens on 127.0.0.1 and ends with the process that started it. Nothing is imported until it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from authsec_server.testing._cluster_issuer import ClusterIssuer
    from authsec_server.testing._onboarding import OnboardedAgent
    from authsec_server.testing._postgres import LocalPostgres
    from authsec_server.testing._process import DevAuthority
    from authsec_server.testing._running import RunningAuthority

__all__ = ["ClusterIssuer", "DevAuthority", "LocalPostgres", "OnboardedAgent", "RunningAuthority"]

_HOMES = {
    "ClusterIssuer": "_cluster_issuer",
    "DevAuthority": "_process",
    "LocalPostgres": "_postgres",
    "OnboardedAgent": "_onboarding",
    "RunningAuthority": "_running",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
