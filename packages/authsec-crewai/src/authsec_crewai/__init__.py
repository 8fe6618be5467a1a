"""CrewAI agents that fetch protected data with short-lived, scoped delegation tokens, or with secrets of the vault.

The names are loaded when they are first used: importing this package loads no CrewAI and no cryptography.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from authsec_core._own_files import refuse_foreign_files

if TYPE_CHECKING:
    from authsec_core.client import AuthSecClient
    from authsec_core.config import AuthSecConfig
    from authsec_crewai._retention import AuthSecCrewAIWarning, forget_tool_results
    from authsec_crewai.tools import AuthSecSecureFetchTool
    from authsec_crewai.vault_tools import AuthSecSecretFetchTool, AuthSecVaultTool

__all__ = [
    "AuthSecClient",
    "AuthSecConfig",
    "AuthSecCrewAIWarning",
    "AuthSecSecretFetchTool",
    "AuthSecSecureFetchTool",
    "AuthSecVaultTool",
    "forget_tool_results",
]

_HOMES = {
    "AuthSecClient": "authsec_core.client",
    "AuthSecConfig": "authsec_core.config",
    "AuthSecCrewAIWarning": "authsec_crewai._retention",
    "AuthSecSecretFetchTool": "authsec_crewai.vault_tools",
    "AuthSecSecureFetchTool": "authsec_crewai.tools",
    "AuthSecVaultTool": "authsec_crewai.vault_tools",
    "forget_tool_results": "authsec_crewai._retention",
}

refuse_foreign_files(__name__, "authsec-crewai")


def __getattr__(name: str) -> Any:
    """Load a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
