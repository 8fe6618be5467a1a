"""The clients that adapters make of the environment, once for the process: each test is to have its own.

Adapters are looked up among the modules that are loaded, and never imported: the core does not depend on them, and who
does not use one does not load it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["no_client_yet"]

_ADAPTERS = frozenset({"authsec_autogen", "authsec_crewai"})
# What their modules call the things that make their clients when they are first asked for.
_NAMES = ("ENVIRONMENT", "VAULT_ENVIRONMENT", "ASYNC_VAULT_ENVIRONMENT")


@contextmanager
def no_client_yet() -> Iterator[None]:
    """Let the adapters make their clients anew inside, close those, and put back what there was before."""
    before = [(keeper, _start_anew(keeper)) for keeper in _keepers()]
    try:
        yield
    finally:
        for keeper in _keepers():  # perhaps more than before
            _close(_start_anew(keeper))
        for keeper, held in before:
            vars(keeper).update(held)


def _keepers() -> list[Any]:
    found: dict[int, Any] = {}
    for name, module in list(sys.modules.items()):
        ours = module is not None and name.partition(".")[0] in _ADAPTERS
        # Not with getattr, which would have the module load what it exports lazily.
        keepers = [vars(module)[key] for key in _NAMES if key in vars(module)] if ours else []
        found.update((id(keeper), keeper) for keeper in keepers)
    return list(found.values())


def _start_anew(keeper: Any) -> dict[str, Any]:
    """Return what `keeper` held, and let it be as if it had just been made."""
    held = dict(vars(keeper))
    vars(keeper).update(vars(type(keeper)()))
    return held


def _close(held: dict[str, Any]) -> None:
    for value in held.values():
        if hasattr(value, "close"):  # the clients for coroutines have only `aclose`, and end with their loops
            value.close()
