"""What in the agents' own settings would keep or leak what a tool returns, or what the process holds; told once."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["AuthSecAutoGenWarning", "advise"]

_IN_ENVIRONMENT = ("AUTHSEC_AGENT_KEY", "ASS_AGENT_KEY", "AUTHSEC_WORKLOAD_TOKEN_FILE", "AUTHSEC_ENV_FILE")
_LOCAL = frozenset({"EmbeddedIPythonCodeExecutor", "JupyterCodeExecutor", "LocalCommandLineCodeExecutor"})

_told: set[str] = set()


class AuthSecAutoGenWarning(UserWarning):
    """A setting of AutoGen weakens what authsec protects; the message says how to switch it off."""


def advise(framework: Any, caller: Any, executor: Any) -> None:
    """Warn of each such setting of the two agents that this process has not been warned of."""
    for about, text in _advice(framework, caller, executor):
        if about not in _told:
            # 4: where a tool was registered. An "error" filter raises here, and the next call warns again.
            warnings.warn(text, AuthSecAutoGenWarning, stacklevel=4)
            _told.add(about)


def _advice(framework: Any, caller: Any, executor: Any) -> Iterator[tuple[str, str]]:
    if any(_caches(framework, agent.llm_config) for agent in (caller, executor)):
        yield (
            "cache",
            "AutoGen keeps every prompt, and so whatever a tool returned, in clear below ./.cache: set "
            '"cache_seed": None in the llm_config of every agent that reads the answers',
        )
    named = [name for name in _IN_ENVIRONMENT if name in os.environ]
    if named and any(map(_runs_code_here, (caller, executor))):
        yield (
            "code",
            f"code that a model writes runs on this machine and can read {' and '.join(named)}: set "
            "code_execution_config=False, or run the code in Docker",
        )


def _caches(framework: Any, settings: Any) -> bool:
    """Say whether replies to this agent go to AutoGen's disk cache."""
    if not settings:
        return False
    default = 41 if _caches_by_default(framework) else None
    common = settings.get("cache_seed", default)
    entries = settings.get("config_list") or [{}]  # an entry's own seed wins
    return any(
        (entry.get("cache_seed", common) if isinstance(entry, Mapping) else common) is not None for entry in entries
    )


def _caches_by_default(framework: Any) -> bool:
    """Say whether a missing `cache_seed` means 41: so in Microsoft's 0.2 and AG2 to 0.7.

    The versions overlap between the makers, and all of them define the constant; only those that mean it use it.
    """
    create = inspect.unwrap(framework.OpenAIWrapper.create)
    return "LEGACY_DEFAULT_CACHE_SEED" in create.__code__.co_names


def _runs_code_here(agent: Any) -> bool:
    if agent.use_docker is False:
        return True
    return not _LOCAL.isdisjoint(kind.__name__ for kind in type(agent.code_executor).__mro__)
