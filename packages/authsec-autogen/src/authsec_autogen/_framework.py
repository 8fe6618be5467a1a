"""Which `autogen` is installed, if any: found by what it can do, because three makers publish it under six names."""

from __future__ import annotations

from typing import Any

from authsec_core import ConfigurationError, __version__

__all__ = ["load_autogen"]

_MEND = (
    "install classic AutoGen with the extra authsec-autogen[classic] (Python below 3.13) or "
    "authsec-autogen[ag2-legacy], from our wheel's file: "
    f"pip install 'dist/authsec_autogen-{__version__}-py3-none-any.whl[ag2-legacy]'"
)


def load_autogen() -> Any:
    """Import and return the module `autogen`: Microsoft's 0.2 or AG2 below 1. The first import takes a second or two.

    Raises:
        ConfigurationError: There is none, it does not work, or it is something else.
    """
    try:
        import autogen
    except ImportError as exc:
        raise ConfigurationError(
            f"the module 'autogen' cannot be imported ({exc}); pyautogen 0.10, autogen-agentchat 0.4 and ag2 1.0 and "
            f"later do not have it: {_MEND}"
        ) from exc
    if not (hasattr(autogen, "register_function") and hasattr(autogen, "GroupChatManager")):
        where = getattr(autogen, "__file__", None) or "a folder"
        raise ConfigurationError(
            f"the module 'autogen' ({where}) is not AutoGen: rename it if it is yours, else {_MEND}"
        )
    return autogen
