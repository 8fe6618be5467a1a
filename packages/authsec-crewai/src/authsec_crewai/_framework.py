"""Is CrewAI here, in a version that will do, and is this package ours? Importing this module answers or refuses.

It takes some seconds, because CrewAI loads with it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from authsec_core._own_files import refuse_foreign_files
from authsec_core.errors import ConfigurationError

refuse_foreign_files("authsec_crewai", "authsec-crewai")  # their __init__ may have taken the place of ours

try:
    from crewai.tools import BaseTool
except ImportError as exc:
    found = "CrewAI is not installed" if exc.name == "crewai" else f"This CrewAI cannot be used ({exc})"
    raise ConfigurationError(f'{found}: pip install "crewai>=0.102,<2"') from exc

__all__ = ["BaseTool", "declare_env_vars"]


def declare_env_vars(described: Mapping[str, str]) -> dict[str, Any]:
    """Return the field in which a tool declares the variables that it reads; none where CrewAI has no such field."""
    kind = getattr(importlib.import_module("crewai.tools.base_tool"), "EnvVar", None)
    if kind is None:
        return {}
    return {"env_vars": [kind(name=name, description=text, required=False) for name, text in described.items()]}
